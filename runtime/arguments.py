"""What a call's arguments are: read in Python, with the same result as the launcher's reading."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np

from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.runtime.packed import HANDLE_ATTRIBUTE, read_handle

MAX_ARGUMENTS = 32
MAX_DIMENSIONS = 8
ALIGNMENT = 16  # bytes: launches know whether addresses are multiples of it

# dtype name: numpy's type, torch's name, DLPack's code and bits
_DTYPES: dict[str, tuple[Any, str, int, int]] = {
    "f64": (np.float64, "float64", 2, 64),
    "f32": (np.float32, "float32", 2, 32),
    "f16": (np.float16, "float16", 2, 16),
    "bf16": (ml_dtypes.bfloat16, "bfloat16", 4, 16),
    "e4m3": (ml_dtypes.float8_e4m3fn, "float8_e4m3fn", 10, 8),
    "e5m2": (ml_dtypes.float8_e5m2, "float8_e5m2", 12, 8),
    "i8": (np.int8, "int8", 0, 8),
    "u8": (np.uint8, "uint8", 1, 8),
    "i16": (np.int16, "int16", 0, 16),
    "i32": (np.int32, "int32", 0, 32),
    "i64": (np.int64, "int64", 0, 64),
    "u16": (np.uint16, "uint16", 1, 16),
    "u32": (np.uint32, "uint32", 1, 32),
    "bool": (np.bool_, "bool", 6, 8),
}
_FROM_NUMPY = {np.dtype(row[0]): name for name, row in _DTYPES.items()}
_FROM_TORCH = {f"torch.{row[1]}": name for name, row in _DTYPES.items()}
_DLPACK_DEVICES = {"cpu": 1, "cuda": 2}
_NUMPY, _TORCH, _PACKED, _INT, _FLOAT, _BOOL, _NONE, _RESULTS = range(1, 9)
_SCALARS: dict[type[object], int] = {int: _INT, float: _FLOAT, bool: _BOOL, type(None): _NONE}
_KEPT_FLAGS = 0x500  # numpy's ALIGNED and WRITEABLE


@dataclass(frozen=True)
class TensorArgument:
    """A numpy array or torch tensor. Strides count elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: str
    writable: bool
    aligned: bool

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after the other, row by row."""
        if 0 in self.shape:
            return True
        expected = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n > 1 and stride != expected:
                return False
            expected *= n
        return True


@dataclass(frozen=True)
class PackedArgument:
    """A packed tensor, by the numbers in its handle."""

    format_id: int
    layout_id: int
    components: int


@dataclass(frozen=True)
class ScalarArgument:
    """A Python number, or None."""

    type: Literal["int", "float", "bool", "none"]


Argument = TensorArgument | PackedArgument | ScalarArgument


@dataclass(frozen=True)
class Reading:
    """An argument as the launcher sees it: words of the key, and what fills its slots.

    `addresses` is a tensor's address or those of a packed tensor's components.
    """

    words: tuple[int, ...]
    addresses: tuple[int, ...] = ()
    scalar: int | float = 0

    @property
    def kind(self) -> str:
        """The kind of Param that this argument can fill, or none."""
        names = {_NUMPY: "tensor", _TORCH: "tensor", _PACKED: "packed", _NONE: "none"}
        return names.get(self.words[0] & 0xFF, "scalar")

    @property
    def is_float(self) -> bool:
        """Whether the argument is a Python float."""
        return self.words[0] & 0xFF == _FLOAT


def describe(argument: object) -> Argument:
    """What the argument is. Raises TileError naming what the runtime can't take."""
    reading = read(argument)
    if reading is None:
        raise TileError(refusal(argument))
    if isinstance(argument, np.ndarray):
        return _describe_numpy(argument)
    match reading.words[0] & 0xFF:
        case 2:
            return _describe_torch(argument)
        case 3:
            return PackedArgument(reading.words[1], reading.words[2], len(reading.addresses))
        case 4:
            return ScalarArgument("int")
        case 5:
            return ScalarArgument("float")
        case 6:
            return ScalarArgument("bool")
        case 7:
            return ScalarArgument("none")
        case kind:
            raise TileError(f"an argument of unknown kind {kind}")


def read(argument: object) -> Reading | None:
    """The argument's part of a launch key, or None when the launcher does not know it."""
    scalar = _SCALARS.get(type(argument))
    if scalar is not None:
        value = argument if isinstance(argument, int | float) else 0
        return Reading((scalar,), scalar=value)
    if type(argument) in (np.ndarray, np.memmap):
        return _read_numpy(argument)
    if is_torch_tensor(argument):
        return _read_torch(argument)
    return _read_packed(argument)


def launch_key(readings: Sequence[Reading], results: Sequence[Reading] | None = None) -> bytes:
    """The key of a call, as the launcher forms it. `results` are what it gives for its results."""
    words = [word for reading in readings for word in reading.words]
    if results is not None:
        words.append(_RESULTS | len(results) << 8)
        words += [word for reading in results for word in reading.words]
    return struct.pack(f"<{len(words)}q", *words)


def torch_name(dtype: DType) -> str:
    """What torch calls a dtype. Raises TileError where it has no tensors of it."""
    if str(dtype) not in _DTYPES:
        raise TileError(f"torch has no tensors of {dtype}", hint="cast the result")
    return _DTYPES[str(dtype)][1]


def dlpack_type(dtype: str) -> int:
    """DLPack's code, bits and lanes of a dtype, as they lie in 4 bytes."""
    _, _, code, bits = _DTYPES[dtype]
    return code | bits << 8 | 1 << 16


def is_torch_tensor(argument: object) -> bool:
    """Whether this is exactly a torch Tensor or Parameter; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and type(argument) in (torch.Tensor, torch.nn.Parameter)


def refusal(argument: object) -> str:
    """Why the launcher does not take this argument, and what it does take."""
    kind = type(argument)
    ndim = getattr(argument, "ndim", 0)
    if isinstance(ndim, int) and ndim > MAX_DIMENSIONS:
        return f"a tensor of {ndim} dimensions: expected at most {MAX_DIMENSIONS}"
    device = getattr(argument, "device", None)
    if is_torch_tensor(argument) and str(device).partition(":")[0] not in _DLPACK_DEVICES:
        return f"a tensor on device {device}: expected one on {' or '.join(_DLPACK_DEVICES)}"
    expected = "a numpy array, torch tensor, packed tensor, int, float or bool"
    return f"a {kind.__module__}.{kind.__qualname__}: expected {expected}"


def told(argument: object) -> str:
    """An argument in words."""
    try:
        seen = describe(argument)
    except TileError as error:
        return str(error)
    match seen:
        case TensorArgument():
            text = f"{seen.dtype}{list(seen.shape)} on {seen.device}"
            text += "" if seen.contiguous else f" with strides {list(seen.strides)}"
            text += "" if seen.writable else ", read-only"
            reading = read(argument)
            odd = reading is not None and reading.addresses[0] % ALIGNMENT
            text += f", at an address that is no multiple of {ALIGNMENT}" if odd else ""
            return f"{'numpy' if isinstance(argument, np.ndarray) else 'torch'} {text}"
        case PackedArgument():
            return repr(argument)
        case ScalarArgument(kind):
            return {"none": "None"}.get(kind, kind)
        case _:
            raise TileError(f"an argument of unknown kind {seen}")


def _tensor_words(
    kind: int, address: int, extra: int, second: int, dims: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    odd = address % ALIGNMENT != 0
    return (kind | len(dims) << 8 | odd << 16 | extra << 32, second, *dims, *strides)


def _read_numpy(array: Any) -> Reading | None:
    if array.ndim > MAX_DIMENSIONS:
        return None
    # numpy hands out the array's own dtype object, so its id is the address in the struct.
    address: int = array.__array_interface__["data"][0]
    words = _tensor_words(
        _NUMPY, address, array.flags.num & _KEPT_FLAGS, id(array.dtype), array.shape, array.strides
    )
    return Reading(words, (address,))


def _read_torch(tensor: Any) -> Reading | None:
    dtype = _FROM_TORCH.get(str(tensor.dtype))
    device = _DLPACK_DEVICES.get(tensor.device.type)
    if dtype is None or device is None or tensor.ndim > MAX_DIMENSIONS:
        return None
    where = device | (tensor.device.index or 0) << 32
    address: int = tensor.data_ptr()
    kind, shape = dlpack_type(dtype), tuple(tensor.shape)
    words = _tensor_words(_TORCH, address, kind, where, shape, tensor.stride())
    return Reading(words, (address,))


def _read_packed(argument: object) -> Reading | None:
    address = getattr(argument, HANDLE_ATTRIBUTE, None)
    found = read_handle(address) if type(address) is int and address else None
    if found is None:
        return None
    format_id, layout_id, pointers = found
    return Reading((_PACKED | len(pointers) << 8, format_id, layout_id), pointers)


def _describe_numpy(array: Any) -> TensorArgument:
    dtype = _FROM_NUMPY.get(array.dtype)
    if dtype is None:
        raise TileError(
            f"an array of dtype {array.dtype.str}: expected one of {', '.join(_DTYPES)}"
        )
    size = array.itemsize
    if any(stride % size for stride in array.strides):
        raise TileError(f"an array with strides of {array.strides} bytes for elements of {size}")
    strides = tuple(stride // size for stride in array.strides)
    flags = array.flags
    return TensorArgument(dtype, array.shape, strides, "cpu", flags.writeable, flags.aligned)


def _describe_torch(tensor: Any) -> TensorArgument:
    dtype = _FROM_TORCH[str(tensor.dtype)]
    aligned = tensor.data_ptr() % tensor.element_size() == 0
    return TensorArgument(
        dtype, tuple(tensor.shape), tensor.stride(), str(tensor.device), True, aligned
    )
