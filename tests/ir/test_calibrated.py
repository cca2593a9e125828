"""Rounding with inputs: nearer to the outputs than rounding to nearest, with the same scales."""

import numpy as np
import pytest

import tilec as tc
from tilec.ir.errors import TileError


def correlated(samples, k):
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, k // 4)) @ rng.standard_normal((k // 4, k)) + 0.1


@pytest.mark.parametrize("text", ["int4<group=32>", "uint3<channel, zero=int>", "int2<tensor>",
                                  "uint4<group=48, zero=shift>"])  # fmt: skip
def test_outputs_are_nearer(text):
    x = correlated(256, 128)
    weight = np.random.default_rng(1).standard_normal((40, 128))
    errors = []
    for inputs in (None, x):
        w = tc.quantize(weight, tc.format(text), inputs=inputs)
        errors.append(np.linalg.norm(x @ (w.dequantize() - weight).T))
    assert errors[1] < 0.75 * errors[0]


def test_inputs_without_correlation_change_little():
    weight = np.random.default_rng(1).standard_normal((40, 64))
    plain = tc.quantize(weight, tc.int4(group=32))
    with_identity = tc.quantize(weight, tc.int4(group=32), inputs=np.eye(64))
    assert np.array_equal(plain.dequantize(), with_identity.dequantize())


def test_one_input_and_dead_columns():
    weight = np.random.default_rng(1).standard_normal((8, 64))
    x = np.zeros((1, 64))
    x[0, 3] = 2.0
    assert np.isfinite(tc.quantize(weight, tc.int3(group=16), inputs=x).dequantize()).all()
    assert np.isfinite(tc.quantize(weight, tc.int3(group=16), inputs=x * 0).dequantize()).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            np.ones((4, 63)),
            r"inputs are \[4, 63\], expected \[samples, K\] beside weights \[8, 64\]",
        ),
        (np.ones((0, 64)), "inputs are"),
        (np.ones(64), "inputs are"),
        (np.full((4, 64), np.nan), "not finite"),
    ],
)
def test_bad_inputs(inputs, message):
    with pytest.raises(TileError, match=message):
        tc.quantize(np.ones((8, 64)), tc.int4(), inputs=inputs)
