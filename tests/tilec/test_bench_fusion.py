"""The suite of fused programs: right results, counted kernels and bytes, and memory; no time."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.bench import layers
from tilec.bench.fusion import make, peak
from tilec.bench.layers import Case
from tilec.ir.errors import TileError

SMALL = [
    (Case("softmax", (5, 70), "f32"), 1),
    (Case("layer-norm", (5, 70), "bf16"), 1),
    (Case("rotary", (2, 3, 24), "bf16"), 1),
    (Case("rms-linear", (3, 72, 256), "bf16", "int4"), 1),
    (Case("mlp", (2, 128, 256), "bf16", "int4"), 1),
    (Case("cross-entropy", (20, 300), "f32"), 1),
    (Case("linear-cross-entropy", (20, 300, 64), "bf16", "bf16"), 1),
]


@pytest.mark.parametrize(("case", "kernels"), SMALL, ids=str)
def test_ours_is_right_in_few_kernels(case: Case, kernels: int):
    about = make("tilec", case).about
    assert about["kernels"] == kernels < about["unfused_kernels"]
    assert about["compulsory"] <= about["moved"]


def test_a_wrong_result_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layers, "EPS", 0.5)
    case = Case("rms", (4, 64), "f32")
    right = layers.layer(case)
    monkeypatch.setitem(layers.LAYERS, "rms", lambda _: right)
    monkeypatch.setattr(layers, "EPS", 1e-6)
    with pytest.raises(TileError, match="tilec is wrong in rms 4x64 f32"):
        make("tilec", case)


def test_an_unknown_contender_is_refused():
    with pytest.raises(TileError, match="no contender is called 'jax'"):
        make("jax", SMALL[0][0])


def test_the_peak_counts_what_a_call_touches():
    size = 32 << 20
    assert size <= peak(lambda: np.ones(size, np.uint8)) < size + (4 << 20)
