"""Bytes and operations of kernels, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tilec as tc
from tilec.explain import explain
from tilec.lang.text import parse
from tilec.profile.calls import kinds
from tilec.profile.roofline import Ceilings
from tilec.profile.work import Work, counted, work

CASES = {
    "product": ("""kernel k(x: f16[M, K], w: f16[N, K], y: f32[M, N]) {
      for m, n in tiles(M, N) {
        acc = zeros(f32, [m, n])
        for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
        y[m, n] = acc
      }
    }""", {"x": (6, 32), "w": (10, 32), "y": (6, 10)}, 2 * 6 * 10 * 32,
        2 * 6 * 32 + 2 * 10 * 32 + 4 * 60, "half"),
    "pinned tiles": ("""kernel k(x: f32[M, K], w: f32[N, K], y: f32[M, N]) {
      for m, n in tiles(M, N, block=(4, 8)) {
        acc = zeros(f32, [m, n])
        for k in tiles(K, block=16) { acc += dot(x[m, k], w[n, k].T) }
        y[m, n] = acc
      }
    }""", {"x": (8, 32), "w": (16, 32), "y": (8, 16)}, 2 * 8 * 16 * 32,
        4 * (8 * 32 + 16 * 32 + 8 * 16), "f32"),
    "row sums": ("""kernel k(x: f32[M, N], y: f32[M]) {
      for m in tiles(M) { y[m] = sum(x[m, :] * x[m, :], axis=1) }
    }""", {"x": (5, 7), "y": (5,)}, 2 * 35, 4 * 40, "f32"),
    "sums of sums": ("""kernel k(x: f32[M, K], y: f32[M]) {
      for m in tiles(M) {
        acc = zeros(f32, [m])
        for k in tiles(K, block=16) { acc += sum(x[m, k], axis=1) }
        y[m] = acc
      }
    }""", {"x": (5, 40), "y": (5,)}, 5 * 40 + 3 * 5, 4 * 205, "f32"),
    "elementwise": ("""kernel k(x: f32[M], y: f32[M]) {
      for m in tiles(M) { y[m] = exp(x[m]) * x[m] - 1.0 }
    }""", {"x": (9,), "y": (9,)}, 3 * 9, 4 * 18, "f32"),
    "a copy": ("""kernel k(x: f32[M], y: f32[M]) {
      for m in tiles(M) { y[m] = x[m] }
    }""", {"x": (9,), "y": (9,)}, 0, 4 * 18, "f32"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_work_by_hand(name):
    text, shapes, operations, compulsory, operands = CASES[name]
    (definition,) = parse(text).values()
    small = {n for n in shapes if f"{n}: f16" in text}
    arrays = [np.ones(s, np.float16 if n in small else np.float32) for n, s in shapes.items()]
    found = work(definition, kinds(list(shapes), arrays, {}))
    assert found.operations == operations
    assert found.compulsory == compulsory
    assert found.operands == operands


def test_attention_is_mostly_its_products():
    @tc.program
    def attention(q: tc.Tensor["M", "D"], k: tc.Tensor["N", "D"], v: tc.Tensor["N", "D"]):
        return tc.softmax(q @ k.T) @ v

    q, k = np.ones((8, 64), np.float32), np.ones((16, 64), np.float32)
    found = work(attention.definition, kinds(["q", "k", "v"], [q, k, k], {}))
    products = 2 * (2 * 8 * 16 * 64)
    assert products < found.operations < products + 8 * 8 * 16
    assert found.compulsory == 4 * (2 * 8 * 64 + 2 * 16 * 64)
    assert found.dims == {"M": 8, "D": 64, "N": 16}


def test_the_least_time_is_of_what_bounds_it():
    rates = {"f32": 4.0, "half": 8.0, "int8": 20.0}
    here = Ceilings("", 1, ((100, 50.0), (1000, 10.0)), rates)
    assert (here.bandwidth(100), here.bandwidth(101), here.bandwidth(5000)) == (50, 10, 10)
    assert here.least(Work({}, {}, 0, 100, 4, "f32")) == (2.0, "memory")
    assert here.least(Work({}, {}, 0, 100, 40, "f32")) == (10.0, "arithmetic")
    assert here.least(Work({}, {}, 0, 100, 40, "half")) == (5.0, "arithmetic")
    assert here.least(Work({}, {}, 0, 10, 40, "int8")) == (2.0, "arithmetic")
    assert here.least(Work({}, {}, 0, 100, 40, "half", sparse=True)) == (2.0, "memory")


def test_what_is_no_tensor_is_left_out():
    x = np.ones((2, 3), np.float32)
    (found,) = kinds(["x", "s", "o"], [x, 1.5, object()], {})
    assert found[0] == "x"
    assert (found[1].type, found[1].shape, found[1].device) == ("f32", (2, 3), "cpu")
    assert kinds(["x"], [], {"y": x})[0][0] == "y"


PRODUCT = """kernel k(x: {x}[M, K], w: {w}[N, K], y: f32[M, N]) {{
  for m, n in tiles(M, N) {{
    acc = zeros(f32, [m, n])
    for k in tiles(K) {{ acc += dot(x[m, k], w[n, k].T) }}
    y[m, n] = acc
  }}
}}"""


@pytest.mark.parametrize(("x", "w", "operands"), [
    ("f32", "f32", "f32"), ("f32", "int4<group=32>", "f32"), ("bf16", "bf16", "half"),
    ("f16", "int4<group=32>", "half"), ("i8", "i8", "int8"), ("e4m3", "e4m3", "fp8"),
    ("dynamic<int8<group=64>, bf16>", "int4<group=64>", "int8"),
    ("int8<group=32>", "bf16", "half"), ("bf16", "nm<2, 4, bf16>", "half"),
    ("dynamic<int8<group=64>, bf16>", "mxfp4", "half"),
])  # fmt: skip
def test_what_products_are_of(x, w, operands):
    (definition,) = parse(PRODUCT.format(x=x, w=w)).values()
    assert counted(explain(definition, {}, {"M": 4, "N": 64, "K": 128}), {}).operands == operands
