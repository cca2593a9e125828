"""Quantised checkpoints in safetensors files: read into packed weights, written back bit for bit.

Nothing is rounded: codes, scales and zeros become the components of a format, and the tensors of a
file are made of them again. What no format has a place for (g_idx, bitsandbytes' state) is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from tilec.files import byte_layers, container, int32_layers
from tilec.files.container import Container, Stored
from tilec.files.layer import Layer, Options, Reader, Writer
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.runtime.tensor import PackedTensor

Tensors = dict[str, Array]
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Scheme:
    """How layers are stored: the tensor that marks one, all that it may have, and what reads and
    writes them."""

    read: Reader
    write: Writer
    dtypes: frozenset[str]  # of the mark
    ends: tuple[str, ...]  # of the names of a layer's tensors; the first is the mark
    fits: Callable[[Mapping[str, Array]], bool] = lambda tensors: True


def _columns(tensors: Mapping[str, Array]) -> tuple[int, int]:
    sizes = [tensors[end].shape[-1] if end in tensors and tensors[end].ndim else 0
             for end in ("qweight", "scales")]  # fmt: skip
    return sizes[0], sizes[1]


def _awq_shaped(tensors: Mapping[str, Array]) -> bool:
    words, columns = _columns(tensors)
    return columns == 8 * words


def _bytes(scale: str) -> Scheme:
    return Scheme(partial(byte_layers.read_bytes, scale), partial(byte_layers.write_bytes, scale),
                  frozenset(byte_layers.BYTES), ("weight", scale, "weight_zero_point"),
                  lambda tensors: scale in tensors)  # fmt: skip


_INT32, _UINT8 = frozenset({"int32"}), frozenset({"uint8"})
_NF4 = ("weight", "weight.absmax", "weight.quant_map", "weight.nested_absmax",
        "weight.nested_quant_map")  # fmt: skip
GPTQ = Scheme(int32_layers.read_gptq, int32_layers.write_gptq, _INT32,
              ("qweight", "qzeros", "scales", "g_idx"),
              lambda tensors: not _awq_shaped(tensors))  # fmt: skip
AWQ = Scheme(int32_layers.read_awq, int32_layers.write_awq, _INT32,
             ("qweight", "qzeros", "scales"), _awq_shaped)  # fmt: skip
PACKED = Scheme(int32_layers.read_packed, int32_layers.write_packed, _INT32,
                ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point",
                 "weight_g_idx"))  # fmt: skip
NVFP4 = Scheme(byte_layers.read_nvfp4, byte_layers.write_nvfp4, _UINT8,
               ("weight_packed", "weight_scale", "weight_global_scale"))  # fmt: skip
BYTES, BLOCKS = _bytes("weight_scale"), _bytes("weight_scale_inv")
NF4 = Scheme(byte_layers.read_nf4, byte_layers.write_nf4, _UINT8, (byte_layers.STATE, *_NF4))
FP4 = Scheme(byte_layers.refuse_fp4, byte_layers.write_nf4, _UINT8,
             ("weight.quant_state.bitsandbytes__fp4", *_NF4))  # fmt: skip

METHODS: dict[str | None, tuple[Scheme, ...]] = {
    "gptq": (GPTQ,),
    "awq": (AWQ,),
    "compressed-tensors": (PACKED, NVFP4, BYTES),
    "bitsandbytes": (NF4, FP4),
    "fp8": (BLOCKS, BYTES),
    None: (GPTQ, AWQ, PACKED, NVFP4, BYTES, BLOCKS, NF4, FP4),  # told by names and shapes alone
}
# Names that only quantised layers have: one that no layer took is an error.
_OWN = {end for s in METHODS[None] for end in s.ends} - {"weight", "scales", "g_idx"} | {"SCB"}


@dataclass(frozen=True)
class Origin:
    """How a layer was stored."""

    scheme: Scheme
    names: Mapping[str, str]  # the whole name of the tensor of each end
    kept: Tensors  # by end


@dataclass(frozen=True)
class Checkpoint:
    """A quantised model: packed weights [N, K] by the name of the layer, all other tensors, and
    config.json. `origins` and `files` are what `save` needs to write the same files again."""

    weights: dict[str, PackedTensor]
    rest: Tensors
    config: dict[str, Any]
    origins: dict[str, Origin]
    files: tuple[Container, ...]
    folder: bool

    def tensors(self) -> Tensors:
        """Every tensor of the files by name, made of the packed weights. Raises TileError for a
        weight that its layer's tensors can't hold."""
        out = dict(self.rest)
        expected = {name: s for file in self.files for name, s in file.tensors.items()}
        for layer, origin in self.origins.items():
            if layer not in self.weights:
                raise TileError(f"the checkpoint has no weight {layer}, which its files had")
            made = origin.scheme.write(self.weights[layer], _options(self.config)) | origin.kept
            if made.keys() != origin.names.keys():
                raise TileError(f"weight {layer} is stored as {', '.join(sorted(made))}; its files "
                                f"had {', '.join(sorted(origin.names))}")  # fmt: skip
            for end, name in origin.names.items():
                out[name] = _shaped(name, made[end], expected[name])
        return out

    def save(self, path: str | Path) -> None:
        """Write the tensors as they were loaded: to a file, or to a folder with config.json."""
        target, tensors = Path(path), self.tensors()
        for file in self.files:
            whole = {name: tensors[name] for name in file.tensors}
            container.write(target / file.name if self.folder else target, whole, file.metadata)
        if self.folder:
            _write_json(target / "config.json", self.config)
        if self.folder and len(self.files) > 1:
            size = sum(a.nbytes for a in tensors.values())
            places = {name: file.name for file in self.files for name in sorted(file.tensors)}
            index = {"metadata": {"total_size": size}, "weight_map": places}
            _write_json(target / INDEX, index)


def load(path: str | Path) -> Checkpoint:
    """Read a .safetensors file, or a folder of them with config.json, without rounding anything.

    The layers of GPTQ, AWQ, compressed-tensors, fp8 and bitsandbytes become packed weights. Raises
    TileError naming the file and the layer for what is damaged, incomplete or not supported.
    """
    source = Path(path)
    folder = source.is_dir()
    config = _read_json(source / "config.json") if folder else {}
    options = _options(config)
    method = options.get("quant_method")
    if _said(config) is not None and (not isinstance(method, str) or method not in METHODS):
        raise TileError(f"{source / 'config.json'}: quant_method is {method!r}; expected one of "
                        f"{', '.join(m for m in METHODS if m)}")  # fmt: skip
    read = [container.read(p) for p in (_files(source) if folder else [source])]
    arrays: Tensors = {}
    places: dict[str, str] = {}
    for file, found in read:
        for name in found.keys() & arrays.keys():
            raise TileError(f"{source}: tensor {name} is in {places[name]} and in {file.name}; "
                            "expected one")  # fmt: skip
        arrays |= found
        places |= dict.fromkeys(found, str(source / file.name) if folder else str(source))
    weights, origins = _layers(arrays, places, options, method)
    taken = {name for origin in origins.values() for name in origin.names.values()}
    rest = {name: a for name, a in arrays.items() if name not in taken}
    _check_rest(rest, places)
    return Checkpoint(weights, rest, config, origins, tuple(f for f, _ in read), folder)


def _layers(arrays: Tensors, places: dict[str, str], options: Options, method: str | None
            ) -> tuple[dict[str, PackedTensor], dict[str, Origin]]:  # fmt: skip
    weights: dict[str, PackedTensor] = {}
    origins: dict[str, Origin] = {}
    for mark in arrays:
        found = _scheme(mark, arrays, method)
        if found is None:
            continue
        scheme, name = found
        names = {end: f"{name}.{end}" for end in scheme.ends if f"{name}.{end}" in arrays}
        layer = Layer(places[mark], name, {end: arrays[n] for end, n in names.items()}, options)
        if name in weights:
            raise layer.error("it is stored in two ways", "one")
        quantised = scheme.read(layer)
        weights[name] = quantised.weight
        origins[name] = Origin(scheme, names, quantised.kept)
    return weights, origins


def _scheme(mark: str, arrays: Tensors, method: str | None) -> tuple[Scheme, str] | None:
    """The scheme whose mark a tensor is, and the name of its layer."""
    found: list[tuple[Scheme, str]] = []
    for scheme in METHODS[method]:
        if mark.endswith(f".{scheme.ends[0]}") and arrays[mark].dtype.name in scheme.dtypes:
            name = mark.removesuffix(f".{scheme.ends[0]}")
            ends = {end: arrays[f"{name}.{end}"] for end in scheme.ends
                    if f"{name}.{end}" in arrays}  # fmt: skip
            if scheme.fits(ends):
                return scheme, name
            found.append((scheme, name))
    if not found or (method is None and mark.endswith(".weight")):
        return None  # a weight in fp8 without scales may be just that
    return found[0]


def _check_rest(rest: Tensors, places: dict[str, str]) -> None:
    for name in rest:
        end = next((e for e in _OWN if name.endswith(f".{e}")), None)
        if end is not None:
            raise TileError(f"{places[name]}: layer {name.removesuffix(f'.{end}')}: `.{end}` "
                            f"({rest[name].dtype.name}{list(rest[name].shape)}) belongs to no "
                            "quantised layer that is known; expected its other tensors beside it, "
                            "and the quant_method that they have")  # fmt: skip


def _shaped(name: str, made: Array, expected: Stored) -> Array:
    size = 1
    for n in expected.shape:
        size *= n
    if made.dtype.name != expected.dtype or made.size != size:
        raise TileError(f"tensor {name} is {made.dtype.name}{list(made.shape)} now; its file had "
                        f"{expected.dtype}{list(expected.shape)}")  # fmt: skip
    return made.reshape(expected.shape)


def _said(config: Mapping[str, Any]) -> object:
    """What config.json says of quantisation, under its name or compressed-tensors' former one."""
    return config.get("quantization_config", config.get("compression_config"))


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    found = _said(config)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder; those that its index names must be there."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise TileError(f"{folder}: there is no .safetensors file; expected one beside config.json")
    if (folder / INDEX).exists():
        places = _read_json(folder / INDEX).get("weight_map")
        named = cast("dict[str, Any]", places) if isinstance(places, dict) else {}
        missing = sorted({str(f) for f in named.values()} - {p.name for p in found})
        if missing:
            raise TileError(f"{folder / INDEX}: there is no {missing[0]}; expected every file "
                            "that it names")  # fmt: skip
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read: Any = json.loads(path.read_bytes())
    except OSError as e:
        raise TileError(f"{path}: can't be read: {e.strerror}") from e
    except ValueError as e:
        raise TileError(f"{path}: is no JSON ({e}); expected a whole file") from e
    if not isinstance(read, dict):
        raise TileError(f"{path}: is a {type(read).__name__}; expected a JSON object")
    return cast("dict[str, Any]", read)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, indent=2) + "\n")
    except OSError as e:
        raise TileError(f"{path}: can't be written: {e.strerror}") from e
