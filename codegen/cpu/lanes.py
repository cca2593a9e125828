"""Sparse operands in the order of lanes: expanded from bits and values, or slabs as they lie.

An expanding load reads as many values as a word has ones: where the next word's begin is known
when they are counted, so that the stream is read from its start to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.stream import Round
from tilec.codegen.cpu.tiles import Coordinates, Index, Lazy, Tensor, Writer, fixed
from tilec.ir.choices import LINE
from tilec.ir.dtype import bf16
from tilec.ir.errors import TileError
from tilec.ir.lanes import Slabs
from tilec.ir.masked import UNIT, WORDS, Masked
from tilec.ir.ops.sparse import Expand
from tilec.ir.stream import COLUMNS, LANES
from tilec.ir.types import Tile

EACH = COLUMNS // LANES  # words of a pair of columns


@dataclass(frozen=True)
class Stored:
    """A step of a product's second operand in the order of lanes, whole units of k."""

    order: Masked | Slabs
    at: V  # the first unit
    k: Number
    lines: int  # of memory that a unit has, about

    @property
    def deep(self) -> int:
        """What k is padded to a multiple of."""
        return UNIT if isinstance(self.order, Masked) else self.order.unit


def address(w: Writer, mem: Tensor, order: Slabs, at: Index) -> V:
    """Where an element of slabs is."""
    f, size = w.f, numbers.item(mem.dtype)
    slab, row = f.divided(at[0], order.tall)
    line, rest = f.divided(at[1], order.pack)
    sizes = (order.slab_bytes, order.tall * 4, 4, size)
    return w.address(mem.at, (slab, line, row, rest), sizes)


def slab(w: Writer, mem: Tensor, n: Coordinates, k: Coordinates) -> Stored | None:
    """The tile of a matrix of slabs that is one of them, or None."""
    order = mem.records
    if not isinstance(order, Slabs) or n.multiple != order.tall or k.multiple < order.k:
        return None
    number, _ = w.f.divided(n.start, order.tall)
    at = w.address(mem.at, (number,), (order.slab_bytes,))
    return Stored(order, at, order.k, order.unit * order.tall * order.dtype.bits // 8 // LINE)


def scattered(values: Tensor, n: Coordinates, k: Coordinates) -> str:
    """What would make a step at these coordinates lie in one piece, or nothing if it does."""
    order = values.records
    assert isinstance(order, Masked)
    if n.multiple != COLUMNS and not order.n <= min(n.multiple, COLUMNS):
        return f"{COLUMNS} columns a tile, not {n.multiple}"
    if k.multiple % order.depth and not order.k <= k.multiple:
        return f"steps of k that are multiples of {order.depth}, not {k.multiple}"
    return ""


def step(w: Writer, values: Tensor, places: Tensor, n: Coordinates, k: Coordinates) -> Stored:
    """The step at these coordinates of a stream, which lies in one piece."""
    order = values.records
    assert isinstance(order, Masked)
    block, step = w.f.divided(n.start, COLUMNS)[0], w.f.divided(k.start, order.depth)[0]
    return known_step(w, values, places, (block, step), k.size)


def known_step(w: Writer, values: Tensor, places: Tensor, at: Index, k: Number) -> Stored:
    """The step of a stream that has a place: a block's number and that of its step."""
    order, f = values.records, w.f
    assert isinstance(order, Masked)
    place = f.load("i32", 1, w.address(places.at, at, (4 * order.steps, 4)))
    start = f.pointer(values.at, f.times(f.convert("zext", place, "i64"), 2))
    share = fixed(values.shape[1], "values of a sparse operand") / order.k
    size = 4 * WORDS + round(share * UNIT * COLUMNS * order.dtype.bits / 8)
    return Stored(order, start, k, -(-size // LINE))


class Vectors:
    """Vectors of pairs of a unit: `pack` 2 as bf16 pairs, 1 as two vectors of floats, 0 as they are
    stored."""

    offset = 0

    def __init__(self, w: Writer, p: Stored, pack: int) -> None:
        self.w, self.panel, self.pack = w, p, pack

    @property
    def deep(self) -> int:
        """k's of a round."""
        return self.panel.deep

    @property
    def count(self) -> Number:
        """How many rounds the step has."""
        return self.w.f.divided(self.w.f.plus(self.panel.k, self.deep - 1), self.deep)[0]

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        """carried = body(round, carried) for every round; the last carried values.

        The body decodes the vectors that begin at these columns, pair after pair.
        """
        raise NotImplementedError

    def vectors(self, of: Round, first: int) -> Callable[[int], tuple[V, ...]]:
        """The vectors of each pair of a round, for the columns from `first` on."""
        return lambda t: self._of_kind(self.stored(of, first, t))

    def fetch(self, of: Round, part: int, parts: int, column: int) -> None:
        """Ask for some of the lines further on, for the first column: one part of several."""
        lines = self.panel.lines if column == 0 else 0
        for line in range(part * lines // parts, (part + 1) * lines // parts):
            self.w.ask_ahead(of.units[0], LINE * line)

    def _of_kind(self, found: tuple[V, ...]) -> tuple[V, ...]:
        """A pair of k: (bf16 pairs as i32,) or (floats of even k, floats of odd k)."""
        f, lanes = self.w.f, self.w.lanes
        if self.pack != 1:
            return found
        if len(found) == 2:
            return tuple(f.recast(v, "float", lanes) for v in found)
        dtype, (both,) = self.panel.order.dtype, found
        high = constant("i32", 16, lanes)
        if dtype == bf16:
            odd = f.binary("and", both, constant("i32", -65536, lanes))
            return tuple(f.recast(v, "float", lanes) for v in (f.binary("shl", both, high), odd))
        even = f.binary("and", both, constant("i32", 65535, lanes))
        return tuple(numbers.widen(f, dtype, v) for v in (even, f.binary("lshr", both, high)))

    def stored(self, of: Round, first: int, t: int) -> tuple[V, ...]:
        """The t-th pair as it is stored: (pairs,) or (of even k, of odd k), as i32."""
        raise NotImplementedError


class Laid(Vectors):
    """Vectors of a slab, which lie there as they are."""

    @property
    def tall(self) -> int:
        """Rows of the slab."""
        assert isinstance(self.panel.order, Slabs)
        return self.panel.order.tall

    @property
    def native(self) -> bool:
        """Whether the slab is what the instruction reads."""
        return (32 // self.panel.order.dtype.bits) == self.pack

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        del columns
        order = self.panel.order
        assert isinstance(order, Slabs)
        size = order.unit * order.tall * order.dtype.bits // 8

        def one(number: V, c: list[V]) -> list[V]:
            return body(Round(number, (self.w.address(self.panel.at, (number,), (size,)),)), c)

        return self.w.f.carry(0, self.count, 1, init, one)

    def stored(self, of: Round, first: int, t: int) -> tuple[V, ...]:
        order, f = self.panel.order, self.w.f
        assert isinstance(order, Slabs)
        lines = [t] if order.pack == 2 else [2 * t, 2 * t + 1]
        return tuple(f.load("i32", self.w.lanes,
                            f.pointer(of.units[0], 4 * (line * order.tall + first)), 4)
                     for line in lines)  # fmt: skip


class Expanding(Vectors):
    """Vectors of a stream of values and bits."""

    again = 16  # rows for which expanding twice costs less than storing what is expanded

    def __init__(self, w: Writer, p: Stored, pack: int) -> None:
        super().__init__(w, p, pack)
        assert isinstance(p.order, Masked)
        self.size = p.order.size
        self.columns: Sequence[int] = ()
        self.next = p.at  # the values of the next pair
        self.pair: list[tuple[V, V]] = []  # its words, and where their values are
        needed = "avx512vbmi2" if self.size < 4 else "avx512f"
        self.direct = needed in w.features and w.lanes == LANES
        self.room = p.at if self.direct else w.f.pointer(w.base, w.scratch.take(LINE))

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        self.columns = columns

        def one(number: V, c: list[V]) -> list[V]:
            self.next = self.w.f.pointer(c[-1], 4 * WORDS)
            return [*body(Round(number, (c[-1],)), c[:-1]), self.next]

        return self.w.f.carry(0, self.count, 1, [*init, self.panel.at], one)[:-1]

    def stored(self, of: Round, first: int, t: int) -> tuple[V, ...]:
        if first == self.columns[0]:
            self.pair = self._words(of, EACH * t)
        word, at = self.pair[first // LANES]
        lanes, within = self.w.lanes, first % LANES
        if self.size == 2:
            pairs = self._expanded(word, at, 2 * within, 2 * lanes)
            return (self.w.f.recast(pairs, "i32", lanes),)
        return tuple(self._expanded(word, at, LANES * odd + within, lanes) for odd in (0, 1))

    def _words(self, of: Round, first: int) -> list[tuple[V, V]]:
        """The words of a pair and where the values of each are, which are counted two words at
        once: what one word waits for is short."""
        f, start = self.w.f, self.next
        f.keep_order()
        places = [f.pointer(of.units[0], 4 * (first + i)) for i in range(EACH)]
        twos = [f.intrinsic("ctpop", f.load("i64", 1, places[i])) for i in range(0, EACH, 2)]
        out: list[tuple[V, V]] = []
        before: Number = 0
        for i, place in enumerate(places):
            word = f.load("i32", 1, place)
            at = before if i % 2 == 0 else f.plus(before, self._ones(out[-1][0]))
            out.append((word, f.pointer(start, f.times(at, self.size))))
            before = f.plus(before, twos[i // 2]) if i % 2 else before
        self.next = f.pointer(start, f.times(before, self.size))
        for line in range(-(-self.panel.lines // (UNIT // 2))):
            self.w.ask_ahead(self.next, LINE * line)
        return out

    def fetch(self, of: Round, part: int, parts: int, column: int) -> None:
        """Nothing: lines are asked for pair by pair, where the values of each pair are known."""

    def _ones(self, word: V) -> V:
        return self.w.f.convert("zext", self.w.f.intrinsic("ctpop", word), "i64")

    def _beyond(self, at: V, word: V) -> V:
        """The address after the values of a word."""
        return self.w.f.pointer(at, self.w.f.times(self._ones(word), self.size))

    def _expanded(self, word: V, at: V, first: int, lanes: int) -> V:
        """The values of `lanes` bits of a word from bit `first` on, 0 for a bit that is 0."""
        f, kind = self.w.f, f"i{8 * self.size}"
        if first:
            before = f.binary("and", word, constant("i32", (1 << first) - 1))
            at, word = self._beyond(at, before), f.binary("lshr", word, constant("i32", first))
        if not self.direct:
            return self._one_by_one(word, at, lanes)
        mask = f.recast(f.convert("trunc", word, f"i{lanes}"), "i1", lanes)
        name = f"llvm.masked.expandload.v{lanes}{kind}"
        return f.call(name, kind, lanes, at, mask, constant(kind, 0, lanes))

    def _one_by_one(self, word: V, at: V, lanes: int) -> V:
        f, kind = self.w.f, f"i{8 * self.size}"
        zero, one = constant(kind, 0), constant("i32", 1)

        def element(i: V, c: list[V]) -> list[V]:
            bit = f.binary("and", c[1], one)
            found = f.select(f.compare("icmp ne", bit, constant("i32", 0)),
                             f.load(kind, 1, c[0]), zero)  # fmt: skip
            f.store(found, self.w.address(self.room, (i,), (self.size,)))
            return [self._beyond(c[0], bit), f.binary("lshr", c[1], one)]

        f.carry(0, lanes, 1, [at, word], element)
        return f.load(kind, lanes, self.room)


def waiting(w: Writer, op: Expand) -> Lazy:
    """A tile of a stream that is not read as one."""
    assert isinstance(op.result.type, Tile)

    def at(index: Index, lanes: int) -> V:
        raise TileError(f"cpu: {lanes} elements of an operand at {index}", op.loc)

    return Lazy(w.shape(op.result.type), op.result.type.dtype, at)


__all__ = ["Expanding", "Laid", "Stored", "Vectors", "address", "known_step", "scattered", "slab",
           "step", "waiting"]  # fmt: skip
