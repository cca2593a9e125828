"""Tiles that are read several times: computed once a vector, in registers where that may be."""

from __future__ import annotations

import numpy as np
import pytest

import tilec as tc
from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source
from tilec.lang.text import parse

DEEP = 24  # levels: each is read twice, so that without care there would be 2**24 of the first


def chained(step: str) -> Kernel:
    """y = a tile of which every level is made of the one before, read twice."""
    lines = [f"v{i + 1} = {step.replace('V', f'v{i}')}" for i in range(DEEP)]
    text = f"""kernel chained(x: f32[M, N], r: f32[M], y: f32[M, N]) {{
      for m, n in tiles(M, N) {{
        v0 = x[m, n] * 0.25
        {chr(10).join(lines)}
        y[m, n] = v{DEEP}
      }}
    }}"""
    return Kernel(parse(text)["chained"])


STEPS = {
    "V * 0.5 + V * V": lambda v, r: v * 0.5 + v * v,
    "V / r[m][:, none] - 0.1 * V": lambda v, r: v / r[:, None] - 0.1 * v,  # by rows: with a branch
    "where(n.index < 11, V, -0.5 * V) + 0.1 * V": lambda v, r: np.where(
        np.arange(v.shape[1]) < 11, v, -0.5 * v
    ) + 0.1 * v,
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_level_is_computed_once(step: str):
    kernel, rng = chained(step), np.random.default_rng(0)
    x = rng.uniform(-1, 1, (7, 75)).astype(np.float32)
    r = rng.uniform(1, 2, 7).astype(np.float32)
    y = np.full(x.shape, np.nan, np.float32)
    kernel(x, r, y)
    want = x.astype(np.float64) * 0.25
    for _ in range(DEEP):
        want = STEPS[step](want, r.astype(np.float64))
    assert np.linalg.norm(y - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("step", STEPS)
def test_code_grows_with_the_levels(step: str):
    types, dims = dict.fromkeys("xry", tc.f32), {"M": 7, "N": 64}
    text = cpu_source(chained(step).definition, types, dims, engine()).text
    assert len(text.splitlines()) < 150 * DEEP


@tc.kernel
def meeting(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        v = x[m, n] * 0.5 + 1.0
        y[m, n] = v * tc.exp(v)


@tc.kernel
def parting(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"], z: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        v = tc.exp(x[m, :])
        z[m] = tc.sum(v, 1)
        y[m, :] = v


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (2, 3), (3, 40)])
def test_tiles_of_any_size(shape: tuple[int, int]):
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    y = np.full(shape, np.nan, np.float32)
    meeting(x, y)
    v = x.astype(np.float64) * 0.5 + 1.0
    np.testing.assert_allclose(y, v * np.exp(v), rtol=1e-6)


def test_only_what_is_read_at_several_times_is_kept_in_memory():
    types, dims = {"x": tc.f32, "y": tc.f32, "z": tc.f32}, {"M": 64, "N": 256}
    together = cpu_source(meeting.definition, {n: types[n] for n in "xy"}, dims, engine())
    apart = cpu_source(parting.definition, types, dims, engine())
    assert together.workspace == 0
    assert apart.workspace > 0
