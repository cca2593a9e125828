"""Attention to what is stored: pages, sequences of different lengths, masks of blocks, prefixes.

softmax(q k' * scale) v, a tile of keys at a time (Dao, "FlashAttention-2", 2023). Keys and values
[B, G, S, D] may be `paged` or quantised, masks stored in blocks: the loop then goes over these.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math

import tilec as tc


@tc.fn
def finite(most):
    """The largest score so far, or 0 where there is none: its infinity must not be subtracted."""
    return tc.where(most > -math.inf, most, 0.0)


@tc.kernel
def decode(
    q: tc.Tensor["B", "G", "H", "D"], k: tc.Tensor["B", "G", "S", "D"],
    v: tc.Tensor["B", "G", "S", "E"], length: tc.Tensor["B", tc.i32],
    y: tc.Tensor["B", "G", "H", "E"], scale: tc.f32,
):  # fmt: skip
    """One token of each sequence attends to the first `length` keys; a group has H heads.

    A sequence without keys gives 0.
    """
    for b, g in tc.tiles("B", "G", block=(1, 1)):
        rows = q[b.start, g.start, :, :]
        count = length[b.start]
        most = tc.full(("H",), -math.inf)
        total = tc.zeros(("H",))
        acc = tc.zeros(("H", "E"))
        for s in tc.tiles("S", to=count):
            scores = tc.dot(rows, k[b.start, g.start, s, :].T) * scale
            scores = tc.where(s.index < count, scores, -math.inf)
            new = tc.maximum(most, tc.max(scores, axis=1))
            p = tc.exp(scores - new[:, None])
            old = tc.exp(most - new)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(rows.dtype), v[b.start, g.start, s, :])
            most = new
        y[b.start, g.start, :, :] = tc.where(total[:, None] > 0.0, acc / total[:, None], 0.0)


@tc.kernel
def decode_parts(
    q: tc.Tensor["B", "G", "H", "D"], k: tc.Tensor["B", "G", "S", "D"],
    v: tc.Tensor["B", "G", "S", "E"], first: tc.Tensor["B", "P", tc.i32],
    last: tc.Tensor["B", "P", tc.i32], y: tc.Tensor["P", "B", "G", "H", "E"],
    lse: tc.Tensor["P", "B", "G", "H"], scale: tc.f32,
):  # fmt: skip
    """As `decode`, each part p of a sequence by itself: its keys are from `first` to `last`.

    lse = log(sum(exp(scores))), -inf without keys; `merge` makes one result of the parts.
    """
    for b, g, p in tc.tiles("B", "G", "P", block=(1, 1, 1)):
        rows = q[b.start, g.start, :, :]
        stop = last[b.start, p.start]
        most = tc.full(("H",), -math.inf)
        total = tc.zeros(("H",))
        acc = tc.zeros(("H", "E"))
        for start in range(first[b.start, p.start], stop, 64):
            at = start + tc.arange(64)
            keys = k[b.start, g.start, at, :]
            scores = tc.where(at < stop, tc.dot(rows, keys.T) * scale, -math.inf)
            new = tc.maximum(most, tc.max(scores, axis=1))
            weights = tc.exp(scores - new[:, None])
            old = tc.exp(most - new)
            total = total * old + tc.sum(weights, axis=1)
            values = v[b.start, g.start, at, :]
            acc *= old[:, None]
            acc += tc.dot(weights.to(rows.dtype), values)
            most = new
        found = total[:, None] > 0.0
        y[p.start, b.start, g.start, :, :] = tc.where(found, acc / total[:, None], 0.0)
        lse[p.start, b.start, g.start, :] = most + tc.log(total)


@tc.kernel
def merge(
    x: tc.Tensor["P", "N", "E"], lse: tc.Tensor["P", "N"], y: tc.Tensor["N", "E"],
    total: tc.Tensor["N"],
):  # fmt: skip
    """One result of P parts, each softmax(scores) @ values with lse = log(sum(exp(scores))), and
    the lse of the whole: parts of a sequence, or a prefix that sequences share and what follows."""
    for n in tc.tiles("N"):
        most = tc.full((n,), -math.inf)
        for p in range(tc.size("P")):
            most = tc.maximum(most, lse[p, n])
        base = finite(most)
        acc = tc.zeros((n, "E"))
        weights = tc.zeros((n,))
        for p in range(tc.size("P")):
            weight = tc.exp(lse[p, n] - base)
            acc += weight[:, None] * x[p, n, :].to(tc.f32)
            weights += weight
        y[n, :] = tc.where(weights[:, None] > 0.0, acc / weights[:, None], 0.0)
        total[n] = base + tc.log(weights)


@tc.kernel
def prefix(
    q: tc.Tensor["N", "D"], k: tc.Tensor["S", "D"], v: tc.Tensor["S", "E"],
    y: tc.Tensor["N", "E"], lse: tc.Tensor["N"], scale: tc.f32,
):  # fmt: skip
    """All queries attend to all keys, which their sequences share; `merge` adds what follows."""
    for n in tc.tiles("N"):
        rows = q[n, :]
        most = tc.full((n,), -math.inf)
        total = tc.zeros((n,))
        acc = tc.zeros((n, "E"))
        for s in tc.tiles("S"):
            scores = tc.dot(rows, k[s, :].T) * scale
            new = tc.maximum(most, tc.max(scores, axis=1))
            p = tc.exp(scores - new[:, None])
            old = tc.exp(most - new)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(rows.dtype), v[s, :])
            most = new
        y[n, :] = acc / total[:, None]
        lse[n] = most + tc.log(total)


@tc.kernel
def masked(
    q: tc.Tensor["M", "D"], k: tc.Tensor["N", "D"], v: tc.Tensor["N", "E"],
    mask: tc.Tensor["M", "N"], y: tc.Tensor["M", "E"], scale: tc.f32,
):  # fmt: skip
    """Attention to the keys that a mask of bools has; a query without any gives 0.

    Of a mask stored in blocks only those are visited, with their keys and values.
    """
    for m in tc.tiles("M"):
        rows = q[m, :]
        most = tc.full((m,), -math.inf)
        total = tc.zeros((m,))
        acc = tc.zeros((m, "E"))
        for n in tc.tiles("N"):
            scores = tc.dot(rows, k[n, :].T) * scale
            scores = tc.where(mask[m, n], scores, -math.inf)
            new = tc.maximum(most, tc.max(scores, axis=1))
            base = finite(new)
            p = tc.exp(scores - base[:, None])
            old = tc.exp(most - base)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(rows.dtype), v[n, :])
            most = new
        y[m, :] = tc.where(total[:, None] > 0.0, acc / total[:, None], 0.0)


@tc.kernel
def ragged(
    q: tc.Tensor["H", "T", "D"], k: tc.Tensor["H", "T", "D"], v: tc.Tensor["H", "T", "E"],
    start: tc.Tensor["R", tc.i32], sequence: tc.Tensor["W", tc.i32], first: tc.Tensor["W", tc.i32],
    y: tc.Tensor["H", "T", "E"], scale: tc.f32,
):  # fmt: skip
    """Causal attention within sequences one after the other: b is rows start[b] to start[b + 1].

    Task w is rows first[w] and on of `sequence` w, 64 at most (`tilec.ops.plan.tasks`).
    """
    for head, w in tc.tiles("H", "W", block=(1, 1)):
        h = head.start
        begin = start[sequence[w.start]]
        end = start[sequence[w.start] + 1]
        at = begin + first[w.start] + tc.arange(64)
        at = tc.where(at < end, at, -1)  # no row: read as 0, not written
        rows = q[h, at, :]
        most = tc.full((64,), -math.inf)
        total = tc.zeros((64,))
        acc = tc.zeros((64, "E"))
        for left in range(begin, tc.minimum(begin + first[w.start] + 64, end), 64):
            keys = left + tc.arange(64)
            scores = tc.dot(rows, k[h, keys, :].T) * scale
            scores = tc.where(keys <= at[:, None], scores, -math.inf)
            new = tc.maximum(most, tc.max(scores, axis=1))
            base = finite(new)
            p = tc.exp(scores - base[:, None])
            old = tc.exp(most - base)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(v.dtype), v[h, keys, :])
            most = new
        y[h, at, :] = acc / total[:, None]
