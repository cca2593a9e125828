"""What quantised weights are for beside `tilec.ops.linear`: a bias, gradients, rows and values."""

# The names in a kernel have types of the language.
# pyright: basic, reportInvalidTypeForm=false
# ruff: noqa: F821

import tilec as tc


@tc.kernel
def affine(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], bias: tc.Tensor["N"], y: tc.Tensor["M", "N"]
):
    """y = x @ w.T + bias"""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc + bias[n]


@tc.kernel
def transposed(x: tc.Tensor["M", "N"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "K"]):
    """y = x @ w, which is also the gradient of `linear` by its x"""
    for m, k in tc.tiles("M", "K"):
        acc = tc.zeros((m, k))
        for n in tc.tiles("N"):
            acc += tc.dot(x[m, n], w[n, k])
        y[m, k] = acc


@tc.kernel
def rows(ids: tc.Tensor["L"], w: tc.Tensor["N", "K"], y: tc.Tensor["L", "K"]):
    """y[l] = w[ids[l]]; 0 for ids that are no row's"""
    for l, k in tc.tiles("L", "K"):  # noqa: E741
        y[l, k] = w[ids[l], k]


@tc.kernel
def values(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    """y = w"""
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]
