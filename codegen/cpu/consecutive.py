"""Tiles of consecutive whole numbers: what they pick lies side by side, what they decide is decided
for a vector at once. So a row that is joined of parts is computed part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import permutations

from tilec.codegen.cpu.llvm import Number, V, constant, vector
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.core import Op, Value
from tilec.ir.ops import arith
from tilec.ir.ops.shape import Broadcast, Full
from tilec.ir.types import Tile


def known(w: Writer, op: Op, operands: list[Lazy], made: Mapping[Value, Op], x: Lazy) -> Lazy:
    """The tile of an element-wise op, with what is known of it as consecutive numbers."""
    x = replace(x, joined=any(o.joined for o in operands))
    if len(operands) != 2:
        return x
    if isinstance(op, arith.Eq):
        return replace(x, only=_only(w, op, operands, made))
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


def _only(w: Writer, op: Op, operands: list[Lazy], made: Mapping[Value, Op]
          ) -> Callable[[Index], V] | None:  # fmt: skip
    """Where in a row of consecutive numbers one is that is the same for the whole row."""
    for (own, first), (v, other) in permutations(zip(op.operands, operands, strict=True)):
        del own
        spread, start = made.get(v), first.first
        if start is None or not isinstance(spread, Broadcast) or other.dtype.bits > 32:
            continue
        t = spread.a.type
        assert isinstance(t, Tile)
        if t.rank and (t.shape[-1] != 1 or other.shape[-1] == 1):
            continue
        signed = "sext" if other.dtype.kind == "int" else "zext"

        def place(index: Index, other: Lazy = other, start: Number = start, to: str = signed) -> V:
            number = w.f.convert(to, other.at((*index, 0), 1), "i64")
            return w.f.binary("sub", number, w.f.number(start))

        return place
    return None


def where(w: Writer, sides: tuple[Lazy, Lazy, Lazy], otherwise: Op | None, x: Lazy) -> Lazy:
    """A choice whose condition holds for the first numbers of each row: of a vector on one side
    of the end, that side alone is computed. Or for one number of each row, where `otherwise` makes
    zeros: that element is all that a sum needs."""
    condition, yes, no = sides
    if condition.only is not None and isinstance(otherwise, Full) and otherwise.value == 0:
        return replace(x, picked=(condition.only, yes))
    if condition.until is None:
        return x
    first, end = condition.until

    def at(index: Index, lanes: int) -> V:
        f, start = w.f, w.f.plus(first, index[-1])
        region = f.region
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
        f.region = region
        kind = found[0][0]
        ways = ", ".join(f"[{v.text}, %{label}]" for v, label in found)
        return f.op(kind.type, kind.lanes, f"phi {kind.spelled} {ways}")

    return replace(x, at=at, joined=isinstance(first, int), wide=False)


def inside(w: Writer, first: Number, lanes: int, extent: Number) -> V:
    """Which of the consecutive numbers are places of a dimension."""
    start = w.f.convert("trunc", w.f.number(first), "i32")
    numbers = w.f.binary("add", w.f.splat(start, lanes), vector("i32", range(lanes)))
    return w.f.compare("icmp ult", numbers, w.f.narrow(extent, lanes))
