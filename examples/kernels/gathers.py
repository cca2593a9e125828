"""Rows by number: the rows of a table, of experts in order, and a window of earlier rows."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import tilec as tc


@tc.kernel
def embedding(ids: tc.Tensor["T", tc.i32], table: tc.Tensor["V", "D"], y: tc.Tensor["T", "D"]):
    """y[t] = table[ids[t]]"""
    for t, d in tc.tiles("T", "D"):
        y[t, d] = table[ids[t], d]


@tc.kernel
def combine(
    x: tc.Tensor["R", "D"], row: tc.Tensor["T", "K", tc.i32], weight: tc.Tensor["T", "K"],
    y: tc.Tensor["T", "D"],
):  # fmt: skip
    """y[t] = sum(weight[t, k] * x[row[t, k]]): the results of K experts of each token"""
    for t, d in tc.tiles("T", "D"):
        acc = tc.zeros((t, d))
        for k in range(tc.size("K")):
            acc += weight[t, k][:, None] * x[row[t, k], d]
        y[t, d] = acc


@tc.kernel
def scatter_rows(
    x: tc.Tensor["T", "D"], row: tc.Tensor["T", tc.i32], weight: tc.Tensor["T"],
    y: tc.Tensor["R", "D"],
):  # fmt: skip
    """y[row[t]] += weight[t] * x[t], also where rows are the same"""
    for t, d in tc.tiles("T", "D"):
        y[row[t], d] += weight[t][:, None] * x[t, d]


@tc.kernel
def causal_conv1d(
    x: tc.Tensor["B", "T", "D"], w: tc.Tensor["D", "W"], bias: tc.Tensor["D"],
    y: tc.Tensor["B", "T", "D"],
):  # fmt: skip
    """y[t] = bias + sum(w[W - 1 - j] * x[t - j]) of each channel, with zeros before the start"""
    for b, t, d in tc.tiles("B", "T", "D", block=(1, None, None)):
        acc = tc.zeros((t, d)) + bias[d]
        for j in range(tc.size("W")):
            acc += x[b.start, t.index - j, d] * w[d, tc.size("W") - 1 - j]
        y[b.start, t, d] = acc
