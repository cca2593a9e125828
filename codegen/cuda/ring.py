"""Rings in shared memory: asynchronous copies into their slots, and fragments out of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tilec.codegen.cuda.printer import narrowed, offset, plus, times
from tilec.codegen.cuda.tiles import Values, extents, memory_type, storage, tile
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.fragments import Fragments
from tilec.ir.layout.digits import split
from tilec.ir.layout.register import RegisterLayout, spatial
from tilec.ir.ops.machine import Copy, Shared
from tilec.ir.ops.memory import Load
from tilec.ir.types import Span

LINE = 16  # bytes of the widest access; rows are longer by it, so that they begin in other banks
WIDTHS = (16, 8, 4)


@dataclass(frozen=True)
class Ring:
    """Slots of tiles, row by row, under a name for the shared address of the first."""

    name: str
    sizes: tuple[int, ...]  # of a slot
    slots: int
    bits: int

    @property
    def row(self) -> int:
        """Bytes of the elements of a row."""
        return self.sizes[-1] * self.bits // 8

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next: an odd number of lines."""
        lines = -(-self.row // LINE)
        return (lines | 1) * LINE

    @property
    def slot(self) -> int:
        """Bytes from one slot to the next."""
        return prod(self.sizes[:-1]) * self.pitch

    def address(self, slot: str, row: str, column: str) -> str:
        """The shared address of an element whose column is a multiple of whole bytes."""
        byte = times(f"({column})", self.bits // 8) if self.bits >= 8 else \
            f"({column}) * {self.bits} / 8"  # fmt: skip
        out = plus(self.name, f"({slot}) * {self.slot}")
        return plus(plus(out, f"({row}) * {self.pitch}"), byte)


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
    """A name for a ring, at the end of those that there are."""
    p = values.p
    order = values.orders.of.get(op.result)
    if order is not None:
        found = FragmentRing(p.fresh("ring"), order, op.sizes[0])
        values.rings[op.result] = found
        p.top.append(f"  const u32 {found.name} = shared_base() + {p.rings};")
        p.rings += found.slots * found.slot
        return
    ring = Ring(p.fresh("ring"), op.sizes[1:], op.sizes[0], storage(op.dtype))
    values.rings[op.result] = ring
    p.top.append(f"  const u32 {ring.name} = shared_base() + {p.rings};")
    p.rings += ring.slots * ring.slot


def copy(values: Values, op: Copy) -> None:
    """Print a copy: pieces of rows, a piece a thread."""
    p, ring = values.p, values.rings[op.to]
    if isinstance(ring, FragmentRing):
        _copy_fragments(values, op, ring)
        return
    dims = extents(op.mem)
    bits = storage(memory_type(op.mem).dtype)
    step = values.spans[op.indices[-1]].multiple * bits // 8
    width = _width(ring, dims[-1] * bits // 8, step)
    pieces, each = ring.row // width, width * 8 // bits
    total = prod(ring.sizes[:-1]) * pieces
    steps = -(-total // p.threads)
    p.unrolled("i", steps)
    p.line(f"const u32 piece = i * {p.threads} + thread;")
    if steps * p.threads != total:
        p.line(f"if (piece >= {total}) break;")
    p.line(f"const u32 row = piece / {pieces}, column = piece % {pieces} * {each};")
    texts, bounds = _places(values, op, dims)
    number = "0"
    for text, dim in zip(texts[:-1], dims[:-1], strict=True):
        number = plus(f"({number}) * {dim}" if number != "0" else "0", text)
    column = f"({texts[-1]}) * {bits} / 8" if bits % 8 else times(f"({texts[-1]})", bits // 8)
    source = (
        f"(const u8*){values.names[op.mem]} + (u64({number}) * {dims[-1] * bits // 8} + {column})"
    )
    slot = values.scalar(op.slot)
    at = ring.address(f"u32({slot})", "row", "column")
    p.line(f"copy_async<{width}>({at}, {source}, {' && '.join(bounds) or 'true'});")
    p.close()


def _copy_fragments(values: Values, op: Copy, ring: FragmentRing) -> None:
    """A tile in fragment order is one run of bytes."""
    p, pieces = values.p, ring.slot // LINE
    rows, columns = ring.order.layout.shape
    _, depth = extents(op.mem)
    row, column = (values.spans[v].start for v in op.indices)
    column = plus(column, str(op.ahead)) if op.axis == 1 else column
    number = f"u64({row}) / {rows} * {-(-depth // columns)} + ({column}) / {columns}"
    inside = "true" if not op.ahead and values.spans[op.indices[1]].exact else f"{column} < {depth}"
    base, to = p.fresh("tile"), p.fresh("to")
    p.line(f"const u8* {base} = {values.names[op.mem]} + ({number}) * {ring.slot};")
    p.line(f"const u32 {to} = {ring.name} + u32({values.scalar(op.slot)}) * {ring.slot};")
    steps = -(-pieces // p.threads)
    p.unrolled("i", steps)
    p.line(f"const u32 byte = (i * {p.threads} + thread) * {LINE};")
    if steps * p.threads != pieces:
        p.line(f"if (byte >= {ring.slot}) break;")
    p.line(f"copy_async<{LINE}>({to} + byte, {base} + byte, {inside});")
    p.close()


def _load_fragments(values: Values, op: Load, name: str, ring: FragmentRing) -> None:
    """16 bytes at a time, of which the threads' are beside each other."""
    p, order = values.p, ring.order
    held = [a for a in range(order.layout.rank)]
    mine = narrowed(order.layout.thread_digits, held, "thread")
    each = 8 * LINE // order.codes.bits
    base = p.fresh("slot")
    p.line(f"const u32 {base} = {ring.name} + u32({values.scalar(op.indices[0])}) * {ring.slot} "
           f"+ ({mine}) * {LINE};")  # fmt: skip
    p.unrolled("i", order.layout.locals // each)
    p.line(f"take<{each}>({name}, i * {each}, {base} + i * {order.threads * LINE});")
    p.close()


def _width(ring: Ring, row: int, step: int) -> int:
    """Bytes of one copy: they divide a row of the slot and of memory, and where a tile starts."""
    for width in WIDTHS:
        if all(n % width == 0 for n in (ring.row, row, step)):
            return width
    raise TileError(f"cuda: rows of {row} bytes can't be copied in pieces")


def _places(values: Values, op: Copy, dims: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """The coordinates of a piece, and what says that they are inside."""
    ring = values.rings[op.to]
    texts, bounds, below = list[str](), list[str](), prod(ring.sizes[:-1])
    for axis, (index, dim) in enumerate(zip(op.indices, dims, strict=True)):
        place, last = values.spans[index], axis == len(dims) - 1
        assert isinstance(index.type, Span)
        own = "column"
        if not last:
            below //= ring.sizes[axis]
            own = "row" if below == 1 else f"row / {below}"
            own = own if axis == 0 else f"{own} % {ring.sizes[axis]}"
        moved = op.ahead if axis == op.axis else 0
        texts.append(plus(plus(place.start, str(moved)), own))
        if moved or not place.exact:
            bounds.append(f"{texts[-1]} < {dim}")
    return texts, bounds


def load(values: Values, op: Load, name: str, layout: RegisterLayout) -> None:
    """Print a load of a slot: matrices of 8 rows of 16 bytes where the layout is made of those."""
    p, ring = values.p, values.rings[op.mem]
    if isinstance(ring, FragmentRing):
        _load_fragments(values, op, name, ring)
        return
    t = tile(op.result).dtype
    slot = f"u32({values.scalar(op.indices[0])})"
    outer = _matrices(layout, t)
    if outer is not None:
        _ldmatrix(values, ring, slot, name, outer, t)
        return
    n = _run(layout, ring, t)
    p.unrolled("i", layout.locals, n)
    row = "0"
    for axis, size in enumerate(ring.sizes[:-1]):
        row = plus(f"({row}) * {size}" if row != "0" else "0", p.coordinate(layout, axis, "i"))
    column = p.coordinate(layout, layout.rank - 1, "i")
    if n * t.bits % 8:
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


def _ldmatrix(values: Values, ring: Ring, slot: str, name: str, outer: RegisterLayout,
              t: DType) -> None:  # fmt: skip
    """Four matrices at a time; eight lanes give the addresses of the rows of each."""
    p, each = values.p, 128 // t.bits
    cut = split(outer.local_digits, 4)
    assert cut is not None
    high, low = cut
    row = plus(f"({plus(_warp(outer, 0), offset(low, 0, 'thread % 32 / 8'))}) * 8", "thread % 8")
    column = f"({plus(_warp(outer, 1), offset(low, 1, 'thread % 32 / 8'))}) * {each}"
    lane = p.fresh("lane_rows")
    byte = f"({column}) * {t.bits} / 8"
    p.top.append(f"  const u32 {lane} = ({row}) * {ring.pitch} + {byte};")
    base = p.fresh("slot")
    p.line(f"const u32 {base} = {ring.name} + {slot} * {ring.slot} + {lane};")
    p.unrolled("i", outer.locals // 4)
    step = plus(times(f"({offset(high, 0, 'i')})", 8 * ring.pitch),
                times(f"({offset(high, 1, 'i')})", each * t.bits // 8))  # fmt: skip
    p.line(f"ldmatrix(part<4>({name}, i * 4), {plus(base, step)});")
    p.close()


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
