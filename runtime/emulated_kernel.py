"""A kernel as a library for the host: its arguments, and launches of it."""

from __future__ import annotations

import ctypes
import struct
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.runtime.report import Report, parse_report
from tilec.runtime.tensor_map import TensorMap

Argument = NDArray[np.generic] | TensorMap | np.generic | int | float
Shape = tuple[int, ...]

MAX_THREADS = 1024  # in a block
MAX_SHARED_BYTES = 227 << 10  # in a block, on any target
_SLOT = 128  # bytes and alignment of an argument: those of the largest, a tensor map


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("resident", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("order", ctypes.c_uint64),
        ("entry", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("writable", ctypes.c_uint32),
    ]


def load_library(image: bytes) -> ctypes.CDLL:
    """A library from its bytes. It stays loaded, and others find it by the name that it has."""
    with tempfile.NamedTemporaryFile(prefix="tilec-", suffix=".so") as file:
        file.write(image)
        file.flush()
        return ctypes.CDLL(file.name)


class EmulatedKernel:
    """A kernel that was compiled for the host. The machine that it uses must be loaded."""

    def __init__(self, entry: str, image: bytes) -> None:
        self._entry = entry
        self._library = load_library(image)
        self._library.tilec_emulate.restype = ctypes.c_void_p
        self._library.tilec_letters.restype = ctypes.c_char_p
        self._library.tilec_sizes.restype = ctypes.POINTER(ctypes.c_uint)
        letters: bytes = self._library.tilec_letters()
        self._letters = letters.decode()
        self._sizes = tuple(self._library.tilec_sizes()[: len(letters)])

    def launch(
        self,
        grid: Shape,
        block: Shape,
        arguments: Mapping[str, Argument],
        shared_bytes: int = 0,
        seed: int = 0,
        resident: int = 1,
        order: int = 0,
    ) -> Report:
        """Run the kernel over the grid, as `Emulator.run` says."""
        threads = _three(block, "block")
        if np.prod(threads) > MAX_THREADS:
            raise TileError(f"a block of {threads} threads, expected no more than {MAX_THREADS}")
        if not 0 <= shared_bytes <= MAX_SHARED_BYTES:
            raise TileError(
                f"{shared_bytes} bytes of shared memory, expected 0 to {MAX_SHARED_BYTES}"
            )
        if resident < 1:
            raise TileError(f"{resident} resident blocks, expected 1 or more")
        memory, pointers = _laid_out(self._values(arguments))
        launch = _Launch(
            (ctypes.c_uint32 * 3)(*_three(grid, "grid")), (ctypes.c_uint32 * 3)(*threads),
            shared_bytes, resident, seed, order,
            ctypes.cast(self._library.tilec_enter, ctypes.c_void_p),
            ctypes.cast(pointers, ctypes.c_void_p),
        )  # fmt: skip
        buffers = _buffers(arguments)
        table = (_Buffer * len(buffers))(*buffers)
        text = self._library.tilec_emulate(ctypes.byref(launch), table, len(buffers))
        del memory  # which lived until the launch had ended
        if text is None:
            raise TileError(f"the system gives no stacks for {threads} threads")
        report = parse_report(ctypes.string_at(text).decode())
        self._library.free(ctypes.c_void_p(text))
        return report

    def _values(self, arguments: Mapping[str, Argument]) -> list[bytes]:
        """The bytes of each parameter."""
        if len(arguments) != len(self._letters):
            raise TileError(
                f"{self._entry} takes {len(self._letters)} arguments, not {len(arguments)}"
            )
        kinds = zip(self._letters, self._sizes, strict=True)
        pairs = zip(arguments.items(), kinds, strict=True)
        return [_value(f"{self._entry}: argument {n}", a, *kind) for (n, a), kind in pairs]


def _laid_out(values: list[bytes]) -> tuple[ctypes.Array[Any], ctypes.Array[Any]]:
    """Memory with these values, each in a slot, and the addresses of the slots."""
    memory = ctypes.create_string_buffer(_SLOT * (len(values) + 1))
    first = -(-ctypes.addressof(memory) // _SLOT) * _SLOT
    places = [first + _SLOT * i for i in range(len(values))]
    for place, value in zip(places, values, strict=True):
        ctypes.memmove(place, value, len(value))
    return memory, (ctypes.c_void_p * len(values))(*places)


def _three(shape: Shape, what: str) -> tuple[int, int, int]:
    if not 1 <= len(shape) <= 3 or any(size < 1 for size in shape):
        raise TileError(f"a {what} of {shape}, expected 1 to 3 sizes of 1 or more")
    x, y, z = (*shape, 1, 1)[:3]
    return x, y, z


def _buffers(arguments: Mapping[str, Argument]) -> list[_Buffer]:
    """What the kernel may access: an array that is given twice is under its first name."""
    buffers: dict[tuple[int, int], _Buffer] = {}
    for name, argument in arguments.items():
        array = argument.array if isinstance(argument, TensorMap) else argument
        if isinstance(array, np.ndarray):
            low, high = byte_bounds(array)
            buffer = _Buffer(name.encode(), low, high - low, int(array.flags.writeable))
            buffers.setdefault((low, high), buffer)
    return list(buffers.values())


def _value(what: str, argument: Argument, letter: str, size: int) -> bytes:
    match letter, argument:
        case "p", np.ndarray():
            if not argument.flags.c_contiguous:
                raise TileError(f"{what}: an array that is not contiguous")
            return struct.pack("<Q", argument.ctypes.data)
        case "t", TensorMap():
            return argument.encoded()
        case "i", int() | np.integer() | np.bool():
            return _integer(what, int(argument), size)
        case "f", int() | float() | np.number():
            return struct.pack("<f" if size == 4 else "<d", float(argument))
        case _:
            kinds = {"p": "an array", "t": "a tensor map", "i": "an integer", "f": "a number"}
            raise TileError(f"{what}: {type(argument).__name__}, expected {kinds[letter]}")


def _integer(what: str, value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "little", signed=value < 0)
    except OverflowError as error:
        raise TileError(f"{what}: {value} does not fit {size} bytes") from error
