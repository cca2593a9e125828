"""Launches of `tilec.ops.quantised`, small enough for emulation: codes may be one off where a
quotient is half between two."""

from __future__ import annotations

import numpy as np
from launches import Case
from op_launches import f32
from program_launches import EPS, case
from sparse_kernels import normal

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ops import quantised


def rounded(values: Array, scale: Array) -> Array:
    """The codes in i8, none so close to half between two that its rounding is open."""
    quotient = values / scale
    assert (np.abs(np.abs(quotient) % 1 - 0.5) > 1e-4).all()
    return np.rint(quotient).astype(np.int8)


def activated() -> Case:
    """Two groups of columns; the weight is in int4."""
    x, bias = f32(3, 32, seed=SEED), f32(256, seed=2)
    w = tc.quantize(normal(256, 32, seed=1), "int4<group=32>")
    y = x.astype(float) @ w.dequantize().astype(float).T + bias
    y /= 1 + np.exp(-y)
    scale = np.abs(y.reshape(3, 2, 128)).max(2) / 127
    codes = rounded(y, np.repeat(scale, 128, axis=1))
    given = {"x": x, "w": w, "bias": bias, "top": 127.0}
    return Case("linear_silu", quantised.linear_silu, given, {"codes": codes, "scale": scale}, 2e-6)


def thinned(name: str) -> Case:
    """Three groups, one of zeros; codes in i8, or in e4m3."""
    x, a = f32(11, 192), f32(8, 192, seed=1)
    x[4, 64:128] = 0
    top, t = (127.0, tc.i8) if name == "low_rank_down" else (448.0, tc.e4m3)
    scale = (np.abs(x.reshape(11, 3, 64)).max(2) / np.float32(top)).astype(np.float32)
    wide = np.repeat(np.where(scale > 0, scale, 1), 64, axis=1)
    codes = t.to_storage(t.round((x / wide).astype(np.float32).astype(float), saturate=True))
    given = {"x": x, "a": a, "top": top}
    want = {
        "codes": codes,
        "scale": scale.astype(float),
        "thin": x.astype(float) @ a.T.astype(float),
    }
    return Case(name, quantised.low_rank_down, given, want, 1e-6)


def widened() -> Case:
    """Codes of both operands, and a branch of rank 8."""
    x = tc.quantize(normal(9, 128), "int8<group=64, scale=f32>")
    w = tc.quantize(normal(40, 128, seed=1), "int4<group=64>")
    thin, b = f32(9, 8, seed=2), f32(40, 8, seed=3)
    want = x.dequantize().astype(float) @ w.dequantize().astype(float).T
    want = want + thin.astype(float) @ b.T.astype(float)
    given = {"x": x, "w": w, "thin": thin, "b": b}
    return Case("low_rank_up", quantised.low_rank_up, given, {"y": want}, 1e-6)


def normed(name: str) -> Case:
    """Rows of 70."""
    x, gain = f32(5, 70, seed=SEED), f32(70, seed=1)
    z = x.astype(float)
    y = z / np.sqrt((z * z).mean(1, keepdims=True) + EPS) * gain
    scale = np.abs(y).max(1, keepdims=True) / 127
    codes = rounded(y, scale)
    given = {"x": x, "gain": gain, "eps": EPS}
    if name == "quantised.rms":
        return case(name, quantised.rms, given, (codes, scale), 2e-6)
    w = np.random.default_rng(2).integers(-128, 128, (20, 70)).astype(np.int8)
    scales = np.abs(f32(20, seed=3))
    want = (codes.astype(float) @ w.T.astype(float)) * scale * scales
    given = {"x": x, "gain": gain, "w": w, "scales": scales, "eps": EPS}
    return case(name, quantised.rms_linear, given, want, 2e-6)


SEED = 0  # of numbers that no rounding error brings to another code
CASES = {
    c.name: c
    for c in (activated(), thinned("low_rank_down"), thinned("low_rank_down e4m3"), widened(),
              normed("quantised.rms"), normed("quantised.rms_linear"))
}  # fmt: skip
