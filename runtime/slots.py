"""How the slots of a call's argument array are filled: what the native launcher does, in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilec.ir.dtype import INTEGERS
from tilec.ir.errors import TileError
from tilec.ir.source import Param
from tilec.runtime.arguments import Reading

MAX_SLOTS = 128
_POINTER, _COMPONENT, _INT, _F64, _F32, _CONSTANT = range(6)
_INTEGERS = {t.name: (int(t.low), int(t.high)) for t in INTEGERS} | {"bool": (0, 1)}


@dataclass(frozen=True)
class Slot:
    """How one slot is filled. `low` and `high` bound an integer; `low` is a constant's value."""

    operation: int
    argument: int
    component: int = 0
    low: int = 0
    high: int = 0


def slots_of(
    params: Sequence[Param], readings: Sequence[Reading], sizes: Sequence[int], data: int | None
) -> tuple[Slot, ...]:
    """How to fill each slot; the first is `data` if that is not None, the last are `sizes`.

    Raises TileError when the arguments are of other kinds.
    """
    first = () if data is None else (Slot(_CONSTANT, 0, low=data),)
    if (count := len(first) + len(params) + len(sizes)) > MAX_SLOTS:
        raise TileError(f"a kernel with {count} slots: expected at most {MAX_SLOTS}")
    for param in params:
        if param.argument >= len(readings):
            given = f"called with {len(readings)} arguments"
            raise TileError(f"{param.name} is argument {param.argument + 1}, {given}")
        reading = readings[param.argument]
        if reading.kind != param.kind:
            raise TileError(f"{param.name} is a {param.kind}, called with a {reading.kind}")
        if param.kind == "packed" and param.place >= len(reading.addresses):
            what = f"component {param.place} ({param.component}) of {param.name}"
            raise TileError(f"{what}: the packed tensor has {len(reading.addresses)}")
    given = (_slot(param, readings[param.argument]) for param in params)
    return (*first, *given, *(Slot(_CONSTANT, 0, low=size) for size in sizes))


def _slot(param: Param, reading: Reading) -> Slot:
    match param.kind:
        case "tensor":
            return Slot(_POINTER, param.argument)
        case "packed":
            return Slot(_COMPONENT, param.argument, param.place)
        case "scalar":
            if param.dtype in _INTEGERS:
                if reading.is_float:
                    raise TileError(f"{param.name} is an {param.dtype} scalar, called with a float")
                low, high = _INTEGERS[param.dtype]
                return Slot(_INT, param.argument, low=low, high=high)
            return Slot(_F64 if param.dtype == "f64" else _F32, param.argument)
        case _:
            raise TileError(f"{param.name} is of unknown kind {param.kind}")


def filled(slots: Sequence[Slot], readings: Sequence[Reading]) -> list[int]:
    """The 64-bit value of each slot. Raises TileError for an integer out of its type's range."""
    return [
        slot.low if slot.operation == _CONSTANT else _value(slot, readings[slot.argument])
        for slot in slots
    ]


def _value(slot: Slot, reading: Reading) -> int:
    match slot.operation:
        case 0 | 1:
            return reading.addresses[slot.component]
        case 2:
            value = int(reading.scalar)
            if not slot.low <= value <= slot.high:
                span = f"expected {slot.low} to {slot.high}"
                raise TileError(f"argument {slot.argument + 1} is {value}: {span}")
            return value & (1 << 64) - 1
        case 3:
            return int(np.float64(reading.scalar).view(np.uint64))
        case 4:
            with np.errstate(over="ignore"):
                return int(np.float32(reading.scalar).view(np.uint32))
        case operation:
            raise TileError(f"unknown slot operation {operation}")


def aligned(size: int) -> tuple[object, int]:
    """A buffer of at least `size` bytes, and a 64-byte aligned address in it."""
    if not size:
        return None, 0
    buffer = np.empty(size + 63, np.uint8)
    return buffer, (buffer.ctypes.data + 63) & ~63


class Room:
    """A workspace of so many bytes, and whether a call is using it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._buffer, self.address = aligned(size)
        self._busy = ctypes.c_int64(0)
        self.busy = ctypes.addressof(self._busy)
