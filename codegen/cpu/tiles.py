"""Tiles while CPU code is written: expressions evaluated where used, or scratch buffers."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Function, Number, V, constant
from tilec.ir.choices import Choices
from tilec.ir.core import Op, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, substitute
from tilec.ir.lanes import Slabs
from tilec.ir.masked import Masked
from tilec.ir.remark import Remark
from tilec.ir.stream import Records
from tilec.ir.types import Tile

Index = tuple[Number, ...]
At = Callable[[Index, int], V]
ROW = 16  # vectors of a row that may have code of their own
# Processors on which what streams bring is asked for into the second cache, of which more lines may
# be awaited at once, and from there again into the first: on emeraldrapids int4 is so read at 96 %
# of what memory gives, into the second one alone at 88 %, and into the first one alone at less. A
# Zen 5 is 10 % slower so.
SECOND = frozenset({"sapphirerapids", "emeraldrapids"})
NEARER = 2048  # bytes ahead of what is read at which it is asked for again
SIDE = 4  # vectors that are computed side by side, so that none waits for what it needs


@dataclass(frozen=True)
class Buffer:
    """A row-major scratch tile; `pitch` is the distance of rows of the last axis in elements."""

    at: V
    shape: tuple[int, ...]

    @property
    def pitch(self) -> int:
        """Elements from one row to the next, whole vectors."""
        return -(-self.shape[-1] // 16) * 16 if self.shape else 1

    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each axis."""
        padded = (*self.shape[1:-1], self.pitch) if len(self.shape) > 1 else ()
        return tuple(prod(padded[i:]) for i in range(len(self.shape) - 1)) + (1,) * bool(self.shape)


@dataclass(frozen=True)
class Window:
    """Where the numbers of a vector lie: from `start(index)` on (an i32; 0 without), `index` being
    that of its first element, and before `start + size`."""

    size: int
    start: Callable[[Index], V] | None = None


@dataclass(frozen=True)
class Lazy:
    """A tile: `at(index, lanes)` gives `lanes` elements from `index` on along the last axis.

    `reads` are the memories and buffers that `at` looks into, `beside` those of them that it looks
    into anywhere but at its own index. `across`, of a matrix, gives lanes along the first axis.
    `singly` says that vectors are put together element by element, in long code. `words`, of bf16,
    is the tile as i16, for products: what is too small for a normal number may be 0 there. `below`,
    of a whole number, says that it is at least 0 and less than that; 0 says nothing. `plain` says
    that reading it is no more work than reading a buffer. Consecutive whole numbers begin with
    `first`; `until` are those of a last axis and where they stop to make a condition true. `joined`
    says that vectors of a row are computed in other ways than others: each has code of its own
    then. `fetch` asks for an element in memory that will be read, into a cache, `solid` says that
    rows of it lie one after the other. `following` asks for an element of the rows that the next
    iteration of a loop will read instead, which may be anywhere. `rounds`, of bf16, are the floats
    of which these are the nearest. `wide` says that several vectors may be asked for at once, which
    are computed side by side. `only`, of a condition, is the one place of a row (as i64, maybe
    beyond it) where it holds; `picked` is that of the one element that may not be 0, and a tile
    that has it. `later` asks for what vectors of the tile behind this one will read of rows in
    memory. `window`, of whole numbers, says where those of each vector lie.
    """

    shape: Index
    dtype: DType
    at: At
    buffer: Buffer | None = None
    reads: frozenset[object] = frozenset()
    beside: frozenset[object] = frozenset()
    across: At | None = None
    singly: bool = False
    words: Lazy | None = None
    below: Number = 0
    plain: bool = False
    first: Number | None = None
    until: tuple[Number, int] | None = None
    joined: bool = False
    fetch: Callable[[Index, int], None] | None = None
    solid: bool = False
    following: Callable[[Index, int], None] | None = None
    rounds: Lazy | None = None
    wide: bool = False
    only: Callable[[Index], V] | None = None
    picked: tuple[Callable[[Index], V], Lazy] | None = None
    later: Callable[[Index, int], None] | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Coordinates:
    """A span: its first coordinate, how many there are, and what the first is a multiple of.

    `stopped` says that it may end before its dimension does; `counted` that a loop goes from each
    such span to the one behind it.
    """

    start: Number
    size: Number
    multiple: int
    stopped: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Tensor:
    """A tensor argument: the address of its first element, and its extents as the call has them.

    `records` says how a component that does not lie row by row does.
    """

    param: Value
    at: V
    shape: Index
    dtype: DType
    records: Records | Masked | Slabs | None = None
    component: str = ""


@dataclass
class Scratch:
    """The memory of one thread, handed out once."""

    used: int = 0

    def take(self, size: int) -> int:
        """The offset of `size` fresh bytes on a line of their own, with a line to read beyond."""
        at = self.used
        self.used += -(-size // 64) * 64 + 64
        return at


@dataclass
class Writer:
    """Where code is being written: the function, its scratch memory, and what symbols stand for."""

    f: Function
    lanes: int
    features: frozenset[str]
    scratch: Scratch
    base: V  # this thread's scratch memory
    shared: V  # memory of all threads
    sizes: dict[str, Number] = field(default_factory=dict[str, Number])
    most: dict[str, int] = field(default_factory=dict[str, int])
    remarks: list[Remark] = field(default_factory=list[Remark])
    choices: Choices = field(default_factory=Choices)
    cpu: str = ""  # the processor, as LLVM calls it

    def remark(self, op: Op, message: str, missing: str) -> None:
        """Say what this code could not do, and what it would have needed."""
        self.remarks.append(Remark("cpu", message, op.loc, missing))

    def ask_ahead(self, at: V, offset: int = 0) -> None:
        """Ask for a line behind what is read at an address, as far ahead as was chosen."""
        for ahead, cache in self.asked:
            self.f.prefetch(self.f.pointer(at, ahead + offset), cache)

    @property
    def asked(self) -> tuple[tuple[int, int], ...]:
        """How many bytes ahead of what is read lines are asked for, and into which cache."""
        ahead = self.choices.ahead
        if self.cpu not in SECOND or not ahead:
            return ((ahead, 1),) if ahead else ()
        return ((ahead, 2), (NEARER, 1)) if ahead > NEARER else ((ahead, 2),)

    def extent(self, e: Extent) -> Number:
        """An extent as it is in this iteration."""
        known = substitute(e, {k: v for k, v in self.sizes.items() if isinstance(v, int)})
        if isinstance(known, int):
            return known
        return self._evaluated(ast.parse(known.text, mode="eval").body, e)

    def _evaluated(self, node: ast.expr, e: Extent) -> Number:
        """An extent's expression in the sizes of this iteration: sums and products of them."""
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name) if name in self.sizes:
                return self.sizes[name]
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return self.f.times(self._evaluated(a, e), -1)
            case ast.BinOp(left=a, op=ast.Add() | ast.Sub() | ast.Mult() as op, right=b):
                x, y = self._evaluated(a, e), self._evaluated(b, e)
                if isinstance(op, ast.Mult):
                    return self.f.times(x, y)
                return self.f.plus(x, self.f.times(y, -1) if isinstance(op, ast.Sub) else y)
            case _:
                raise TileError(f"cpu: the extent {e} is not known when the code is written")

    def largest(self, e: Extent) -> int:
        """The most that an extent can be."""
        known = substitute(e, self.most)
        if not isinstance(known, int):
            raise TileError(f"cpu: no bound is known for the extent {e}")
        return known

    def shape(self, t: Tile) -> Index:
        """The extents of a tile in this iteration."""
        return tuple(self.extent(d) for d in t.shape)

    def each(self, shape: Index, body: Callable[[Index, int], None], apart: bool = False,
             side: int = 1) -> None:  # fmt: skip
        """body(index, lanes) over every element, vectors of consecutive ones first, `side` at a
        time while there are as many; those of a row `apart` in code of their own if they are few.
        """
        if not shape:
            body((), 1)
            return
        *outer, last = shape

        def axis(done: Index) -> None:
            if len(done) < len(outer):
                self.f.loop(0, outer[len(done)], 1, lambda i: axis((*done, i)))
                return
            start: Number = 0
            for size in dict.fromkeys((side * self.lanes, self.lanes)):
                stop = self.whole(last, size)
                self._vectors(start, stop, size, lambda i, n: body((*done, i), n), apart)
                start = stop
            if not isinstance(last, int) or start != last:
                self.f.loop(start, last, 1, lambda i: body((*done, i), 1))

        axis(())

    def _vectors(self, start: Number, stop: Number, size: int, body: Callable[[Number, int], None],
                 apart: bool) -> None:  # fmt: skip
        """body(i, size) for every size-th number, each in code of its own if they are few."""
        if isinstance(start, int) and isinstance(stop, int):
            if apart and stop <= ROW * self.lanes:
                for i in range(start, stop, size):
                    body(i, size)
                return
            if start == stop:
                return
        self.f.loop(start, stop, size, lambda i: body(i, size))

    def whole(self, n: Number, size: int = 0) -> Number:
        """How many of n elements fill whole vectors (or as many at a time as `size`)."""
        size = size or self.lanes
        if isinstance(n, int):
            return n - n % size
        return self.f.binary("and", n, constant("i64", -size))

    def buffer(self, t: Tile) -> Buffer:
        """Fresh scratch memory for a tile."""
        shape = tuple(self.largest(d) for d in t.shape)
        empty = Buffer(self.base, shape)
        size = prod((*shape[:-1], empty.pitch)) * numbers.scratch(t.dtype)
        return Buffer(self.f.pointer(self.base, self.scratch.take(size)), shape)

    def place(self, b: Buffer, t: DType, index: Index) -> V:
        """The address of an element of a buffer."""
        return self.address(b.at, index, tuple(s * numbers.scratch(t) for s in b.strides()))

    def address(self, base: V, index: Index, strides: Index) -> V:
        """base + sum of index * stride, strides in bytes."""
        offset: Number = 0
        for i, s in zip(index, strides, strict=True):
            offset = self.f.plus(offset, self.f.times(i, s))
        return self.f.pointer(base, offset)

    def read(self, b: Buffer, t: DType, shape: Index) -> Lazy:
        """A buffer as a tile; a scalar is read now."""

        def at(index: Index, lanes: int) -> V:
            place = self.place(b, t, index)
            if t.kind == "bool":
                return self.f.compare(
                    "icmp ne", self.f.load("i8", lanes, place), constant("i8", 0, lanes)
                )
            return self.f.load(numbers.register(t), lanes, place, numbers.scratch(t))

        if not shape:
            return scalar(self.f, at((), 1), t)
        reads = frozenset[object]({b.at.text})
        return Lazy(shape, t, at, b, reads, plain=True, wide=t.is_float)

    def write(self, b: Buffer, t: DType, index: Index, v: V) -> None:
        """Elements into a buffer."""
        v = self.f.convert("zext", v, "i8") if t.kind == "bool" else v
        self.f.store(v, self.place(b, t, index), numbers.scratch(t))

    def fill(self, b: Buffer, x: Lazy) -> Lazy:
        """Evaluate a tile into a buffer. While that computes, memory has time: rows that will be
        read next are asked for."""

        def put(index: Index, lanes: int) -> None:
            if x.later is not None and lanes > 1:
                x.later(index, lanes)
            self.write(b, x.dtype, index, x.at(index, lanes))

        self.each(x.shape, put, side=self.side(x))
        return self.read(b, x.dtype, x.shape)

    def side(self, x: Lazy) -> int:
        """How many vectors of a tile are computed side by side, as registers allow."""
        return (SIDE if self.lanes == 16 else SIDE // 2) if x.wide and not x.joined else 1

    def settled(self, x: Lazy, t: Tile) -> Lazy:
        """The tile in a buffer, or a scalar in a register."""
        if x.buffer is not None:
            return x
        if not x.shape:
            return replace(scalar(self.f, x.at((), 1), x.dtype), below=x.below)
        return self.fill(self.buffer(t), x)

    def once(self, x: Lazy) -> Lazy:
        """The tile, each vector of which is computed once for all that ask for it in a region."""
        seen: dict[tuple[object, ...], tuple[Function, str, V]] = {}

        def at(index: Index, lanes: int) -> V:
            f, key = self.f, (*(i if isinstance(i, int) else i.text for i in index), lanes)
            known = seen.get(key)
            if known is not None and known[:2] == (f, f.region):
                return known[2]
            found = x.at(index, lanes)
            seen[key] = f, f.region, found
            return found

        return replace(x, at=at)


def scalar(f: Function, v: V, t: DType) -> Lazy:
    """A value that is known, as a tile of rank 0."""
    return Lazy((), t, lambda _, lanes: f.splat(v, lanes))


def fixed(n: Number, what: str) -> int:
    """An extent that is a number in the code. Raises TileError where its dimension stays open."""
    if isinstance(n, int):
        return n
    raise TileError(f"cpu: {what} along a dimension that stays open", hint="give a number for it")
