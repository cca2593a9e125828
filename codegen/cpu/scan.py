"""Scans: along rows a vector at a time by shifts of lanes, along other axes lanes side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.reduce import combine, neutral, rounded, serial
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.ops.scan import Scan
from tilec.ir.types import Tile

Put = Callable[[Index, int, V], None]


def emit(w: Writer, op: Scan, x: Lazy) -> Lazy:
    """A scan, into a buffer."""
    t = op.result.type
    assert isinstance(t, Tile)
    buffer, shape = w.buffer(t), w.shape(t)

    def put(index: Index, lanes: int, v: V) -> None:
        w.write(buffer, t.dtype, index, rounded(w, t.dtype, v))

    if op.axis == len(shape) - 1:
        serial(w, shape[:-1], lambda index: _row(w, op, x, index, put))
    else:
        others = (*shape[: op.axis], *shape[op.axis + 1 :])
        w.each(others, lambda index, lanes: _column(w, op, x, index, lanes, put))
    return w.read(buffer, t.dtype, shape)


def _start(op: Scan, x: Lazy, lanes: int) -> V:
    return constant(numbers.register(x.dtype), neutral(op.reduction, x.dtype), lanes)


def _column(w: Writer, op: Scan, x: Lazy, index: Index, lanes: int, put: Put) -> None:
    n = x.shape[op.axis]

    def step(i: V, c: list[V]) -> list[V]:
        at = (*index[: op.axis], _from_the_end(w, n, i, 1) if op.reverse else i, *index[op.axis :])
        total = combine(w, op.reduction, x.dtype, c[0], x.at(at, lanes))
        put(at, lanes, total)
        return [total]

    w.f.carry(0, n, 1, [_start(op, x, lanes)], step)


def _row(w: Writer, op: Scan, x: Lazy, index: Index, put: Put) -> None:
    """Whole vectors lie at multiples of their lanes; what is left over comes last, or first."""
    n = x.shape[-1]
    whole = w.whole(n)
    total = [_start(op, x, 1)]
    parts = [(0, whole, w.lanes), (whole, n, 1)]
    for start, stop, lanes in reversed(parts) if op.reverse else parts:
        if start != stop:
            step = partial(_step, w, op, x, index, put, lanes, (start, stop))
            total = w.f.carry(start, stop, lanes, total, step)


def _step(w: Writer, op: Scan, x: Lazy, index: Index, put: Put, lanes: int,
          ends: tuple[Number, Number], i: V, c: list[V]) -> list[V]:  # fmt: skip
    """The next elements of a row, and what all so far make."""
    place: Number = i
    if op.reverse:
        place = w.f.plus(ends[0], _from_the_end(w, ends[1], i, lanes))
    at = (*index, place)
    v = _within(w, op, x, x.at(at, lanes))
    v = combine(w, op.reduction, x.dtype, w.f.splat(c[0], lanes), v)
    put(at, lanes, v)
    return [w.f.lane(v, 0 if op.reverse else lanes - 1)]


def _from_the_end(w: Writer, stop: Number, i: V, lanes: int) -> Number:
    """The place that is as far from the end as `i` is from the beginning."""
    return w.f.plus(w.f.plus(stop, -lanes), w.f.times(i, -1))


def _within(w: Writer, op: Scan, x: Lazy, v: V) -> V:
    """The scan of the lanes of a vector: log2 steps, each twice as far."""
    n, far = v.lanes, 1
    none = _start(op, x, n)
    while far < n:
        start = far if op.reverse else n - far  # of lanes of v and then none, or none and then v
        low, high = (v, none) if op.reverse else (none, v)
        v = combine(w, op.reduction, x.dtype, w.f.shuffle(low, high, range(start, start + n)), v)
        far *= 2
    return v
