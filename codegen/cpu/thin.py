"""Products with one column, as the rows of a sparse matrix make them: dots of gathered elements.

For few rows the k's are the lanes; for more the rows are, and each k is a row of a copy of the
first operand that is turned, so that what is gathered are whole vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.codegen.cpu import chain, memory, views
from tilec.codegen.cpu.atoms import SINGLE
from tilec.codegen.cpu.chain import Link, Made
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.packing import pack_columns
from tilec.codegen.cpu.tiles import Buffer, Coordinates, Lazy, Tensor, Writer
from tilec.ir.core import Value
from tilec.ir.dtype import f32
from tilec.ir.ops.reduce import Dot
from tilec.ir.types import Memory, Tile

Env = Mapping[Value, Lazy | Coordinates | Tensor]
FEW = 3  # rows that are gathered element by element
PANEL = 64  # k's of a task that turns the first operand
CHAINS = 4  # accumulators that hide the latency of a multiply-add


@dataclass(frozen=True)
class Turned:
    """A whole matrix [M, K] as rows of k with the M's as floats side by side, and zeros before the
    first for a k of -1."""

    tensor: Tensor
    links: tuple[Link, ...]  # what is done to its elements first
    rows: int  # of the matrix, or the most that they may be
    depth: int
    offset: int  # bytes into the shared memory

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for copies that are the same."""
        return self.tensor.param, tuple(link.key for link in self.links), "turned"

    @property
    def pitch(self) -> int:
        """Floats from one k to the next."""
        known = isinstance(self.tensor.shape[0], int)  # if not: of no power of two, of few sets
        return -(-self.rows // 16) * 16 + (0 if known else 16)

    @property
    def size(self) -> int:
        """Bytes of the copy."""
        return (self.depth + 1) * self.pitch * 4

    @property
    def chunks(self) -> int:
        """Tasks that make it."""
        return -(-self.depth // PANEL)


def write_turned(w: Writer, c: Turned, tensor: Tensor, chunk: V) -> None:
    """The body of a task that makes a part of a copy."""
    f, rows, depth = w.f, tensor.shape[0], c.depth
    start = f.number(f.times(chunk, PANEL))
    size = PANEL if depth % PANEL == 0 else f.least(PANEL, f.plus(depth, f.times(start, -1)))
    places = (Coordinates(0, rows, 1 << 30), Coordinates(start, size, PANEL))
    tile = chain.run(w, c.links, memory.load(w, tensor, places, (rows, size)))
    at = w.address(w.shared, (start, 1), (c.pitch * 4, c.offset))
    zero = constant("float", 0, w.lanes)  # every task writes the same
    f.loop(0, c.pitch, w.lanes, lambda i: f.store(zero, w.address(w.shared, (i, 1), (4, c.offset))))
    pack_columns(w, SINGLE, views.turned(w, tile), f.pointer(at, c.pitch * 4), c.pitch)


def suits(w: Writer, op: Dot, b: Lazy) -> bool:
    """Whether a product is one of few gathered elements with one column."""
    assert isinstance(op.b.type, Tile)
    assert isinstance(op.acc.type, Tile)
    deep, columns = op.b.type.shape
    whole = isinstance(deep, int) and deep % w.lanes == 0 and w.largest(columns) == 1
    return whole and b.across is not None and op.acc.type.dtype == f32 and op.scale is None \
        and op.row_scale is None  # fmt: skip


def source(w: Writer, op: Dot, env: Env, made: Made, offset: int
           ) -> tuple[Turned, Lazy, Coordinates] | None:  # fmt: skip
    """The copy that a gathered first operand is read from, the k's and its rows."""
    found = chain.chain(op.a, made)
    if found is None or len(found[0].indices) != 2:
        return None
    load, links = found
    tensor, rows, k = (env[v] for v in (load.mem, *load.indices))
    if not isinstance(tensor, Tensor) or tensor.records is not None or not isinstance(k, Lazy):
        return None
    if not isinstance(rows, Coordinates) or len(k.shape) != 1 or len(tensor.shape) != 2:
        return None
    depth = tensor.shape[1]
    if not isinstance(depth, int) or not isinstance(tensor.param.type, Memory):
        return None
    return Turned(tensor, links, w.largest(tensor.param.type.shape[0]), depth, offset), k, rows


def gathered(w: Writer, a: Lazy, b: Lazy, deep: int, to: Buffer) -> None:
    """to[m, 0] += sum_k a[m, k] * b[k, 0] with the k's in lanes."""
    f, across = w.f, b.across
    assert across is not None
    right = [_float(w, across((k, 0), w.lanes)) for k in range(0, deep, w.lanes)]

    def row(m: V) -> None:
        sums = constant("float", 0, w.lanes)
        for i, v in enumerate(right):
            sums = f.intrinsic("fma", _float(w, a.at((m, i * w.lanes), w.lanes)), v, sums)
        place = w.address(to.at, (m,), (to.pitch * 4,))
        f.store(_total(w, f.load("float", 1, place, 4), sums), place, 4)

    f.loop(0, a.shape[0], 1, row)


def _total(w: Writer, start: V, lanes: V) -> V:
    """start + the sum of all lanes, halves by halves."""
    f = w.f
    while lanes.lanes > 1:
        half = lanes.lanes // 2
        low = f.shuffle(lanes, lanes, range(half)) if half > 1 else f.lane(lanes, 0)
        high = f.shuffle(lanes, lanes, range(half, 2 * half)) if half > 1 else f.lane(lanes, 1)
        lanes = f.binary("fadd", low, high)
    return f.binary("fadd", start, lanes)


def in_rows(w: Writer, copy: Turned, k: Lazy, b: Lazy, at: tuple[Number, Number], deep: int,
            to: Buffer) -> None:  # fmt: skip
    """The same with the rows in lanes; `at` are the first row and how many there are."""
    f, (start, count) = w.f, at
    base = w.address(w.shared, (start, 1), (4, copy.offset + 4 * copy.pitch))
    room = f.pointer(w.base, w.scratch.take(4 * w.lanes))
    zeros = [constant("float", 0, w.lanes)] * CHAINS

    def rows(first: Number, some: Number) -> None:
        vectors = w.address(base, (first,), (4,))

        def several(i: V, c: list[V]) -> list[V]:
            return [_one(w, k, b, f.plus(i, j), (vectors, copy.pitch), s)
                    for j, s in enumerate(c)]  # fmt: skip

        total, *others = f.carry(0, deep, CHAINS, zeros, several)
        for other in others:
            total = f.binary("fadd", total, other)
        f.store(total, room, 4)
        if isinstance(some, int):
            for i in range(some):
                _onto(w, to, f.plus(first, i), f.pointer(room, 4 * i))
            return
        f.loop(0, some, 1, lambda i: _onto(w, to, f.plus(first, i), w.address(room, (i,), (4,))))

    if isinstance(count, int):
        for first in range(0, count, w.lanes):
            rows(first, min(w.lanes, count - first))
        return
    f.loop(0, count, w.lanes,
           lambda first: rows(first, f.least(w.lanes, f.binary("sub", count, first))))  # fmt: skip


def _onto(w: Writer, to: Buffer, row: Number, at: V) -> None:
    """to[row, 0] += the float there."""
    f, place = w.f, w.address(to.at, (row,), (4 * to.pitch,))
    f.store(f.binary("fadd", f.load("float", 1, place, 4), f.load("float", 1, at, 4)), place, 4)


def _one(w: Writer, k: Lazy, b: Lazy, i: Number, source: tuple[V, int], c: V) -> V:
    """c + the vector of a k times the column's element."""
    f, (vectors, pitch) = w.f, source
    number = f.convert("sext", k.at((i,), 1), "i64")
    x = f.load("float", w.lanes, w.address(vectors, (number,), (4 * pitch,)), 4)
    return f.intrinsic("fma", x, f.splat(_float(w, b.at((i, 0), 1)), w.lanes), c)


def _float(w: Writer, v: V) -> V:
    return v if v.type == "float" else w.f.convert("sitofp", v, "float")


__all__ = ["FEW", "Turned", "gathered", "in_rows", "source", "suits", "write_turned"]
