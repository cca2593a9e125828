"""Arguments of a kernel: what may be passed for each parameter, and the parameter block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import Array
from tilec.ptx.memory import Heap
from tilec.ptx.source import Variable
from tilec.ptx.tensormap import SIZE, TensorMap

Argument = Array | np.generic | int | float | bytes | TensorMap
Arguments = Sequence[Argument] | Mapping[str, Argument]


@dataclass
class Bound:
    """The parameter block of a launch, and the arrays whose contents lie in the heap."""

    block: bytearray
    arrays: dict[tuple[int, int], tuple[Array, int]]  # by place and size: with its address


def bind(parameters: Sequence[Variable], arguments: Arguments, heap: Heap) -> Bound:
    """Place arrays in the heap and fill the parameter block. Raises TileError for misfits.

    An array is passed as the address of its bytes and must be contiguous; the same array twice is
    the same address. The names of a mapping are only for reports: its order counts.
    """
    named = isinstance(arguments, Mapping)
    values = list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)
    names = list(arguments) if named else [p.name for p in parameters]
    if len(values) != len(parameters):
        wanted = ", ".join(f"{p.name}: {p.type}[{p.size}]" for p in parameters)
        raise TileError(f"ptx: {len(values)} arguments for {len(parameters)} parameters ({wanted})")
    bound = Bound(bytearray(), {})
    for p, name, value in zip(parameters, names, values, strict=True):
        bound.block.extend(bytes(-len(bound.block) % p.align))
        bound.block.extend(_bytes(p, name, value, heap, bound))
    return bound


def offsets(parameters: Sequence[Variable]) -> dict[str, int]:
    """Where each parameter begins in the block."""
    found: dict[str, int] = {}
    end = 0
    for p in parameters:
        found[p.name] = -(-end // p.align) * p.align
        end = found[p.name] + p.size
    return found


def _bytes(p: Variable, name: str, value: Argument, heap: Heap, bound: Bound) -> bytes:
    """The bytes of one argument, exactly as many as its parameter has."""
    if isinstance(value, TensorMap):
        raw = value.encoded(_place(value.array, name, heap, bound))
    elif isinstance(value, np.ndarray):
        raw = _place(value, name, heap, bound).to_bytes(8, "little")
    elif isinstance(value, bytes):
        raw = value
    else:
        raw = _scalar(p, name, value)
    if len(raw) != p.size:
        what = (
            f"{SIZE} bytes of a tensor map" if isinstance(value, TensorMap) else f"{len(raw)} bytes"
        )
        raise TileError(f"ptx: {name} gives {what} for {p.name}, which has {p.size}")
    return raw


def _scalar(p: Variable, name: str, value: object) -> bytes:
    if isinstance(value, np.generic):
        return value.tobytes()
    if isinstance(value, float):
        if p.type.kind == "int" or p.size not in (2, 4, 8):
            raise TileError(f"ptx: {name} is {value}, and {p.name} is no float")
        return np.array(value, f"f{p.size}").tobytes()
    if isinstance(value, int):
        if p.type.kind == "float":
            return np.array(value, f"f{p.size}").tobytes()
        if not -(1 << 8 * p.size - 1) <= value < 1 << 8 * p.size:
            raise TileError(f"ptx: {name} is {value}, and {p.name} has {p.size} bytes")
        return (value & ((1 << 8 * p.size) - 1)).to_bytes(p.size, "little")
    raise TileError(f"ptx: {name} is a {type(value).__name__}, which no kernel takes")


def _place(array: Array, name: str, heap: Heap, bound: Bound) -> int:
    """The address of an array's contents."""
    place = array.__array_interface__["data"][0], array.nbytes
    if place in bound.arrays:
        return bound.arrays[place][1]
    if not array.flags.c_contiguous:
        raise TileError(f"ptx: {name} is not contiguous; pass the array that it is a view of")
    for other, _ in bound.arrays.values():
        if np.may_share_memory(array, other):
            raise TileError(f"ptx: {name} shares memory with another argument; pass the whole once")
    address = heap.add(name, array.tobytes(), array.flags.writeable)
    bound.arrays[place] = (array, address)
    return address
