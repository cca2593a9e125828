"""Random programs of whole tensors in f64 whose gradients differences can tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from gradients import Case
from hypothesis import strategies as st

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import Array, f64, i32
from tilec.ir.extent import Sym
from tilec.ir.ops import arith, memory, reduce, scan, shape, top
from tilec.ir.types import Memory, Shape, Tile
from tilec.ir.types import memory as dense

BENDS = (arith.Exp, arith.Exp2)  # of what is small
ABOVE = (arith.Log, arith.Log2, arith.Sqrt, arith.Rsqrt)  # of what is positive
PLAIN = (arith.Neg, arith.Abs, arith.Sin, arith.Cos, arith.Tanh, arith.Erf, arith.Floor)
PAIRS = (arith.Add, arith.Sub, arith.Mul, arith.Maximum, arith.Minimum)


@dataclass
class Maker:
    """Writes random ops on whole tensors; `pool` holds the tiles that they may use."""

    chance: Random
    b: Builder = field(default_factory=Builder)
    pool: list[Value] = field(default_factory=list[Value])

    def pick(self, choices: Any) -> Any:
        return self.chance.choice(list(choices))

    def tile(self, rank: int = 0) -> Value | None:
        """Some tile of at least so many dims."""
        found = [v for v in self.pool if len(of(v).shape) >= rank]
        return self.pick(found) if found else None

    def add(self, op: Op) -> Value:
        v = self.b(op)
        self.pool.append(v)
        return v

    def number(self, x: float, like: Value) -> Value:
        return self.b(shape.Full(of(like).shape, x, f64))

    def positive(self, v: Value) -> Value:
        """Something that is at least 1/2, and smooth."""
        square = self.b(arith.Mul(v, v))
        return self.b(arith.Add(square, self.number(0.5, v)))

    def like(self, v: Value) -> Value:
        """A tile of that type: there already, or a number."""
        same = [x for x in self.pool if x.type == v.type]
        scalars = [x for x in self.pool if x.type == Tile((), f64)]
        if scalars and not self.chance.randrange(4):
            return self.b(shape.Broadcast(self.pick(scalars), of(v).shape))
        return self.pick(same) if self.chance.randrange(5) else self.number(0.7, v)

    def unary(self) -> None:
        v = self.pick(self.pool)
        cls = self.pick(BENDS + ABOVE + PLAIN)
        if cls in BENDS:
            v = self.b(arith.Tanh(v))
        self.add(cls(self.positive(v) if cls in ABOVE else v))

    def binary(self) -> None:
        v = self.pick(self.pool)
        other = self.like(v)
        match self.pick(["pair"] * 4 + ["div", "fma", "where"]):
            case "pair":
                self.add(self.pick(PAIRS)(*self.pick([(v, other), (other, v)])))
            case "div":
                self.add(arith.Div(v, self.positive(other)))
            case "fma":
                self.add(arith.Fma(v, other, self.like(v)))
            case _:
                self.add(arith.Where(self.b(arith.Lt(other, v)), v, self.like(v)))

    def shaped(self) -> None:
        v = self.pick(self.pool)
        t = of(v)
        match self.pick(["transpose", "reshape", "broadcast", "stretch", "slice", "join"]):
            case "transpose":
                order = list(range(t.rank))
                self.chance.shuffle(order)
                self.add(shape.Transpose(v, tuple(order)))
            case "reshape":
                at = self.chance.randrange(t.rank + 1)
                self.add(shape.Reshape(v, (*t.shape[:at], 1, *t.shape[at:])))
            case "broadcast" if t.rank < 3:
                self.add(shape.Broadcast(v, (self.pick([2, Sym("N")]), *t.shape)))
            case "stretch" if 1 in t.shape:
                self.add(shape.Broadcast(v, tuple(3 if n == 1 else n for n in t.shape)))
            case "slice" if t.rank:
                self.cut(v, self.chance.randrange(t.rank))
            case "join" if t.rank:
                axis = self.chance.randrange(t.rank)
                self.add(shape.Join((v, self.like(v)), axis))
            case _:
                pass

    def cut(self, v: Value, axis: int) -> None:
        size = of(v).shape[axis]
        if isinstance(size, int) and size > 1:
            start = self.chance.randrange(size - 1)
            self.add(shape.Slice(v, axis, start, self.chance.randrange(start + 1, size + 1)))

    def reduced(self) -> None:
        v = self.tile(1)
        if v is not None:
            cls = self.pick([reduce.Sum, reduce.Max, reduce.Min, scan.Cumsum, scan.Cumsum])
            axis = self.chance.randrange(of(v).rank)
            way = (bool(self.chance.randrange(2)),) if cls is scan.Cumsum else ()
            self.add(cls(v, axis, *way))

    def ranked(self) -> None:
        v = self.tile(1)
        if v is not None:
            self.add(top.Top(v, self.pick([1, of(v).shape[-1]])))

    def product(self) -> None:
        pairs = [(x, y) for x in self.pool for y in self.pool if _multiply(of(x), of(y))]
        if pairs:
            x, y = self.pick(pairs)
            out: Shape = (*of(x).shape[:-1], of(y).shape[-1])
            zero = self.b(shape.Full(out, 0, f64))
            starts = [v for v in self.pool if v.type == Tile(out, f64)]
            self.add(reduce.Dot(x, y, self.pick([zero, *starts])))

    def steps(self, count: int) -> None:
        kinds = [Maker.unary, Maker.binary, Maker.shaped, Maker.reduced, Maker.ranked,
                 Maker.product]  # fmt: skip
        for _ in range(count):
            self.pick(kinds)(self)

    def load(self, mem: Value, *indices: Value | None) -> Value:
        """Memory by indices, or whole where there are none."""
        return self.add(memory.Load(mem, self.at(mem, indices)))

    def at(self, mem: Value, indices: tuple[Value | None, ...]) -> tuple[Value, ...]:
        assert isinstance(mem.type, Memory)
        given = (*indices, *(None,) * (len(mem.type.shape) - len(indices)))
        return tuple(v or self.b(memory.Whole(d))
                     for v, d in zip(given, mem.type.shape, strict=True))  # fmt: skip


def of(v: Value) -> Tile:
    """The type of a tile."""
    assert isinstance(v.type, Tile)
    return v.type


def _multiply(a: Tile, b: Tile) -> bool:
    """Whether two tiles are matrices, or batches of such, that have a product."""
    fit = a.rank == b.rank >= 2 and a.shape[:-2] == b.shape[:-2]
    return fit and a.shape[-1] == b.shape[-2]


@st.composite
def smooth_programs(draw: st.DrawFn) -> Case:
    """A program with its inputs: one or two results, read whole, by rows and by index tiles."""
    seed = draw(st.integers(0, 2**32 - 1))
    maker = Maker(Random(seed))
    m, n = Sym("M"), Sym("N")
    x, w = Value(dense(f64, m, n), "x"), Value(dense(f64, n, 3), "w")
    ids, s = Value(dense(i32, 4), "ids"), Value(Tile((), f64), "s")
    maker.pool.append(s)
    maker.load(x)
    maker.load(w)
    index = maker.b(memory.Load(ids, maker.at(ids, ())))
    if maker.chance.randrange(2):
        maker.load(w, index)
    if maker.chance.randrange(2):
        row = maker.b(shape.Full((), 1, i32))
        maker.load(x, row)
    maker.steps(draw(st.integers(3, 14)))
    results: list[Value] = []
    for i, v in enumerate(maker.pool[-draw(st.integers(1, 3)) :]):
        y = Value(Memory(of(v).shape, dense(f64).format), f"y{i}")
        maker.b.add(memory.Store(y, maker.at(y, ()), v))
        results.append(y)
    if of(maker.pool[-1]).shape[:1] == (3,):
        spread = Value(dense(f64, 5, *of(maker.pool[-1]).shape[1:]), "y_spread")
        first = maker.b(shape.Slice(index, 0, 0, 3))
        at = maker.at(spread, (first,))
        maker.b.add(memory.Accumulate(spread, at, maker.pool[-1]))
        results.append(spread)
    params = (x, w, ids, s, *results)
    func = Func("smooth", Block(params, tuple(maker.b.ops)))
    return Case(func, _inputs(seed), {"M": 1 + seed % 3, "N": 2 + seed % 2})


def _inputs(seed: int) -> dict[str, Array]:
    """Random numbers, and rows of w of which one is there twice and one is none."""
    chance = np.random.default_rng(seed)
    m, n = 1 + seed % 3, 2 + seed % 2
    return {
        "x": chance.standard_normal((m, n)),
        "w": chance.standard_normal((n, 3)),
        "ids": np.array([1, 0, 1, 7]),
        "s": np.asarray(chance.standard_normal()),
    }
