"""Scans by vectors of every length, and sums in memory that all threads add to."""

import re

import numpy as np
import pytest
from conformance import accumulates

from tilec.codegen.cpu import emit
from tilec.compile import Kernel
from tilec.ir.dtype import BY_NAME
from tilec.ir.source import Param
from tilec.lang.text import parse

ROWS = """
kernel k(x: {t}[M, N], y: {t}[M, N], z: {t}[M, N]) {{
  for m, n in tiles(M, N, block=[2, {block}]) {{
    y[m, n] = cumsum(x[m, n], axis=1)
    z[m, n] = cumsum(x[m, n] + x[m, n], axis=1, reverse=true)
  }}
}}
"""


@pytest.mark.parametrize("t", ["f32", "f64", "i32", "i8", "u16"])
@pytest.mark.parametrize("block", [1, 7, 16, 33, 48, 70])
def test_rows_of_every_length(t, block):
    kind = BY_NAME[t].numpy
    x = np.random.default_rng(block).integers(0, 3, (5, 70)).astype(kind)
    y, z = np.full_like(x, 99), np.full_like(x, 99)
    Kernel(parse(ROWS.format(t=t, block=block))["k"])(x, y, z)
    for i in range(0, 70, block):
        part = x[:, i : i + block]
        want = 2 * part[:, ::-1].cumsum(1)[:, ::-1]
        assert np.array_equal(y[:, i : i + block], part.cumsum(1).astype(kind))
        assert np.array_equal(z[:, i : i + block], want.astype(kind))


def test_sums_are_within_the_bound():
    x = np.random.default_rng(3).standard_normal((4, 1000)).astype(np.float32)
    y, z = np.zeros_like(x), np.zeros_like(x)
    Kernel(parse(ROWS.format(t="f32", block=1000))["k"])(x, y, z)
    exact = x.astype(np.float64).cumsum(1)
    bound = 1000 * 2.0**-24 * np.abs(x.astype(np.float64)).cumsum(1)
    assert (np.abs(y - exact) <= bound).all()


TYPES = ["f32", "f64", "f16", "bf16", "e4m3", "e5m2", "tf32", "i8", "u8", "i16", "i32", "i64"]


@pytest.mark.parametrize("name", TYPES)
def test_no_thread_loses_what_another_adds(name):
    """All tasks add 1 and take it away again at the same two places."""
    t, count = BY_NAME[name], 1 << 19
    text = f"kernel k(i: i32[M], x: {name}[M], y: {name}[2]) " + (
        "{ for m in tiles(M, block=64) { y[i[m]] += x[m] } }")  # fmt: skip
    step = np.arange(count)
    x = t.to_storage(t.round(np.where(step % 2, -1, 1).astype(t.carrier)))
    y = np.ascontiguousarray(t.to_storage(np.full(2, 2)))
    Kernel(parse(text)["k"])((step // 2 % 2).astype(np.int32), x, y)
    assert list(t.from_storage(y)) == [2, 2]


@pytest.mark.parametrize("case", list(accumulates()), ids=lambda c: c.name)
def test_each_addition_is_one_step(case):
    """Whether one is lost is a matter of luck; not so whether the code may lose it."""
    params = tuple(
        Param(p.hint, str(p.type.dtype), p.type.shape, "tensor", i)
        for i, p in enumerate(case.func.params)
    )
    text = emit(case.func, params, "x86-64", "", threads=2).text
    wide = {"f32": "fadd ptr {}, float", "f64": "fadd ptr {}, double"}.get(str(case.out))
    whole = f"add ptr {{}}, i{case.out.bits}" if case.out.is_integer else None
    step = wide or whole
    expected = f"atomicrmw {step}" if step else f"cmpxchg ptr {{}}, i{case.out.bits}"
    assert re.search(expected.format(r"%v\d+"), text)
    assert f"store i{case.out.bits}" not in text
