"""Random well-typed programs with data, for laws that every pass and back end has to keep.

Dimensions are small and odd, tiles need not divide them, indices run outside, inputs hold special
values and are never all zero, outputs are poisoned. Everything is exact in the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from arguments import arguments
from hypothesis import strategies as st

from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import BY_NAME, Array, DType, boolean, f16, f32, i8, i32, u8, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import arith, control, memory, reduce, scan, shape
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.text import show
from tilec.ir.types import Memory, Shape, Span, Tile

DTYPES = [
    BY_NAME[n]
    for n in ("f32", "tf32", "f16", "bf16", "e4m3", "e5m2", "i3", "u5", "i8", "u8", "i32", "u32",
              "bool")
]  # fmt: skip
ELEMENTS = ("e2m1", "e3m2", "e4m3_fnuz", "e3m4_ieee", "e8m0", "nf4", "ternary", "sm5", "bipolar3")
M, K, SIZE = Sym("M"), Sym("K"), Sym("m")
UNARY = [c for c in Op.registry.values() if issubclass(c, arith.Unary | arith.Not)]
BINARY = [c for c in Op.registry.values() if issubclass(c, arith.Binary)]
ROUNDED = {  # functions that back ends compute to a few units in the last place
    arith.Exp, arith.Exp2, arith.Log, arith.Log2, arith.Sin, arith.Cos, arith.Tanh, arith.Erf,
    arith.Rsqrt,
}  # fmt: skip
SUMS = [reduce.Sum, scan.Cumsum]
REDUCTIONS = [*SUMS, reduce.Max, reduce.Min, reduce.Argmax, scan.Cummax, scan.Cummin]


@dataclass(frozen=True)
class Program:
    """A function, what its parameters hold before it runs (in carriers), and its dimensions."""

    func: Func
    arguments: dict[str, Array]
    dims: dict[str, int]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis prints of a program that breaks a law."""
        printer.text(f"{show(self.func)}{self.arguments}\n{self.dims}")

    def run(self, func: Func | None = None, **tiles: int) -> dict[str, Array]:
        """What the parameters hold after `func`, by default the program itself."""
        after = {name: np.array(a) for name, a in self.arguments.items()}
        interpret(func or self.func, after, self.dims | tiles)
        return after


@dataclass
class Maker:
    """Writes random ops into one block; `pool` holds the tiles that they may use."""

    chance: Random
    params: list[Value]
    sizes: list[str]
    spans: dict[Extent, Value]
    pool: list[Value] = field(default_factory=list[Value])
    b: Builder = field(default_factory=Builder)
    depth: int = 0
    exact: bool = False  # only ops whose result a back end can't round in another way

    def pick(self, choices: Any) -> Any:
        return self.chance.choice(list(choices))

    def inside(self, *more: Value) -> Maker:
        """A maker for a block in this one."""
        pool = [*self.pool, *(v for v in more if isinstance(v.type, Tile))]
        child = Maker(self.chance, self.params, self.sizes, dict(self.spans), pool)
        child.depth, child.exact = self.depth + 1, self.exact
        return child

    def add(self, op: Op) -> Value:
        """Write an op; its result may be used by later ones."""
        v = self.b(op)
        self.pool.append(v)
        return v

    def tile(self, ok: Callable[[Tile], bool] = lambda t: True) -> Value | None:
        """Some tile of a type that is `ok`."""
        found = [v for v in self.pool if isinstance(v.type, Tile) and ok(v.type)]
        return self.pick(found) if found else None

    def full(self, shape_: Shape, t: DType) -> Value:
        """A constant, of the special ones too."""
        if t is boolean:
            return self.b(shape.Full(shape_, self.pick([True, False]), t))
        numbers = [0, 1, t.high, t.low, 2 if t.high > 1 else 1]
        floats = [-0.0, 1.0, 0.1, -1.5, float("nan"), float("inf")]
        return self.b(shape.Full(shape_, self.pick(numbers + floats * t.is_float), t))

    def like(self, t: Tile) -> Value:
        """Some tile of exactly this type: there already, cast, broadcast or constant."""
        kind = self.pick(range(4))
        same = self.tile(lambda s: s == t)
        if kind and same is not None:
            return same
        other = self.tile(lambda s: s.shape == t.shape)
        if kind == 1 and other is not None:
            return self.b(Cast(other, t.dtype))
        scalar = self.tile(lambda s: s == Tile((), t.dtype))
        if kind == 2 and scalar is not None:
            return self.b(shape.Broadcast(scalar, t.shape))
        return self.full(t.shape, t.dtype)

    def steps(self, count: int) -> None:
        """So many random ops."""
        kinds = [Maker.pointwise] * 6 + [Maker.casts] * 3 + [Maker.shapes] * 3
        kinds += [Maker.reduced, Maker.gathered, Maker.product, Maker.random]
        kinds += [Maker.numbers] * 2
        if self.depth < 2:  # blocks in blocks, but not too deep
            kinds += [Maker.loop, Maker.counted, Maker.branch, Maker.repeated]
        for _ in range(count):
            self.pick(kinds)(self)

    def pointwise(self) -> None:
        v = self.tile()
        assert v is not None
        t = v.type
        assert isinstance(t, Tile)
        match self.pick(["unary", "unary", "unary", "binary", "binary", "where", "fma"]):
            case "unary":
                classes = [c for c in UNARY if _takes(c, v) and not (self.exact and c in ROUNDED)]
                if classes:
                    self.add(self.pick(classes)(v))
            case "binary":
                cls = self.pick([c for c in BINARY if _takes(c, v, v)])
                other = self.like(t)
                self.add(cls(*self.pick([(v, other), (other, v), (v, v)])))
            case "where":
                self.add(arith.Where(self.like(Tile(t.shape, boolean)), v, self.like(t)))
            case _:
                if t.dtype.is_float:
                    self.add(arith.Fma(v, self.like(t), self.like(t)))

    def casts(self) -> None:
        v = self.tile()
        assert v is not None
        assert isinstance(v.type, Tile)
        same = [t for t in DTYPES if t.bits == v.type.dtype.bits and t.bits in (8, 16, 32)]
        if same and self.pick([True, False, False]):
            self.add(Bitcast(self.number(v), self.pick(same)))
            return
        mode = self.pick(["nearest", "nearest", "toward_zero", "stochastic"])
        bits = self.like(Tile(v.type.shape, u32)) if mode == "stochastic" else None
        t = self.pick([*DTYPES, *(CODES[n] for n in ELEMENTS)])
        out = Cast(v, t, mode, self.pick([False, False, True]), bits)
        if t.kind == "code":  # not computed with, so only its value is of use
            out = Cast(self.b(out), self.pick([f32, f16]))
        self.add(out)

    def number(self, v: Value) -> Value:
        """A tile with zeros for NaNs, which have the sign that an implementation gives them
        (IEEE 754-2019, 6.3)."""
        t = v.type
        assert isinstance(t, Tile)
        if not t.dtype.is_float:
            return v
        zeros = self.b(shape.Full(t.shape, 0, t.dtype))
        return self.b(arith.Where(self.b(arith.Eq(v, v)), v, zeros))

    def shapes(self) -> None:
        v = self.tile()
        assert v is not None
        t = v.type
        assert isinstance(t, Tile)
        axis = self.pick(range(t.rank)) if t.rank else 0
        match self.pick(["transpose", "broadcast", "reshape", "slice", "join"]):
            case "transpose":
                self.add(shape.Transpose(v, tuple(self.chance.sample(range(t.rank), t.rank))))
            case "broadcast" if t.rank < 3:
                new = self.pick([t.shape, (SIZE, *t.shape), (K, *t.shape), (1, *t.shape)])
                self.add(shape.Broadcast(v, tuple(K if d == 1 else d for d in new)))
            case "reshape" if t.rank < 3:
                self.add(shape.Reshape(v, (*t.shape[:axis], 1, *t.shape[axis:])))
            case "slice" if t.rank:
                stop = self.pick([1, t.shape[axis]])
                self.add(shape.Slice(v, axis, self.pick([0, stop - 1]), stop))
            case "join" if t.rank:
                self.add(shape.Join(self.pick([(v,), (v, self.like(t))]), axis))
            case _:
                pass

    def reduced(self) -> None:
        v = self.tile(lambda t: t.rank > 0 and t.dtype is not boolean)
        if v is not None:
            t = _tile(v)
            ordered = self.exact and t.dtype.is_float
            op = self.pick(REDUCTIONS[ordered * len(SUMS) :])(v, self.pick(range(t.rank)))
            if ordered and op.name != "argmax":  # of zeros of both signs any may be the result
                op = arith.Add(self.b(op), self.b(shape.Full(_tile(op.result).shape, 0, t.dtype)))
            self.add(op)

    def product(self) -> None:
        """a @ b with b another tile of a's shape, turned."""
        numbers = [d for d in DTYPES if d is not boolean and not (self.exact and d.is_float)]
        v = self.tile(lambda t: t.rank == 2 and t.dtype in numbers)
        if v is None:
            return
        assert isinstance(v.type, Tile)
        t = self.pick(numbers)
        turned = self.b(shape.Transpose(self.like(Tile(v.type.shape, t)), (1, 0)))
        rows = v.type.shape[0]
        acc = self.like(Tile((rows, rows), reduce.accumulator(v.type.dtype, t)))
        self.add(reduce.Dot(v, turned, acc))

    def gathered(self) -> None:
        """A load with an index tile or a scalar index, both of which may lie outside."""
        mem = self.pick([p for p in self.params[:2] if isinstance(p.type, Memory)])
        index = self.tile(lambda t: t.rank < 2 and t.dtype.is_integer)
        if index is not None:
            self.add(memory.Load(mem, (index, self.span(K))))

    def numbers(self) -> None:
        span = self.pick(self.spans.values())
        ops = [shape.Coordinates(span), shape.Start(span), shape.Size(self.pick([M, K]))]
        self.add(self.pick([*ops, shape.Iota(self.pick([SIZE, K]))]))

    def random(self) -> None:
        offset = self.like(Tile((SIZE,), u32))
        self.add(shape.RandomBits(self.like(Tile((), u32)), offset))

    def span(self, extent: Extent) -> Value:
        """Coordinates for an axis of this extent."""
        return self.spans.get(extent) or self.b(memory.Whole(extent))

    def loop(self) -> None:
        """A loop over K that carries one or two tiles."""
        size = Sym(f"k{len(self.sizes)}")
        self.sizes.append(size.text)
        init = tuple(self.carried() for _ in range(self.pick([1, 2])))
        stop = self.pick([None, self.like(Tile((), i32))])
        first = self.b(shape.Start(self.spans[SIZE])) if len(self.sizes) % 2 else None
        span = Value(Span(K, size))
        params = tuple(Value(v.type) for v in init)
        child = self.inside(*params)
        child.spans[size] = span
        mem = self.pick(self.params[:2])
        child.add(memory.Load(mem, (self.spans[SIZE], span)))
        child.steps(4)
        results = tuple(child.like(_tile(v)) for v in init)
        body = Block((span, *params), _ops(child), results)
        tile = self.pick([None, 1, 2, 3])
        self.extend(control.For(K, size, tile, init, body, stop, first))

    def counted(self) -> None:
        bounds = [self.b(shape.Full((), self.pick(n), i32)) for n in ([0, 1], [0, 2, 3], [1, 2])]
        init = (self.carried(),)
        params = (Value(Tile((), i32)), Value(init[0].type))
        child = self.inside(*params)
        child.steps(3)
        result = child.like(_tile(init[0]))
        body = Block(params, _ops(child), (result,))
        self.extend(control.Count(bounds[0], bounds[1], bounds[2], init, body))

    def branch(self) -> None:
        t = _tile(self.carried())
        blocks: list[Block] = []
        condition = self.like(Tile((), boolean))
        for _ in range(2):
            child = self.inside()
            child.steps(3)
            result = child.like(t)
            blocks.append(Block((), _ops(child), (result,)))
        self.extend(control.If(condition, blocks[0], blocks[1]))

    def repeated(self) -> None:
        """`while i < n: i += 1` with a tile besides."""
        init = (self.b(shape.Full((), 0, u8)), self.carried())
        test, params = Builder(), tuple(Value(v.type) for v in init)
        bound = test(shape.Full((), self.pick([0, 1, 3]), u8))
        again = test(arith.Lt(params[0], bound))
        inner = tuple(Value(v.type) for v in init)
        child = self.inside(*inner)
        child.steps(3)
        after = child.b(arith.Add(inner[0], child.b(shape.Full((), 1, u8))))
        result = child.like(_tile(init[1]))
        body = Block(inner, _ops(child), (after, result))
        self.extend(control.While(init, Block(params, tuple(test.ops), (again,)), body))

    def carried(self) -> Value:
        v = self.tile()
        assert v is not None
        return v

    def extend(self, op: Op) -> None:
        self.pool += self.b.add(op).results

    def store(self, v: Value) -> None:
        """Into an output of its own, by the spans of its axes; axes without one are reduced."""
        v = self.whole(v)
        t = _tile(v)
        axes = {SIZE: M, K: K, 1: 1}
        while odd := [i for i, d in enumerate(t.shape) if d not in axes]:
            numbers = v if t.dtype is not boolean else self.b(Cast(v, u8))
            v = self.b(reduce.Max(numbers, odd[0]))
            t = _tile(v)
        if SIZE not in t.shape:  # tasks must not write one place
            v = self.b(shape.Broadcast(v, (SIZE, *t.shape)))
            t = _tile(v)
        y = Value(Memory(tuple(axes[d] for d in t.shape), Dense(t.dtype)), f"y{len(self.params)}")
        self.params.append(y)
        self.b.add(memory.Store(y, tuple(self.span(d) for d in t.shape), v))

    def whole(self, v: Value) -> Value:
        """The tile in whole bytes: elements that share bytes are not written."""
        t = _tile(v).dtype
        byte = i8 if t.kind == "int" else u8
        return self.b(Cast(v, byte)) if t.is_integer and t.bits < 8 else v

    def scatter(self, index: Value) -> None:
        """Rows into places that do not repeat and partly lie outside."""
        v = self.whole(self.like(Tile((SIZE, K), self.pick(DTYPES))))
        y = Value(Memory((M, K), Dense(_tile(v).dtype)), f"y{len(self.params)}")
        self.params.append(y)
        self.b.add(memory.Store(y, (index, self.span(K)), v))

    def accumulate(self, index: Value) -> None:
        """Rows of whole numbers, whose sums wrap, into places that repeat."""
        v = self.like(Tile((SIZE, K), self.pick([i32, u32])))
        y = Value(Memory((M, K), Dense(_tile(v).dtype)), f"y{len(self.params)}")
        self.params.append(y)
        half = self.b(arith.Shr(index, self.b(shape.Full((SIZE,), 1, i32))))
        self.b.add(memory.Accumulate(y, (half, self.span(K)), v))


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type


def _takes(cls: type[Op], *operands: Value) -> bool:
    try:
        cls(*operands)
    except TileError:
        return False
    return True


@st.composite
def programs(draw: Any, steps: int = 24, exact: bool = False) -> Program:
    """A grid over the rows of two matrices, random ops on its tiles, and what is stored of them.

    One seed decides everything but the number of ops, so that a failure shrinks to its first ops.
    `exact` leaves out functions and float sums: every back end then agrees.
    """
    count = draw(st.integers(4, steps))
    chance = Random(draw(st.integers(0, 2**32 - 1)))
    types = [chance.choice(DTYPES) for _ in range(3)]
    params = [Value(Memory((M, K), Dense(t)), n) for n, t in zip("xz", types, strict=False)]
    params.append(Value(Memory((M, K), Dense(CODES[chance.choice(ELEMENTS)])), "c"))
    params.append(Value(Memory((M,), Dense(i32)), "index"))
    params.append(Value(Tile((), types[2]), "s"))
    row = Value(Span(M, SIZE), "m")
    make = Maker(chance, params, ["m"], {SIZE: row}, exact=exact)
    make.pool.append(params[4])
    for p in params[:2]:
        make.add(memory.Load(p, (row, make.span(K))))
    codes = make.b(memory.Load(params[2], (row, make.span(K))))
    make.add(Cast(codes, chance.choice([f32, f16])))
    index = make.add(memory.Load(params[3], (row,)))
    make.steps(count)
    for v in make.pool[-6:]:
        make.store(v)
    if chance.random() < 0.5:
        make.scatter(index)
    if chance.random() < 0.5:
        make.accumulate(index)
    grid = control.Grid((M,), (SIZE,), (make.pick([None, 1, 2, 3]),), Block((row,), _ops(make)))
    func = Func("random", Block(tuple(make.params), (grid,)))
    dims = {"M": make.pick([1, 2, 5, 7]), "K": make.pick([1, 3, 4, 7])}
    rng = np.random.default_rng(chance.randrange(2**32))
    return Program(func, arguments(func, dims, rng), dims | {"m.tile": make.pick([1, 2, 3, 4])})


def _ops(make: Maker) -> tuple[Op, ...]:
    return tuple(make.b.ops)
