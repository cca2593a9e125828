"""Layers that make codes: what the next quantised product reads, made where it is computed.

A scale is the largest magnitude of its row or group over `top`, the greatest code (127 for i8, 448
for e4m3); a code is the quotient, rounded to nearest. A group of zeros has the scale 0 and codes 0.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.fn
def coded(x, scale, dtype):
    """The codes of x with these scales."""
    return tc.cast(x / tc.where(scale > 0.0, scale, 1.0), dtype, saturate=True)


@tc.kernel
def linear_silu(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], bias: tc.Tensor["N"],
    codes: tc.Tensor["M", "N"], scale: tc.Tensor["M", "G"], top: tc.f32,
):  # fmt: skip
    """codes * scale = silu(x @ w.T + bias), a scale for each 128 columns: no other result."""
    for m, n in tc.tiles("M", "N", block=(None, 128)):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y = tc.silu(acc + bias[n].to(tc.f32))
        own = tc.max(tc.abs(y), axis=1) / top
        codes[m, n] = coded(y, own[:, None], codes.dtype)
        scale[m, n.start // 128] = own


@tc.kernel
def low_rank_down(
    x: tc.Tensor["M", "K"], a: tc.Tensor["R", "K"], codes: tc.Tensor["M", "K"],
    scale: tc.Tensor["M", "G"], thin: tc.Tensor["M", "R"], top: tc.f32,
):  # fmt: skip
    """codes * scale = x, a scale for each 64 columns, and thin = x @ a.T: x is read once.

    With `low_rank_up`, a linear layer in codes with a branch that is not (SVDQuant, arXiv
    2411.05007).
    """
    for m in tc.tiles("M"):
        acc = tc.zeros((m, "R"))
        for k in tc.tiles("K", block=64):
            own = x[m, k]
            most = tc.max(tc.abs(own.to(tc.f32)), axis=1) / top
            codes[m, k] = coded(own.to(tc.f32), most[:, None], codes.dtype)
            scale[m, k.start // 64] = most
            acc += tc.dot(own, a[:, k].T)
        thin[m, :] = acc


@tc.kernel
def low_rank_up(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], thin: tc.Tensor["M", "R"],
    b: tc.Tensor["N", "R"], y: tc.Tensor["M", "N"],
):  # fmt: skip
    """y = x @ w.T + thin @ b.T: x and w in codes; the small product begins the large one."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.dot(thin[m, :], b[n, :].T)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.program
def rms(x: tc.Tensor["M", "N"], gain: tc.Tensor["N"], eps: tc.f32):
    """The codes in i8 of x / sqrt(mean(x^2) + eps) * gain, and a scale for each row."""
    y = tc.rms_norm(x.to(tc.f32), gain, eps)
    scale = tc.max(tc.abs(y), axis=1, keepdims=True) / 127.0
    return tc.cast(y / scale, tc.i8, saturate=True), scale


@tc.program
def rms_linear(
    x: tc.Tensor["M", "K"], gain: tc.Tensor["K"], w: tc.Tensor["N", "K", tc.i8],
    scales: tc.Tensor["N"], eps: tc.f32,
):  # fmt: skip
    """(codes @ w.T) * scale * scales of the codes and scales of `rms`: of these, memory holds two
    numbers a row."""
    y = tc.rms_norm(x.to(tc.f32), gain, eps)
    scale = tc.max(tc.abs(y), axis=1, keepdims=True) / 127.0
    codes = tc.cast(y / scale, tc.i8, saturate=True)
    return ((codes @ w.T).to(tc.f32) * scale * scales).to(x.dtype)
