"""The largest elements of rows, kept while the rows are read once."""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math

import tilec as tc


@tc.fn
def larger(best, x):
    """Whether a row of x has an element that is larger than the least of the row's best."""
    here = tc.max(x, axis=1) > tc.min(best, axis=1)
    return tc.max(tc.where(here, 1, 0), axis=0) > 0


@tc.fn
def slot_of(best, at):
    """Where the least of the best are, of equal ones the last of the row."""
    least = tc.min(best, axis=1, keepdims=True)
    return tc.argmax(tc.where(best == least, at, -2), axis=1)


@tc.kernel
def softmax_top(
    x: tc.Tensor["M", "N"], values: tc.Tensor["M", "K"], places: tc.Tensor["M", "K", tc.i32]
):  # fmt: skip
    """The K largest elements of softmax(x) of each row, the largest first, and where they are; of
    equal ones the first of the row. Where K are not above -inf, the last are 0, of place -1. A row
    is read once.

    The best so far lie in no order. Of a tile, elements that are larger than the least of them take
    its place, the largest first: of a long row without order, a tile has few.
    """
    for m in tc.tiles("M", block=1):
        most = tc.full((m,), -math.inf)
        total = tc.zeros((m,))
        best = tc.full((m, "K"), -math.inf)
        at = tc.full((m, "K"), -1, tc.i32)
        for n in tc.tiles("N", block=128):
            left = x[m, n].to(tc.f32)
            new = tc.maximum(most, tc.max(left, axis=1))
            base = tc.where(new > -math.inf, new, 0.0)
            e = tc.exp(left - base[:, None])
            total = total * tc.exp(most - base) + tc.sum(e, axis=1)
            most = new
            while larger(best, left):
                i = tc.argmax(left, axis=1)[:, None]
                found = tc.max(left, axis=1, keepdims=True)
                better = found > tc.min(best, axis=1, keepdims=True)
                here = (tc.arange("K") == slot_of(best, at)[:, None]) & better
                best = tc.where(here, found, best)
                at = tc.where(here, n.start + i, at)
                left = tc.where(tc.arange(n) == i, -math.inf, left)
        for k in range(tc.size("K")):
            found = tc.max(best, axis=1, keepdims=True)
            first = tc.min(tc.where(best == found, at, tc.size("N")), axis=1, keepdims=True)
            places[m, k] = tc.min(first, axis=1)
            values[m, k] = tc.max(tc.exp(found - most[:, None]) / total[:, None], axis=1)
            done = (at == first) & (first >= 0)
            best = tc.where(done, -math.inf, best)
            at = tc.where(done, tc.size("N"), at)
