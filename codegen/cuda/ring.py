"""Rings in shared memory: asynchronous copies into their slots, and fragments out of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from tilec.codegen.cuda.printer import narrowed, offset, plus, times
from tilec.codegen.cuda.tiles import Values, dims, extents, memory_type, storage, tile
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.fragments import Fragments
from tilec.ir.laid import pieces, restricted
from tilec.ir.layout.digits import split
from tilec.ir.layout.register import RegisterLayout, spatial
from tilec.ir.ops.machine import Copy, Shared
from tilec.ir.ops.memory import Load
from tilec.ir.types import Shape, Span

LINE = 16  # bytes of the widest access; rows are longer by it, so that they begin in other banks
WIDTHS = (16, 8, 4)


@dataclass(frozen=True)
class Ring:
    """Slots of tiles, row by row, under a name for the shared address of the first.

    With a swizzle the slots begin at multiples of `aligned`, and rows are as wide as it is: a tile
    is panels of them, of which each holds the next columns.
    """

    name: str
    sizes: tuple[int, ...]  # of a slot
    slots: int
    bits: int
    swizzle: int = 0

    @property
    def row(self) -> int:
        """Bytes of the elements of a row."""
        return self.sizes[-1] * self.bits // 8

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next: an odd number of lines, or those of the swizzle."""
        lines = -(-self.row // LINE)
        return self.swizzle or (lines | 1) * LINE

    @property
    def panel(self) -> int:
        """Bytes from one panel to the next."""
        return prod(self.sizes[:-1]) * self.pitch

    @property
    def slot(self) -> int:
        """Bytes from one slot to the next."""
        return self.panel * (self.row // self.swizzle if self.swizzle else 1)

    @property
    def aligned(self) -> int:
        """What the shared address of a slot is a multiple of."""
        return 8 * self.swizzle or LINE

    def address(self, slot: str, row: str, column: str) -> str:
        """The shared address of an element whose column is a multiple of whole bytes."""
        return plus(plus(self.name, f"({slot}) * {self.slot}"), self.within(row, column))

    def within(self, row: str, column: str) -> str:
        """The same from the slot on."""
        byte = times(f"({column})", self.bits // 8) if self.bits >= 8 else \
            f"({column}) * {self.bits} / 8"  # fmt: skip
        if not self.swizzle:
            return plus(f"({row}) * {self.pitch}", byte)
        panel = f"({byte}) / {self.swizzle} * {self.panel}" if self.row > self.swizzle else "0"
        inner = f"({byte}) % {self.swizzle}" if self.row > self.swizzle else byte
        return plus(plus(panel, f"({row}) * {self.pitch}"), f"({inner} ^ {self.turned(row)})")

    def turned(self, row: str) -> str:
        """What the bytes of a row have their places changed by (ir/layout/shared.py)."""
        step = 128 // self.swizzle
        number = f"({row})" if step == 1 else f"({row}) / {step}"
        return f"{number} % {self.swizzle // LINE} * {LINE}"


@dataclass(frozen=True)
class FragmentRing:
    """Slots of tiles in fragment order."""

    name: str
    order: Fragments
    slots: int

    @property
    def slot(self) -> int:
        """Bytes from one slot to the next."""
        return self.order.tile_bytes


def declare(values: Values, op: Shared) -> None:
    """A name for a ring."""
    p = values.p
    order = values.orders.of.get(op.result)
    if order is not None:
        found = FragmentRing("", order, op.sizes[0])
        name = p.ring(op.result, found.slots * found.slot, LINE)
        values.rings[op.result] = replace(found, name=name)
        return
    bits, (slots, *outer, row) = storage(op.dtype), op.sizes
    if _across(bits):
        bits, row = 8, row * bits // 8
    ring = Ring("", (*outer, row), slots, bits, op.swizzle)
    name = p.ring(op.result, ring.slots * ring.slot, ring.aligned)
    values.rings[op.result] = replace(ring, name=name)


def _across(bits: int) -> bool:
    """Whether codes lie across bytes, of which rings are then made."""
    return bits & (bits - 1) > 0


def copy(values: Values, op: Copy) -> None:
    """Print a copy: pieces of rows, a piece a thread."""
    p, ring = values.p, values.rings[op.to]
    if isinstance(ring, FragmentRing):
        _copy_fragments(values, op, ring)
        return
    *_, last = sizes = dims(op.mem)
    bits = storage(memory_type(op.mem).dtype)
    step = values.spans[op.indices[-1]].multiple * bits // 8
    if not isinstance(last, int):
        raise TileError(f"cuda: rows of {last} elements can't be copied in pieces", op.loc)
    row = last * bits // 8
    width = _width(ring, row, step)
    if _across(bits):
        bits, sizes = 8, (*sizes[:-1], row)
    pieces, each = ring.row // width, width * 8 // bits
    total = prod(ring.sizes[:-1]) * pieces
    steps = -(-total // p.threads)
    p.unrolled("i", steps)
    p.line(f"const u32 piece = i * {p.threads} + thread;")
    if steps * p.threads != total:
        p.line(f"if (piece >= {total}) break;")
    p.line(f"const u32 row = piece / {pieces}, column = piece % {pieces} * {each};")
    texts, bounds = _places(values, op, sizes)
    number = "0"
    for text, dim in zip(texts[:-1], sizes[:-1], strict=True):
        number = plus(f"({number}) * {p.extent(dim)}" if number != "0" else "0", text)
    column = f"({texts[-1]}) * {bits} / 8" if bits % 8 else times(f"({texts[-1]})", bits // 8)
    source = f"(const u8*){values.names[op.mem]} + (u64({number}) * {row} + {column})"
    slot = values.scalar(op.slot)
    at = ring.address(f"u32({slot})", "row", "column")
    inside = " && ".join(bounds) or "true"
    kept = policy(values, op) if width == LINE else ""
    p.line(f"copy_async<{width}>({at}, {source}, {inside}{kept});")
    p.close()


def policy(values: Values, op: Copy) -> str:
    """The argument that says how long L2 keeps what is copied, if anything is said of that; only
    copies of 16 bytes take one."""
    if op.cache is None:
        return ""
    line = f"  const u64 {op.cache} = policy_{op.cache}();"
    if line not in values.p.top:
        values.p.top.append(line)
    return f", {op.cache}"


def _copy_fragments(values: Values, op: Copy, ring: FragmentRing) -> None:
    """A tile in fragment order is one run of bytes."""
    p, pieces = values.p, ring.slot // LINE
    rows, columns = ring.order.layout.shape
    *_, high, depth = dims(op.mem)
    if not isinstance(depth, int):
        raise TileError(f"cuda: rows of {depth} codes can't be copied in fragment order", op.loc)
    *numbers, first, last = op.indices
    row, column = (values.spans[v].start for v in (first, last))
    along, down = (op.ahead and op.indices[op.axis] is v for v in (last, first))
    column = plus(column, str(op.ahead)) if along else column
    row = f"({plus(row, str(op.ahead))})" if down else row
    number = f"u64({row}) / {rows} * {-(-depth // columns)} + ({column}) / {columns}"
    which, bounds = values.matrix(op.mem, tuple(numbers))
    if bounds:
        each = prod(ring.order.tiles(extents(op.mem)))
        number = f"u64({which}) * {each} + {number}"
    if down:
        bounds.append(f"{row} < {p.extent(high)}")
    if along or not values.spans[last].exact:
        bounds.append(f"{column} < {depth}")
    inside = " && ".join(bounds) or "true"
    base, to = p.fresh("tile"), p.fresh("to")
    p.line(f"const u8* {base} = (const u8*){values.names[op.mem]} + ({number}) * {ring.slot};")
    p.line(f"const u32 {to} = {ring.name} + u32({values.scalar(op.slot)}) * {ring.slot};")
    steps = -(-pieces // p.threads)
    p.unrolled("i", steps)
    p.line(f"const u32 byte = (i * {p.threads} + thread) * {LINE};")
    if steps * p.threads != pieces:
        p.line(f"if (byte >= {ring.slot}) break;")
    p.line(f"copy_async<{LINE}>({to} + byte, {base} + byte, {inside}{policy(values, op)});")
    p.close()


def take(values: Values, op: Load, hint: str) -> None:
    """Words out of a slot in fragment order, the threads' beside each other."""
    p, ring = values.p, values.rings[op.mem]
    order, name = ring.order, p.fresh(hint)
    values.names[op.result] = name
    p.line(f"u32 {name}[{order.words}];")
    mine = narrowed(order.layout.thread_digits, range(order.layout.rank), "thread")
    base, own = p.fresh("slot"), p.fresh("own")
    p.line(f"const u32 {base} = {ring.name} + u32({values.scalar(op.indices[0])}) * {ring.slot}, "
           f"{own} = {mine};")  # fmt: skip
    for at, count in order.pieces:
        there = f"{base} + {own} * {4 * count} + {at * order.threads * 4}"
        p.line(f"take_words<{count}>(&{name}[{at}], {there});")


def _width(ring: Ring, row: int, step: int) -> int:
    """Bytes of one copy: they divide a row of the slot and of memory, and where a tile starts."""
    for width in WIDTHS:
        if all(n % width == 0 for n in (ring.row, row, step)):
            return width
    raise TileError(f"cuda: rows of {row} bytes can't be copied in pieces")


def _places(values: Values, op: Copy, sizes: Shape) -> tuple[list[str], list[str]]:
    """The coordinates of a piece, and what says that they are inside."""
    ring = values.rings[op.to]
    texts, bounds, axis = list[str](), list[str](), 0
    for number, (index, dim) in enumerate(zip(op.indices, sizes, strict=True)):
        moved, exact = op.ahead if number == op.axis else 0, False
        if isinstance(index.type, Span):
            place, own = values.spans[index], _own(ring, axis)
            start, exact, axis = place.start, place.exact, axis + 1
            bits = storage(memory_type(op.mem).dtype)
            if own == "column" and _across(bits):
                moved, start = moved * bits // 8, "0" if start == "0" else f"({start}) * {bits} / 8"
            texts.append(plus(plus(start, str(moved)), own))
        elif tile(index).shape:
            held = pieces((*ring.sizes[:-1], ring.row // LINE), values.p.threads)
            own = narrowed(held.local_digits, (axis,), "i")
            texts.append(f"u32({values.item(index, restricted(held, (axis,)), own)})")
            axis += 1
        else:
            texts.append(values.coordinate(index))
        if moved or not exact:
            bounds.append(f"{texts[-1]} < {values.p.extent(dim)}")
    return texts, bounds


def _own(ring: Ring, axis: int) -> str:
    """The coordinate of a piece along an axis of its tile."""
    if axis == len(ring.sizes) - 1:
        return "column"
    below = prod(ring.sizes[axis + 1 : -1])
    own = "row" if below == 1 else f"row / {below}"
    return own if axis == 0 else f"{own} % {ring.sizes[axis]}"


def load(values: Values, op: Load, name: str, layout: RegisterLayout, late: bool) -> None:
    """Print a load of a slot: matrices of 8 rows of 16 bytes where the layout is made of those,
    which are left to a product if it is `late`."""
    p, ring = values.p, values.rings[op.mem]
    t = tile(op.result).dtype
    slot = f"u32({values.scalar(op.indices[0])})"
    outer = _matrices(layout, t)
    if outer is not None and (not ring.swizzle or _halves(outer)):
        _ldmatrix(values, ring, slot, name, outer, t, late)
        return
    n = _run(layout, ring, t)
    p.unrolled("i", layout.locals, n)
    row = "0"
    for axis, size in enumerate(ring.sizes[:-1]):
        row = plus(f"({row}) * {size}" if row != "0" else "0", p.coordinate(layout, axis, "i"))
    column = p.coordinate(layout, layout.rank - 1, "i")
    if _across(t.bits):
        p.line(f"take_bits({name}, i, {ring.address(slot, row, '0')}, ({column}) * {t.bits});")
    elif n * t.bits % 8:
        p.line(f"{name}.put(i, u32(load_shared<u8>({ring.address(slot, row, column)})) "
               f">> ({column}) * {t.bits} % 8 & {(1 << t.bits) - 1});")  # fmt: skip
    else:
        p.line(f"take<{n}>({name}, i, {ring.address(slot, row, column)});")
    p.close()


def _matrices(layout: RegisterLayout, t: DType) -> RegisterLayout | None:
    """The layout of the 8-row matrices that a layout is made of, four and four of a thread."""
    if layout.rank != 2 or t.bits not in (4, 8, 16):
        return None
    try:
        outer = layout / spatial(8, 4).local(1, 32 // t.bits)
    except TileError:
        return None
    return outer if outer.locals % 4 == 0 and split(outer.local_digits, 4) else None


def _halves(outer: RegisterLayout) -> bool:
    """Whether the places along a row are made of bits, but for the highest."""
    digits = [d for d in (*outer.thread_digits, *outer.local_digits) if d.axis == 1]
    return all(d.stride & (d.stride - 1) == 0 for d in digits)


def _ldmatrix(values: Values, ring: Ring, slot: str, name: str, outer: RegisterLayout,
              t: DType, late: bool) -> None:  # fmt: skip
    """Four matrices at a time; eight lanes give the addresses of the rows of each."""
    p, each = values.p, 128 // t.bits
    cut = split(outer.local_digits, 4)
    assert cut is not None
    high, low = cut
    row = plus(f"({plus(_warp(outer, 0), offset(low, 0, 'thread % 32 / 8'))}) * 8", "thread % 8")
    column = f"({plus(_warp(outer, 1), offset(low, 1, 'thread % 32 / 8'))}) * {each}"
    lane = p.fresh("lane_rows")
    base = p.fresh("slot")
    p.top.append(f"  const u32 {lane} = {ring.within(row, column)};")
    p.line(f"const u32 {base} = {ring.name} + {slot} * {ring.slot} + {lane};")
    down = times(f"({offset(high, 0, 'i')})", 8 * ring.pitch)
    across = times(f"({offset(high, 1, 'i')})", LINE)
    text = f"ldmatrix(part<4>({name}, i * 4), {_stepped(ring, base, down, across)});"
    if late:
        values.late[name] = text
        return
    p.unrolled("i", outer.locals // 4)
    p.line(text)
    p.close()


def _stepped(ring: Ring, base: str, down: str, across: str) -> str:
    """The address some rows, in groups of 8, and bytes from a lane's first.

    Bytes of a row that change places do so by their bits, which a lane's first place and the step
    from it share between them.
    """
    if not ring.swizzle or across == "0":
        return plus(plus(base, down), across)
    if ring.row == ring.swizzle:
        return plus(f"({base} ^ {across})", down)
    panel = f"{across} / {ring.swizzle} * {ring.panel}"
    return plus(plus(f"({base} ^ {across} % {ring.swizzle})", panel), down)


def _warp(outer: RegisterLayout, axis: int) -> str:
    """The part of a matrix's place that is the warp's."""
    return offset(outer.thread_digits, axis, "thread / 32")


def _run(layout: RegisterLayout, ring: Ring, t: DType) -> int:
    """How many neighbours of a thread one access moves."""
    digits = layout.local_digits
    last = digits[-1] if digits else None
    if last is None or last.axis != layout.rank - 1 or last.stride != 1:
        return 1
    n = last.size & -last.size
    apart = [d.stride for d in (*layout.thread_digits, *digits[:-1]) if d.axis == last.axis]
    while n > 1:
        bits = n * t.bits
        if bits % 8 == 0 and bits // 8 in (1, 2, 4, 8, 16) and all(s % n == 0 for s in apart):
            return n
        n //= 2
    return 1
