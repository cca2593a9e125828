"""Recurrent attention and adapters on every back end."""

from __future__ import annotations

from dataclasses import replace

import launches
import numpy as np
import pytest
from op_launches import f32
from recurrent_launches import CASES, decayed, stepped

from tilec.ops import recurrent

SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_on_this_processor(name):
    launches.on_cpu(CASES[name])


@pytest.mark.parametrize(
    "name", [n if n == "adapted" else pytest.param(n, marks=SLOW) for n in CASES]
)
def test_cuda(name):
    launches.on_cuda(CASES[name])


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_triton(name):
    pytest.importorskip("triton")
    launches.on_triton(CASES[name])


@pytest.mark.parametrize("name", ["decayed", "gated", "gated_delta"])
@pytest.mark.parametrize("t", [np.float16])
def test_narrow_numbers(name, t):
    """Tokens in f16; states and decays stay in f32."""
    case = CASES[name]
    given = {n: np.asarray(x).astype(t) if n in "qkv" else x for n, x in case.given.items()}
    launches.on_cpu(replace(case, given=given, near=4e-3))


@pytest.mark.parametrize("strong", [0.0, 1e-3, 50.0])
def test_decays_of_every_strength(strong):
    """Nothing overflows where a chunk forgets all, and nothing is lost where it forgets nothing."""
    launches.on_cpu(decayed("decayed", 200, strong))


def test_a_state_goes_on():
    """Two launches, the second from the last state of the first, are one of both."""
    q, k, v = (f32(1, 2, 90, 16, seed=s) for s in range(3))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    decay, rate = -np.abs(f32(1, 2, 90, seed=3)), np.abs(f32(1, 2, 90, seed=4)) % 1
    state = np.zeros((1, 2, 16, 16), np.float32)
    y = np.full_like(v, np.nan)
    for part in (slice(0, 37), slice(37, 90)):
        own = [np.ascontiguousarray(x[:, :, part]) for x in (q, k, v, decay, rate)]
        made, last = np.full_like(own[2], np.nan), np.full_like(state, np.nan)
        recurrent.gated_delta(*own, state, made, last)
        y[:, :, part], state = made, last
    want, last = stepped(q[0], k[0], v[0], decay[0, ..., None], np.zeros((2, 16, 16)), rate[0])
    assert np.linalg.norm(y[0] - want) <= 2e-6 * np.linalg.norm(want)
    assert np.linalg.norm(state[0] - last) <= 2e-6 * np.linalg.norm(last)


def test_keys_that_are_all_alike():
    """The worst for a chunk's system: powers of L have entries of 1e18, the solution is small."""
    k = np.ones((1, 1, 128, 16), np.float32) / 4
    q, v = k, f32(1, 1, 128, 16, seed=1)
    decay, rate = np.zeros((1, 1, 128), np.float32), np.ones((1, 1, 128), np.float32)
    first = np.zeros((1, 1, 16, 16), np.float32)
    y, last = np.full_like(v, np.nan), np.full_like(first, np.nan)
    recurrent.gated_delta(q, k, v, decay, rate, first, y, last)
    want, _ = stepped(q[0], k[0], v[0], decay[0, ..., None], first[0], rate[0])
    assert np.linalg.norm(y[0] - want) <= 2e-6 * np.linalg.norm(want)
