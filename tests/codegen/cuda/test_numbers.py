"""Numbers in CUDA C++, as compiled for this processor, are the interpreter's to the bit."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases import values

from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.pointwise import cpp_type, prelude
from tilec.cuda import emulator
from tilec.ir.codes import CODES
from tilec.ir.dtype import (
    BY_NAME,
    Array,
    DType,
    bf16,
    boolean,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i64,
    u8,
)
from tilec.runtime.nvrtc import compile_cuda

MODES = tuple(product(("nearest", "toward_zero", "stochastic"), (False, True)))
THREADS = 128
POINTS = 20 * THREADS  # that each type is tried on
BY_TABLE = ("e8m0", "nf4", "fp4", "iq4", "sm8", "fixed8", "bipolar1", "bipolar8", "ternary",
            "e5m0", "e3m0_ieee")  # fmt: skip
BY_ARITHMETIC = ("e2m1", "e3m2", "e4m3_fnuz", "e3m4_ieee", "e5m2_finite", "e1m6", "e4m3_b11fnuz")
FLOATS = tuple(BY_NAME[n] for n in ("f64", "f32", "tf32", "f16", "bf16", "e4m3", "e5m2"))
WHOLE = tuple(BY_NAME[n] for n in ("i1", "u1", "i3", "u4", "i7", "i8", "u8", "i16", "u16", "i32",
                                   "u32", "i64"))  # fmt: skip
FEW = tuple(CODES[n] for n in (*BY_TABLE, *BY_ARITHMETIC))
# fp8 by arithmetic, as on devices that have no instruction for it. By chance codes round otherwise
# than floats, but that is not asked of them.
ARITHMETIC = {t: f"Code<Number<{t}>::Arithmetic>" for t in (e4m3, e5m2)}
ANGLES = ("sin", "cos")
FUNCTIONS = ("exp", "exp2", "log", "log2", *ANGLES, "tanh", "erf", "rsqrt")
CODES_KERNEL = """
template <class T> TILEC_DEVICE void every(f64* values, u32* again) {
  const u32 code = thread_x();
  if (code >> Number<T>::memory) return;
  store_global(values + code, f64(Number<T>::value(code)));
  store_global(again + code, u32(Number<T>::raw(Number<T>::value(code))));
}
TILEC_KERNEL(256) codes(f64* values, u32* again) {
  values += block_x() * 256;
  again += block_x() * 256;
  switch (block_x()) {
    %s
  }
}
"""
ROUNDING_KERNEL = """
template <class T, Rounding rounding, bool saturate, class X>
TILEC_DEVICE void one(u64* out, u32 mode, u32 i, X x, u32 random) {
  const Carrier<T> y = cast<T, rounding, saturate>(x, random);
  store_global(out + mode * %(points)d + i, u64(Number<T>::raw(y)));
}
template <class T, class X> TILEC_DEVICE void all(u64* out, u32 i, X x, u32 random) {
  one<T, Rounding::nearest, false>(out, 0, i, x, random);
  one<T, Rounding::nearest, true>(out, 1, i, x, random);
  one<T, Rounding::toward_zero, false>(out, 2, i, x, random);
  one<T, Rounding::toward_zero, true>(out, 3, i, x, random);
  one<T, Rounding::stochastic, false>(out, 4, i, x, random);
  one<T, Rounding::stochastic, true>(out, 5, i, x, random);
}
TILEC_KERNEL(128) rounding(const %(source)s* x, const u32* random, u64* out) {
  const u32 type = block_x() / %(blocks)d, i = block_x() %% %(blocks)d * 128 + thread_x();
  const u32 at = type * %(points)d + i, bits = load_global(random + at);
  const %(source)s given = load_global(x + at);
  out += u64(type) * 6 * %(points)d;
  switch (type) {
    %(cases)s
  }
}
"""


def source(kernel: str, types: tuple[DType, ...]) -> str:
    head = ['#include "tile.cuh"', "using namespace tilec;", *prelude(types)]
    return "\n".join(head) + kernel


def cases(names: list[str], call: str) -> str:
    return "\n    ".join(f"case {i}: {call.format(n)}; break;" for i, n in enumerate(names))


def run(text: str, entry: str, blocks: int, threads: int, arguments: dict[str, Any]) -> None:
    report = emulator().run(text, entry, (blocks,), (threads,), arguments)
    assert report.findings == ()


# -- every code --


SMALL = (*CODES.values(), *(t for t in BY_NAME.values() if t.bits <= 8 and t is not boolean))


def codes_source(types: tuple[DType, ...]) -> str:
    names = [*map(cpp_type, types), *ARITHMETIC.values()]
    return source(CODES_KERNEL % cases(names, "every<{}>(values, again)"), types)


def test_every_code_of_every_type() -> None:
    """What it stands for, and that the code of that is the code again."""
    types = (*SMALL, *ARITHMETIC)
    values, again = np.zeros((len(types), 256)), np.full((len(types), 256), 999, np.uint32)
    run(codes_source(SMALL), "codes", len(types), 256, {"values": values, "again": again})
    for t, got, back in zip(types, values, again, strict=True):
        raw = np.arange(1 << t.bits)
        want = t.round(raw) if t.is_integer else t.from_storage(raw.astype(np.uint8).view(t.numpy))
        same(got[: len(raw)], want, str(t))
        agree(t, back[: len(raw)], want, str(t))


def agree(t: DType, raw: Array, want: Array, what: str) -> None:
    """Bits are those of values; of NaN any, but for codes, which have one."""
    if t.is_integer:
        wrapped = want.astype(np.uint64) & np.uint64((1 << t.bits) - 1)
        np.testing.assert_array_equal(raw, wrapped, what)
    elif t.table is not None:
        np.testing.assert_array_equal(raw, t.to_storage(t.round(want)), what)
    else:
        with np.errstate(invalid="ignore"):  # NaN that signals
            got = t.from_storage(raw.astype(f"u{t.numpy.itemsize}").view(t.numpy))
        same(got, want, what)


def same(got: Array, want: Array, what: str) -> None:
    """NaN where NaN, and elsewhere equal, signs of zeros too."""
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), ~number, what)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]), what)
    np.testing.assert_array_equal(got[number], want[number], what)


# -- rounding --


def finite(t: DType) -> Array:
    """The finite values of a type, or some of all its sizes."""
    if t.table is not None:
        found = t.table.values
    elif t.is_integer:
        powers = 2.0 ** np.arange(64)
        found = np.concatenate([powers, powers - 1, powers + 1, np.arange(9.0)])
        found = np.concatenate([found, -found])
    elif t.bits == 8:
        found = t.from_storage(np.arange(256, dtype=np.uint8).view(t.numpy))
    else:
        found = t.round(np.ldexp(np.linspace(1, 2, 160), np.arange(160) * 26 // 10 - 200))
    return np.unique(found[np.isfinite(found)])


def points(t: DType, kind: np.dtype[Any]) -> Array:
    """Values, what is between them, what is next to all that, and numbers of every size."""
    rng, own = np.random.default_rng(len(str(t))), finite(t)
    with np.errstate(all="ignore"):
        last = own[-1] + (own[-1] - own[-2])
        ends = np.array([last, -last, (own[-1] + last) / 2, -(own[-1] + last) / 2])
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 2.0**40, -(2.0**70)]
        found = np.concatenate([own, (own[:-1] + own[1:]) / 2, ends, special]).astype(kind)
        beside = (np.nextafter(found, kind.type(way)) for way in (np.inf, -np.inf))
        near = (rng.uniform(-1.2, 1.2, 200) * own.max()).astype(kind)
        found = np.concatenate([found, *beside, near])
        raw = rng.integers(0, 2**64 - 1, POINTS, dtype=np.uint64).astype(f"u{kind.itemsize}")
        return np.concatenate([found, raw.view(kind)])[:POINTS]


def random_bits(n: int, seed: int) -> Array:
    """Words, the least and the greatest among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 1 << 32, n)
    edges = rng.choice([0, 1, 1 << 31, (1 << 32) - 1], n)
    return np.where(rng.random(n) < 0.2, edges, x).astype(np.uint32)


def rounding_source(given: DType, types: dict[str, DType]) -> str:
    text = ROUNDING_KERNEL % {
        "source": cpp_type(given), "points": POINTS, "blocks": POINTS // THREADS,
        "cases": cases(list(types), "all<{}>(out, i, given, bits)"),
    }  # fmt: skip
    return source(text, tuple(types.values()))


def named(*types: DType) -> dict[str, DType]:
    return {cpp_type(t): t for t in types}


HALF = len(CODES) // 2
ROUNDED = {
    "f32 to codes": (f32, named(*list(CODES.values())[:HALF])),
    "f32 to the other codes": (f32, named(*list(CODES.values())[HALF:])),
    "f32 to numbers": (f32, {**named(*FLOATS, *WHOLE), **{n: t for t, n in ARITHMETIC.items()}}),
    "f64 to numbers": (f64, named(*FLOATS, *WHOLE)),
    "f64 to codes": (f64, named(*FEW)),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_in_every_mode(name: str) -> None:
    given, types = ROUNDED[name]
    x = np.stack([points(t, given.numpy) for t in types.values()])
    bits = np.stack([random_bits(POINTS, i) for i in range(len(types))])
    out = np.full((len(types), len(MODES), POINTS), 0xA5, np.uint64)
    blocks = len(types) * POINTS // THREADS
    arguments = {"x": x, "random": bits, "out": out}
    run(rounding_source(given, types), "rounding", blocks, THREADS, arguments)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
    for (key, t), reals, words, got in zip(types.items(), wide, bits, out, strict=True):
        for (mode, saturate), raw in zip(MODES, got, strict=True):
            if mode == "stochastic" and key in ARITHMETIC.values():
                continue
            with np.errstate(over="ignore"):
                want = t.round(reals, mode, saturate, words * 2.0**-32)
            agree(t, raw, want, f"{given} to {t}, {mode}, {saturate}")


PAIRS_KERNEL = """
TILEC_KERNEL(128) pairs(const f32* x, const f32* y, u32* out, u32 n) {
  const u32 i = block_x() * 128 + thread_x();
  const f32 a = load_global(x + i), b = load_global(y + i);
  store_global(out + i, u32(precedes(a, b)) | u32(precedes(f64(a), f64(b))) << 1);
  store_global(out + n + i, Number<f16>::pair(a, b));
  store_global(out + 2 * n + i, Number<bf16>::pair(a, b));
  const u32 word = load_global((const u32*)x + i);
  store_global((f32*)out + 3 * n + i, Number<f32>::loaded(word));
  store_global((f32*)out + 4 * n + i, Number<f16>::loaded(u16(word)));
  store_global((f32*)out + 5 * n + i, Number<e4m3>::loaded(u8(word)));
  store_global(out + 6 * n + i, u32(Number<s16>::loaded(u16(word))));
}
"""


def test_pairs_order_and_what_is_loaded() -> None:
    given = values(f32, (64, 64), 1).astype(np.float32)
    x, y = given.ravel(), given.T.ravel().copy()
    n = len(x)
    out = np.zeros((7, n), np.uint32)
    arguments = {"x": x, "y": y, "out": out, "n": n}
    run(source(PAIRS_KERNEL, ()), "pairs", n // THREADS, THREADS, arguments)
    first = (np.argmax(np.stack([y, x]), 0) == 1).astype(np.uint32)
    assert np.array_equal(out[0], first * 3)
    words = x.view(np.uint32)
    for got, t in ((out[1], f16), (out[2], bf16)):
        both = got.view(t.numpy).reshape(n, 2)
        for half, want in zip(both.T, (x, y), strict=True):
            same(t.from_storage(half), t.round(want.astype(np.float64)), str(t))
    same(out[3].view(np.float32), x, "f32")
    for got, t in ((out[4], f16), (out[5], e4m3)):
        low = words.astype(f"u{t.numpy.itemsize}").view(t.numpy)
        same(got.view(np.float32), t.from_storage(low), str(t))
    assert np.array_equal(out[6].view(np.int32), words.astype(np.uint16).view(np.int16))


# -- functions --


def functions_source() -> str:
    lines = "\n".join(
        f"  store_global(out + {i} * n + i, {name}_f32(x));" for i, name in enumerate(FUNCTIONS)
    )
    text = f"""
TILEC_KERNEL(128) functions(const f32* given, f32* out, u32 n) {{
  const u32 i = block_x() * 128 + thread_x();
  const f32 x = load_global(given + i);
{lines}
}}
"""
    return source(text, ())


def test_functions_are_within_units_of_the_last_place() -> None:
    """1 unit of f32, 2 of sines and cosines."""
    n = 1 << 16
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 1 << 32, n // 2, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = (rng.standard_normal(n // 2) * 10.0 ** rng.integers(-4, 3, n // 2)).astype(np.float32)
    x = np.concatenate([raw, near])
    x[:12] = [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 88.8, -104, 1e-45, 3.4e38, 0.625]
    out = np.zeros((len(FUNCTIONS), n), np.float32)
    run(functions_source(), "functions", n // 128, 128, {"given": x, "out": out, "n": n})
    erf = np.vectorize(math.erf, otypes=[float])
    with np.errstate(all="ignore"):
        for name, got in zip(FUNCTIONS, out, strict=True):
            wide = x.astype(np.float64)
            exact = erf(wide) if name == "erf" else 1 / np.sqrt(wide) if name == "rsqrt" else (
                getattr(np, name)(wide))  # fmt: skip
            want = exact.astype(np.float32)
            unit = np.spacing(np.abs(want)) * (2 if name in ANGLES else 1)
            ok = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.abs(got - want) <= unit)
            assert ok.all(), (name, x[~ok][:5], got[~ok][:5], want[~ok][:5])
            zero = want == 0
            assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero])), name


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_devices_compile_the_same_source(target: str) -> None:
    some = (*FLOATS[3:], u8, i64, *(CODES[n] for n in ("e8m0", "nf4", "e2m1", "e4m3_fnuz")))
    texts = (codes_source(FEW), rounding_source(f32, named(*some)), functions_source())
    for text in texts:
        build = compile_cuda(text, target, headers=device_headers(), line_info=False)
        assert "warning" not in build.log
