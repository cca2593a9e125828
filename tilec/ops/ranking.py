"""The largest elements of rows, kept while the rows are read once.

Compiled, each is one loop over a row: of a tile in which nothing is larger than the least of the
best so far, only the largest is looked at. Of equal elements the first of the row come first; where
a row has fewer than K, place -1 follows.
"""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def softmax_top(
    x: tc.Tensor["M", "N"], values: tc.Tensor["M", "K"], places: tc.Tensor["M", "K", tc.i32]
):  # fmt: skip
    """The K largest elements of softmax(x) of each row, the largest first, and where they are."""
    best, at = tc.top_k(tc.softmax(tc.wide(x)), "K")
    values[:, :] = best.to(values.dtype)
    places[:, :] = at


@tc.program
def largest(
    x: tc.Tensor["M", "N"], values: tc.Tensor["M", "K"], places: tc.Tensor["M", "K", tc.i32]
):  # fmt: skip
    """The K largest elements of each row, the largest first, and where they are."""
    best, at = tc.top_k(x, "K")
    values[:, :] = best.to(values.dtype)
    places[:, :] = at


@tc.program
def shares(
    x: tc.Tensor["M", "N"], values: tc.Tensor["M", "K"], places: tc.Tensor["M", "K", tc.i32]
):  # fmt: skip
    """As `softmax_top`, divided by their sum: what experts that tokens go to weigh."""
    best, at = tc.top_k(tc.softmax(tc.wide(x)), "K")
    values[:, :] = (best / tc.sum(best, axis=1, keepdims=True)).to(values.dtype)
    places[:, :] = at
