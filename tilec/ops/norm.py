"""Norms of rows, and what stands beside them."""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def rms(x: tc.Tensor["M", "N"], gain: tc.Tensor["N"], eps: tc.f32):
    """x / sqrt(mean(x^2) + eps) * gain of each row."""
    return tc.rms_norm(x, gain, eps)


@tc.program
def layer(x: tc.Tensor["M", "N"], gain: tc.Tensor["N"], bias: tc.Tensor["N"], eps: tc.f32):
    """(x - mean(x)) / sqrt(var(x) + eps) * gain + bias of each row."""
    return tc.layer_norm(x, gain, bias, eps)


@tc.program
def added_rms(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"], gain: tc.Tensor["N"], eps: tc.f32):
    """x + y, and its norm: a residual and what the next layer takes."""
    total = (x.to(tc.f32) + y.to(tc.f32)).to(x.dtype)
    return total, tc.rms_norm(total, gain, eps)


@tc.program
def rms_linear(
    x: tc.Tensor["M", "K"], gain: tc.Tensor["K"], w: tc.Tensor["N", "K"], eps: tc.f32
):  # fmt: skip
    """rms(x) @ w.T: what a layer begins with."""
    return (tc.rms_norm(x, gain, eps) @ w.T).to(x.dtype)


@tc.program
def softmax(x: tc.Tensor["M", "N"]):
    """exp(x) / sum(exp(x)) of each row."""
    return tc.softmax(x)
