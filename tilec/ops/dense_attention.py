"""Attention to all keys, as it is written: softmax(q k' * scale) v.

Compiled, each is one loop over keys and values, which keeps no score (`tilec explain` shows it).
"""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math

import tilec as tc


@tc.program
def full(
    q: tc.Tensor["B", "H", "M", "D"], k: tc.Tensor["B", "H", "N", "D"],
    v: tc.Tensor["B", "H", "N", "E"], scale: tc.f32,
):  # fmt: skip
    """Every query attends to every key: [B, H, M, E] in the dtype of q."""
    p = tc.softmax(q @ k.T * scale)
    return (p.to(q.dtype) @ v).to(q.dtype)


@tc.program
def causal(
    q: tc.Tensor["B", "G", "H", "M", "D"], k: tc.Tensor["B", "G", "N", "D"],
    v: tc.Tensor["B", "G", "N", "E"], scale: tc.f32,
):  # fmt: skip
    """The queries are the last M of N places, and see none behind theirs; a group has H heads."""
    place = tc.index("M") + (tc.size("N") - tc.size("M"))
    scores = tc.einsum("bghmd,bgnd->bghmn", q, k) * scale
    scores = tc.where(tc.index("N") <= place[:, None], scores, -math.inf)
    p = tc.softmax(scores).to(q.dtype)
    return tc.einsum("bghmn,bgne->bghme", p, v).to(q.dtype)


@tc.program
def windowed(
    q: tc.Tensor["B", "G", "H", "M", "D"], k: tc.Tensor["B", "G", "N", "D"],
    v: tc.Tensor["B", "G", "N", "E"], scale: tc.f32, width: tc.i32, limit: tc.f32,
):  # fmt: skip
    """As `causal`, to the last `width` places alone, with scores between -limit and limit."""
    place = (tc.index("M") + (tc.size("N") - tc.size("M")))[:, None]
    seen = (tc.index("N") <= place) & (tc.index("N") > place - width)
    scores = tc.soft_cap(tc.einsum("bghmd,bgnd->bghmn", q, k) * scale, limit)
    p = tc.softmax(tc.where(seen, scores, -math.inf)).to(q.dtype)
    return tc.einsum("bghmn,bgne->bghme", p, v).to(q.dtype)


@tc.program
def decode(
    q: tc.Tensor["B", "G", "H", "D"], k: tc.Tensor["B", "G", "N", "D"],
    v: tc.Tensor["B", "G", "N", "E"], length: tc.Tensor["B", tc.i32], scale: tc.f32,
):  # fmt: skip
    """One token of each sequence attends to the first `length` keys, of which there is one."""
    seen = tc.index("N") < length[:, None, None, None]
    p = tc.softmax(tc.where(seen, q @ k.T * scale, -math.inf)).to(q.dtype)
    return (p @ v).to(q.dtype)


@tc.program
def biased(
    q: tc.Tensor["B", "H", "M", "D"], k: tc.Tensor["B", "H", "N", "D"],
    v: tc.Tensor["B", "H", "N", "E"], bias: tc.Tensor["H", "M", "N"], scale: tc.f32,
):  # fmt: skip
    """As `full`, with a bias added to the scores, such as one of distances."""
    p = tc.softmax(q @ k.T * scale + bias)
    return (p.to(q.dtype) @ v).to(q.dtype)


@tc.program
def latent(
    q: tc.Tensor["B", "H", "R"], turned: tc.Tensor["B", "H", "P"], c: tc.Tensor["B", "N", "R"],
    k: tc.Tensor["B", "N", "P"], length: tc.Tensor["B", tc.i32], scale: tc.f32,
):  # fmt: skip
    """One token with latent keys and values, which all heads share, and turned keys beside them.

    The projections of keys and values are in q and behind it (DeepSeek-AI, arXiv 2405.04434).
    """
    scores = (q @ c.T + turned @ k.T) * scale
    seen = tc.index("N") < length[:, None, None]
    p = tc.softmax(tc.where(seen, scores, -math.inf)).to(q.dtype)
    return (p @ c).to(q.dtype)
