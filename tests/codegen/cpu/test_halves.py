"""Floats of few bits by way of f16: where processors convert that, and where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cpu import cpu_source
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.lang.text import parse
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import packed

HALF = "fpext <16 x half>"
MACHINES = {"x86-64-v2": "", "x86-64-v3": "+avx2,+fma,+f16c"}
DTYPES = {t.name: t for t in (tc.f16, tc.e4m3, tc.e5m2)}
WIDEN = """kernel widen(x: KIND[N], y: f32[N]) {
  for n in tiles(N) { y[n] = cast(x[n], f32) }
}"""
NVFP4 = "e2m1<group=16, scale=e4m3<tensor, scale=f32>>"


@pytest.fixture(scope="module", params=["host", *MACHINES])
def machine(request: pytest.FixtureRequest) -> Engine:
    """This processor, and what of it converts f16 or does not."""
    if request.param == "host":
        return Engine(Cache(None), host_machine())
    return Engine(Cache(None), host_machine(request.param, MACHINES[request.param]))


@pytest.mark.parametrize("name", DTYPES)
def test_every_pattern_is_the_same_number(machine, name):
    """With its sign, also below the least normal number and of what is none."""
    t = DTYPES[name]
    count = 1 << t.bits
    raw = np.arange(count).astype(f"u{t.bits // 8}")
    definition = parse(WIDEN.replace("KIND", name))["widen"]
    source = cpu_source(definition, {"x": t, "y": tc.f32}, {"N": count}, machine)
    y = np.full(count, 7.0, np.float32)
    compiled = machine.load(source)
    machine.dispatcher("widen", lambda _: compiled).launch(raw.view(t.numpy), y)
    with np.errstate(invalid="ignore"):
        want = t.from_storage(raw.view(t.numpy)).astype(np.float32)
    same = (y.view(np.uint32) == want.view(np.uint32)) | (np.isnan(y) & np.isnan(want))
    assert same.all(), raw[~same]


def test_scales_below_the_least_normal_number_take_part():
    """Every pattern of e4m3 that is a number, as the scale of one group in a row times nvfp4; each
    is read in one conversion, and no row of scales is written to memory."""
    format, shape = tc.format(NVFP4), (256, 64)
    rng = np.random.default_rng(0)
    parts = {c.name: np.ones([int(str(d)) for d in c.shape]) for c in format.components(shape)}
    parts["codes"] = rng.choice(from_raw(CODES["e2m1"], np.arange(16)), shape)
    scales = tc.e4m3.from_storage(np.arange(256, dtype=np.uint8).view(tc.e4m3.numpy))
    scales = np.where(np.isnan(scales), 1.0, scales)
    parts["scale.codes"] = scales[:, None].repeat(4, 1)
    w = packed(format, parts, shape)
    x = tc.bf16.round(rng.standard_normal((1, 64)))
    y = np.full((1, 256), np.nan, np.float32)
    kernels.linear(x.astype(tc.bf16.numpy), w, y)
    want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
    assert np.all(np.abs(y - want) <= 1e-6 * np.abs(scales) * 6 * np.abs(x).sum())
    engine = Engine(Cache(None), host_machine("emeraldrapids", "+avx2,+fma,+f16c,+avx512f,"
                    "+avx512bw,+avx512vl,+avx512dq,+avx512bf16"))  # fmt: skip
    types, dims = {"x": tc.bf16, "w": format, "y": tc.f32}, {"M": 1, "N": 256, "K": 64}
    text = cpu_source(kernels.linear.definition, types, dims, engine).text
    assert text.count(HALF) == 4
