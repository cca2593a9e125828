"""Tiles handed from thread to thread: conversions, and operands of products.

In shared memory a tile lies row by row; rows are a few bytes longer than their elements, so that
rows below each other begin in different banks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from tilec.codegen.cuda.printer import offset, plus, times
from tilec.codegen.cuda.tiles import Values, storage, tile
from tilec.ir.core import Value
from tilec.ir.dtype import DType
from tilec.ir.laid import sizes_of
from tilec.ir.layout import moves
from tilec.ir.layout.banks import WARP
from tilec.ir.layout.digits import Digit, Digits, split
from tilec.ir.layout.moves import past_a_line
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.machine import Shift

LINE = 16  # bytes of the widest access


@dataclass(frozen=True)
class Parked:
    """A tile in shared memory from `start` on."""

    sizes: tuple[int, ...]
    bytes: int  # of an element
    start: int = 0
    gap: int = LINE  # bytes up to which rows are apart

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next."""
        row = self.sizes[-1] * self.bytes if self.sizes else self.bytes
        return past_a_line(row, len(self.sizes), self.gap)

    @property
    def end(self) -> int:
        """The first byte behind it."""
        size = prod(self.sizes[:-1]) * self.pitch
        return self.start + -(-size // LINE) * LINE

    def address(self, coordinates: list[str]) -> str:
        """The shared address of an element."""
        row = "0"
        for c, size in zip(coordinates[:-1], self.sizes[:-1], strict=True):
            row = plus(f"({row}) * {size}" if row != "0" else "0", c)
        out = f"({row}) * {self.pitch}" if row != "0" else "0"
        if coordinates:
            out = plus(out, f"({coordinates[-1]}) * {self.bytes}")
        return plus("shared" if not self.start else f"shared + {self.start}", out)


def _shares_bytes(t: DType) -> bool:
    """Whether registers hold several elements in a byte; each has its own in shared memory."""
    return t.bits < 8 and t.kind != "bool"


def element_bytes(t: DType) -> int:
    """Bytes of an element in shared memory."""
    return max(1, -(-(8 if t.kind == "bool" else t.bits) // 8))


def parked(v: Value, start: int = 0) -> Parked:
    """Where a tile goes in shared memory."""
    t = tile(v)
    return Parked(sizes_of(t), element_bytes(t.dtype), start)


def put(values: Values, v: Value, to: Parked) -> None:
    """Write a tile to shared memory, each element by one thread. Barriers are the caller's."""
    p, t, layout = values.p, tile(v), values.layouts[v]
    n = _run(layout, to, t.dtype)
    first = p.first_copy(layout)
    if first:
        p.line(f"if ({first}) {{")
        p.depth += 1
    p.unrolled("i", layout.locals, n)
    at = to.address([p.coordinate(layout, a, "i") for a in range(layout.rank)])
    if _shares_bytes(t.dtype):
        p.line(f"store_shared({at}, u8({values.names[v]}.raw(i)));")
    else:
        p.line(f"keep<{n}>({at}, {values.names[v]}, i);")
    p.close()
    if first:
        p.close()
    p.room(to.end)


def take(values: Values, name: str, t: DType, layout: RegisterLayout, source: Parked) -> None:
    """Read a tile from shared memory."""
    p = values.p
    n = _run(layout, source, t)
    p.unrolled("i", layout.locals, n)
    at = source.address([p.coordinate(layout, a, "i") for a in range(layout.rank)])
    if n == 1:
        _take_one(values, name, t, at)
    else:
        p.line(f"take<{n}>({name}, i, {at});")
    p.close()


def convert(values: Values, v: Value, name: str, layout: RegisterLayout) -> None:
    """Print registers `name` in a layout, of a tile that is held in another."""
    p, t = values.p, tile(v)
    if values.layouts[v] == layout:
        p.line(f"{name} = {values.names[v]};")
        return
    order = moves.within(values.layouts[v], layout)
    if order is not None:
        table = p.fresh("order")
        p.line(f"constexpr u16 {table}[] = {{{', '.join(map(str, order))}}};")
        p.line(f"fill({name}, [&](u32 i) {{ return {values.names[v]}[{table}[i]]; }});")
        return
    given = moves.shuffles(values.layouts[v], layout, storage(t.dtype))
    if given is not None:
        _shuffled(values, v, name, layout, given)
        return
    found = moves.exchange(values.layouts[v], layout, storage(t.dtype))
    through = replace(parked(v), gap=found.gap)
    p.barrier()
    put(values, v, through)
    p.barrier()
    take(values, name, t.dtype, layout, through)


def _shuffled(values: Values, v: Value, name: str, layout: RegisterLayout,
              how: moves.Shuffles) -> None:  # fmt: skip
    """Each word from the lane that `moves.givers` says, and there from among some."""
    p, source, table = values.p, values.layouts[v], values.p.fresh("among")
    rows = ", ".join(f"{{{', '.join(map(str, row))}}}" for row in how.words)
    p.line(f"constexpr u16 {table}[][{len(how.words[0])}] = {{{rows}}};")
    p.unrolled("i", len(how.words))
    at = [p.coordinate(layout, a, times("i", how.each)) for a in range(layout.rank)]
    lanes = split(source.thread_digits, WARP)
    lane = _number(lanes[1] if lanes else source.thread_digits, layout, at)
    word = "0"
    if len(how.words[0]) > 1:
        word = _number(source.local_digits, layout, at)
        word = f"({word}) / {how.each}" if how.each > 1 else word
    p.line(f"{name}.words[i] = fetched({values.names[v]}.words, {table}[i], {lane}, {word});")
    p.close()


def _number(digits: Digits, layout: RegisterLayout, at: list[str]) -> str:
    """The number whose digits select coordinates; those without an axis are the thread's own."""
    out, place = "0", 1
    for d in reversed(digits):
        whole, extent = ("thread", layout.threads) if d.axis is None else (
            at[d.axis], layout.shape[d.axis])  # fmt: skip
        below = d.stride or place
        cut = Digit(extent // below // d.size), Digit(d.size, 0, place), Digit(below)
        out = plus(offset(cut, 0, whole), out)
        place *= d.size
    return out


def shift(values: Values, op: Shift, name: str) -> None:
    """Print registers `name` of what an axis of a tile holds from a place on."""
    p, layout, source = values.p, values.layouts[op.result], parked(op.a)
    start = p.fresh("shifted")
    p.line(f"const s32 {start} = {values.scalar(op.start)};")
    p.barrier()
    put(values, op.a, source)
    p.barrier()
    p.unrolled("i", layout.locals)
    at = [p.coordinate(layout, a, "i") for a in range(layout.rank)]
    moved, last = f"{start} + s32({at[op.axis]})", source.sizes[op.axis] - 1
    at[op.axis] = f"u32(max_s32(0, min_s32({last}, {moved})))"
    _take_one(values, name, tile(op.a).dtype, source.address(at))
    p.close()


def _take_one(values: Values, name: str, t: DType, at: str) -> None:
    """Element i from a shared address."""
    if _shares_bytes(t):
        values.p.line(f"{name}.put(i, load_shared<u8>({at}));")
    else:
        values.p.line(f"take<1>({name}, i, {at});")


def _run(layout: RegisterLayout, where: Parked, t: DType) -> int:
    """How many neighbours of a thread one access moves."""
    digits = layout.local_digits
    if not digits or _shares_bytes(t):
        return 1
    last = digits[-1]
    if last.axis != layout.rank - 1 or last.stride != 1:
        return 1
    n = last.size & -last.size
    apart = [d.stride for d in (*layout.thread_digits, *digits[:-1]) if d.axis == last.axis]
    while n > 1:
        size = n * where.bytes
        if size <= LINE and where.pitch % size == 0 and all(s % n == 0 for s in apart):
            return n
        n //= 2
    return 1
