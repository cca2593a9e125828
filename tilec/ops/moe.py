"""Mixtures of experts: each token's rows times the weights of the experts that it is routed to.

A task is a run of one expert's tokens (`tilec.ops.plan`): no token is copied to a padded buffer.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.fn
def places(first, end, offset):
    """The places of a task, -1 beyond the end of its expert: read as 0, and not written."""
    at = first + offset
    return tc.where(at < end, at, -1)


@tc.kernel
def linear(
    x: tc.Tensor["T", "K"], token: tc.Tensor["R", tc.i32], w: tc.Tensor["E", "N", "K"],
    expert: tc.Tensor["B", tc.i32], first: tc.Tensor["B", tc.i32], end: tc.Tensor["B", tc.i32],
    offset: tc.Tensor["S", tc.i32], y: tc.Tensor["R", "N"],
):  # fmt: skip
    """y[r] = w[e] @ x[token[r]] for every place r of each expert e: rows are gathered as read.

    Task b has the places first[b] to end[b] of `expert` b, at most S; offset = 0, 1, ..., S - 1.
    """
    for b, n in tc.tiles("B", "N", block=(1, None)):
        e = expert[b.start]
        at = places(first[b.start], end[b.start], offset[:])
        rows = tc.where(at >= 0, token[at], -1)
        acc = tc.zeros(("S", n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[rows, k], w[e, n, k].T)
        y[at, n] = acc


@tc.kernel
def gated(
    x: tc.Tensor["T", "K"], token: tc.Tensor["R", tc.i32], gate: tc.Tensor["E", "N", "K"],
    up: tc.Tensor["E", "N", "K"], expert: tc.Tensor["B", tc.i32], first: tc.Tensor["B", tc.i32],
    end: tc.Tensor["B", tc.i32], offset: tc.Tensor["S", tc.i32], y: tc.Tensor["R", "N"],
):  # fmt: skip
    """y[r] = silu(gate[e] @ x[token[r]]) * (up[e] @ x[token[r]]): one pass over the tokens."""
    for b, n in tc.tiles("B", "N", block=(1, None)):
        e = expert[b.start]
        at = places(first[b.start], end[b.start], offset[:])
        rows = tc.where(at >= 0, token[at], -1)
        a = tc.zeros(("S", n))
        c = tc.zeros(("S", n))
        for k in tc.tiles("K"):
            own = x[rows, k]
            a += tc.dot(own, gate[e, n, k].T)
            c += tc.dot(own, up[e, n, k].T)
        y[at, n] = a / (1.0 + tc.exp(-a)) * c


@tc.kernel
def scattered(
    x: tc.Tensor["R", "K"], token: tc.Tensor["R", tc.i32], weight: tc.Tensor["R"],
    w: tc.Tensor["E", "N", "K"], expert: tc.Tensor["B", tc.i32], first: tc.Tensor["B", tc.i32],
    end: tc.Tensor["B", tc.i32], offset: tc.Tensor["S", tc.i32], y: tc.Tensor["T", "N"],
):  # fmt: skip
    """y[token[r]] += weight[r] * w[e] @ x[r]: added to its token as it is made."""
    for b, n in tc.tiles("B", "N", block=(1, None)):
        e = expert[b.start]
        at = places(first[b.start], end[b.start], offset[:])
        acc = tc.zeros(("S", n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[at, k], w[e, n, k].T)
        rows = tc.where(at >= 0, token[at], -1)
        y[rows, n] += acc * weight[at][:, None]


@tc.kernel
def combine(
    x: tc.Tensor["R", "N"], place: tc.Tensor["T", "C", tc.i32], weight: tc.Tensor["T", "C"],
    y: tc.Tensor["T", "N"],
):  # fmt: skip
    """y[t] = sum(weight[t, c] * x[place[t, c]]): in one order; place -1 adds nothing."""
    for t, n in tc.tiles("T", "N"):
        acc = tc.zeros((t, n))
        for c in range(tc.size("C")):
            acc += weight[t, c][:, None] * x[place[t, c], n]
        y[t, n] = acc
