"""A kernel that tilec compiled, with its code in the shared libraries beside this file.

Needs Python's standard library only, not tilec; see manifest.json.

    kernel = load()
    kernel(x, {"w_0": codes}, y)     # numpy arrays or torch tensors; a packed tensor is a mapping
    kernel(p, {"w_0": q}, r)         # or addresses

The best library for this processor is loaded. C programs link one of them (see the header), and
TVM-FFI loads one as a module: tvm_ffi.load_module(path).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

SCHEMA = 1
TORCH = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16", "bool": "bool",
    "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "i8": "int8", "i16": "int16", "i32": "int32",
    "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32",
}  # fmt: skip
CARRIERS: dict[str, Any] = {
    "integer": ctypes.c_int64, "f64": ctypes.c_double, "f32": ctypes.c_float,
}  # fmt: skip
LINE = 64  # bytes: the alignment of a packed tensor's arrays


class KernelError(Exception):
    """What is wrong with a call, the files, or this machine."""


class Kernel:
    """A kernel of a folder, for a processor with some flags (by default this one)."""

    def __init__(self, folder: Path, flags: Sequence[str] | None = None) -> None:
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        self.name: str = self.manifest["kernel"]
        if self.manifest["schema"] != SCHEMA:
            raise KernelError(f"{folder}: the manifest has schema {self.manifest['schema']}, "
                              f"expected {SCHEMA}")  # fmt: skip
        self.target = self._target(processor_flags() if flags is None else flags)
        library = folder / self.manifest["targets"][self.target]["file"]
        said = self.manifest["targets"][self.target]["sha256"]
        if hashlib.sha256(library.read_bytes()).hexdigest() != said:
            raise KernelError(f"{library} is not what was written")
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as e:
            raise KernelError(f"{library} can't be loaded: {e}") from None
        self._function = self._library[self.manifest["abi"]["c"]]
        self._function.restype = ctypes.c_int32

    def _target(self, flags: Sequence[str]) -> str:
        """The first target whose flags are all there: the best one is first."""
        targets: Mapping[str, Any] = self.manifest["targets"]
        for name, t in targets.items():
            if t["processor"] == platform.machine() and set(t["flags"]) <= set(flags):
                return name
        raise KernelError(f"{self.name} has no code for this processor: "
                          f"there is {', '.join(targets)}")  # fmt: skip

    def __call__(self, *arguments: Any) -> None:
        """Run on arrays, tensors or addresses, in place."""
        takes = self.manifest["arguments"]
        if len(arguments) != len(takes):
            names = ", ".join(a["name"] for a in takes)
            raise KernelError(f"{self.name} takes {len(takes)} arguments ({names}), "
                              f"not {len(arguments)}")  # fmt: skip
        given = [v for a, x in zip(takes, arguments, strict=True) for v in self._values(a, x)]
        status = self._function(*given)
        if status > 0:
            name = self.manifest["abi"]["arguments"][status - 1]
            raise KernelError(f"{self.name}: `{name}` is null, not aligned or out of range")
        if status:
            raise KernelError(f"{self.name}: no memory for a workspace")

    def _values(self, a: Mapping[str, Any], x: Any) -> list[Any]:
        match a["kind"]:
            case "tensor":
                return [self._tensor(a, x)]
            case "scalar":
                return [self._number(a, x)]
            case "packed":
                return self._packed(a, x)
            case kind:
                raise KernelError(f"{self.name}: `{a['name']}` is of unknown kind {kind}")

    def _tensor(self, a: Mapping[str, Any], x: Any) -> ctypes.c_void_p:
        if not isinstance(x, int):
            shape, dtype = list(getattr(x, "shape", ())), _dtype(x)
            wanted = TORCH[a["dtype"]], a["shape"]
            if (dtype, shape) != wanted:
                raise KernelError(f"{self.name}: `{a['name']}` is {dtype}{shape}, "
                                  f"expected {wanted[0]}{wanted[1]}")  # fmt: skip
        return ctypes.c_void_p(self._address(a["name"], x))

    def _packed(self, a: Mapping[str, Any], x: Any) -> list[Any]:
        name = a["name"]
        names = [f"{name}_{i}" for i in range(len(a["arrays"]))]
        if not isinstance(x, Mapping):
            raise KernelError(f"{self.name}: `{name}` is packed: expected a mapping of its arrays "
                              f"{', '.join(names)}")  # fmt: skip
        arrays = cast(Mapping[str, Any], x)
        found: list[Any] = []
        for n, said in zip(names, a["arrays"], strict=True):
            if n not in arrays:
                raise KernelError(f"{self.name}: `{name}` has no array {n}")
            part = arrays[n]
            size = said["bytes"] if isinstance(part, int) else part.nbytes
            if size != said["bytes"]:
                raise KernelError(f"{self.name}: `{n}` has {size} bytes, expected {said['bytes']}")
            address = self._address(n, part)
            if address % LINE:
                raise KernelError(f"{self.name}: `{n}` begins at an address that is no multiple "
                                  f"of {LINE}")  # fmt: skip
            found.append(ctypes.c_void_p(address))
        return found

    def _address(self, name: str, x: Any) -> int:
        """Where a tensor is, contiguous and on the CPU."""
        if isinstance(x, int):
            return x
        if hasattr(x, "data_ptr"):
            if x.device.type != "cpu":
                raise KernelError(f"{self.name}: `{name}` is on {x.device}, expected the CPU")
            if not x.is_contiguous():
                raise KernelError(f"{self.name}: `{name}` is not contiguous")
            return x.data_ptr()
        if not hasattr(x, "__array_interface__"):
            raise KernelError(f"{self.name}: `{name}` is a {type(x).__name__}, expected an array, "
                              "a tensor or an address")  # fmt: skip
        if not x.flags.c_contiguous:
            raise KernelError(f"{self.name}: `{name}` is not contiguous")
        return x.__array_interface__["data"][0]

    def _number(self, a: Mapping[str, Any], x: Any) -> Any:
        name = a["name"]
        if not isinstance(x, int | float):
            raise KernelError(f"{self.name}: `{name}` is a {type(x).__name__}, expected a number")
        if a["carrier"] == "integer":
            low, high = a["range"]
            if isinstance(x, float) or not low <= x <= high:
                raise KernelError(f"{self.name}: `{name}` is {x}, which is no {a['dtype']}")
        return CARRIERS[a["carrier"]](x)


def _dtype(x: Any) -> str:
    return str(getattr(x, "dtype", type(x).__name__)).removeprefix("torch.")


def processor_flags(path: str = "/proc/cpuinfo") -> list[str]:
    """What Linux says that this processor can do."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as e:
        raise KernelError(f"this processor is not known: {e}") from None
    said = [x for x in lines if x.startswith("flags")]
    return said[0].partition(":")[2].split() if said else []


def load() -> Kernel:
    """The kernel of this folder. Raises KernelError where it has no code for this processor."""
    return Kernel(Path(__file__).parent)
