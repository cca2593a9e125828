"""Gradients with maxima that cancel, and sums that are written in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradient_texts import ATTENTION, CROSS_ENTROPY, GQA, SOFTMAX, against_torch
from gradients import Case, assert_differences, case
from torch import Tensor

from tilec.ir.ops import memory, reduce
from tilec.passes.gradient import gradient


def test_heads_that_share_keys_by_an_index():
    """Gradients of keys are added up, in batches; the maximum gets none, behind a late division."""
    c = case(GQA, {"N": 3, "M": 5, "D": 2})

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)
        return torch.softmax(q @ k.mT, -1) @ v

    against_torch(c, forward)
    by_two = GQA.replace("value = 2, dtype = i32", "value = 1, dtype = i32")
    other = case(by_two.replace("floordiv %i", "shr %i"), c.dims)  # nobody sees that it is the same
    against_torch(other, forward)
    for func, count in ((c.func, 0), (other.func, 2)):
        ops = list(gradient(func, by="q+k+v").walk())
        assert not [op for op in ops if isinstance(op, reduce.Argmax)]
        assert len([op for op in ops if isinstance(op, memory.Accumulate)]) == count


@pytest.mark.parametrize("text", [
    SOFTMAX + ATTENTION.replace("MASKED", "where(j <= i, s, -1e999)"),
    CROSS_ENTROPY,
    SOFTMAX + "kernel f(x: f64[M, N], y: f64[M, N]) { y[:, :] = log(softmax(x[:, :])) }",
    """kernel f(x: f64[M, N], y: f64[M]) {
      z = x[:, :] * 1.4426950408889634
      m = max(z, axis=1)
      y[:] = (m + log2(sum(exp2(z - m[:, none]), axis=1))) * 0.6931471805599453
    }""",
])  # fmt: skip
def test_a_maximum_that_cancels_gets_no_gradient(text: str):
    floats = ("x", "w", "q", "k", "v")
    c = case(text, {"M": 4, "N": 4, "K": 3, "D": 2, "E": 3}, t=np.array([2, 0, 3, 2]))
    c = Case(c.func, {n: a for n, a in c.inputs.items() if n in [p.hint for p in c.func.params]},
             c.dims)  # fmt: skip
    func = gradient(c.func, by="+".join(n for n in floats if n in c.inputs))
    assert not [op for op in func.walk() if isinstance(op, reduce.Argmax)]
    assert_differences(c)


@pytest.mark.parametrize("result", [
    "sum(e, axis=1)",  # without the maximum it is another number
    "sum(e, axis=1) / (1.0 + sum(e, axis=1))",
    "log(sum(e, axis=1)) - m",
    "sum(maximum(e, 0.5), axis=1) / sum(e, axis=1)",
    "sum(where(e < 0.5, e, 0.0), axis=1) / sum(e, axis=1)",
    "sum(e, axis=0) / sum(sum(e, axis=0))",
    "sum(cumsum(x[:, :] - m[:, none], axis=1), axis=1) + m",
    "sum(e * e, axis=1) / sum(e, axis=1)",
    "sum(where(x[:, :] < 0.2, e, 0.5), axis=1) / sum(e, axis=1)",
    "sum(x[:, :] - m[:, none], axis=1) + m",
    "min(cumsum(x[:, :] - m[:, none], axis=1), axis=1) + m",
])  # fmt: skip
def test_a_maximum_that_stays_gets_a_gradient(result: str):
    text = f"""kernel f(x: f64[M, M], y: f64[M]) {{
      m = max(x[:, :], axis=1)
      e = exp(x[:, :] - m[:, none])
      y[:] = {result}
    }}"""
    c = case(text, {"M": 4})
    assert [op for op in gradient(c.func, by="x").walk() if isinstance(op, reduce.Argmax)]
    assert_differences(c)


@pytest.mark.parametrize("result", [
    "x[:] / (1.0 + exp(-x[:]))",
    "1.0 / (exp(-x[:]) + 1.0)",
    "w[:] / (1.0 + exp(x[:] * w[:]))",
    "w[:] / (2.0 + exp(w[:]))",
])  # fmt: skip
def test_what_is_divided_by_infinity(result: str):
    """exp(800) is infinite in doubles; the quotient's gradient is 0, not 0 times that."""
    text = f"kernel f(x: f64[M], w: f64[M], y: f64[M]) {{ y[:] = {result} }}"
    assert_differences(case(text, {"M": 4}))
    far = np.array([-800.0, 800.0, -0.5, 0.0])
    c = case(text, {"M": 4}, x=far, w=np.array([0.5, 0.5, -1.0, 3.0]))
    for name, found in c.gradients(gradient(c.func, by="x+w")).items():
        assert np.isfinite(found).all(), name
    if "w" not in result:
        x = torch.tensor(far, requires_grad=True)
        y = torch.sigmoid(x) * (x if result.startswith("x") else 1)
        y.backward(torch.tensor(c.seeds()["y"]))
        assert x.grad is not None
        found = c.gradients(gradient(c.func, by="x"))["x"]
        np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-12, atol=1e-15)


LOOKALIKES = {
    "other weights": "y[:, :] = dot(x[:, :] / (b[:][:, none] + 3.0) + w[:, :], v[:, :])",
    "columns": "y[:, :] = dot(x[:, :] / (b[:][none, :] + 3.0), v[:, :])",
    "other shift": "y[:, :] = (a + log(sum(exp(x[:, :] - c[:][:, none]), axis=1)))[:, none]",
    "shift by rows": "y[:, :] = (a + log(sum(exp(x[:, :] - a[none, :]), axis=1)))[:, none]",
    "log sum": "y[:, :] = (a + log(sum(exp(x[:, :] - a[:, none]), axis=1)))[:, none]",
    "shares": "y[:, :] = sum(h[floordiv(arange(4), 2), :], axis=0)[:, none] * x[:, :]",
    "shared": "y[:, :] = sum(h[floordiv(arange(6), 2), :], axis=0)[:, none] * x[:, :]",
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_what_is_nearly_one_of_the_sums_that_are_written_in_another_way(name: str):
    params = "x: f64[M, M], w: f64[M, M], v: f64[M, M], b: f64[M], c: f64[M], h: f64[3, M]"
    text = f"""kernel f({params}, y: f64[M, M]) {{
      a = b[:]
      {LOOKALIKES[name]}
    }}"""
    assert_differences(case(text, {"M": 4}))
