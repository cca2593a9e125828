"""Linear layers with adapters of low rank, of which each row has its own (LoRA, arXiv 2106.09685).

A task is a run of rows of one adapter (`tilec.ops.plan.owned`), whose matrices are read once for
all of them. The down-projection runs in the loop of the layer's product, the up-projection behind.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc
from tilec.ops.moe import places


@tc.kernel
def linear(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], a: tc.Tensor["L", "R", "K"],
    b: tc.Tensor["L", "N", "R"], row: tc.Tensor["M", tc.i32], adapter: tc.Tensor["B", tc.i32],
    first: tc.Tensor["B", tc.i32], end: tc.Tensor["B", tc.i32], offset: tc.Tensor["S", tc.i32],
    y: tc.Tensor["M", "N"], scale: tc.f32,
):  # fmt: skip
    """y[m] = (w + scale * b[e] @ a[e]) @ x[m] of each row m of adapter e; adapter L adds nothing.

    Task t has the rows row[first[t]] to row[end[t]] of `adapter` t, at most S.
    """
    for t, n in tc.tiles("B", "N", block=(1, None)):
        e = adapter[t.start]
        at = places(first[t.start], end[t.start], offset[:])
        rows = tc.where(at >= 0, row[at], -1)
        acc = tc.zeros(("S", n))
        thin = tc.zeros(("S", "R"))
        for k in tc.tiles("K"):
            own = x[rows, k]
            acc += tc.dot(own, w[n, k].T)
            thin += tc.dot(own, a[e, :, k].T)
        y[rows, n] = acc + tc.dot(thin.to(x.dtype), b[e, n, :].T) * scale
