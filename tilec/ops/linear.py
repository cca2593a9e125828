"""Products of a dense matrix with one of any format, and what is added to them."""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    """y = x @ w.T: also with sparse weights (spmm), whose loop goes over what is stored."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def channels(
    x: tc.Tensor["M", "K"], ids: tc.Tensor["C", tc.i32], w: tc.Tensor["K", "N"],
    y: tc.Tensor["M", "N"],
):  # fmt: skip
    """y = x[:, ids] @ w[ids]: of the channels of x only some, such as the largest of an activation;
    only their rows of w are read."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n))
        for c in tc.tiles("C"):
            acc += tc.dot(x[m, ids[c]], w[ids[c], n])
        y[m, n] = acc


@tc.program
def affine(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], bias: tc.Tensor["N"]):
    """x @ w.T + bias, in the dtype of x."""
    return (x @ w.T + bias).to(x.dtype)


@tc.program
def affine_silu(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], bias: tc.Tensor["N"]):
    """silu(x @ w.T + bias)"""
    return tc.silu(x @ w.T + bias).to(x.dtype)


@tc.program
def low_rank(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], a: tc.Tensor["R", "K"], b: tc.Tensor["N", "R"],
    scale: tc.f32,
):  # fmt: skip
    """x @ (w + scale * b @ a).T, the small products by themselves (LoRA, arXiv 2106.09685)."""
    thin = (x @ a.T).to(x.dtype)
    return (x @ w.T + thin @ b.T * scale).to(x.dtype)


@tc.program
def low_ranks(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], a: tc.Tensor["L", "R", "K"],
    b: tc.Tensor["L", "N", "R"], adapter: tc.Tensor["M", tc.i32], scale: tc.f32,
):  # fmt: skip
    """As `low_rank`, each row with the a and b of its adapter; below 0 it has none."""
    own = tc.where(adapter >= 0, adapter, 0)
    thin = tc.einsum("mk,mrk->mr", x, a[own]).to(x.dtype)
    more = tc.einsum("mr,mnr->mn", thin, b[own]) * scale
    return (x @ w.T + tc.where((adapter >= 0)[:, None], more, 0.0)).to(x.dtype)
