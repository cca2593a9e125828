"""The text that is printed means what the program does: names, lines, and order of evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.artifacts import triton_source
from tilec.lang.text import parse
from tilec.runtime.triton import compile_for, interpreted

pytest.importorskip("triton")
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
    assert "ld.global" in str(compile_for(source, "sm_90")["ptx"])
