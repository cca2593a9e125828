"""Gradients against differences in float64 and against torch's autograd in doubles."""

# Hypothesis types its health checks loosely.
# pyright: reportArgumentType=false

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gradient_texts import (
    ACTIVATIONS,
    ATTENTION,
    CROSS_ENTROPY,
    LAYER_NORM,
    LIBRARY,
    LINEAR,
    MASKS,
    RMS_NORM,
    SOFTMAX,
    SWIGLU,
    against_torch,
)
from gradients import Case, assert_differences, case
from hypothesis import HealthCheck, given, settings
from smooth_programs import smooth_programs
from torch import Tensor
from torch.nn import functional

from tilec.ir.core import Op
from tilec.ir.dtype import BY_NAME
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, memory, reduce
from tilec.ir.ops.cast import Cast
from tilec.ir.parse import parse as parse_ir
from tilec.ir.text import show
from tilec.ir.verify import verify
from tilec.passes.gradient import gradient, handles
from tilec.passes.gradient.rules import RULES

ALL = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_linear_with_bias_and_activation(name: str):
    text, act = ACTIVATIONS[name]
    c = case(LINEAR.format(text), {"M": 3, "N": 4, "K": 5})
    against_torch(c, lambda x, w, b: act(x @ w.T + b))


def test_rms_norm():
    def forward(x: Tensor, g: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-5) * g

    against_torch(case(RMS_NORM, {"M": 3, "N": 6}), forward)


def test_layer_norm():
    against_torch(case(LAYER_NORM, {"M": 3, "N": 6}),
                  lambda x, g, b: functional.layer_norm(x, (6,), g, b))  # fmt: skip


def test_softmax():
    text = SOFTMAX + "kernel f(x: f64[M, N], y: f64[M, N]) { y[:, :] = softmax(x[:, :]) }"
    c = case(text, {"M": 3, "N": 6})
    against_torch(c, lambda x: torch.softmax(x, 1))


@pytest.mark.parametrize("name", MASKS)
def test_attention(name: str):
    text, seen = MASKS[name]
    masked = text.replace("-inf", "-1e999")
    c = case(SOFTMAX + ATTENTION.replace("MASKED", masked), {"N": 6, "M": 6, "D": 4, "E": 3})
    i, j = np.arange(6)[:, None], np.arange(6)
    mask = torch.tensor(seen(i, j))

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax((q @ k.T * 0.5).masked_fill(~mask, -math.inf), 1) @ v

    against_torch(c, forward)


def test_cross_entropy_of_a_linear_layer():
    c = case(CROSS_ENTROPY, {"M": 4, "N": 7, "K": 3}, t=np.array([2, 0, 6, 2]))

    def forward(x: Tensor, w: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        z = x @ w.T
        return functional.cross_entropy(z, t, reduction="none"), torch.logsumexp(z, 1)

    against_torch(c, forward)


def test_a_gated_mlp_with_a_residual():
    def forward(x: Tensor, g: Tensor, u: Tensor, d: Tensor) -> Tensor:
        return x + (functional.silu(x @ g.T) * (x @ u.T)) @ d.T

    against_torch(case(SWIGLU, {"M": 3, "N": 5, "K": 4}), forward)


@pytest.mark.parametrize("name", LIBRARY)
def test_functions_of_the_library(name: str):
    text, forward = LIBRARY[name]
    program = f"program f(x: f64[M, N], g: f64[N], b: f64[N], t: i32[M]) {{ return {text} }}"
    against_torch(case(program, {"M": 4, "N": 5}, t=np.array([2, 0, 4, 2])), forward)


@settings(ALL, max_examples=60)
@given(c=smooth_programs())
def test_random_programs(c: Case):
    verify(gradient(c.func, by="+".join(c.floats())))
    assert_differences(c)


@pytest.mark.slow
@settings(ALL, max_examples=1500)
@given(c=smooth_programs())
def test_many_random_programs(c: Case):
    assert_differences(c)


def test_random_programs_hold_every_op_that_has_a_derivative():
    found: set[type[Op]] = set()

    @settings(ALL, max_examples=200)
    @given(c=smooth_programs())
    def collect(c: Case):
        found.update(type(op) for op in c.func.walk())

    collect()
    elsewhere = {Cast, arith.Ceil, arith.Rint}
    assert set(RULES) - found == elsewhere
    assert {memory.Load, memory.Accumulate} <= found


NARROW = {"f32": 2.0**-22, "f16": 2.0**-11, "bf16": 2.0**-8}  # of a norm: it is rounded once
EMBEDDING = """
kernel embedding(w: f64[V, D], b: f64[D], i: i32[N], y: f64[N, D]) {
  y[:, :] = tanh(cast(w[i[:], :], F) + cast(b[:], F))
}
"""


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("text", [
    SWIGLU, EMBEDDING, LINEAR.format(ACTIVATIONS["gelu"][0]),
    RMS_NORM.replace("a = x[:, :]", "a = cast(x[:, :], F)").replace("cast(size(N), f64)",
                                                                     "cast(size(N), F)"),
])  # fmt: skip
def test_gradients_of_narrow_dtypes_are_computed_in_f32(text: str, dtype: str):
    """Against those of the same numbers in f64: what is stored is rounded once."""
    dims = {"M": 3, "N": 7, "K": 4, "V": 5, "D": 4}
    rows = {"i": np.array([1, 4, 1, 1, 0, 9, 1])} if "i32[N]" in text else {}
    narrow = case(text.replace("f64", dtype).replace("F)", "f32)"), dims, **rows)
    wide = case(text.replace("F)", "f64)"), dims, **dict(narrow.inputs))
    seeds = {f"d_{n}": a for n, a in narrow.seeds().items()}
    by = "+".join(narrow.floats())
    found = narrow.gradients(gradient(narrow.func, by=by))
    func = gradient(wide.func, by=by)
    want = wide.gradients(func, **seeds)
    for name in narrow.floats():
        assert (found[name] == BY_NAME[dtype].round(found[name])).all()
        error = np.linalg.norm(found[name] - want[name]) / np.linalg.norm(want[name])
        assert error < NARROW[dtype], name


def test_rows_of_a_narrow_dtype_are_added_up_in_f32():
    """400 times 1/256 added to a bf16 one by one would stop at 1; only rounding at the end."""
    text = (
        """kernel f(w: bf16[V, D], i: i32[N], y: f32[N, D]) { y[:, :] = cast(w[i[:], :], f32) }"""
    )
    c = case(text, {"V": 2, "D": 3, "N": 400}, i=np.ones(400, np.int64))
    func = gradient(c.func, by="w")
    assert [p.hint for p in func.params] == ["w", "i", "d_y", "d_w", "d_w.sums"]
    found = c.gradients(func, d_y=np.full((400, 3), 2.0**-8))
    np.testing.assert_array_equal(found["w"], [[0] * 3, [400 / 256] * 3])


def test_products_read_rounded_gradients_if_asked():
    text = (
        "kernel f(x: bf16[M, K], w: f16[N, K], y: f32[M, N]) { y[:, :] = dot(x[:, :], w[:, :].T) }"
    )
    c = case(text, {"M": 3, "N": 7, "K": 4})
    types = {
        rounded: [tuple(str(v.type.dtype) for v in op.operands[:2])  # type: ignore[union-attr]
                  for op in gradient(c.func, by="x+w", rounded=rounded).walk()
                  if isinstance(op, reduce.Dot)]
        for rounded in (False, True)
    }  # fmt: skip
    assert types == {False: [("f32", "f16"), ("f32", "bf16")],
                     True: [("f16", "f16"), ("bf16", "bf16")]}  # fmt: skip
    one, two = (c.gradients(gradient(c.func, by="x", rounded=r))["x"] for r in (False, True))
    np.testing.assert_allclose(one, two, rtol=0.1, atol=0.05)


def test_of_equal_elements_the_first_gets_the_gradient():
    text = """kernel f(x: f64[M, N], y: f64[M], yl: f64[M], ym: f64[M]) {
      y[:] = max(x[:, :], axis=1)
      yl[:] = min(x[:, :], axis=1)
      ym[:] = maximum(x[:, 0], x[:, 1])
    }""".replace("x[:, 0]", "sum(x[:, :][:, 0:1], axis=1)").replace(
        "x[:, 1]", "sum(x[:, :][:, 1:2], axis=1)")  # fmt: skip
    c = case(text, {"M": 2, "N": 3}, x=np.array([[2.0, 2.0, 1.0], [1.0, 3.0, 1.0]]))
    ones = {f"d_{n}": np.ones(2) for n in ("y", "yl", "ym")}

    def of(result: str) -> list[list[float]]:
        return c.gradients(gradient(c.func, by="x", of=result), **ones)["x"].tolist()

    assert of("y") == [[1, 0, 0], [0, 1, 0]]
    assert of("yl") == [[0, 0, 1], [1, 0, 0]]
    assert of("ym") == [[0.5, 0.5, 0], [0, 1, 0]]  # equal operands have half each


def test_a_smooth_function_of_what_has_a_bend():
    """max(x, 0) + log(1 + exp(-|x|)) at 0: its parts have the mean of both sides there."""
    text = """kernel f(x: f64[M], y: f64[M]) {
      y[:] = maximum(x[:], 0.0) + log(1.0 + exp(-abs(x[:]))) - minimum(-x[:], x[:] * 3.0)
    }"""
    c = case(text, {"M": 3}, x=np.array([-1.0, 0.0, 2.0]))
    x = c.inputs["x"]
    want = (1 / (1 + np.exp(-x)) + np.array([-3, -1, 1])) * c.seeds()["y"]
    np.testing.assert_allclose(c.gradients(gradient(c.func, by="x"))["x"], want, rtol=1e-12)


def test_results_that_are_kept_are_not_computed_again():
    text = """kernel f(x: f64[M, N], y: f64[M, N], yl: f64[M]) {
      a = x[:, :]
      m = max(a, axis=1)
      lse = m + log(sum(exp(a - m[:, none]), axis=1))
      yl[:] = lse
      y[:, :] = exp(a - lse[:, none])
    }"""
    c = case(text, {"M": 3, "N": 5})
    func = gradient(c.func, of="y", by="x", keep="yl")
    assert [p.hint for p in func.params] == ["x", "yl", "d_y", "d_x"]
    plain = c.gradients(gradient(c.func, of="y", by="x"))
    kept = c.gradients(func, yl=c.forward()["yl"])
    np.testing.assert_allclose(kept["x"], plain["x"], rtol=1e-12)
    moved = c.gradients(func, yl=c.forward()["yl"] + 1.0)  # it is read
    assert not np.allclose(moved["x"], plain["x"])


def test_inputs_apart():
    """Behind a comma everything is computed again, so that no weights have to lie in memory."""
    text = SOFTMAX + ATTENTION.replace("MASKED", "where(j <= i, s, -1e999)")
    c = case(text, {"N": 6, "M": 5, "D": 4, "E": 3})
    together, apart = gradient(c.func, by="q+k+v"), gradient(c.func, by="q,k+v")
    verify(apart)
    assert [p.hint for p in apart.params] == [p.hint for p in together.params]
    dots = [sum(isinstance(op, reduce.Dot) for op in f.walk()) for f in (together, apart)]
    assert dots == [6, 9]
    want = c.gradients(together)
    for name, found in c.gradients(apart).items():
        np.testing.assert_array_equal(found, want[name])


def test_second_derivatives():
    """d/dx of d_x, the gradient that is stored, seeded with v: (d2 y / dx2) d_y v."""
    text = "kernel f(x: f64[M], y: f64[M]) { y[:] = sin(x[:]) * x[:] }"
    c = case(text, {"M": 4})
    twice = gradient(gradient(c.func, by="x"), by="x+d_y")
    x, v, d = c.inputs["x"], np.arange(1.0, 5.0), np.array([2.0, -1.0, 0.5, 3.0])
    held = {"x": x, "d_y": d, "d_d_x": v}
    found = Case(c.func, {"x": x}, c.dims).gradients(twice, **held)
    np.testing.assert_allclose(found["x"], (2 * np.cos(x) - x * np.sin(x)) * d * v)
    np.testing.assert_allclose(found["d_y"], (np.sin(x) + x * np.cos(x)) * v)


def test_what_is_stored_in_parts_or_read_again():
    text = """kernel f(x: f64[M, N], i: i32[M], t: f64[M, N], y: f64[V, N], ys: f64[V, N]) {
      t[:, :] = x[:, :] * 2.0
      ys[:, :] = 0.0
      ys[i[:], :] += sin(t[:, :])
      y[i[:], :] = t[:, :] * t[:, :]
    }"""
    c = case(text, {"M": 3, "N": 2, "V": 4}, i=np.array([2, 0, 3]))
    c = Case(c.func, {n: a for n, a in c.inputs.items() if n != "t"}, c.dims)
    x, seeds = c.inputs["x"], c.seeds()
    want = seeds["y"][[2, 0, 3]] * 8 * x + seeds["ys"][[2, 0, 3]] * 2 * np.cos(2 * x)
    found = c.gradients(gradient(c.func, of="y+ys", by="x"))["x"]
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_what_is_stored_last_counts():
    text = """kernel f(x: f64[M], y: f64[M]) {
      y[:] = exp(x[:])
      y[:] = x[:] * 3.0
    }"""
    c = case(text, {"M": 3})
    np.testing.assert_allclose(c.gradients(gradient(c.func, by="x"))["x"], 3 * c.seeds()["y"])


def test_casts():
    text = """kernel f(x: f32[M], y: f32[M], yi: f32[M], ys: f32[M]) {
      y[:] = cast(cast(x[:], bf16), f32) * 2.0
      yi[:] = cast(cast(x[:] * 8.0, i8), f32) + floor(x[:]) + x[:]
      ys[:] = cast(cast(x[:], e4m3, saturate=true), f32)
    }"""
    c = case(text, {"M": 3}, x=np.array([0.5, -1000.0, 2.0]))
    ones = {f"d_{n}": np.ones(3) for n in ("y", "yi", "ys")}

    def of(result: str) -> list[float]:
        return c.gradients(gradient(c.func, by="x", of=result), **ones)["x"].tolist()

    assert of("y") == [2, 2, 2]
    assert of("yi") == [1, 1, 1]
    assert of("ys") == [1, 0, 1]
    said = [r.message for r in gradient(c.func, by="x", of="yi").remarks]
    assert said == ["a cast to i8 has the derivative 0", "`floor` has the derivative 0"]


def test_nothing_depends():
    c = case("kernel f(x: f64[M], w: f64[M], y: f64[M]) { y[:] = w[:] }", {"M": 3})
    func = gradient(c.func, by="x")
    assert c.gradients(func)["x"].tolist() == [0, 0, 0]
    assert [r.message for r in func.remarks] == [
        "the gradient of `x` is 0: no result depends on it"]  # fmt: skip


@pytest.mark.parametrize("name", Op.registry)
def test_where_a_derivative_is(name: str):
    found = handles(Op.registry[name])
    assert found == "0" or found.startswith(("passes/gradient/", "none: "))


def test_gradients_are_written_alike_each_time():
    c = case(SOFTMAX + ATTENTION.replace("MASKED", "s"), {"N": 6, "M": 6, "D": 4, "E": 3})
    text = show(gradient(c.func, by="q+k+v"))
    assert text == show(gradient(c.func, by="q+k+v"))
    assert show(parse_ir(text)) == text


UNARY = [c for c in RULES if issubclass(c, arith.Unary)]


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_number(op: type[Op]):
    made = f"{op.name} %a" + " : f64[M]"
    text = f"""func @f(%x: *f64[M], %y: *f64[M]) {{
      %m = whole {{dim = M}} : span[M, M]
      %a = load %x, [%m] : f64[M]
      %b = {made}
      store %y, [%m], %b
    }}"""
    x = np.array([0.3, 0.7, 1.1, 2.6])
    defined = np.ones(4) if op in (arith.Log, arith.Log2, arith.Sqrt, arith.Rsqrt) else (
        np.array([-1.0, 1.0, -1.0, 1.0]))  # fmt: skip
    assert_differences(case(text, {"M": 4}, x=x * defined), 1e-8)


def test_what_can_not_be_kept():
    text = "kernel f(x: f32[M], i: i32[M], y: f32[N]) { y[i[:]] = x[:] * x[:] }"
    with pytest.raises(TileError, match="`y` can't be kept: it is not stored once, whole"):
        gradient(case(text, {"M": 3, "N": 4}, i=np.arange(3)).func, by="x", keep="y")


def test_products_with_scales():
    text = """func @f(%x: *f32[M, K], %w: *f32[K, N], %s: *f32[N], %y: *f32[M, N]) {
      %m = whole {dim = M} : span[M, M]
      %n = whole {dim = N} : span[N, N]
      %k = whole {dim = K} : span[K, K]
      %a = load %x, [%m, %k] : f32[M, K]
      %b = load %w, [%k, %n] : f32[K, N]
      %c = load %s, [%n] : f32[N]
      %z = full {shape = [M, N], value = 0, dtype = f32} : f32[M, N]
      %o = dot %a, %b, %z, %c : f32[M, N]
      store %y, [%m, %n], %o
    }"""
    with pytest.raises(TileError, match="a product with scales has no derivative here"):
        gradient(parse_ir(text), by="x")
