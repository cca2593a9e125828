"""softmax along the rows, as a Python function; `softmax.tile` is the same kernel as text."""

import tilec as tc


@tc.kernel
def softmax(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        row = x[m, :]
        e = tc.exp(row - tc.max(row, axis=1, keepdims=True))
        y[m, :] = e / tc.sum(e, axis=1, keepdims=True)
