"""Layer normalisation (Ba, Kiros, Hinton 2016) of every row; `layernorm.tile` is the same."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import tilec as tc


@tc.fn
def mean(v, n):
    return tc.sum(v, axis=1, keepdims=True) / n


@tc.kernel
def layernorm(
    x: tc.Tensor["M", "N"],
    gain: tc.Tensor["N"],
    bias: tc.Tensor["N"],
    y: tc.Tensor["M", "N"],
    eps: tc.f32,
):
    n = tc.cast(tc.size("N"), tc.f32)
    for m in tc.tiles("M"):
        centred = x[m, :] - mean(x[m, :], n)
        y[m, :] = centred * tc.rsqrt(mean(centred * centred, n) + eps) * gain[:] + bias[:]
