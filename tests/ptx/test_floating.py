"""Float arithmetic, halves, comparisons and moves, against numpy and the exact rounding."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ptx.running import evaluate, floats, integers, predicate

from tilec.ptx import arithmetic, formats
from tilec.ptx.formats import decode, encode

COUNT = 2000
KINDS = {"f32": "float32", "f64": "float64"}
HALVES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
MODES = ["rn", "rz", "rm", "rp"]


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bits, but any NaN is as good as another."""
    nan = np.isnan(want.astype(np.float64))
    assert np.isnan(got.astype(np.float64))[nan].all()
    np.testing.assert_array_equal(got[~nan], want[~nan])
    zero = ~nan & (want == 0)
    np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero])


@pytest.mark.parametrize("t", KINDS)
def test_arithmetic_to_nearest(t):
    kind = KINDS[t]
    a, b = floats(kind, COUNT, 1), floats(kind, COUNT, 2)
    with np.errstate(all="ignore"):
        for op, want in (("add", a + b), ("sub", a - b), ("mul", a * b), ("div", a / b)):
            same(evaluate(f"{op}.rn.{t} %d, %a, %b;", kind, a=a, b=b), want)
        same(evaluate(f"sqrt.rn.{t} %d, %a;", kind, a=a), np.sqrt(a))
        same(evaluate(f"rcp.rn.{t} %d, %a;", kind, a=a), kind_of(1, kind) / a)


def kind_of(value: float, kind: Any) -> np.ndarray:
    return np.array(value, kind)


@pytest.mark.parametrize("mode", MODES)
def test_directed_modes_reach_the_arithmetic(mode):
    """The arithmetic itself is tested on exact fractions in test_formats."""
    a, b, c = (floats("float32", COUNT, k, False) for k in range(3))
    f = formats.F32
    with np.errstate(all="ignore"):
        wants = {
            "add": arithmetic.add(a, b, f, mode),
            "sub": arithmetic.add(a, -b, f, mode),
            "mul": arithmetic.multiply(a, b, f, mode),
            "div": arithmetic.divide(a, b, f, mode),
        }
        fused = arithmetic.fused(a, b, c, f, mode)
    for op, want in wants.items():
        got = evaluate(f"{op}.{mode}.f32 %d, %a, %b;", "float32", a=a, b=b)
        same(got, decode(want, f))
    got = evaluate(f"fma.{mode}.f32 %d, %a, %b, %c;", "float32", a=a, b=b, c=c)
    same(got, decode(fused, f))


def test_nans_are_canonical():
    a = np.array([0xFFC00001, 0x7F800001], np.uint32)
    assert (evaluate("add.f32 %d, %a, %a;", "uint32", a=a) == 0x7FFFFFFF).all()
    h = np.array([0xFE01], np.uint16)
    assert evaluate("add.f16 %d, %a, %a;", "uint16", a=h).tolist() == [0x7FFF]
    assert evaluate("add.rn.bf16 %d, %a, %a;", "uint16", a=h | 0x7F80).tolist() == [0x7FFF]


def test_flush_and_saturate():
    tiny = np.array([1e-40, -1e-40, 1e-20], np.float32)
    got = evaluate("add.ftz.f32 %d, %a, 0f80000000;", "float32", a=tiny)
    assert got.tolist() == [0, 0, pytest.approx(1e-20)]
    assert np.signbit(got).tolist() == [False, True, False]
    got = evaluate("mul.ftz.f32 %d, %a, %a;", "float32", a=tiny)
    assert got.tolist() == [0, 0, 0]
    small = np.array([3e-7, -3e-7, 0.5], np.float16)
    assert evaluate("add.f16 %d, %a, %a;", "float16", a=small)[0] > 0
    assert evaluate("add.ftz.f16 %d, %a, %a;", "float16", a=small).tolist() == [0, 0, 1]
    assert evaluate("abs.ftz.f16 %d, %a;", "float16", a=small).tolist() == [0, 0, 0.5]
    assert predicate("setp.gt.ftz.f16 %p, %a, 0x0000;", a=raw(small)).tolist() == [
        False,
        False,
        True,
    ]
    a = np.array([-1, 0.25, 7, np.nan], np.float32)
    assert evaluate("add.sat.f32 %d, %a, %a;", "float32", a=a).tolist() == [0, 0.5, 1, 0]
    h = np.array([-1, 0.25, 7, np.nan], np.float16)
    got = evaluate("add.sat.f16 %d, %a, %a;", "float16", a=h)
    assert got.tolist() == [0, 0.5, 1, 0]
    got = evaluate("fma.rn.relu.f16 %d, %a, %a, %b;", "float16", a=h, b=h - np.float16(2))
    assert got[:3].tolist() == [0, 0, 54]
    assert np.isnan(got[3])


@pytest.mark.parametrize("t", KINDS)
def test_signs(t):
    a, b = floats(KINDS[t], COUNT, 1), floats(KINDS[t], COUNT, 2)
    same(evaluate(f"neg.{t} %d, %a;", KINDS[t], a=a), -a)
    same(evaluate(f"abs.{t} %d, %a;", KINDS[t], a=a), np.abs(a))
    same(evaluate(f"copysign.{t} %d, %a, %b;", KINDS[t], a=a, b=b), np.copysign(b, a))


@pytest.mark.parametrize("t", [*KINDS, *HALVES])
def test_extremes(t):
    kind = HALVES.get(t) or np.dtype(KINDS[t])
    with np.errstate(all="ignore"):
        a, b = (floats("float64" if t == "f64" else "float32", COUNT, k).astype(kind)
                for k in (1, 2))  # fmt: skip
    a[:4], b[:4] = (np.array(v, kind) for v in ([0.0, -0.0, np.nan, 1], [-0.0, 0.0, 1, np.nan]))
    for op, f in (("min", np.fmin), ("max", np.fmax)):
        got = evaluate(f"{op}.{t} %d, %a, %b;", f"uint{8 * kind.itemsize}", a=raw(a), b=raw(b))
        with np.errstate(all="ignore"):
            want = f(a.astype(np.float64), b.astype(np.float64))
        got = got.view(kind).astype(np.float64)
        np.testing.assert_array_equal(got[4:], want[4:])
        assert got[2:4].tolist() == [1, 1]
        assert np.signbit(got[:2]).all() == (op == "min")
        if t != "f64":
            got = evaluate(f"{op}.NaN.{t} %d, %a, %b;", f"uint{8 * kind.itemsize}",
                           a=raw(a), b=raw(b)).view(kind)  # fmt: skip
            nan = np.isnan(a.astype(np.float64)) | np.isnan(b.astype(np.float64))
            np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    got = evaluate(f"min.xorsign.abs.{t} %d, %a, %b;", f"uint{8 * kind.itemsize}",
                   a=raw(kind_of(-3, kind)[None]), b=raw(kind_of(2, kind)[None]))  # fmt: skip
    assert float(got.view(kind)[0]) == -2


def raw(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a).view(f"uint{8 * a.dtype.itemsize}")


@pytest.mark.parametrize("t", HALVES)
def test_halves_one_and_two(t):
    kind = HALVES[t]
    f = formats.F16 if t == "f16" else formats.BF16
    with np.errstate(all="ignore"):
        a, b, c = (floats("float32", COUNT, k).astype(kind) for k in range(3))
        x, y, z = (v.astype(np.float32) for v in (a, b, c))
        wants = {"add": x + y, "sub": x - y, "mul": x * y}
        fused = decode(arithmetic.fused(x, y, z, f, "rn"), f)
    for op, exact in wants.items():
        with np.errstate(all="ignore"):
            want = exact.astype(kind)
        single = evaluate(f"{op}.{t} %d, %a, %b;", "uint16", a=raw(a), b=raw(b)).view(kind)
        same(single.astype(np.float32), want.astype(np.float32))
        pair = evaluate(f"{op}.{t}x2 %d, %a, %b;", "uint32", a=raw(a).view(np.uint32),
                        b=raw(b).view(np.uint32)).view(kind)  # fmt: skip
        same(pair.astype(np.float32), want.astype(np.float32))
    single = evaluate(f"fma.rn.{t} %d, %a, %b, %c;", "uint16", a=raw(a), b=raw(b), c=raw(c))
    same(single.view(kind).astype(np.float32), fused)
    words = {n: raw(v).view(np.uint32) for n, v in (("a", a), ("b", b), ("c", c))}
    pair = evaluate(f"fma.rn.{t}x2 %d, %a, %b, %c;", "uint32", **words)
    same(pair.view(kind).astype(np.float32), fused)
    for op, g in (("neg", np.negative), ("abs", np.abs)):
        pair = evaluate(f"{op}.{t}x2 %d, %a;", "uint32", a=words["a"]).view(kind)
        same(pair.astype(np.float32), g(x))


def test_pairs_of_float32():
    a, b = floats("float32", COUNT, 1), floats("float32", COUNT, 2)
    with np.errstate(all="ignore"):
        want = a * b
    got = evaluate("mul.rn.f32x2 %d, %a, %b;", "uint64", a=a.view(np.uint64), b=b.view(np.uint64))
    same(got.view(np.float32), want)


def test_mixed_sums():
    h, c = floats("float16", COUNT, 1, False), floats("float32", COUNT, 2, False)
    with np.errstate(all="ignore"):
        want = h.astype(np.float32) + c
    same(evaluate("add.f32.f16 %d, %a, %b;", "float32", a=h, b=c), want)


FUNCTIONS = {"ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_rounded_results(name):
    a = np.random.default_rng(1).uniform(-20, 20, COUNT).astype(np.float32)
    a = np.abs(a) if name == "lg2" else a
    want = FUNCTIONS[name](a.astype(np.float64)).astype(np.float32)
    same(evaluate(f"{name}.approx.f32 %d, %a;", "float32", a=a), want)


def test_functions_of_halves():
    a = np.linspace(-5, 5, COUNT).astype(np.float16)
    want = np.exp2(a.astype(np.float64)).astype(np.float16)
    same(evaluate("ex2.approx.f16 %d, %a;", "float16", a=a), want)
    b = raw(a.astype(ml_dtypes.bfloat16)).view(np.uint32)
    got = evaluate("tanh.approx.bf16x2 %d, %a;", "uint32", a=b)
    x = b.view(ml_dtypes.bfloat16).astype(np.float64)
    want = encode(np.tanh(x), formats.BF16)
    np.testing.assert_array_equal(got.view(np.uint16), want)


def test_reciprocal_roots():
    a = np.abs(floats("float32", COUNT, 1, False)) + np.float32(1e-30)
    want = (1 / np.sqrt(a.astype(np.float64))).astype(np.float32)
    same(evaluate("rsqrt.approx.f32 %d, %a;", "float32", a=a), want)
    d = a.astype(np.float64)
    same(evaluate("rsqrt.approx.ftz.f64 %d, %a;", "float64", a=d), 1 / np.sqrt(d))


ORDERS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
          "gt": np.greater, "ge": np.greater_equal}  # fmt: skip


@pytest.mark.parametrize("t", ["f32", "f64", "f16", "bf16"])
def test_float_comparisons_know_nans(t):
    kind = HALVES.get(t) or np.dtype(KINDS[t])
    with np.errstate(all="ignore"):
        a, b = (floats("float32", COUNT, k).astype(kind) for k in (1, 2))
    b[::3] = a[::3]
    x, y = a.astype(np.float64), b.astype(np.float64)
    nan = np.isnan(x) | np.isnan(y)
    with np.errstate(invalid="ignore"):
        for name, f in ORDERS.items():
            got = predicate(f"setp.{name}.{t} %p, %a, %b;", a=raw(a), b=raw(b))
            np.testing.assert_array_equal(got, f(x, y) & ~nan)
            got = predicate(f"setp.{name}u.{t} %p, %a, %b;", a=raw(a), b=raw(b))
            np.testing.assert_array_equal(got, f(x, y) | nan)
    got = predicate(f"setp.nan.{t} %p, %a, %b;", a=raw(a), b=raw(b))
    np.testing.assert_array_equal(got, nan)


@pytest.mark.parametrize("t", ["u32", "s32", "u64", "s64", "u16", "s16"])
def test_integer_comparisons(t):
    kind = t.replace("u", "uint").replace("s", "int")
    a, b = integers(kind, COUNT, 1), integers(kind, COUNT, 2)
    b[::3] = a[::3]
    for name, f in ORDERS.items():
        got = predicate(f"setp.{name}.{t} %p, %a, %b;", a=a, b=b)
        np.testing.assert_array_equal(got, f(a, b))
    if t[0] == "u":
        for name, f in (("lo", np.less), ("ls", np.less_equal), ("hi", np.greater)):
            got = predicate(f"setp.{name}.{t} %p, %a, %b;", a=a, b=b)
            np.testing.assert_array_equal(got, f(a, b))


def test_comparisons_combine_and_give_two_results():
    a, b = integers("int32", COUNT, 1), integers("int32", COUNT, 2)
    text = "setp.gt.s32 %q, %b, 0; setp.lt.{}.s32 {}, %a, %b, %q;"
    c = b > 0
    for op, f in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        np.testing.assert_array_equal(predicate(text.format(op, "%p|%q"), a=a, b=b), f(a < b, c))
        np.testing.assert_array_equal(predicate(text.format(op, "%q|%p"), a=a, b=b), f(a >= b, c))


def test_comparisons_of_pairs_and_sets():
    a, b = (floats("float16", COUNT, k) for k in (1, 2))
    with np.errstate(invalid="ignore"):
        less = a < b
    words = {"a": a.view(np.uint32), "b": b.view(np.uint32)}
    np.testing.assert_array_equal(predicate("setp.lt.f16x2 %p|%q, %a, %b;", **words), less[::2])
    np.testing.assert_array_equal(predicate("setp.lt.f16x2 %q|%p, %a, %b;", **words), less[1::2])
    got = evaluate("set.lt.f16x2.f16x2 %d, %a, %b;", "uint32", **words).view(np.float16)
    np.testing.assert_array_equal(got, less)
    got = evaluate("set.lt.u32.f16 %d, %a, %b;", "uint32", a=raw(a), b=raw(b))
    np.testing.assert_array_equal(got, np.where(less, 0xFFFFFFFF, 0))
    got = evaluate("set.lt.f32.f16 %d, %a, %b;", "float32", a=raw(a), b=raw(b))
    np.testing.assert_array_equal(got, less)


def test_classes():
    a = np.array([0, -1, np.inf, np.nan, 1e-40], np.float32)
    for name, want in (
        ("finite", [1, 1, 0, 0, 1]), ("infinite", [0, 0, 1, 0, 0]), ("number", [1, 1, 1, 0, 1]),
        ("notanumber", [0, 0, 0, 1, 0]), ("normal", [0, 1, 0, 0, 0]),
        ("subnormal", [0, 0, 0, 0, 1]),
    ):  # fmt: skip
        got = predicate(f"testp.{name}.f32 %p, %a;", a=a)
        assert got.tolist() == [bool(v) for v in want]


def test_moves_and_selections():
    a, b = integers("uint32", COUNT, 1), integers("uint32", COUNT, 2)
    got = evaluate("mov.b64 %d, {%a, %b};", "uint64", a=a, b=b)
    np.testing.assert_array_equal(got, a | b.astype(np.uint64) << np.uint64(32))
    got = evaluate("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", "uint32", a=a)
    np.testing.assert_array_equal(got, a << 16 | a >> 16)
    got = evaluate("setp.lt.u32 %p, %a, %b; selp.b32 %d, %a, 7, %p;", "uint32", a=a, b=b)
    np.testing.assert_array_equal(got, np.where(a < b, a, 7))
    got = evaluate("slct.b32.s32 %d, %a, %b, %c;", "uint32", a=a, b=b, c=b.view(np.int32))
    np.testing.assert_array_equal(got, np.where(b.view(np.int32) >= 0, a, b))
    got = evaluate("mov.f32 %d, 0f3FC00000;", "float32", a=a[:1])
    assert got.tolist() == [1.5]
    assert evaluate("mov.f64 %d, 0d3FF8000000000000;", "float64", a=a[:1]).tolist() == [1.5]
    assert evaluate("mov.b32 %d, -1;", "int32", a=a[:1]).tolist() == [-1]
    assert evaluate("mov.u32 %d, 017;", "uint32", a=a[:1]).tolist() == [15]
    assert evaluate("mov.u32 %d, 0x1FU;", "uint32", a=a[:1]).tolist() == [31]
    assert evaluate("mov.b16 %d, 1.5;", "float16", a=a[:1]).tolist() == [1.5]
