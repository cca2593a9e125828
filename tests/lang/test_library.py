"""The functions of the language's own library: against numpy, in every float, in both spellings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import tilec as tc
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.interpret import interpret
from tilec.ir.text import show
from tilec.lang.python import library
from tilec.lang.text import parse

X = np.random.default_rng(0).standard_normal((5, 8)) * 3
ERF = np.vectorize(math.erf)


def _sum(x: Array) -> Array:
    return x.sum(-1, keepdims=True)


def _log_sum_exp(x: Array) -> Array:
    return np.log(_sum(np.exp(x)))


def _normal(x: Array) -> Array:
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


WANT: dict[str, Callable[[Array], Array]] = {
    "sigmoid(x)": lambda x: 1 / (1 + np.exp(-x)),
    "silu(x)": lambda x: x / (1 + np.exp(-x)),
    "relu(x)": lambda x: np.maximum(x, 0),
    "softplus(x)": lambda x: np.log1p(np.exp(x)),
    "gelu(x)": lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelu_tanh(x)": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "swiglu(x, x + 1.0)": lambda x: x / (1 + np.exp(-x)) * (x + 1),
    "soft_cap(x, 2.0)": lambda x: 2 * np.tanh(x / 2),
    "mean(x)": lambda x: x.mean(-1),
    "mean(x, axis=0, keepdims=true)": lambda x: x.mean(0, keepdims=True),
    "softmax(x)": lambda x: np.exp(x) / _sum(np.exp(x)),
    "softmax(x, axis=0)": lambda x: np.exp(x) / np.exp(x).sum(0),
    "top_k(x, 3)[0]": lambda x: -np.sort(-x)[:, :3],
    "log_sum_exp(x)": lambda x: _log_sum_exp(x)[:, 0],
    "log_sum_exp(x, axis=0)": lambda x: np.log(np.exp(x).sum(0)),
    "log_softmax(x)": lambda x: x - _log_sum_exp(x),
    "rms_norm(x, x[0], 1e-5)": lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * x[0],
    "layer_norm(x, x[0], x[1])": lambda x: _normal(x) * x[0] + x[1],
    "cross_entropy(x, arange(M))": lambda x: _log_sum_exp(x)[:, 0] - x[range(5), range(5)],
    "rotary(x, x[:, :4], x[:, 4:])": lambda x: np.concatenate(
        [x[:, :4] ** 2 - x[:, 4:] ** 2, 2 * x[:, :4] * x[:, 4:]], -1
    ),
}
NEAR = {"f64": 1e-14, "f32": 1e-6, "f16": 2e-3, "bf16": 1.6e-2}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("call", WANT)
def test_right(call: str, dtype: str) -> None:
    (program,) = parse(f"program p(x: {dtype}[M, 8]) {{ return {call} }}").values()
    func = program.ir()
    out = func.params[1].type
    wide = call.startswith("cross_entropy") and dtype != "f64"
    assert out.dtype == BY_NAME["f32" if wide else dtype]  # type: ignore[union-attr]
    x = BY_NAME[dtype].round(X)
    want = WANT[call](x)
    result = np.full(want.shape, np.nan)
    interpret(func, {"x": x.copy(), "result": result}, {"M": 5})
    assert np.linalg.norm(result - want) <= NEAR[dtype] * np.linalg.norm(want)


def test_every_function_is_tested() -> None:
    called = {call.partition("(")[0] for call in WANT}
    assert called == library().keys() - {"narrow"}


def test_large_elements_overflow_nothing() -> None:
    text = "program p(x: f32[N]) { return softmax(x), log_sum_exp(x), softplus(x), silu(x) }"
    func = parse(text)["p"].ir()
    x = np.array([-1e30, 1000.0, 1001.0])
    found = {f"result{i}": np.full(() if i == 1 else 3, np.nan) for i in range(4)}
    interpret(func, {"x": x, **found}, {"N": 3})
    e = math.exp(-1)
    assert np.allclose(found["result0"], [0, e / (1 + e), 1 / (1 + e)])
    assert np.allclose(found["result1"], 1001 + math.log(1 + e))
    assert np.allclose(found["result2"], [0, 1000, 1001])
    assert np.allclose(found["result3"], [0, 1000, 1001])


@tc.kernel
def rows(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        y[m, :] = tc.softmax(x[m, :]) + tc.mean(x[m, :], keepdims=True)


def test_kernels_have_them_too() -> None:
    text = """kernel rows(x: f16[M, N], y: f32[M, N]) {
      for m in tiles(M) { y[m, :] = softmax(x[m, :]) + mean(x[m, :], keepdims=true) }
    }"""
    assert show(parse(text)["rows"].ir()) == show(rows.ir(x=tc.f16, y=tc.f32))


def test_a_function_of_the_file_comes_first() -> None:
    text = """fn relu(x) { return x * 3.0 }
    program p(x: f32[M]) { return relu(x) }"""
    func = parse(text)["p"].ir()
    x = np.array([-1.0, 2.0])
    result = np.zeros(2)
    interpret(func, {"x": x, "result": result}, {"M": 2})
    assert result.tolist() == [-3.0, 6.0]


def test_outside_of_programs_they_say_so() -> None:
    with pytest.raises(tc.TileError, match=r"tc\.softmax is called outside a kernel"):
        tc.softmax(X)
    assert "softmax" in dir(tc)
    with pytest.raises(AttributeError):
        tc.no_such_function  # noqa: B018
