"""The text that is printed means what the program does: names, lines, and order of evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.artifacts import triton_source
from tilec.lang.text import parse
from tilec.runtime.triton import compile_for, interpreted
from tilec.sass import stats_of

pytest.importorskip("triton")
from triton_ptx import executed

# Names that the text uses itself, an index that is a number, a counter as an index, a value made
# from a carried one before that changes and read after, and a line longer than a page.
HARD = """kernel hard(pid: f32[M, N], tl: f32[N]) {
  for n in tiles(N) {
    lambda = pid[2, n]
    total = zeros([n], f32)
    for i in range(size(M)) {
      twice = lambda * 2.0
      lambda = lambda + pid[i, n] * cast(i, f32)
      total = total + twice
    }
    tl[n] = maximum(total + lambda * 1.5, -1000.0) * maximum(lambda + 0.25, -1000.0) + maximum(total, 0.5) * (total + lambda)
  }
}"""  # noqa: E501


def test_hard_to_print() -> None:
    source = triton_source(parse(HARD)["hard"], {})
    assert max(map(len, source.text.splitlines())) <= 100
    x = np.random.default_rng(3).standard_normal((4, 9)).astype(np.float32)
    data = {"pid": x, "tl": np.full(9, np.nan, np.float32)}
    value, total = x[2].astype(float), np.zeros(9)
    for i in range(4):
        total = total + value * 2.0
        value = value + x[i] * i
    want = (total + value * 1.5) * (value + 0.25) + np.maximum(total, 0.5) * (total + value)
    np.testing.assert_allclose(interpreted(source, data)["tl"], want, rtol=1e-5)
    assert "ld.global" in compile_for(source, "sm_90")["ptx"]


LACKING = """kernel f(x: f32[M, 48], y: i8[M, 48], z: f16[M]) {
  for m in tiles(M) {
    v = tanh(x[m, :])
    y[m, :] = cast(v * 127.0, i8, saturate=true)
    z[m] = cast(max(v, axis=1) - min(v, axis=1), f16)
  }
}"""
PRODUCT = """kernel f(x: A[M, K], w: A[N, K], y: B[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], B)
    for k in tiles(K, block=16) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}"""


def test_functions_that_triton_lacks_compile() -> None:
    source = triton_source(parse(LACKING)["f"], {})
    for name in ("tanh", "rint", "clip", "nan_max", "nan_min"):
        assert source.text.count(f"def {name}(") == 1
    (stats,) = stats_of(compile_for(source, "sm_90").cubin)
    assert stats.code.count("FMNMX.NAN")


@pytest.mark.parametrize(
    ("a", "b", "instruction"), [("e4m3", "f32", "QGMMA"), ("i8", "i32", "IGMMA")]
)
def test_products_of_bytes_with_short_tiles(a: str, b: str, instruction: str) -> None:
    """A step of k is padded to the 32 elements that an instruction takes."""
    text = PRODUCT.replace("A[", f"{a}[").replace("B", b)
    (stats,) = stats_of(compile_for(triton_source(parse(text)["f"], {}), "sm_90").cubin)
    assert stats.code.count(instruction)


SIZES = """kernel f(y: i32[M]) {
  for m in tiles(M, block=8) { y[m] = zeros([m], i32) + size(m) * 100 + m.stop }
}"""


def test_the_last_tile_is_as_long_as_what_is_left() -> None:
    given = {"y": np.full(21, -1, np.int32)}
    assert executed(triton_source(parse(SIZES)["f"], {"M": 21}), given).clean
    assert given["y"].tolist() == [808] * 8 + [816] * 8 + [521] * 5
