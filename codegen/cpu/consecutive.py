"""Tiles of consecutive whole numbers: what they pick lies side by side, what they decide is decided
for a vector at once. So a row that is joined of parts is computed part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilec.codegen.cpu.llvm import Number, V, constant, vector
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.core import Op, Value
from tilec.ir.ops import arith
from tilec.ir.ops.shape import Full


def known(w: Writer, op: Op, operands: list[Lazy], made: Mapping[Value, Op], x: Lazy) -> Lazy:
    """The tile of an element-wise op, with what is known of it as consecutive numbers."""
    x = replace(x, joined=any(o.joined for o in operands))
    if len(operands) != 2:
        return x
    (a, b), number = operands, made.get(op.operands[1])
    if a.first is None or not isinstance(number, Full) or not b.dtype.is_integer:
        return x
    n = int(number.value)
    match op:
        case arith.Add():
            return replace(x, first=w.f.plus(a.first, n), plain=True)
        case arith.Sub():
            return replace(x, first=w.f.plus(a.first, -n), plain=True)
        case arith.Lt():
            return replace(x, until=(a.first, n), plain=True)
        case _:
            return x


def where(w: Writer, sides: tuple[Lazy, Lazy, Lazy], x: Lazy) -> Lazy:
    """A choice whose condition holds for the first numbers of each row: of a vector on one side
    of the end, that side alone is computed."""
    condition, yes, no = sides
    if condition.until is None:
        return x
    first, end = condition.until

    def at(index: Index, lanes: int) -> V:
        f, start = w.f, w.f.plus(first, index[-1])
        if isinstance(start, int) and not start < end < start + lanes:
            return (yes if start < end else no).at(index, lanes)
        here = f.number(start)
        behind = f.compare("icmp sge", here, constant("i64", end))
        last = f.number(f.plus(here, lanes))
        labels = f.labels("first", "second", "either", "both", "chosen")
        f.branch(f.compare("icmp sle", last, constant("i64", end)), labels[0], labels[2])
        f.place(labels[2])
        f.branch(behind, labels[1], labels[3])
        found: list[tuple[V, str]] = []
        for label, side in zip((labels[0], labels[1], labels[3]), (yes, no, x), strict=True):
            f.place(label)
            found.append((side.at(index, lanes), f.label))
            f.emit(f"br label %{labels[4]}")
        f.place(labels[4])
        kind = found[0][0]
        ways = ", ".join(f"[{v.text}, %{label}]" for v, label in found)
        return f.op(kind.type, kind.lanes, f"phi {kind.spelled} {ways}")

    return replace(x, at=at, joined=isinstance(first, int))


def inside(w: Writer, first: Number, lanes: int, extent: Number) -> V:
    """Which of the consecutive numbers are places of a dimension."""
    start = w.f.convert("trunc", w.f.number(first), "i32")
    numbers = w.f.binary("add", w.f.splat(start, lanes), vector("i32", range(lanes)))
    return w.f.compare("icmp ult", numbers, w.f.narrow(extent, lanes))
