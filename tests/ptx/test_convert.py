"""cvt: every pair of plain types, and every code of the 8-bit types."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from ptx.running import evaluate, floats, integers

INTEGERS = {"u8": "uint8", "s8": "int8", "u16": "uint16", "s16": "int16", "u32": "uint32",
            "s32": "int32", "u64": "uint64", "s64": "int64"}  # fmt: skip
FLOATS = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16),
          "f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}  # fmt: skip
NARROW = {"e4m3x2": ml_dtypes.float8_e4m3fn, "e5m2x2": ml_dtypes.float8_e5m2,
          "e3m2x2": ml_dtypes.float6_e3m2fn, "e2m3x2": ml_dtypes.float6_e2m3fn,
          "e2m1x2": ml_dtypes.float4_e2m1fn}  # fmt: skip


def bits_of(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a).view(f"uint{8 * a.dtype.itemsize}")


def of_kind(t: str, count: int) -> np.ndarray:
    if t in INTEGERS:
        return integers(INTEGERS[t], count)
    wide = floats("float64" if t == "f64" else "float32", count)
    with np.errstate(all="ignore"):
        return wide.astype(FLOATS[t])


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("to", INTEGERS)
def test_between_integers(source, to):
    a = of_kind(source, 300)
    got = evaluate(f"cvt.{to}.{source} %d, %a;", INTEGERS[to], a=a)
    np.testing.assert_array_equal(got, a.astype(INTEGERS[to]))
    limits = np.iinfo(INTEGERS[to])
    want = [min(max(v, int(limits.min)), int(limits.max)) for v in a.tolist()]
    got = evaluate(f"cvt.sat.{to}.{source} %d, %a;", INTEGERS[to], a=a)
    assert got.tolist() == want


def test_results_fill_a_wider_register():
    a = np.array([0x80, 0x7F, 0xFF], np.uint32)
    got = evaluate("cvt.s8.u32 %d, %a;", "uint32", a=a)
    assert got.tolist() == [0xFFFFFF80, 0x7F, 0xFFFFFFFF]
    assert evaluate("cvt.u8.s32 %d, %a;", "uint32", a=a).tolist() == [0x80, 0x7F, 0xFF]


WAYS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("to", INTEGERS)
def test_floats_to_integers(source, to):
    a = of_kind(source, 500)
    halves = np.arange(-30, 30) / 4
    a[:60] = halves.astype(a.dtype)
    with np.errstate(over="ignore"):  # the edges of every type
        a[60:100] = (
            (np.array([1, -1])[:, None] * 2.0 ** np.arange(5, 65, 3)).ravel().astype(a.dtype)
        )
        a[100:120] = 2.0 ** np.repeat([7, 8, 15, 16, 31, 32, 63, 64], 3)[:20].astype(a.dtype)
    limits = np.iinfo(INTEGERS[to])
    nan = (1 << limits.bits - 1) if "64" in to + source else 0
    for way, f in WAYS.items():
        whole = f(a.astype(np.float64))
        low, high = int(limits.min), int(limits.max)
        want = [
            nan if np.isnan(v) else high if v >= high else max(int(max(v, low)), low)
            for v in whole.tolist()
        ]
        got = evaluate(f"cvt.{way}.{to}.{source} %d, %a;", INTEGERS[to], a=bits_of(a))
        mask = (1 << limits.bits) - 1
        assert [v & mask for v in got.tolist()] == [v & mask for v in want]


def nearest(value: int, kind: np.dtype) -> set[float]:
    """The floats of a type that are nearest to an integer."""
    near = np.array([float(value)]).astype(np.float64)
    best = near.astype(kind).astype(np.float64)[0]
    if not np.isfinite(best):
        return {best}
    candidates = {best}
    for toward in (np.inf, -np.inf):
        if kind in (np.dtype(np.float32), np.dtype(np.float64)):
            candidates.add(float(np.nextafter(kind.type(best), kind.type(toward))))
    gaps = {c: abs(Fraction(value) - Fraction(c)) for c in candidates if np.isfinite(c)}
    return {c for c, g in gaps.items() if g == min(gaps.values())}


@pytest.mark.parametrize("source", ["u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("to", ["f32", "f64"])
def test_integers_to_floats_round_once(source, to):
    a = of_kind(source, 400)
    if "64" in source:  # just above the middle between two float32
        a[:40] = [(1 << 62) + (1 << 38) + k for k in range(40)]
    got = evaluate(f"cvt.rn.{to}.{source} %d, %a;", f"uint{FLOATS[to].itemsize * 8}", a=a)
    for v, g in zip(a.tolist(), got.view(FLOATS[to]).tolist(), strict=True):
        assert g in nearest(v, FLOATS[to])


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_integers_to_halves(to):
    a = integers("int16", 600)
    got = evaluate(f"cvt.rn.{to}.s16 %d, %a;", "uint16", a=a)
    np.testing.assert_array_equal(got, bits_of(a.astype(np.float32).astype(FLOATS[to])))


def test_directed_rounding_of_integers():
    a = np.array([2**24 + 1, -(2**24) - 1, 2**25 + 1], np.int32)
    down, up = [2**24, -(2**24) - 2, 2**25], [2**24 + 2, -(2**24), 2**25 + 4]
    for mode, want in (("rm", down), ("rp", up), ("rz", [2**24, -(2**24), 2**25])):
        got = evaluate(f"cvt.{mode}.f32.s32 %d, %a;", "float32", a=a)
        assert got.tolist() == want


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("to", FLOATS)
def test_between_floats(source, to):
    a = of_kind(source, 800)
    rounding = "" if FLOATS[to].itemsize > FLOATS[source].itemsize else ".rn"
    kind = f"uint{8 * FLOATS[to].itemsize}"
    with np.errstate(all="ignore"):
        want = a.astype(np.float64).astype(FLOATS[to])
        if source == "f64" and to == "bf16":  # ml_dtypes rounds twice
            a = a.astype(np.float32).astype(np.float64)
            want = a.astype(np.float32).astype(FLOATS[to])
    got = evaluate(f"cvt{rounding}.{to}.{source} %d, %a;", kind, a=bits_of(a))
    nan = np.isnan(a.astype(np.float64))
    np.testing.assert_array_equal(got[~nan], bits_of(want)[~nan])
    assert np.isnan(got.view(FLOATS[to])[nan].astype(np.float64)).all()


def test_limits_and_flushing():
    a = np.array([-1.5, -0.0, 0.25, 3.0, np.nan, 1e-40, -1e-40], np.float32)
    sat = evaluate("cvt.sat.f32.f32 %d, %a;", "float32", a=a)
    assert sat.tolist() == [0, 0, 0.25, 1, 0, pytest.approx(1e-40, rel=1e-4), 0]
    assert not np.signbit(sat).any()
    ftz = evaluate("cvt.ftz.f32.f32 %d, %a;", "float32", a=a)
    assert ftz[5] == 0
    assert ftz[6] == 0
    assert np.signbit(ftz[6])
    relu = evaluate("cvt.rn.relu.f16.f32 %d, %a;", "uint16", a=a).view(np.float16)
    assert relu[:4].tolist() == [0, 0, 0.25, 3]
    assert np.isnan(relu[4])
    big = np.array([1e9, -1e9], np.float32)
    half = evaluate("cvt.rn.satfinite.f16.f32 %d, %a;", "uint16", a=big).view(np.float16)
    assert half.tolist() == [65504, -65504]
    whole = evaluate("cvt.rni.f32.f32 %d, %a;", "float32", a=np.array([2.5, 3.5], np.float32))
    assert whole.tolist() == [2, 4]


def test_tf32():
    a = floats("float32", 1000)
    bits = a.view(np.uint32)
    nan = np.isnan(a)
    for mode, add in (("rna", np.full(1000, 0x1000)), ("rn", 0xFFF + (bits >> 13 & 1))):
        want = (bits + add.astype(np.uint32)) & np.uint32(0xFFFFE000)
        got = evaluate(f"cvt.{mode}.tf32.f32 %d, %a;", "uint32", a=a)
        np.testing.assert_array_equal(got[~nan], want[~nan])
        assert (got[nan] == 0x7FFFFFFF).all()


@pytest.mark.parametrize("t", NARROW)
def test_every_pair_of_narrow_codes_becomes_halves(t):
    kind = np.dtype(NARROW[t])
    width = 4 if t == "e2m1x2" else 8
    codes = np.arange(1 << 2 * width, dtype=np.uint16)
    if "6" in kind.name:
        codes = codes[(codes & 0xC0C0) == 0]
    load = f"cvt.rn.f16x2.{t} %d, %a;"
    got = evaluate(load, "uint32", a=codes).view(np.uint16).reshape(-1, 2).view(np.float16)
    mask = (1 << width) - 1
    for k in range(2):
        want = (codes >> width * k & mask).astype(np.uint8).view(kind).astype(np.float16)
        np.testing.assert_array_equal(got[:, k], want)


@pytest.mark.parametrize("t", NARROW)
@pytest.mark.parametrize("source", ["f32", "f16x2"])
def test_pairs_become_narrow_codes(t, source):
    kind = np.dtype(NARROW[t])
    top = float(ml_dtypes.finfo(kind).max)
    rng = np.random.default_rng(1)
    values = (rng.standard_normal((700, 2)) * min(top, 2e4) / 2).astype(np.float16)
    values[:4] = [[np.inf, -np.inf], [top, -top], [min(top * 1.03, 65504), -top], [0.0, -0.0]]
    if source == "f32":
        a, b = (np.ascontiguousarray(values[:, k]).astype(np.float32) for k in (1, 0))
        got = evaluate(f"cvt.rn.satfinite.{t}.f32 %d, %a, %b;", "uint16", a=a, b=b)
        relu = evaluate(f"cvt.rn.satfinite.relu.{t}.f32 %d, %a, %b;", "uint16", a=a, b=b)
    else:
        a = values.view(np.uint32)[:, 0]
        got = evaluate(f"cvt.rn.satfinite.{t}.f16x2 %d, %a;", "uint16", a=a)
        relu = evaluate(f"cvt.rn.satfinite.relu.{t}.f16x2 %d, %a;", "uint16", a=a)
    width = 4 if t == "e2m1x2" else 8
    limited = np.clip(values.astype(np.float32), -top, top)
    for result, want in ((got, limited), (relu, np.maximum(limited, 0) + 0.0)):
        codes = want.astype(kind).view(np.uint8).astype(np.uint16)
        np.testing.assert_array_equal(result, codes[:, 0] | codes[:, 1] << width)


def test_nans_in_narrow_types():
    a = np.array([np.nan], np.float32)
    got = {t: int(evaluate(f"cvt.rn.satfinite.{t}.f32 %d, %a, %a;", "uint16", a=a)[0])
           for t in NARROW}  # fmt: skip
    assert got == {"e4m3x2": 0x7F7F, "e5m2x2": 0x7F7F, "e3m2x2": 0x1F1F, "e2m3x2": 0x1F1F,
                   "e2m1x2": 0x77}  # fmt: skip


def test_scales():
    a = np.array([1.0, 1.5, 2.0, 3e38, 2.0**-127, 0.7], np.float32)
    down = evaluate("cvt.rz.satfinite.ue8m0x2.f32 %d, %a, %a;", "uint16", a=a)
    up = evaluate("cvt.rp.satfinite.ue8m0x2.f32 %d, %a, %a;", "uint16", a=a)
    assert (down & 0xFF).tolist() == [127, 127, 128, 254, 0, 126]
    assert (up >> 8).tolist() == [127, 128, 128, 254, 0, 127]
    codes = np.arange(255, dtype=np.uint16) * 0x101
    got = evaluate("cvt.rn.bf16x2.ue8m0x2 %d, %a;", "uint32", a=codes)
    want = np.ldexp(1.0, np.arange(255) - 127).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal((got & 0xFFFF).astype(np.uint16), bits_of(want))


@pytest.mark.parametrize("t", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("mode", ["rn", "rz"])
def test_pairs_of_halves(t, mode):
    a, b = floats("float32", 600, 1, False), floats("float32", 600, 2, False)
    a, b = np.clip(a, -6e4, 6e4), np.clip(b, -6e4, 6e4)
    got = evaluate(f"cvt.{mode}.{t}.f32 %d, %a, %b;", "uint32", a=a, b=b)
    single = t.removesuffix("x2")
    low = evaluate(f"cvt.{mode}.{single}.f32 %d, %a;", "uint16", a=b).astype(np.uint32)
    high = evaluate(f"cvt.{mode}.{single}.f32 %d, %a;", "uint16", a=a).astype(np.uint32)
    np.testing.assert_array_equal(got, low | high << 16)
    if mode == "rn":
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(low, bits_of(b.astype(FLOATS[single])))


def test_packing_integers():
    a, b, c = (integers("int32", 500, k) for k in range(3))

    def clip(v: np.ndarray, low: int, high: int) -> np.ndarray:
        return np.clip(v.astype(np.int64), low, high)

    got = evaluate("cvt.pack.sat.s16.s32 %d, %a, %b;", "uint32", a=a, b=b)
    want = (clip(a, -32768, 32767) & 0xFFFF) << 16 | clip(b, -32768, 32767) & 0xFFFF
    np.testing.assert_array_equal(got, want)
    got = evaluate("cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;", "uint32", a=a, b=b, c=c)
    want = (c.astype(np.int64) & 0xFFFF) << 16 | clip(a, 0, 255) << 8 | clip(b, 0, 255)
    np.testing.assert_array_equal(got, want)
