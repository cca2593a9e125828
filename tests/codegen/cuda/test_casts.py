"""Casts and bitcasts printed as CUDA C++, compiled for this processor, are the interpreter's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cases import BYTES, values
from cuda_elementwise import NARROW, SOME_CODES, TILE, Made, check, kernel, stored

from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import (
    Array,
    DType,
    bf16,
    boolean,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i8,
    i32,
    i64,
    tf32,
    u32,
)
from tilec.ir.extent import Sym
from tilec.ir.ops import arith, control, memory
from tilec.ir.ops.cast import Bitcast, Cast, Rounding
from tilec.ir.types import Span
from tilec.ir.types import memory as dense

MODES: tuple[tuple[Rounding, bool], ...] = (
    ("nearest", False), ("nearest", True), ("toward_zero", False), ("stochastic", False),
    ("toward_zero", True), ("stochastic", True),
)  # fmt: skip


def casts(targets: list[tuple[DType, Rounding, bool]]) -> Callable[[Builder, Made], Made]:
    def body(b: Builder, given: Made) -> Made:
        out: Made = {}
        for t, rounding, saturate in targets:
            bits = given["bits"] if rounding == "stochastic" else None
            out[f"{t}_{rounding}_{saturate}"] = b(Cast(given["x"], t, rounding, saturate, bits))
        return out

    return body


def cast_inputs(t: DType, n: int) -> dict[str, Array]:
    return {"x": values(t, (n,), 1), "bits": values(u32, (n,), 2)}


def all_casts(source: DType) -> Func:
    """To numbers of every width and some codes; the rarer modes take turns."""
    targets: list[tuple[DType, Rounding, bool]] = []
    for i, t in enumerate((*BYTES, *NARROW, *SOME_CODES), BYTES.index(source)):
        targets += [(t, *mode) for mode in (MODES[0], MODES[1 + i % 5])]
    return kernel({"x": source, "bits": u32}, 4 * TILE, casts(targets))


# The others have the carrier of one of these, and the same expressions.
OFTEN = (f64, f32, f16, i8, i32, u32, i64, boolean)


@pytest.mark.parametrize(
    "source",
    [pytest.param(t, marks=[] if t in OFTEN else pytest.mark.slow) for t in BYTES],
    ids=str,
)
def test_casts(source: DType) -> None:
    check(all_casts(source), cast_inputs(source, 4 * TILE))


def test_whole_numbers_are_rounded_once() -> None:
    """Beside powers of two, where rounding to an f32 first would not be harmless."""
    powers = (1 << np.arange(62))[:, None]
    beside = np.concatenate([powers + d * (powers >> s) + e for s in (7, 8, 9, 11, 12, 23, 24)
                             for d in (1, 3) for e in (-1, 0, 1)]).ravel()  # fmt: skip
    x = np.resize(np.concatenate([beside, -beside]), 4 * TILE)
    targets = [(t, rounding, False) for t in (f32, tf32, f16, bf16, e4m3, CODES["nf4"])
               for rounding in ("nearest", "toward_zero")]  # fmt: skip
    for source in (i32, u32, i64):
        given = source.round(x >> np.where(np.abs(x) >= 1 << source.bits - 1, 31, 0))
        func = kernel({"x": source, "bits": u32}, len(x), casts(targets))  # type: ignore[arg-type]
        check(func, {"x": given, "bits": values(u32, x.shape, 2)})


def test_doubles_are_rounded_once() -> None:
    """Just beside the middle between two numbers, which is where an f32 of them is."""
    types = (f32, tf32, f16, bf16, e4m3, e5m2, CODES["e2m1"], CODES["nf4"])
    found: list[Array] = []
    for t in types:
        own = np.unique(t.round(np.random.default_rng(0).standard_normal(400)))
        middle = (own[:-1] + own[1:]) / 2
        found += [np.nextafter(middle, way) for way in (np.inf, -np.inf)]
    x = np.resize(np.concatenate(found), 8 * TILE)
    func = kernel({"x": f64, "bits": u32}, len(x), casts([(t, "nearest", False) for t in types]))
    check(func, {"x": x, "bits": values(u32, x.shape, 2)})


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_bitcasts(bits: int) -> None:
    types = [t for t in (*BYTES, *SOME_CODES) if t.bits == bits]

    def body(b: Builder, given: Made) -> Made:
        return {f"{n}_{t}": b(Bitcast(v, t)) for n, v in given.items() for t in types}

    x = {f"x_{t}": values(stored(t), (TILE,), i) for i, t in enumerate(types)}
    check(kernel({f"x_{t}": t for t in types}, TILE, body), x)


def test_codes_in_memory() -> None:
    """Of a byte: loaded, chosen from, shown as floats, made of floats and stored."""
    types = [t for t in CODES.values() if t.bits == 8]
    n, b, span = TILE, Builder(), Value(Span(TILE, Sym("m")), "m")
    params: list[Value] = []
    inputs: dict[str, Array] = {}
    for t in types:
        x, y = (Value(dense(t, n), f"{t}_{h}") for h in ("x", "y"))
        chosen, shown = Value(dense(t, n), f"{t}_chosen"), Value(dense(f32, n), f"{t}_shown")
        params += [x, y, chosen, shown]
        a, other = (b(memory.Load(p, (span,))) for p in (x, y))
        first = b(arith.Le(b(Cast(a, f32)), b(Cast(other, f32))))
        picked = b(arith.Where(first, a, other))
        b.add(memory.Store(chosen, (span,), picked))
        twice = b(arith.Add(b(Cast(picked, f32)), b(Cast(picked, f32))))
        b.add(memory.Store(shown, (span,), b(Cast(b(Cast(twice, t)), f32))))
        every = t.from_storage(np.resize(np.arange(256), n).astype(np.uint8))
        inputs |= {x.hint: t.round(every), y.hint: t.round(np.roll(every, 100))}
    grid = control.Grid((n,), (Sym("m"),), (TILE,), Block((span,), tuple(b.ops)))
    check(Func("k", Block(tuple(params), (grid,))), inputs)
