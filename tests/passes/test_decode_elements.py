"""Decoded formats in the interpreter: the ops of the pass mean what the format says."""

import numpy as np
import pytest

from tilec.ir.fit import Fit, encode
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run

PIPELINE = "specialise{N=9 K=1100},decode-elements,tile,lower-formats,canonicalize"
DECODE = """kernel decode(w: FORMAT[N, K], y: TYPE[N, K]) {
  for n, k in tiles(N, K) { y[n, k] = w[n, k] }
}"""


@pytest.mark.parametrize(
    "text",
    ["coded<bf16>", "coded<f16, 4>", "coded<f32>", "planes<int3<group=64>, 2, 1>", "planes<q4_k>",
     "fp6_llm", "planes<nf4<rows=4, group=100, scale=bf16>, 1, 3>", "planes<e3m4_ieee<tensor>>",
     "planes<bipolar3<channel>>", "planes<uint6<rows=2, channel, zero=shift>, 5, 1>"],
)  # fmt: skip
def test_the_ops_give_the_values(text):
    """Whole tiles and odd ones, equal to the bit."""
    format, shape = named(text), (9, 1100)
    parts = encode(format, np.random.default_rng(0).standard_normal(shape), Fit())
    want = format.values(parts, shape)
    source = DECODE.replace("FORMAT", str(format)).replace("TYPE", str(format.value))
    func = run(parse_pipeline(PIPELINE), parse(source)["decode"].ir())
    y = np.full(shape, np.nan)
    interpret(func, {"y": y} | {f"w.{n}": p for n, p in parts.items()}, {})
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(want))
