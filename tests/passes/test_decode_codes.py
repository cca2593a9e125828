"""Codes of tables by arithmetic: equal to the bit, and 0 outside of memory whatever code 0 is."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.dtype import f32
from tilec.ir.interpret import interpret
from tilec.ir.types import Memory
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run

PICKED = """kernel picked(w: TYPE[N, K], i: i32[P], y: f32[P, K]) {
  for p in tiles(P) { y[p, :] = cast(w[i[p], :], f32) }
}"""
TYPES = [name for name, t in CODES.items() if t.kind == "code"]


@pytest.mark.parametrize("name", TYPES)
def test_every_code(name):
    t = CODES[name]
    values = from_raw(t, np.arange(1 << t.bits)).reshape(2, -1)
    i = np.array([1, 2, 0, -1], np.int64)
    pipeline = f"specialise{{N=2 K={values.shape[1]} P=4}},decode-codes,tile"
    func = run(parse_pipeline(pipeline), parse(PICKED.replace("TYPE", name))["picked"].ir())
    assert all(p.type.dtype.kind != "code" for p in func.params if isinstance(p.type, Memory))
    y = np.full((4, values.shape[1]), 77.0)
    raw = np.arange(1 << t.bits).reshape(2, -1)
    interpret(func, {"w": raw, "i": i, "y": y}, {})
    want = np.where(((i >= 0) & (i < 2))[:, None], values[np.clip(i, 0, 1)], 0.0)
    np.testing.assert_array_equal(y, f32.round(want))


def test_codes_that_are_kept_stay_codes():
    text = "kernel f(w: e2m1[N], y: e2m1[N]) { for n in tiles(N) { y[n] = w[n] } }"
    func = parse(text)["f"].ir()
    assert run(parse_pipeline("decode-codes"), func) is func
