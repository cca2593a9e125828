"""Reductions: lanes side by side, put together once a row."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.core import Op
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.ops import reduce
from tilec.ir.types import Tile

CHAINS = 4  # vectors that are combined side by side


def combine(w: Writer, name: str, t: DType, a: V, b: V) -> V:
    """Two partial results as one."""
    if name == "sum":
        return w.f.binary("fadd" if t.is_float else "add", a, b)
    if t.is_float:
        return numbers.extreme(w.f, name, a, b)
    return w.f.intrinsic(f"{'s' if t.kind == 'int' else 'u'}{name}", a, b)


def neutral(name: str, t: DType) -> float | int:
    """What changes no result."""
    if name == "sum":
        return -0.0 if t.is_float else 0
    if t.is_float:
        return float("-inf") if name == "max" else float("inf")
    return t.low if name == "max" else t.high


def emit(w: Writer, op: Op, x: Lazy) -> Lazy:
    """A reduction, into a buffer (or a register where the result is a scalar)."""
    assert isinstance(op, reduce.Reduction)
    t = op.result.type
    assert isinstance(t, Tile)
    if op.name == "argmax":
        return _argmax(w, op, x, t)
    last = op.axis == len(x.shape) - 1

    def result(index: Index, lanes: int) -> V:
        v = _row(w, op.name, x, index) if last else _column(w, op, x, index, lanes)
        return rounded(w, t.dtype, v)

    def put(index: Index, lanes: int) -> None:
        w.write(buffer, t.dtype, index, result(index, lanes))

    buffer = w.buffer(t)
    if last:
        serial(w, w.shape(t), lambda i: put(i, 1))
    else:
        w.each(w.shape(t), put)
    return w.read(buffer, t.dtype, w.shape(t))


def serial(w: Writer, shape: Index, body: Callable[[Index], None]) -> None:
    """body(index) over every element, one after the other."""

    def axis(done: Index) -> None:
        if len(done) == len(shape):
            body(done)
        else:
            w.f.loop(0, shape[len(done)], 1, lambda i: axis((*done, i)))

    axis(())


def rounded(w: Writer, t: DType, v: V) -> V:
    """A result as a value of its dtype."""
    return numbers.round_float(w.f, t, v) if t.is_float else numbers.wrap(w.f, t, v)


def _row(w: Writer, name: str, x: Lazy, index: Index) -> V:
    """Along the last axis: whole vectors, their lanes, and what is left over."""
    f, n = w.f, x.shape[-1]
    kind, zero = numbers.register(x.dtype), neutral(name, x.dtype)
    if name == "sum" and x.dtype.is_float and x.picked is not None:
        return _picked(w, *x.picked, index)
    whole = w.whole(n)
    total = constant(kind, zero)
    if whole != 0:
        total = _across(w, name, x.dtype, _vectors(w, name, x, index, whole))
    if isinstance(n, int) and whole == n:
        return total
    (total,) = f.carry(
        whole, n, 1, [total],
        lambda i, c: [combine(w, name, x.dtype, c[0], x.at((*index, i), 1))],
    )  # fmt: skip
    return total


def _picked(w: Writer, only: Callable[[Index], V], x: Lazy, index: Index) -> V:
    """The sum of a row of zeros and one element, which may be beyond the row."""
    f, place = w.f, only(index)
    zero = constant(numbers.register(x.dtype), 0.0)
    inside = f.compare("icmp ult", place, f.number(x.shape[-1]))
    found = x.at((*index, f.select(inside, place, constant("i64", 0))), 1)
    return f.binary("fadd", f.select(inside, found, zero), zero)


def _vectors(w: Writer, name: str, x: Lazy, index: Index, whole: Number) -> V:
    """Whole vectors of a row as one: several at a time, so that none waits for the one before."""
    f, kind = w.f, numbers.register(x.dtype)
    start = constant(kind, neutral(name, x.dtype), w.lanes)
    several = CHAINS * w.lanes
    first: Number = 0
    parts = [start] * CHAINS
    if not isinstance(whole, int) or whole >= several:
        first = f.number(whole)
        first = f.binary("sub", first, f.binary("urem", first, constant("i64", several)))
        parts = _chains(w, name, x, index, first)
    while len(parts) > 1:
        half = len(parts) // 2
        pairs = zip(parts[:half], parts[half:], strict=True)
        parts = [combine(w, name, x.dtype, a, b) for a, b in pairs]
    (total,) = f.carry(
        first, whole, w.lanes, parts,
        lambda i, c: [combine(w, name, x.dtype, c[0], x.at((*index, i), w.lanes))],
    )  # fmt: skip
    return total


def _chains(w: Writer, name: str, x: Lazy, index: Index, stop: V) -> list[V]:
    """Partial results of several vectors at a time. The greatest is found among numbers, and where
    there is a NaN noted beside: fewer instructions than to look for one at each step."""
    f, t, kind = w.f, x.dtype, numbers.register(x.dtype)
    start = constant(kind, neutral(name, t), w.lanes)
    noted = t.is_float and name != "sum"
    none = constant("i1", 0, w.lanes)
    order = "ogt" if name == "max" else "olt"

    def step(i: V, c: list[V]) -> list[V]:
        if x.wide:
            given = f.parts(x.at((*index, i), CHAINS * w.lanes), w.lanes)
        else:
            given = [x.at((*index, f.plus(i, j * w.lanes)), w.lanes) for j in range(CHAINS)]
        if not noted:
            return [combine(w, name, t, a, b) for a, b in zip(c, given, strict=True)]
        *sofar, bad = c
        for a, b in zip(given[::2], given[1::2], strict=True):
            bad = f.binary("or", bad, f.compare("fcmp uno", a, b))
        found = [f.select(f.compare(f"fcmp {order}", b, a), b, a)
                 for a, b in zip(sofar, given, strict=True)]  # fmt: skip
        return [*found, bad]

    out = f.carry(0, stop, CHAINS * w.lanes, [start] * CHAINS + [none] * noted, step)
    if noted:
        *out, bad = out
        out[0] = f.select(bad, constant(kind, float("nan"), w.lanes), out[0])
    return out


def _across(w: Writer, name: str, t: DType, v: V) -> V:
    """All lanes as one, by halves."""
    while v.lanes > 1:
        half = v.lanes // 2
        low, high = (w.f.shuffle(v, v, range(s, s + half)) for s in (0, half))
        if half == 1:
            low, high = w.f.lane(v, 0), w.f.lane(v, 1)
        v = combine(w, name, t, low, high)
    return v


def _column(w: Writer, op: reduce.Reduction, x: Lazy, index: Index, lanes: int) -> V:
    start = constant(numbers.register(x.dtype), neutral(op.name, x.dtype), lanes)

    def step(i: V, c: list[V]) -> list[V]:
        v = x.at((*index[: op.axis], i, *index[op.axis :]), lanes)
        return [combine(w, op.name, x.dtype, c[0], v)]

    (total,) = w.f.carry(0, x.shape[op.axis], 1, [start], step)
    return total


def _argmax(w: Writer, op: reduce.Reduction, x: Lazy, t: Tile) -> Lazy:
    if x.dtype.kind == "uint" and x.dtype.bits == 64:
        raise TileError("cpu: no code for argmax of u64", op.loc)
    f, buffer = w.f, w.buffer(t)
    greater = (
        "fcmp ogt" if x.dtype.is_float else "icmp sgt" if x.dtype.kind == "int" else "icmp ugt"
    )

    def step(index: Index, i: V, c: list[V]) -> list[V]:
        v = x.at((*index[: op.axis], i, *index[op.axis :]), 1)
        better = f.compare(greater, v, c[0])
        if x.dtype.is_float:  # the first NaN wins, as in numpy
            nan = f.binary("and", f.compare("fcmp uno", v, v), f.compare("fcmp ord", c[0], c[0]))
            better = f.binary("or", better, nan)
        return [f.select(better, v, c[0]), f.select(better, f.convert("trunc", i, "i32"), c[1])]

    def one(index: Index) -> None:
        first = x.at((*index[: op.axis], 0, *index[op.axis :]), 1)
        out = f.carry(
            1, x.shape[op.axis], 1, [first, constant("i32", 0)], lambda i, c: step(index, i, c)
        )
        w.write(buffer, t.dtype, index, out[1])

    serial(w, w.shape(t), one)
    return w.read(buffer, t.dtype, w.shape(t))
