"""What is saved for gradients: the few numbers of reductions, and logarithms of softmax's sums."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_texts import ATTENTION, CROSS_ENTROPY, LAYER_NORM, RMS_NORM, SOFTMAX, SWIGLU
from gradients import Case, case

from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.ops import arith, memory, reduce
from tilec.ir.verify import verify
from tilec.passes.gradient import gradient, saved

DIMS = {"M": 5, "N": 6, "K": 4, "D": 3, "E": 2}
ROWS = SOFTMAX + "kernel f(x: f64[M, N], y: f64[M, N]) { y[:, :] = softmax(x[:, :]) }"
PROGRAMS = {
    "softmax": ROWS,
    "attention": SOFTMAX + ATTENTION.replace("MASKED", "where(j <= i, s, -1e999)"),
    "rms_norm": RMS_NORM,
    "layer_norm": LAYER_NORM,
    "cross_entropy": CROSS_ENTROPY,
    "swiglu": SWIGLU,
    "twice": ROWS.replace("softmax(x[:, :])", "softmax(softmax(x[:, :]) * 3.0)"),
}


def made(name: str) -> Case:
    rows = {"t": np.array([2, 0, 5, 2, 1])} if name == "cross_entropy" else {}
    return case(PROGRAMS[name], DIMS | ({"M": 6} if name == "attention" else {}), **rows)


def ran(func: Func, c: Case) -> dict[str, Array]:
    return Case(func, c.inputs, c.dims).forward()


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_the_same_twice(name: str):
    c = made(name)
    both = saved(c.func)
    verify(both.forward)
    verify(both.source)
    want = c.forward()
    for func in (both.forward, both.source):
        found = ran(func, c)
        assert list(found) == [*want, *both.names]
        for n, x in want.items():
            np.testing.assert_allclose(found[n], x, rtol=1e-12, atol=1e-14, err_msg=n)
    first, second = (ran(f, c) for f in (both.forward, both.source))
    for n in both.names:
        np.testing.assert_allclose(first[n], second[n], rtol=1e-12, atol=1e-14, err_msg=n)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_by_what_was_saved(name: str):
    c = made(name)
    both = saved(c.func)
    inputs, of = "+".join(c.floats()), "+".join(c.forward())
    func = gradient(both.source, by=inputs, of=of, keep="+".join(both.names))
    kept = {n: x for n, x in ran(both.forward, c).items() if n in both.names}
    want = c.gradients(gradient(c.func, by=inputs))
    for n, found in c.gradients(func, **kept).items():
        np.testing.assert_allclose(found, want[n], rtol=1e-10, atol=1e-12, err_msg=n)
    assert not [op for op in func.walk() if isinstance(op, reduce.Max)]


def test_softmax_is_one_logarithm():
    """Of a maximum, a sum and its logarithm the last alone is read."""
    c = made("attention")
    both = saved(c.func)
    func = gradient(both.source, of="y", by="q+k+v", keep="+".join((*both.names, "y")))
    read = {op.mem.hint for op in func.walk() if isinstance(op, memory.Load)}
    assert read.intersection(both.names) == {both.names[-1]}
    assert len([op for op in func.walk() if isinstance(op, arith.Exp)]) == 1
    assert not [op for op in func.walk() if isinstance(op, arith.Div | arith.Log)]


@pytest.mark.parametrize("result", [
    "e / sum(e + 0.0, axis=1, keepdims=true)",
    "e / sum(e, axis=0, keepdims=true)",
    "e / sum(e * e, axis=1, keepdims=true)",
    "e / sum(sum(e, axis=1))",
    "exp(x[:, :] - x[:, :] * 0.5) / sum(exp(x[:, :] - x[:, :] * 0.5), axis=1, keepdims=true)",
])  # fmt: skip
def test_what_is_no_softmax_stays(result: str):
    text = f"""kernel f(x: f64[M, M], y: f64[M, M]) {{
      e = exp(x[:, :] - max(x[:, :], axis=1, keepdims=true))
      y[:, :] = {result}
    }}"""
    c = case(text, {"M": 4})
    both = saved(c.func)
    assert not [op for op in both.source.walk() if isinstance(op, arith.Log)]
    np.testing.assert_allclose(ran(both.source, c)["y"], c.forward()["y"], rtol=1e-12)


def test_what_is_as_large_as_the_tensors_is_not_saved():
    c = case("kernel f(x: f64[M, N], y: f64[N]) { y[:] = sum(x[:, :] * x[:, :], axis=0) }", DIMS)
    assert saved(c.func).names == ("saved0",)
    c = case("kernel f(a: f64[M], b: f64[M], y: f64[M]) { "
             "y[:] = sum(a[:][:, none] * b[:][none, :], axis=1) }", DIMS)  # fmt: skip
    assert saved(c.func).names == ()


def test_names_that_are_taken():
    c = case("kernel f(saved0: f64[M, N], y: f64[M]) { "
             "y[:] = exp(sum(saved0[:, :], axis=1)) }", DIMS)  # fmt: skip
    assert saved(c.func).names == ("saved1",)
