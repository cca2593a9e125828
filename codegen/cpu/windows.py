"""Tiles of whole numbers of which those of a vector lie close together: what they pick from a row
is a permutation of what registers hold of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tilec.codegen.cpu.llvm import V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Window, Writer
from tilec.ir.core import Op, Value
from tilec.ir.dtype import DType, i32
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.shape import Full
from tilec.ir.stream import LANES

CODES = 5  # bits of numbers whose tables registers hold


def of_codes(t: DType) -> Window | None:
    """Where codes lie, as whole numbers."""
    return Window(1 << t.bits) if t.kind == "uint" and t.bits <= CODES else None


def same(x: Lazy, own: Callable[[Index], Index]) -> Window | None:
    """Where the elements of a row lie that are all x[own(index)]."""
    return Window(1, lambda index: x.at(own(index), 1)) if x.dtype == i32 else None


def through(found: Window | None, own: Callable[[Index], Index]) -> Window | None:
    """Where the elements of a tile lie that is looked at at another index."""
    if found is None or found.start is None:
        return found
    start = found.start

    def there(index: Index) -> V:
        return start(own(index))

    return replace(found, start=there)


def known(w: Writer, op: Op, operands: list[Lazy], made: Mapping[Value, Op], x: Lazy) -> Lazy:
    """The tile of an element-wise op, with what is known of where its elements lie."""
    a, *others = operands
    match op:
        case Cast() if a.window and op.dtype.is_integer and op.dtype.holds(a.dtype):
            return replace(x, window=a.window)
        case arith.Add() if x.dtype == i32 and a.window and others[0].window:
            return replace(x, window=_sum(w, a.window, others[0].window))
        case arith.And() if x.dtype.is_integer:
            return replace(x, window=_masked(made.get(op.operands[1])))
        case arith.FloorDiv() if x.dtype == i32 and a.first is not None:
            return replace(x, window=_quotients(w, a, made.get(op.operands[1])))
        case _:
            return x


def _masked(by: Op | None) -> Window | None:
    """Where numbers lie of which few bits are left."""
    few = isinstance(by, Full) and 0 <= by.value < 1 << CODES
    return Window(int(by.value) + 1) if few and isinstance(by, Full) else None


def _sum(w: Writer, a: Window, b: Window) -> Window:
    def start(index: Index) -> V:
        parts = [part(index) for part in (a.start, b.start) if part is not None]
        return parts[0] if len(parts) == 1 else w.f.binary("add", *parts)

    none = a.start is None and b.start is None
    return Window(a.size + b.size - 1, None if none else start)


def _quotients(w: Writer, numbers: Lazy, by: Op | None) -> Window | None:
    """Where consecutive numbers lie once they are divided by one of at least a vector's lanes."""
    if not isinstance(by, Full) or by.value < LANES:
        return None
    n = int(by.value)

    def start(index: Index) -> V:
        assert numbers.first is not None
        first = w.f.number(w.f.plus(numbers.first, index[-1]))
        down = w.f.binary("sub", first, constant("i64", n - 1))
        below = w.f.compare("icmp slt", first, constant("i64", 0))
        found = w.f.binary("sdiv", w.f.select(below, down, first), constant("i64", n))
        return w.f.convert("trunc", found, "i32")

    return Window(2, start)
