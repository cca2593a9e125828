"""Kernels for services: a folder with machine code for GPUs, and what loads it without tilec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tilec.compile import engine
from tilec.export.manifest import arguments_of, launch_of, open_dims, written
from tilec.files import container
from tilec.gpu import DIVISOR, Choice, program
from tilec.ir.bits import stored
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.packing import default_layout
from tilec.ir.source import Order
from tilec.lang.kernel import Definition
from tilec.runtime.arguments import ALIGNMENT
from tilec.runtime.program import Program
from tilec.runtime.tensor import PackedTensor

SCHEMA = 1
TARGETS = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
SPECIFIC = 90  # from here on Triton's code is for one kind of GPU only


@dataclass(frozen=True)
class Exported:
    """A kernel as files by name, and the orders in which it reads packed tensors."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    orders: Mapping[str, Order]

    def write(self, folder: Path) -> None:
        """Write the files. Raises TileError for a folder that has others."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = {p.name for p in folder.iterdir()}
            if names and "manifest.json" not in names:
                raise TileError(f"{folder} is not empty, and no kernel was packed there")
            for name, data in self.files.items():
                # A process may have the file that is there in its memory, and go on with that.
                new = folder / f".new-{name}"
                new.write_bytes(data)
                new.replace(folder / name)
        except OSError as e:
            raise TileError(f"{folder} can't be written: {e}") from None

    def weights(self, tensors: Mapping[str, PackedTensor]) -> dict[str, Array]:
        """The parts of packed tensors as the kernel reads them, `w.codes` and the like: bytes.

        Raises TileError for a tensor that the kernel does not take.
        """
        taken = {a["name"]: a for a in self.manifest["arguments"] if a["kind"] == "packed"}
        found: dict[str, Array] = {}
        for name, tensor in tensors.items():
            if name not in taken:
                raise TileError(f"the kernel takes no packed tensor `{name}`; "
                                f"it takes {', '.join(taken) or 'none'}")  # fmt: skip
            format, shape = taken[name]["format"], taken[name]["shape"]
            if (str(tensor.format), list(tensor.shape)) != (format, shape):
                raise TileError(f"`{name}` is {tensor.format}{list(tensor.shape)}, "
                                f"expected {format}{shape}")  # fmt: skip
            of_cpu = "arrays" in taken[name]
            found |= _arrays(name, tensor, taken[name]) if of_cpu else self._parts(name, tensor)
        return found

    def write_weights(self, path: Path, tensors: Mapping[str, PackedTensor]) -> None:
        """Packed tensors as a safetensors file of bytes."""
        container.write(path, self.weights(tensors), {"kernel": self.manifest["kernel"]})

    def _parts(self, name: str, tensor: PackedTensor) -> dict[str, Array]:
        parts = tensor.parts()
        found: dict[str, Array] = {}
        for c in tensor.format.components(tensor.shape):
            order = self.orders.get(f"{name}.{c.name}")
            part = stored(c, parts[c.name]) if order is None else order.pack(parts[c.name])
            found[f"{name}.{c.name}"] = part.reshape(-1).view("uint8")
        return found


def _arrays(name: str, tensor: PackedTensor, taken: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a packed tensor for code of a CPU, each with bytes behind that are read."""
    layout = default_layout(tensor.format, tensor.shape)
    placed = tensor if tensor.layout == layout else tensor.relayout(layout)
    found: dict[str, Array] = {}
    for i, (a, said) in enumerate(zip(placed.arrays, taken["arrays"], strict=True)):
        whole = np.zeros(said["bytes"], np.uint8)
        whole[: a.nbytes] = a.reshape(-1).view(np.uint8)
        found[f"{name}_{i}"] = whole
    return found


def exported(
    definition: Definition, known: Mapping[str, int], targets: Sequence[str], choice: Choice,
    types: Mapping[str, Format | DType] | None = None, even: Sequence[str] = (),
) -> Exported:  # fmt: skip
    """A kernel compiled for targets, whose GPUs need not be there.

    `known` are dimensions with numbers; the others stay open, and those in `even` are multiples of
    16. The same source gives the same bytes. Raises TileError.
    """
    if not targets:
        raise TileError(f"no targets: there are {', '.join(TARGETS)}")
    free = open_dims(definition, known)
    for n in even:
        if n not in free:
            raise TileError(f"{definition.signature.name} has no open dimension `{n}`; "
                            f"it has {', '.join(free) or 'none'}")  # fmt: skip
    files: dict[str, bytes] = {}
    built = {t: program(definition, types or {}, known, even, t, choice, engine().kept)
             for t in targets}  # fmt: skip
    made, source = built[targets[0]]
    arguments = arguments_of(definition, types or {}, known, made, source.orders)
    manifest = {
        "schema": SCHEMA,
        "tilec": version("tilec"),
        "kernel": definition.signature.name,
        "backend": choice.backend,
        "schedule": chosen(choice.schedule),
        "source": hashlib.sha256(source.text.encode()).hexdigest(),
        "arguments": arguments,
        "dims": dict(known),
        "open": free,
        "divisible": dict.fromkeys(even, DIVISOR),
        "alignment": ALIGNMENT,
        "own": {n: written(size) for n, size in made.own.items()},
        "launches": [launch_of(k, made) for k in made.kernels],
        "targets": {t: _target(t, made, choice.backend, files) for t, (made, _) in built.items()},
    }
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    files["__init__.py"] = Path(__file__).with_name("loader.py").read_bytes()
    return Exported(files, manifest, source.orders)


def chosen(schedule: Any) -> dict[str, Any]:
    """What a schedule chooses, by name: the place of tuned configs in a manifest."""
    if schedule is None:
        return {}
    found = {f.name: getattr(schedule, f.name) for f in fields(schedule)}
    default = type(schedule)()
    return {n: dict(v) if n == "tiles" else v for n, v in found.items() if v != getattr(default, n)}


def _target(target: str, made: Program, backend: str, files: dict[str, bytes]) -> dict[str, Any]:
    """What the manifest says of a target; its images become files."""
    number = target.removeprefix("sm_").rstrip("af")
    images: list[dict[str, Any]] = []
    for k in made.kernels:
        digest = hashlib.sha256(k.image).hexdigest()
        name = next(
            (n for n, data in files.items() if data == k.image), f"{k.entry}.{target}.cubin"
        )
        files[name] = k.image
        images.append({"file": name, "sha256": digest, "shared": k.shared})
    specific = not target.removeprefix("sm_").isdecimal()
    specific |= backend == "triton" and int(number) >= SPECIFIC
    capability = [int(number[:-1]), int(number[-1])]
    return {"capability": capability, "forward": not specific, "images": images}
