"""A kernel that tilec compiled, with its machine code in the files beside this one.

Needs the NVIDIA driver and Python's standard library, not tilec; see manifest.json.

    kernel = load()
    kernel(x, weights, y)                   # torch tensors on a GPU; a packed tensor is a mapping
    kernel(p, q, r, dims={"M": 16})         # or addresses on a GPU, with the open dimensions
"""

from __future__ import annotations

import ast
import ctypes
import hashlib
import json
import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

SCHEMA = 1
FLOATS = {"f32": "<f", "f64": "<d"}
INTEGER_BYTES = 8  # of which a kernel takes as many as it needs
TORCH = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16", "bool": "bool",
    "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "i8": "int8", "i16": "int16", "i32": "int32",
    "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32",
}  # fmt: skip
MAJOR, MINOR = 75, 76  # CUdevice_attribute
DYNAMIC_SHARED, FREE_SHARED = 8, 48 << 10  # CUfunction_attribute, and bytes that need it not
FUNCTIONS: dict[str, Any] = {"Max": max, "Min": min, "floor": math.floor,
             "ceiling": math.ceil}  # fmt: skip

OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: Fraction.__add__, ast.Sub: Fraction.__sub__, ast.Mult: Fraction.__mul__,
    ast.Div: Fraction.__truediv__,
}  # fmt: skip


class KernelError(Exception):
    """What is wrong with a call, the files, or this machine."""


class Driver:
    """The CUDA driver API of a library."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as e:
            raise KernelError(f"no NVIDIA driver: {e}") from None
        self.call("cuInit", 0)
        self._contexts: dict[int, int] = {}

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. Raises KernelError with the driver's name of the error."""
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise KernelError(f"{name}: {(text.value or b'error %d' % code).decode()}")

    def capability(self, device: int) -> tuple[int, int]:
        """The compute capability of a GPU."""
        found: list[int] = []
        for attribute in (MAJOR, MINOR):
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            found.append(value.value)
        return found[0], found[1]

    def enter(self, device: int) -> None:
        """Make a GPU's primary context the current one; `leave` undoes it."""
        if device not in self._contexts:
            handle, context = ctypes.c_int(), ctypes.c_void_p()
            self.call("cuDeviceGet", ctypes.byref(handle), device)
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
            self._contexts[device] = context.value or 0
        self.call("cuCtxPushCurrent_v2", ctypes.c_void_p(self._contexts[device]))

    def leave(self) -> None:
        """Put the earlier context back."""
        self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def function(self, image: bytes, entry: str, shared: int) -> ctypes.c_void_p:
        """A kernel of a cubin, which stays loaded."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), image)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, entry.encode())
        if shared > FREE_SHARED:
            self.call("cuFuncSetAttribute", function, DYNAMIC_SHARED, shared)
        return function

    def memory(self, size: int) -> int:
        """Memory that is never freed."""
        found = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(found), ctypes.c_size_t(size))
        return found.value


class Call:
    """The arguments of one call, checked: addresses and numbers by name, the open dimensions, and
    the GPU that they are on."""

    def __init__(self, manifest: Mapping[str, Any], arguments: Sequence[Any],
                 dims: Mapping[str, int], device: int | None) -> None:  # fmt: skip
        self._manifest, self.name = manifest, manifest["kernel"]
        self.values: dict[tuple[str, str], int | bytes] = {}
        self.dims: dict[str, int] = dict(manifest["dims"])
        self.device, self.tensors = device, False
        self._where = {n: "the known ones" for n in self.dims}
        for n, size in dims.items():
            self._dimension(n, size, "dims")
        takes = manifest["arguments"]
        if len(arguments) != len(takes):
            names = ", ".join(a["name"] for a in takes)
            raise KernelError(f"{self.name} takes {len(takes)} arguments ({names}), "
                              f"not {len(arguments)}")  # fmt: skip
        for a, x in zip(takes, arguments, strict=True):
            self._argument(a, x)
        self._check_dimensions()

    def _check_dimensions(self) -> None:
        for n in self._manifest["open"]:
            if n not in self.dims:
                raise KernelError(f"{self.name}: no number for the dimension {n}: give dims=")
            divisor = self._manifest["divisible"].get(n, 1)
            if self.dims[n] % divisor:
                raise KernelError(f"{self.name}: {n} is {self.dims[n]}, and the code is for "
                                  f"multiples of {divisor}")  # fmt: skip

    def _argument(self, a: Mapping[str, Any], x: Any) -> None:
        match a["kind"]:
            case "scalar":
                self.values[a["name"], ""] = self._number(a, x)
            case "tensor":
                self.values[a["name"], ""] = self._address(a["name"], a["dtype"], x)
                if not isinstance(x, int):
                    self._shape(a, x)
            case "packed":
                self._packed(a, x)
            case kind:
                raise KernelError(f"{self.name}: `{a['name']}` is of unknown kind {kind}")

    def _packed(self, a: Mapping[str, Any], x: Any) -> None:
        """The parts of a packed tensor from a mapping by `codes`, or by `w.codes`."""
        name = a["name"]
        if not isinstance(x, Mapping):
            raise KernelError(f"{self.name}: `{name}` is packed: expected a mapping of its parts "
                              f"{', '.join(c['name'] for c in a['components'])}")  # fmt: skip
        parts = cast(Mapping[str, Any], x)
        for c in a["components"]:
            whole = f"{name}.{c['name']}"
            part = parts.get(c["name"], parts.get(whole))
            if part is None:
                raise KernelError(f"{self.name}: `{name}` has no part {c['name']} or {whole}")
            self.values[name, c["name"]] = self._address(whole, "", part)
            size = c["bytes"] if isinstance(part, int) else part.numel() * part.element_size()
            if size != c["bytes"]:
                raise KernelError(f"{self.name}: `{whole}` has {size} bytes, "
                                  f"expected {c['bytes']}")  # fmt: skip

    def _address(self, name: str, dtype: str, x: Any) -> int:
        """Where a tensor is, after checks of all but its shape."""
        if isinstance(x, bool) or not (isinstance(x, int) or hasattr(x, "data_ptr")):
            raise KernelError(f"{self.name}: `{name}` is a {type(x).__name__}, expected a tensor "
                              "or an address")  # fmt: skip
        address = x if isinstance(x, int) else self._tensor(name, dtype, x)
        alignment = self._manifest["alignment"]
        if address % alignment:
            raise KernelError(f"{self.name}: `{name}` begins at an address that is no multiple of "
                              f"{alignment}")  # fmt: skip
        return address

    def _tensor(self, name: str, dtype: str, x: Any) -> int:
        if x.device.type != "cuda":
            raise KernelError(f"{self.name}: `{name}` is on {x.device}, expected a GPU")
        number = x.device.index or 0
        if self.device is not None and number != self.device:
            raise KernelError(f"{self.name}: `{name}` is on GPU {number}, others are on "
                              f"{self.device}")  # fmt: skip
        self.device, self.tensors = number, True
        found = str(x.dtype).removeprefix("torch.")
        if dtype and found != TORCH.get(dtype, "uint8"):
            raise KernelError(f"{self.name}: `{name}` is {found}, expected "
                              f"{TORCH.get(dtype, 'uint8')}")  # fmt: skip
        if not x.is_contiguous():
            raise KernelError(f"{self.name}: `{name}` is not contiguous")
        return x.data_ptr()

    def _shape(self, a: Mapping[str, Any], x: Any) -> None:
        shape = tuple(x.shape)
        if len(shape) != len(a["shape"]):
            raise KernelError(f"{self.name}: `{a['name']}` is {list(shape)}, "
                              f"expected {a['shape']}")  # fmt: skip
        for d, size in zip(a["shape"], shape, strict=True):
            if isinstance(d, int) and size != d:
                raise KernelError(f"{self.name}: `{a['name']}` is {list(shape)}, "
                                  f"expected {a['shape']}")  # fmt: skip
            if isinstance(d, str):
                self._dimension(d, size, f"`{a['name']}`")

    def _dimension(self, name: str, size: int, where: str) -> None:
        if self.dims.setdefault(name, size) != size:
            raise KernelError(f"{self.name}: {name} is {size} in {where}, but {self.dims[name]} in "
                              f"{self._where[name]}")  # fmt: skip
        self._where.setdefault(name, where)

    def _number(self, a: Mapping[str, Any], x: Any) -> bytes:
        """A number as a kernel takes it."""
        name, dtype = a["name"], a["dtype"]
        if not isinstance(x, int | float):
            raise KernelError(f"{self.name}: `{name}` is a {type(x).__name__}, expected a number")
        if a["carrier"] in FLOATS:
            return struct.pack(FLOATS[a["carrier"]], x)
        if isinstance(x, float):
            raise KernelError(f"{self.name}: `{name}` is {x}, expected an integer")
        low, high = a["range"]
        if not low <= x <= high:
            raise KernelError(f"{self.name}: `{name}` is {x}, which is no {dtype}")
        return x.to_bytes(INTEGER_BYTES, "little", signed=low < 0)


class Kernel:
    """A kernel of a folder."""

    def __init__(self, folder: Path, driver: Driver) -> None:
        self._folder, self._driver = folder, driver
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        if self.manifest["schema"] != SCHEMA:
            raise KernelError(f"{folder}: the manifest has schema {self.manifest['schema']}, "
                              f"expected {SCHEMA}")  # fmt: skip
        self._functions: dict[int, list[tuple[ctypes.c_void_p, int]]] = {}
        self._workspaces: dict[tuple[int, int | None, int], int] = {}

    def __call__(self, *arguments: Any, dims: Mapping[str, int] | None = None,
                 stream: int | None = None, device: int | None = None) -> None:  # fmt: skip
        """Launch on tensors, or addresses on `device` (by default 0), in a stream: by default
        torch's current one, or the default stream where there are no tensors."""
        call = Call(self.manifest, arguments, dims or {}, device)
        number = call.device or 0
        if stream is None:
            torch = cast(Any, sys.modules.get("torch") if call.tensors else None)
            stream = torch.cuda.current_stream(number).cuda_stream if torch else 0
        self._driver.enter(number)
        try:
            self._launch(call, number, stream)
        finally:
            self._driver.leave()

    def _launch(self, call: Call, device: int, stream: int | None) -> None:
        if device not in self._functions:
            self._functions[device] = self._loaded(device)
        own = self._own(call, device, stream)
        launches = self.manifest["launches"]
        for k, (function, shared) in zip(launches, self._functions[device], strict=True):
            blocks = evaluated(k["blocks"], call.dims)
            held = [self._parameter(p, call, own) for p in k["parameters"]]
            given = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
            if blocks:
                self._driver.call("cuLaunchKernel", function, blocks, 1, 1, k["threads"], 1, 1,
                                  shared, ctypes.c_void_p(stream), given, None)  # fmt: skip

    def _loaded(self, device: int) -> list[tuple[ctypes.c_void_p, int]]:
        """The functions of the launches, from the files for a GPU."""
        found: list[tuple[ctypes.c_void_p, int]] = []
        images = self.manifest["targets"][self.target(self._driver.capability(device))]["images"]
        for k, image in zip(self.manifest["launches"], images, strict=True):
            data = (self._folder / image["file"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != image["sha256"]:
                raise KernelError(f"{self._folder / image['file']} is not what was written")
            function = self._driver.function(data, k["entry"], image["shared"])
            found.append((function, image["shared"]))
        return found

    def target(self, capability: tuple[int, int]) -> str:
        """The target that runs on a GPU: its own, or an earlier one of its generation."""
        fit = {
            tuple(t["capability"]): name for name, t in self.manifest["targets"].items()
            if tuple(t["capability"]) == capability
            or (t["forward"] and t["capability"][0] == capability[0]
                and t["capability"][1] < capability[1])
        }  # fmt: skip
        if not fit:
            raise KernelError(f"{self.manifest['kernel']} has no code for sm_{capability[0]}"
                              f"{capability[1]}: there is {', '.join(self.manifest['targets'])}"
                              )  # fmt: skip
        return fit[max(fit)]

    def _own(self, call: Call, device: int, stream: int | None) -> dict[str, int]:
        """Addresses of the program's own memory, which each stream has for itself."""
        sizes = {n: evaluated(size, call.dims) for n, size in self.manifest["own"].items()}
        found: dict[str, int] = {}
        end = 0
        for n, size in sizes.items():
            found[n] = end
            end += -(-size // 256) * 256
        key = device, stream, end
        if end and key not in self._workspaces:
            self._workspaces[key] = self._driver.memory(end)
        return {n: self._workspaces[key] + at for n, at in found.items()}

    def _parameter(self, p: Mapping[str, Any], call: Call, own: Mapping[str, int]) -> Any:
        match p["kind"]:
            case "argument":
                value = call.values[p["argument"], p["component"]]
                made = isinstance(value, bytes)
                return ctypes.create_string_buffer(value) if made else ctypes.c_uint64(value)
            case "own":
                return ctypes.c_uint64(own[p["name"]])
            case "size":
                return ctypes.c_uint64(evaluated(p["extent"], call.dims))
            case "map":
                of = self._parameter(p["of"], call, own)
                return self._map(p, of.value, call.dims)
            case kind:
                raise KernelError(f"a parameter of unknown kind {kind}")

    def _map(self, p: Mapping[str, Any], address: int, dims: Mapping[str, int]) -> Any:
        """A tensor map (cuTensorMapEncodeTiled), at an address that is a multiple of 64."""
        room = (ctypes.c_uint8 * (128 + 64))()
        at = -ctypes.addressof(room) % 64
        rank = len(p["shape"])
        shape = [evaluated(d, dims) for d in reversed(p["shape"])]
        self._driver.call(
            "cuTensorMapEncodeTiled", ctypes.byref(room, at), p["element"], rank,
            ctypes.c_uint64(address), (ctypes.c_uint64 * rank)(*shape),
            (ctypes.c_uint64 * rank)(*reversed(p["pitches"])),
            (ctypes.c_uint32 * rank)(*reversed(p["box"])), (ctypes.c_uint32 * rank)(*[1] * rank),
            0, p["swizzle"], 2, 0,
        )  # fmt: skip
        return (ctypes.c_uint8 * 128).from_buffer(room, at)


def evaluated(text: str | int, dims: Mapping[str, int]) -> int:
    """What an expression of dimensions is."""
    if isinstance(text, int):
        return text
    return int(_value(ast.parse(text, mode="eval").body, dims))


def _value(node: ast.expr, dims: Mapping[str, int]) -> Fraction:
    match node:
        case ast.Constant(value=int(n)):
            return Fraction(n)
        case ast.Name(id=name) if name in dims:
            return Fraction(dims[name])
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_value(x, dims)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = _value(left, dims), _value(right, dims)
            return OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=values) if name in FUNCTIONS:
            return Fraction(FUNCTIONS[name](*(_value(x, dims) for x in values)))
        case _:
            raise KernelError(f"no number for {ast.unparse(node)}")


def load(driver: str = "libcuda.so.1") -> Kernel:
    """The kernel of this folder, launched through a driver. Raises KernelError without one."""
    return Kernel(Path(__file__).parent, Driver(driver))
