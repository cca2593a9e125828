"""The conformance cases: every op of the registry on every dtype that it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
from cases import BYTES, COLUMNS, ROWS, Case, case_of, inputs_of, kernel, stored_as, values

from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import (
    Array,
    DType,
    Rounding,
    bf16,
    boolean,
    f16,
    f32,
    i8,
    i16,
    i32,
    integer,
    u8,
    u32,
)
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, scan, shape, top
from tilec.ir.ops import cast as casts
from tilec.ir.types import Memory, Span, Tile

u1 = integer(1, signed=False)


def elementwise() -> Iterator[Case]:
    """Unary, binary and ternary ops on every dtype, and every bitcast."""
    found: list[Case | None] = []
    for cls in Op.registry.values():
        arity = len(cls.fields("operand"))
        if issubclass(cls, arith.Binary | arith.Unary | arith.Not | arith.Fma):
            found += [case_of(cls, [t] * arity, (ROWS, COLUMNS)) for t in BYTES]
    found += [case_of(arith.Where, [boolean, t, t], (ROWS, COLUMNS)) for t in BYTES]
    for a in BYTES:
        found += [case_of(casts.Bitcast, [a], (ROWS, COLUMNS), dtype=b) for b in BYTES]
    yield from (c for c in found if c is not None)


def _cast(a: DType, b: DType, rounding: Rounding, saturate: bool) -> Case:
    """A cast; codes are shown as the floats that they stand for."""
    shown = f32 if b.kind == "code" else b
    types = [a, u32] if rounding == "stochastic" else [a]

    def body(builder: Builder, tiles: list[Value]) -> Value:
        out = builder(casts.Cast(tiles[0], b, rounding, saturate, *tiles[1:]))
        return out if shown == b else builder(casts.Cast(out, shown))

    shape_ = (ROWS, COLUMNS)
    func = kernel("k", inputs_of(types, shape_), Tile(shape_, shown), body)
    data = {f"x{i}": values(t, shape_, i) for i, t in enumerate(types)}
    return Case(f"cast-{a}-{b}-{rounding}-{saturate}", func, data, shown, shape_)


MODES: tuple[tuple[Rounding, bool], ...] = (
    ("nearest", False), ("toward_zero", False), ("nearest", True), ("stochastic", False),
    ("toward_zero", True), ("stochastic", True),
)  # fmt: skip


def conversions() -> Iterator[Case]:
    """Every cast to a number of whole bytes and casts to every code; some modes take turns."""
    for i, (a, b) in enumerate(product(BYTES, BYTES)):
        turn = MODES[3 + i % 3 : 4 + i % 3] if a.is_float and b is not boolean else ()
        for rounding, saturate in (*MODES[:3], *turn):
            yield _cast(a, b, rounding, saturate)
    for i, t in enumerate(CODES.values()):
        for j in (i, i + 4):
            yield _cast(BYTES[j % len(BYTES)], t, *MODES[(i // 7 + j) % len(MODES)])


def reductions() -> Iterator[Case]:
    """Every reduction along both axes; sums of floats on whole numbers, where they are exact."""
    for cls in (reduce.Sum, reduce.Max, reduce.Min, reduce.Argmax):
        for t in BYTES:
            for axis in (0, 1):
                case = case_of(cls, [t], (ROWS, COLUMNS), axis=axis)
                if case is None:
                    continue
                if cls is reduce.Sum and t.is_float:
                    rng = np.random.default_rng(1)
                    case.inputs["x0"] = rng.integers(-1, 2, (ROWS, COLUMNS)).astype(float)
                yield case


def rankings() -> Iterator[Case]:
    """The largest along the last axis, and their places; of as many as there are, too."""
    for i, t in enumerate(BYTES):
        for cls, count in ((top.Top, 5 + i), (top.Argtop, COLUMNS - i)):
            case = case_of(cls, [t], (ROWS, COLUMNS), count=count)
            if case is not None:
                yield case


def scans() -> Iterator[Case]:
    """Every scan along both axes, and from both ends; sums of floats as of reductions."""
    for i, (cls, t) in enumerate(product((scan.Cumsum, scan.Cummax, scan.Cummin), BYTES)):
        for reverse in (False, True):
            axis = (i + reverse) % 2
            case = case_of(cls, [t], (ROWS, COLUMNS), axis=axis, reverse=reverse)
            if case is not None:
                if cls is scan.Cumsum and t.is_float:
                    case.inputs["x0"] = _small(t, (ROWS, COLUMNS), i)
                yield case


def _small(t: DType, size: tuple[int, ...], seed: int) -> Array:
    """Numbers of which every sum of a few is exact; of whole numbers, whose sums wrap, any."""
    if t.is_integer:
        return values(t, size, seed)
    return np.random.default_rng(seed).integers(-1, 2, size).astype(float)


def accumulates() -> Iterator[Case]:
    """Rows added at places that coincide, in a task and between tasks, and lie outside."""
    for i, t in enumerate(t for t in BYTES if t is not boolean):
        x = Value(Memory((7, COLUMNS), Dense(t)), "x0")
        index, out = Value(Memory((7,), Dense(i32)), "x1"), Value(Memory((9, COLUMNS), Dense(t)),
                                                                  "out")  # fmt: skip
        b, m = Builder(), Value(Span(7, Sym("m")), "m")
        columns = b(memory.Whole(COLUMNS))
        rows, v = b(memory.Load(index, (m,))), b(memory.Load(x, (m, columns)))
        b.add(memory.Accumulate(out, (rows, columns), v))
        grid = control.Grid((7,), (Sym("m"),), (3,), Block((m,), tuple(b.ops)))
        data = {"x0": _small(t, (7, COLUMNS), i), "x1": np.array([3, 0, 8, 3, 100, -1, 3])}
        func, start = Func("k", Block((x, index, out), (grid,))), _small(t, (9, COLUMNS), i + 1)
        yield Case(f"accumulate-{t}", func, data, t, (9, COLUMNS), start=start)


def tiled_dot(
    t: DType, dims: tuple[int, int, int], tiles: tuple[int, int, int], turned: bool,
    other: DType | None = None,
) -> Case:  # fmt: skip
    """out[M, N] = x[M, K] @ w, w of `other` given as [N, K] if `turned`.

    Integers of at most a byte are any, all else are small whole numbers: every sum is exact. Those
    of less than a byte are stored as bytes.
    """
    (m, n, k), (mt, nt, kt) = dims, tiles
    u = other or t
    acc_dtype = reduce.accumulator(t, u)
    x = Value(Memory((m, k), Dense(stored_as(t))), "x0")
    w = Value(Memory((n, k) if turned else (k, n), Dense(stored_as(u))), "x1")
    y = Value(Memory((m, n), Dense(acc_dtype)), "out")
    sm, sn, sk = (Value(Span(d, Sym(s)), s) for d, s in ((m, "m"), (n, "n"), (k, "k")))
    b, inner = Builder(), Builder()
    start = b(shape.Full((Sym("m"), Sym("n")), 0, acc_dtype))
    acc = Value(start.type)
    a = _loaded(inner, x, (sm, sk), t)
    right = _loaded(inner, w, (sn, sk) if turned else (sk, sn), u)
    if turned:
        right = inner(shape.Transpose(right, (1, 0)))
    product = inner(reduce.Dot(a, right, acc))
    body = Block((sk, acc), tuple(inner.ops), (product,))
    loop = b.add(control.For(k, Sym("k"), kt, (start,), body))
    b.add(memory.Store(y, (sm, sn), loop.result))
    grid = control.Grid((m, n), (Sym("m"), Sym("n")), (mt, nt), Block((sm, sn), tuple(b.ops)))
    rng = np.random.default_rng(3)
    data = {
        "x0": _factors(t, (m, k), rng),
        "x1": _factors(u, (n, k) if turned else (k, n), rng),
    }
    types = t if other is None else f"{t}-{other}"
    name = f"dot-{types}-{m}x{n}x{k}-{mt}x{nt}x{kt}{'-turned' if turned else ''}"
    return Case(name, Func("k", Block((x, w, y), (grid,))), data, acc_dtype, (m, n))


def _loaded(b: Builder, mem: Value, at: tuple[Value, ...], t: DType) -> Value:
    found = b(memory.Load(mem, at))
    stored = found.type.dtype  # type: ignore[union-attr]
    return found if stored == t else b(casts.Cast(found, t, saturate=True))


def _factors(t: DType, size: tuple[int, int], rng: np.random.Generator) -> Array:
    if t.is_integer and t.bits <= 8:
        return rng.integers(int(t.low), int(t.high) + 1, size).astype(t.carrier)
    return rng.integers(0 if t.kind == "uint" else -3, 4, size).astype(t.carrier)


def dots() -> Iterator[Case]:
    """Products of every dtype, with tiles that do and do not divide."""
    for t, u in ((i8, u8), (u8, i8), (i8, i16)):
        for turned in (False, True):
            yield tiled_dot(t, (13, 37, 29), (8, 16, 12), turned, u)
            yield tiled_dot(t, (7, 48, 200), (7, 48, 130), turned, u)
    for depth, step in ((1, 1), (29, 12), (64, 32), (131, 131), (300, 96), (515, 256)):
        for turned in (False, True):
            yield tiled_dot(u1, (13, 37, depth), (8, 16, step), turned)
            yield tiled_dot(u1, (1, 70, depth), (1, 70, step), turned)
    for t in BYTES:
        if t is not boolean:
            for turned in (False, True):
                yield tiled_dot(t, (13, 37, 29), (8, 16, 12), turned)
                yield tiled_dot(t, (1, 64, 64), (1, 32, 64), turned)


def partial_dot(t: DType, scales: tuple[str, ...], first: int, last: int) -> Case:
    """out[13, 37] = the products of tiles `first` to `last` of k, each beside scales."""
    m, n, k = dims = (13, 37, 70)
    sm, sn, sk = spans = [Value(Span(d, Sym(s)), s) for d, s in zip(dims, "mnk", strict=True)]
    sizes = {"x0": (m, k), "x1": (n, k), "scale": (n,), "row_scale": (m,)}
    names = ("x0", "x1", *scales)
    mems = {s: Value(Memory(sizes[s], Dense(f32 if s in scales else t)), s) for s in names}
    y = Value(Memory((m, n), Dense(f32)), "out")
    b, inner = Builder(), Builder()
    start = b(shape.Full((Sym("m"), Sym("n")), 0, f32))
    stop, begin = (b(shape.Full((), i, i32)) for i in (16 * last, first))
    acc = Value(start.type)
    left, right = (inner(memory.Load(mems[s], (i, sk))) for s, i in (("x0", sm), ("x1", sn)))
    beside = {s: inner(memory.Load(mems[s], (sn if s == "scale" else sm,))) for s in scales}
    turned = inner(shape.Transpose(right, (1, 0)))
    product = inner(reduce.Dot(left, turned, acc, **beside))
    body = Block((sk, acc), tuple(inner.ops), (product,))
    loop = b.add(control.For(k, Sym("k"), 16, (start,), body, stop, begin))
    b.add(memory.Store(y, (sm, sn), loop.result))
    grid = control.Grid((m, n), (Sym("m"), Sym("n")), (8, 16), Block((sm, sn), tuple(b.ops)))
    rng = np.random.default_rng(len(spans))
    data = {s: np.ldexp(1.0, rng.integers(-2, 3, sizes[s])) if s in scales
            else _factors(t, sizes[s], rng) for s in names}  # fmt: skip
    func = Func("k", Block((*mems.values(), y), (grid,)))
    name = "-".join(["partial", str(t), *scales, str(first), str(last)])
    return Case(name, func, data, f32, (m, n))


def partial_dots() -> Iterator[Case]:
    """Products beside scales, and in loops over a part of k: all of it, some of it, none."""
    for t in (f16, bf16, i8):
        for scales in (("scale",), ("row_scale",), ("scale", "row_scale")):
            yield partial_dot(t, scales, 0, 5)
    for first, last in ((0, 3), (1, 5), (2, 4), (4, 9), (3, 3), (5, 2), (-2, 1), (9, 12)):
        yield partial_dot(f16, (), first, last)


def gathers() -> Iterator[Case]:
    """Index tiles that run outside the memory: they read 0."""
    for t in BYTES:
        table, index = (
            Value(Memory((9, COLUMNS), Dense(t)), "x0"),
            Value(Memory((7,), Dense(i32)), "x1"),
        )
        y = Value(Memory((7, COLUMNS), Dense(t)), "out")
        b = Builder()
        rows = b(memory.Load(index, (b(memory.Whole(7)),)))
        picked = b(memory.Load(table, (rows, b(memory.Whole(COLUMNS)))))
        b.add(memory.Store(y, (b(memory.Whole(7)), b(memory.Whole(COLUMNS))), picked))
        data = {"x0": values(t, (9, COLUMNS), 4), "x1": np.array([3, -1, 8, 9, 0, 100, 3])}
        func = Func("k", Block((table, index, y), tuple(b.ops)))
        yield Case(f"gather-{t}", func, data, t, (7, COLUMNS))


def moved() -> Iterator[Case]:
    """Parts of tiles, and tiles one after the other: of every dtype, along both axes, odd sizes."""
    side = (ROWS, COLUMNS)
    for i, t in enumerate(BYTES):
        for axis in (0, 1):
            last = side[axis] - (i + axis) % 2
            case = case_of(shape.Slice, [t], side, axis=axis, start=1 + i % 3, stop=last)
            joined = _case_of_parts(t, axis, 1 + i % 3)
            yield from (c for c in (case, joined) if c is not None)


def _case_of_parts(t: DType, axis: int, count: int) -> Case:
    """So many tiles one after the other."""
    sizes = tuple((n + 1) * count if a == axis else n for a, n in enumerate((ROWS, COLUMNS)))
    own = [tuple(n + 1 if a == axis else n for a, n in enumerate((ROWS, COLUMNS)))] * count
    inputs = [Value(Memory(s, Dense(t)), f"x{i}") for i, s in enumerate(own)]

    def body(b: Builder, tiles: list[Value]) -> Value:
        return b(shape.Join(tuple(tiles), axis))

    func = kernel("k", inputs, Tile(sizes, t), body)
    data = {v.hint: values(t, own[i], i) for i, v in enumerate(inputs)}
    return Case(f"join-{t}-{axis}-{count}", func, data, t, sizes)


def carried() -> Iterator[Case]:
    """A loop's tiles take one another's places: every map of three, as they are and transposed."""
    side = (ROWS, ROWS)
    data = {f"x{i}": np.arange(ROWS * ROWS).reshape(side) + 100 * i for i in range(3)}
    for sources in product(range(3), repeat=3):
        for turned in product((False, True), repeat=3):
            body = _moving(sources, turned)
            func = kernel("k", inputs_of([i32] * 3, side), Tile(side, i32), body)
            yield Case(f"carried-{sources}-{turned}", func, data, i32, side)


def _moving(
    sources: tuple[int, ...], turned: tuple[bool, ...]
) -> Callable[[Builder, list[Value]], Value]:
    """Three rounds of `x[i] = x[sources[i]]`, transposed or not; then x[0] + 1000 (x[1] + ...)."""

    def body(b: Builder, tiles: list[Value]) -> Value:
        old, step = [Value(v.type) for v in tiles], Builder()
        new = tuple(
            step(shape.Transpose(old[i], (1, 0))) if t else old[i]
            for i, t in zip(sources, turned, strict=True)
        )
        inside = Block((Value(Tile((), i32)), *old), tuple(step.ops), new)
        start, stop, by = (b(shape.Full((), n, i32)) for n in (0, 3, 1))
        x, y, z = b.add(control.Count(start, stop, by, tuple(tiles), inside)).results
        assert isinstance(x.type, Tile)
        thousand = b(shape.Full(x.type.shape, 1000, i32))
        rest = b(arith.Add(y, b(arith.Mul(z, thousand))))
        return b(arith.Add(x, b(arith.Mul(rest, thousand))))

    return body


def random() -> Iterator[Case]:
    """Philox on a tile of counters."""

    def body(b: Builder, tiles: list[Value]) -> Value:
        return b(shape.RandomBits(b(shape.Full((), 1234, u32)), tiles[0]))

    inputs = inputs_of([u32], (ROWS, COLUMNS))
    func = kernel("k", inputs, Tile((ROWS, COLUMNS), u32), body)
    yield Case("random_bits", func, {"x0": values(u32, (ROWS, COLUMNS), 5)}, u32, (ROWS, COLUMNS))


@cache
def _cases() -> tuple[Case, ...]:
    return (
        *elementwise(), *conversions(), *reductions(), *dots(), *partial_dots(), *gathers(),
        *moved(), *carried(), *random(), *scans(), *accumulates(),
    )  # fmt: skip


def all_cases() -> list[Case]:
    """Every case, with a dictionary of inputs of its own, in which others can be put."""
    return [replace(case, inputs=dict(case.inputs)) for case in _cases()]


def fifth(cases: list[Case], number: int) -> list[Case]:
    """Of the cases of each op every fifth, from `number` on; of 0, every op has a case.

    Five, as neither the dtypes nor the modes of casts come back after as many.
    """
    seen, found = Counter[str](), list[Case]()
    for case in cases:
        op = case.name.split("-")[0]
        if seen[op] % 5 == number:
            found.append(case)
        seen[op] += 1
    return found
