"""Whole numbers as sums of bits, and products of them on the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from formats import random_parts, scaled

from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, integer
from tilec.ir.interpret import interpret
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run
from tilec.passes.bit_planes import digits
from tilec.passes.whole import values

LINEAR = """kernel linear(x: %s[M, K], w: %s[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}"""
TABLES = ("bipolar", "sm", "ternary", "iq4")
WHOLE = [*(integer(b, s) for b in range(1, 9) for s in (True, False)),
         *(t for n, t in CODES.items() if n.startswith(TABLES))]  # fmt: skip


@pytest.mark.parametrize("t", WHOLE, ids=str)
def test_bits_add_up_to_every_value(t):
    for middle in {0, 1 << t.bits - 1 if t.kind == "uint" else 0}:
        numbers = from_raw(t, np.arange(1 << t.bits)).astype(np.int64) - middle
        found = digits(numbers.astype(float))
        assert found is not None
        shifted = numbers - found.constant >> found.away
        bits = [shifted >> j & 1 for j in range(len(found.weights))]
        total = sum(w * b for w, b in zip(found.weights, bits, strict=True))
        assert np.array_equal(found.constant + total, numbers)
        assert len(found.weights) <= t.bits + (t.name == "iq4") * 4


def test_no_bit_is_spent_on_what_needs_none():
    for name, zero, weights in (
        ("bipolar1", "", (2,)), ("bipolar3", "", (2, 4, 8)), ("uint2", "", (1, -2)),
        ("uint2", ", zero=none", (1, 2)), ("int4", "", (1, 2, 4, -8)), ("int1", "", (-1,)),
        ("uint1", "", (-1,)), ("uint1", ", zero=none", (1,)), ("ternary", "", (1, -2)),
    ):  # fmt: skip
        found = digits(values(scaled(f"{name}<channel{zero}>")))
        assert found is not None
        assert found.weights == weights, name
        assert bool(found.constant) == name.startswith("bipolar")


@pytest.mark.parametrize("name", ["nf4", "e2m1", "fixed8", "e4m3"])
def test_other_numbers_have_no_digits(name):
    assert digits(values(scaled(f"{name}<channel>"))) is None


@pytest.mark.parametrize("first", ["int2", "bipolar1", "bipolar2", "uint3"])
@pytest.mark.parametrize("second", ["bipolar1", "bipolar2", "int3", "ternary", "uint2"])
def test_the_meaning_is_that_of_the_product(first, second):
    """The whole numbers of an edge step too: tiles of 5 x 6 x 16 on 7 x 9 x 43, exact."""
    m, n, k = 7, 9, 43
    x, w = scaled(f"{first}<channel>"), scaled(f"{second}<group=32, scale=f32>")
    func = parse(LINEAR % (x, w))["linear"].ir()
    steps = (f"specialise{{M={m} N={n} K={k}}},tile{{m=5 n=6 k=16}},"
             "lower-formats{planes=64 least=1},canonicalize")  # fmt: skip
    lowered = run(parse_pipeline(steps), func)
    assert "dot" in {op.name for op in lowered.walk()}
    parts = [random_parts(f, s, exact=True) for f, s in ((x, (m, k)), (w, (n, k)))]
    arguments = {f"{name}.{c}": v for name, p in zip("xw", parts, strict=True)
                 for c, v in p.items()}  # fmt: skip
    y: Array = np.full((m, n), np.nan)
    interpret(lowered, {**arguments, "y": y}, {})
    a, b = x.values(parts[0], (m, k)), w.values(parts[1], (n, k))
    assert np.array_equal(y, a @ b.T)
