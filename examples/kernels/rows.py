"""Functions of the rows of a matrix: norms, gates of experts, quantisation, a running sum."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import math

import tilec as tc


@tc.kernel
def rms_norm(x: tc.Tensor["M", "N"], gain: tc.Tensor["N"], y: tc.Tensor["M", "N"], eps: tc.f32):
    """y = x / sqrt(mean(x^2) + eps) * gain (Zhang, Sennrich 2019)"""
    for m in tc.tiles("M"):
        row = x[m, :].to(tc.f32)
        mean = tc.sum(row * row, axis=1, keepdims=True) / tc.size("N")
        y[m, :] = row * tc.rsqrt(mean + eps) * gain[:]


@tc.kernel
def running_sum(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    """y[m, n] = x[m, 0] + ... + x[m, n], a tile of columns at a time"""
    for m in tc.tiles("M"):
        before = tc.zeros((m, 1))
        for n in tc.tiles("N"):
            part = x[m, n].to(tc.f32)
            y[m, n] = before + tc.cumsum(part, axis=1)
            before += tc.sum(part, axis=1, keepdims=True)


@tc.kernel
def quantise_rows(x: tc.Tensor["M", "N"], q: tc.Tensor["M", "N", tc.i8], scale: tc.Tensor["M"]):
    """q * scale = x, with the largest of each row at 127"""
    for m in tc.tiles("M"):
        row = x[m, :].to(tc.f32)
        step = tc.maximum(tc.max(tc.abs(row), axis=1), 1e-30) / 127.0
        q[m, :] = tc.cast(row / step[:, None], tc.i8, saturate=True)
        scale[m] = step


@tc.kernel
def top_gate(
    logits: tc.Tensor["T", "E"], expert: tc.Tensor["T", "K", tc.i32], weight: tc.Tensor["T", "K"]
):
    """The K experts of each token with the largest logits, and softmax over those logits."""
    for t in tc.tiles("T"):
        left = logits[t, :].to(tc.f32)
        first = tc.max(left, axis=1)
        weights = tc.zeros((t, "K"))
        for k in range(tc.size("K")):
            best = tc.argmax(left, axis=1)
            value = tc.exp(tc.max(left, axis=1) - first)
            expert[t, k] = best
            weights = tc.where(tc.arange("K") == k, value[:, None], weights)
            left = tc.where(tc.arange("E") == best[:, None], -math.inf, left)
        weight[t, :] = weights / tc.sum(weights, axis=1, keepdims=True)
