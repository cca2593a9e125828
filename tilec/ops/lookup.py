"""Rows of large tables: weighted bags of them, and keys that are sums of two."""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math

import tilec as tc


@tc.kernel
def embedding_bag(
    ids: tc.Tensor["L", tc.i32], weight: tc.Tensor["L"], start: tc.Tensor["R", tc.i32],
    table: tc.Tensor["V", "D"], y: tc.Tensor["B", "D"],
):  # fmt: skip
    """y[b] = sum(weight[i] * table[ids[i]]) over start[b] <= i < start[b + 1]; 0 for empty bags.

    Ids that are no row's add nothing.
    """
    for b, d in tc.tiles("B", "D", block=(1, None)):
        stop = start[b.start + 1]
        acc = tc.zeros((1, d))
        for first in range(start[b.start], stop, 16):
            at = first + tc.arange(16)
            at = tc.where(at < stop, at, -1)
            rows = table[tc.where(at >= 0, ids[at], -1), d].to(tc.f32)
            acc += tc.sum(rows * weight[at][:, None], axis=0, keepdims=True)
        y[b, d] = acc


@tc.fn
def best(scores, size, t):
    """The K best scores of each row, and where they are."""
    values = tc.zeros((t, "K"))
    places = tc.zeros((t, "K"), tc.i32)
    for k in range(tc.size("K")):
        at = tc.argmax(scores, axis=1)
        here = tc.arange("K") == k
        values = tc.where(here, tc.max(scores, axis=1)[:, None], values)
        places = tc.where(here, at[:, None], places)
        scores = tc.where(tc.arange(size) == at[:, None], -math.inf, scores)
    return values, places


@tc.kernel
def product_keys(
    q: tc.Tensor["T", 2, "D"], keys: tc.Tensor[2, "N", "D"], ids: tc.Tensor["T", "K", tc.i32],
    weight: tc.Tensor["T", "K"],
):  # fmt: skip
    """The K best of N * N keys, each the sum of a left and a right one, and softmax over them.

    Key i * N + j has the score q[0] @ keys[0, i] + q[1] @ keys[1, j]; the best are among the K best
    of each side (Lample et al., "Large Memory Layers with Product Keys", 2019). K is at most N.
    """
    for t in tc.tiles("T"):
        a, row = best(tc.dot(q[t, 0, :], keys[0, :, :].T), "N", t)
        b, column = best(tc.dot(q[t, 1, :], keys[1, :, :].T), "N", t)
        sums = a[:, :, None] + b[:, None, :]
        found = tc.zeros((t, "K"))
        for k in range(tc.size("K")):
            i = tc.argmax(tc.max(sums, axis=2), axis=1)
            first = tc.arange("K") == i[:, None]
            j = tc.argmax(tc.max(tc.where(first[:, :, None], sums, -math.inf), axis=1), axis=1)
            second = tc.arange("K") == j[:, None]
            own = tc.sum(tc.where(first, row, 0), axis=1) * tc.size("N")
            ids[t, k] = own + tc.sum(tc.where(second, column, 0), axis=1)
            sum = tc.sum(tc.where(first, a, 0.0) + tc.where(second, b, 0.0), axis=1)
            found = tc.where(tc.arange("K") == k, sum[:, None], found)
            sums = tc.where(first[:, :, None] & second[:, None, :], -math.inf, sums)
        e = tc.exp(found - tc.max(found, axis=1, keepdims=True))
        weight[t, :] = e / tc.sum(e, axis=1, keepdims=True)
