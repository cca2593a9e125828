"""Codes times the scales of their groups, as bytes: the second step of a decoding in two.

All arithmetic is modulo 256, as that of a cast to 8 bits: with c = q + offset for the byte c of a
code, (q - z) * s + 128 is c * s + t for one t a column and group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tilec.codegen.cpu import chain
from tilec.codegen.cpu.chain import Made
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.packing import OFFSET
from tilec.codegen.cpu.quads import BYTES_OF_VECTOR, Quads, unsigned
from tilec.codegen.cpu.stream import Panel, Round, Words, blocks, in_blocks, middle
from tilec.codegen.cpu.tiles import Coordinates, Lazy, Tensor, Writer
from tilec.ir.core import Value
from tilec.ir.dtype import DType
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.stream import COLUMNS, LANES, Records
from tilec.ir.types import Tile

Env = Mapping[Value, Lazy | Coordinates | Tensor]


@dataclass(frozen=True)
class Inline:
    """A number of each group that lies beside its codes: the component, and what is taken off."""

    component: str
    taken: int


@dataclass(frozen=True)
class Groups(Panel):
    """Whole records of a stream, whose codes stand for (value - zero) * scale in 8 bits."""

    scale: Inline
    zero: Inline | None
    offset: int  # in the bytes that are made

    @property
    def deep(self) -> int:
        return self.records.depth


def groups(w: Writer, v: Value, env: Env, made: Made) -> Groups | None:
    """The step of a stream that a tile [n, k] of bytes is made of, if it is one."""
    cast = made.get(v)
    if not isinstance(cast, Cast) or cast.saturate:
        return None
    product = made.get(cast.a)
    if not isinstance(product, arith.Mul):
        return None
    for codes, scale in ((product.a, product.b), (product.b, product.a)):
        found = _Reading(w, env, made).groups(codes, scale, cast.dtype)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class _Reading:
    """What the values of one function stand for."""

    w: Writer
    env: Env
    made: Made

    def groups(self, codes: Value, scale: Value, dtype: DType) -> Groups | None:
        """The panel of (codes - zeros) * scales."""
        difference, zeros = self.made.get(codes), None
        found = chain.chain(codes, self.made)
        if found is None and isinstance(difference, arith.Sub):
            found, zeros = chain.chain(difference.a, self.made), difference.b
        if found is None or len(found[0].indices) != 2:
            return None
        load, links = found
        tensor, n, k = (self.env[i] for i in (load.mem, *load.indices))
        if not (isinstance(tensor, Tensor) and isinstance(n, Coordinates)):
            return None
        if not isinstance(k, Coordinates) or not _whole_records(tensor, n, k):
            return None
        own = self.inline(scale, load, tensor)
        zero = None if zeros is None else self.inline(zeros, load, tensor)
        if own is None or (zero is None) != (zeros is None):
            return None
        f, records = self.w.f, tensor.records
        assert isinstance(records, Records)
        block, numbers = blocks(self.w, records, n)
        record = f.divided(k.start, records.depth)[0]
        at = self.w.address(tensor.at, (block, record), (records.block_bytes, records.record_bytes))
        values = chain.tabulated(load, links)
        if unsigned(values) is None:
            return None
        offset = OFFSET if dtype.kind == "int" else 0
        away = tuple(f.times(i, records.block_bytes) for i in numbers)
        return Groups(records, at, k.size, tuple(values.tolist()), away, own, zero, offset)

    def inline(self, v: Value, codes: memory.Load, tensor: Tensor) -> Inline | None:
        """The component beside the codes that a tile has a number of for every group."""
        op = self.made.get(v)
        while isinstance(op, shape.Broadcast | shape.Reshape):
            v, op = op.a, self.made.get(op.a)
        found = chain.chain(v, self.made)
        if found is None or len(found[0].indices) != 2 or not isinstance(tensor.records, Records):
            return None
        load, links = found
        other, records = self.env[load.mem], tensor.records
        if not isinstance(other, Tensor) or not self._of_groups(load, codes, records.depth):
            return None
        beside = other.param.hint == tensor.param.hint.removesuffix("codes") + other.component
        t = load.result.type
        assert isinstance(t, Tile)
        whole = t.dtype.is_integer and t.dtype.bits <= 8
        taken = middle(t.dtype, chain.tabulated(load, links)) if whole else None
        if not beside or taken is None or other.component not in dict(records.inline):
            return None
        return Inline(other.component, taken)

    def _of_groups(self, load: memory.Load, codes: memory.Load, group: int) -> bool:
        """Whether a load has the rows of another, and the groups of its k."""
        index = self.made.get(load.indices[1])
        if not isinstance(index, arith.FloorDiv):
            return False
        over, k = self.made.get(index.b), self.made.get(index.a)
        same = isinstance(over, shape.Full) and over.value == group
        known = isinstance(k, shape.Coordinates | shape.Start) and k.span is codes.indices[1]
        return same and known and load.indices[0] is codes.indices[0]


def _whole_records(tensor: Tensor, n: Coordinates, k: Coordinates) -> bool:
    """Whether a step is whole records of one block, each of whole units."""
    records = tensor.records
    if not isinstance(records, Records) or records.codes is None or records.depth % records.unit:
        return False
    return not in_blocks(records, n) and (
        k.multiple % records.depth == 0 or k.multiple >= records.k
    )


@dataclass(frozen=True)
class _Group(Round):
    """A round of one group: for the first column of each vector, its factors and what is added."""

    numbers: Mapping[int, tuple[V, V]] = field(default_factory=dict[int, tuple[V, V]])


class Expanded(Quads):
    """Vectors of fours of codes times the scales of their groups, as unsigned bytes."""

    def __init__(self, w: Writer, p: Groups) -> None:
        super().__init__(w, p)
        self.groups, self.inside, self.offset = p, self.offset, p.offset

    @property
    def deep(self) -> int:
        return self.panel.records.unit

    @property
    def records(self) -> Number:
        """How many groups the step has."""
        depth = self.groups.deep
        return self.w.f.divided(self.w.f.plus(self.panel.k, depth - 1), depth)[0]

    @property
    def count(self) -> Number:
        return self.w.f.times(self.records, self.panel.records.units)

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        """carried = body(round, carried) for the units of every group."""
        w, f, r = self.w, self.w.f, self.panel.records

        def record(i: V, carried: list[V]) -> list[V]:
            at = w.address(self.panel.at, (i,), (r.record_bytes,))
            numbers = {c: self._numbers(at, c) for c in columns}
            first = f.times(i, r.units)

            def unit(j: V, c: list[V]) -> list[V]:
                number = f.number(f.plus(first, j))
                return body(_Group(number, (w.address(at, (j,), (r.unit_bytes,)),), numbers), c)

            return f.carry(0, r.units, 1, carried, unit)

        return f.carry(0, self.records, 1, init, record)

    def words(self, of: Round, first: int) -> Words:
        assert isinstance(of, _Group)
        return _GroupWords(self.w, self.panel, of.units, first, of.numbers[first])

    def _numbers(self, record: V, first: int) -> tuple[V, V]:
        """For 16 columns of a group: s in both halves of a lane, and t in every byte of it."""
        f, lanes = self.w.f, self.w.lanes
        scale = self._inline(record, self.groups.scale, first)
        inside = constant("i32", self.inside, lanes)
        if self.groups.zero is not None:
            inside = f.binary("add", inside, self._inline(record, self.groups.zero, first))
        away = f.binary("mul", inside, scale)
        added = f.binary("sub", constant("i32", self.offset, lanes), away)
        low = f.binary("and", added, constant("i32", 255, lanes))
        every = f.binary("mul", low, constant("i32", 0x01010101, lanes))
        both = f.binary("or", f.binary("shl", scale, constant("i32", 16, lanes)),
                        f.binary("and", scale, constant("i32", 65535, lanes)))  # fmt: skip
        return f.recast(both, "i16", 2 * lanes), f.recast(every, "i8", BYTES_OF_VECTOR)

    def _inline(self, record: V, of: Inline, first: int) -> V:
        """A component's numbers, in i32."""
        f, lanes = self.w.f, self.w.lanes
        offset = self.panel.records.inline_offset(of.component) + first % COLUMNS
        at = f.pointer(self.panel.beside(f, record, first), offset)
        found = f.convert("zext", f.load("i8", lanes, at, 1), "i32")
        if not of.taken:
            return found
        return f.binary("sub", found, constant("i32", of.taken, lanes))

    def step(self, words: Words, t: int) -> tuple[V]:
        """k = 4 t to 4 t + 3 of every column."""
        assert isinstance(words, _GroupWords)
        f = self.w.f
        (codes,) = super().step(words, t)
        scale, added = words.numbers
        v = f.recast(codes, "i16", 2 * LANES)
        high = constant("i16", -256, 2 * LANES)
        even = f.binary("and", f.binary("mul", v, scale), constant("i16", 255, 2 * LANES))
        odd = f.binary("mul", f.binary("and", v, high), scale)
        both = f.recast(f.binary("or", even, odd), "i8", BYTES_OF_VECTOR)
        return (f.recast(f.binary("add", both, added), "i32", self.w.lanes),)


class _GroupWords(Words):
    """Words beside the numbers of their group."""

    def __init__(self, w: Writer, p: Panel, units: Sequence[V], first: int,
                 numbers: tuple[V, V]) -> None:  # fmt: skip
        super().__init__(w, p, units, first)
        self.numbers = numbers
