"""Products of matrices: whole numbers and small floats with scales, and a matrix an expert."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import tilec as tc


@tc.kernel
def int8_matmul(
    x: tc.Tensor["M", "K", tc.i8], w: tc.Tensor["N", "K", tc.i8], row: tc.Tensor["M"],
    column: tc.Tensor["N"], y: tc.Tensor["M", "N"],
):  # fmt: skip
    """y = (x @ w.T) * row * column, summed in whole numbers"""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.i32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc.to(tc.f32) * row[m][:, None] * column[n]


@tc.kernel
def fp8_matmul(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], row: tc.Tensor["M", "G"],
    block: tc.Tensor["B", "G"], y: tc.Tensor["M", "N"],
):  # fmt: skip
    """y = x @ w.T with scales of 1 x 128 of x and of 128 x 128 of w (DeepSeek-AI 2024)"""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K", block=128):
            group = k.start // 128
            scale = row[m, group][:, None] * block[n.index // 128, group]
            acc += tc.dot(x[m, k], w[n, k].T) * scale
        y[m, n] = acc


@tc.kernel
def grouped_matmul(
    x: tc.Tensor["T", "K"], w: tc.Tensor["E", "N", "K"], end: tc.Tensor["E", tc.i32],
    y: tc.Tensor["T", "N"],
):  # fmt: skip
    """y[t] = w[e] @ x[t] for the rows end[e - 1] <= t < end[e] of each expert e"""
    for e, n in tc.tiles("E", "N", block=(1, None)):
        stop = end[e.start]
        for first in range(end[e.start - 1], stop, 64):
            rows = first + tc.arange(64)
            rows = tc.where(rows < stop, rows, -1)  # no row: read as 0, not written
            acc = tc.zeros((64, n))
            for k in tc.tiles("K"):
                acc += tc.dot(x[rows, k], w[e.start, n, k].T)
            y[rows, n] = acc
