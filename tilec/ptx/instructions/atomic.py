"""Atomic operations on memory (PTX ISA, `atom`, `red`).

Threads go one after another, ascending by number, each operation whole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.arithmetic import add as float_add
from tilec.ptx.bytes import gather, scatter
from tilec.ptx.formats import UINT, Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.instructions.floating import format_of
from tilec.ptx.instructions.memory import ACCESS, space
from tilec.ptx.memory import WINDOW
from tilec.ptx.registry import instruction
from tilec.ptx.spaces import split
from tilec.ptx.step import Step
from tilec.ptx.threads import Threads
from tilec.ptx.types import STORED, Type, types
from tilec.ptx.values import lanes, numbers, packed

MODIFIERS = (*ACCESS, "acq_rel", "noftz", "add", "and", "or", "xor", "min", "max", "inc", "dec",
             "exch", "cas")  # fmt: skip
TAKEN = STORED | types("f16x2 bf16x2")
Update = Callable[[Array, Array], Array]  # the old bits and the operand's: the new bits


@instruction("atom", MODIFIERS, types=(TAKEN,), operands=(3, 4, 5))
def atom(x: Step) -> None:
    """d = memory; memory = op(memory, b)."""
    _atomic(x, 1, result=True)


@instruction("red", MODIFIERS, types=(TAKEN,), operands=(2, 3))
def red(x: Step) -> None:
    """memory = op(memory, b)."""
    _atomic(x, 0, result=False)


def _atomic(x: Step, at: int, result: bool) -> None:
    t = x.i.types[0]
    values = x.rows(at + 1, t.width)  # elements x threads
    swap = x.row(at + 2, t.width) if "cas" in x.i.modifiers else None
    address, where = x.address(at), space(x.i, at)
    old = np.zeros_like(values)
    x.m.progress += 1
    for k in range(len(values)):
        inner = address + k * t.bytes
        for name, mask in split(inner) if where == "generic" else [(where, ...)]:
            u = x.t if mask is ... or mask.all() else x.t.subset(mask)
            part = inner[mask] & ((1 << WINDOW) - 1) if name == "shared" else inner[mask]
            third = None if swap is None else swap[mask]
            old[k, mask] = _space(x, u, name, part, values[k, mask], third)
    if result:
        for o, bits in zip(x.parts(0), old, strict=True):
            o.put(x.t, bits)


def _space(x: Step, t: Threads, name: str, address: Array, values: Array, swap: Array | None
           ) -> Array:  # fmt: skip
    """The operation in one space; the old bits."""
    size = x.i.types[0].bytes
    if name == "shared":
        shared = x.m.spaces.shared
        offsets, good = shared.check(t, x.i, address, size, "writes")
        memory = shared.memory
        if shared.statistics is not None:
            shared.statistics.shared(t, x.i, address, size)
        if shared.shadow is not None:
            span = shared.shadow.span(t, offsets, size)
            shared.shadow.read(span, x.i, atomic=True)
            shared.shadow.write(span, x.i, None, atomic=True)
            shared.shadow.wrote(span, x.i, None, atomic=True)
    elif name == "global":
        offsets, good = x.m.spaces.global_.check(t, x.i, address, size, "writes")
        memory = x.m.spaces.global_.heap.memory
        if x.m.statistics is not None:
            x.m.statistics.memory(t, x.i, address, size)
    else:
        raise TileError(f"ptx: {x.i.place}: no atomics on {name} memory: {x.i.text}")
    keep = np.ones(t.count, bool) if good is None else good
    old = np.zeros_like(values)
    old[keep] = _rounds(x, memory, offsets[keep], values[keep],
                        None if swap is None else swap[keep])  # fmt: skip
    return old


def _rounds(x: Step, memory: Array, offsets: Array, values: Array, swap: Array | None) -> Array:
    """Threads of different addresses together, those of one address in turn."""
    t = x.i.types[0]
    order = np.argsort(offsets, kind="stable")
    ordered = offsets[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, bool)
    turn = np.empty(len(offsets), np.int64)
    start = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    turn[order] = np.arange(len(ordered)) - start
    old = np.zeros_like(values)
    update = _update(x.i, t)
    for k in range(int(turn.max(initial=-1)) + 1):
        now = turn == k
        before = gather(memory, offsets[now], t.bytes).view(UINT[t.width])[:, 0]
        if swap is None:
            after = update(before, values[now])
        else:
            after = np.where(before == values[now], swap[now], before)
        scatter(memory, offsets[now], np.ascontiguousarray(after[:, None]).view(np.uint8))
        old[now] = before
    return old


def update_of(i: Instruction, t: Type) -> Update:
    """How an operation of an instruction changes rows of bytes of a type."""
    update = _update(i, t)

    def change(old: Array, rows: Array) -> Array:
        a, b = (np.ascontiguousarray(r).view(UINT[t.width]).reshape(-1) for r in (old, rows))
        return np.ascontiguousarray(update(a, b)).view(np.uint8).reshape(rows.shape)

    return change


def _update(i: Instruction, t: Type) -> Update:
    match i.one_of("add", "and", "or", "xor", "min", "max", "inc", "dec", "exch", "cas"):
        case "add":
            return (lambda a, b: _float_sum(a, b, t)) if t.kind == "float" else np.add
        case "and":
            return np.bitwise_and
        case "or":
            return np.bitwise_or
        case "xor":
            return np.bitwise_xor
        case "min":
            return lambda a, b: _extreme(a, b, t, greater=False)
        case "max":
            return lambda a, b: _extreme(a, b, t, greater=True)
        case "inc":
            return lambda a, b: np.where(a >= b, 0, np.add(a, 1)).astype(a.dtype)
        case "dec":
            return lambda a, b: np.where((a == 0) | (a > b), b, np.subtract(a, 1)).astype(a.dtype)
        case "exch" | "cas":
            return _second
        case _:
            raise TileError(f"ptx: {i.place}: an atomic without an operation: {i.text}")


def _second(_old: Array, new: Array) -> Array:
    return new


def _float_sum(a: Array, b: Array, t: Type) -> Array:
    codes = float_add(numbers(a, t), numbers(b, t), format_of(t), "rn")
    return packed(codes, t) if t.lanes > 1 else codes


def _extreme(a: Array, b: Array, t: Type, greater: bool) -> Array:
    """The lesser or the greater number; of a NaN the other."""
    p, q = numbers(a, t), numbers(b, t)
    first = ((p > q) if greater else (p < q)) | ((q != q) & (p == p))
    if t.lanes > 1:
        return packed(np.where(first, lanes(a, t), lanes(b, t)), t)
    return np.where(first, a, b)
