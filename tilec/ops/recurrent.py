"""Attention without softmax: a state [D, E] takes in each token, and each token reads it.

A chunk of tokens is computed at once: products of them with each other, and with the state that
the tokens before have left (Yang and others, arXiv 2312.06635; Dao and Gu, arXiv 2405.21060).
Decays are logarithms, at most 0.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.fn
def between(decay, t):
    """The sum of decay[j + 1] to decay[i], 0 for i <= j: no difference of sums, which would cancel
    where a token forgets all."""
    i = tc.arange(t)
    return tc.cumsum(tc.where(i < i[:, None], decay.to(tc.f32)[:, None], 0.0), axis=0)


@tc.fn
def weights(sums, t):
    """What is left in i of what came with j <= i, else 0."""
    i = tc.arange(t)
    return tc.where(i <= i[:, None], tc.exp(sums), 0.0)


@tc.kernel
def decayed(
    q: tc.Tensor["B", "G", "T", "D"], k: tc.Tensor["B", "G", "T", "D"],
    v: tc.Tensor["B", "G", "H", "T", "E"], decay: tc.Tensor["B", "G", "H", "T"],
    first: tc.Tensor["B", "G", "H", "D", "E"], y: tc.Tensor["B", "G", "H", "T", "E"],
    last: tc.Tensor["B", "G", "H", "D", "E"],
):  # fmt: skip
    """y[t] = q[t] S[t], S[t] = exp(decay[t]) S[t - 1] + k[t]' v[t], from state `first` to `last`.

    One decay a token, as in retention and Mamba-2 (there q is C, k is B and v is dt * x). Keys are
    of groups, each with H heads of values.
    """
    for b, g, h, e in tc.tiles("B", "G", "H", "E", block=(1, 1, 1, None)):
        state = first[b.start, g.start, h.start, :, e].to(tc.f32)
        for t in tc.tiles("T", block=64):
            own = decay[b.start, g.start, h.start, t].to(tc.f32)
            sums, left = tc.cumsum(own, axis=0), between(own, t)
            rows, keys = q[b.start, g.start, t, :], k[b.start, g.start, t, :]
            values = v[b.start, g.start, h.start, t, e]
            scores = tc.dot(rows, keys.T) * weights(left, t)
            acc = tc.dot(rows, state.to(rows.dtype)) * tc.exp(sums)[:, None]
            acc += tc.dot(scores.to(values.dtype), values)
            y[b.start, g.start, h.start, t, e] = acc
            kept = keys.to(tc.f32) * tc.exp(tc.min(left, axis=0))[:, None]
            whole = tc.exp(tc.sum(own, axis=0))
            state = state * whole + tc.dot(kept.to(values.dtype).T, values)
        last[b.start, g.start, h.start, :, e] = state


@tc.kernel
def chunk_states(
    k: tc.Tensor["B", "G", "T", "D"], v: tc.Tensor["B", "G", "H", "T", "E"],
    decay: tc.Tensor["B", "G", "H", "T"], states: tc.Tensor["B", "G", "H", "C", "D", "E"],
    sums: tc.Tensor["B", "G", "H", "C"],
):  # fmt: skip
    """What each chunk of 64 tokens adds to the state, and the sum of its decays."""
    for b, g, h, t in tc.tiles("B", "G", "H", "T", block=(1, 1, 1, 64)):
        c = t.start // 64
        own = decay[b.start, g.start, h.start, t].to(tc.f32)
        left = tc.exp(tc.min(between(own, t), axis=0))
        kept = k[b.start, g.start, t, :].to(tc.f32) * left[:, None]
        values = v[b.start, g.start, h.start, t, :]
        states[b.start, g.start, h.start, c, :, :] = tc.dot(kept.to(values.dtype).T, values)
        sums[b.start, g.start, h.start, c] = tc.sum(own, axis=0)


@tc.kernel
def pass_states(
    states: tc.Tensor["B", "G", "H", "C", "D", "E"], sums: tc.Tensor["B", "G", "H", "C"],
    first: tc.Tensor["B", "G", "H", "D", "E"], last: tc.Tensor["B", "G", "H", "D", "E"],
):  # fmt: skip
    """The state before each chunk in the place of what the chunk adds, and the one after all."""
    for b, g, h, d, e in tc.tiles("B", "G", "H", "D", "E", block=(1, 1, 1, None, None)):
        state = first[b.start, g.start, h.start, d, e].to(tc.f32)
        for c in range(tc.size("C")):
            added = states[b.start, g.start, h.start, c, d, e]
            states[b.start, g.start, h.start, c, d, e] = state
            state = state * tc.exp(sums[b.start, g.start, h.start, c]) + added
        last[b.start, g.start, h.start, d, e] = state


@tc.kernel
def chunk_outputs(
    q: tc.Tensor["B", "G", "T", "D"], k: tc.Tensor["B", "G", "T", "D"],
    v: tc.Tensor["B", "G", "H", "T", "E"], decay: tc.Tensor["B", "G", "H", "T"],
    states: tc.Tensor["B", "G", "H", "C", "D", "E"], y: tc.Tensor["B", "G", "H", "T", "E"],
):  # fmt: skip
    """`decayed` of each chunk by itself, from the state before it."""
    for b, g, h, t, e in tc.tiles("B", "G", "H", "T", "E", block=(1, 1, 1, 64, None)):
        own = decay[b.start, g.start, h.start, t].to(tc.f32)
        rows, keys = q[b.start, g.start, t, :], k[b.start, g.start, t, :]
        values = v[b.start, g.start, h.start, t, e]
        scores = tc.dot(rows, keys.T) * weights(between(own, t), t)
        state = states[b.start, g.start, h.start, t.start // 64, :, e]
        acc = tc.dot(rows, state.to(rows.dtype)) * tc.exp(tc.cumsum(own, axis=0))[:, None]
        y[b.start, g.start, h.start, t, e] = acc + tc.dot(scores.to(values.dtype), values)


@tc.program
def parallel_decayed(
    q: tc.Tensor["B", "G", "64*C", "D"], k: tc.Tensor["B", "G", "64*C", "D"],
    v: tc.Tensor["B", "G", "H", "64*C", "E"], decay: tc.Tensor["B", "G", "H", "64*C"],
    first: tc.Tensor["B", "G", "H", "D", "E"], y: tc.Tensor["B", "G", "H", "64*C", "E"],
    last: tc.Tensor["B", "G", "H", "D", "E"],
):  # fmt: skip
    """As `decayed`, the chunks of a sequence at once; only their states are passed on."""
    states = tc.empty("B", "G", "H", "C", "D", "E")
    sums = tc.empty("B", "G", "H", "C")
    chunk_states(k, v, decay, states, sums)
    pass_states(states, sums, first, last)
    chunk_outputs(q, k, v, decay, states, y)


@tc.kernel
def gated(
    q: tc.Tensor["B", "H", "T", "D"], k: tc.Tensor["B", "H", "T", "D"],
    v: tc.Tensor["B", "H", "T", "E"], decay: tc.Tensor["B", "H", "T", "D"],
    first: tc.Tensor["B", "H", "D", "E"], y: tc.Tensor["B", "H", "T", "E"],
    last: tc.Tensor["B", "H", "D", "E"],
):  # fmt: skip
    """As `decayed`, each row of the state with a decay of its own (gated linear attention).

    Scores of 16 tokens with each other are sums over D: no factor of them is above 1.
    """
    for b, h, e in tc.tiles("B", "H", "E", block=(1, 1, None)):
        state = first[b.start, h.start, :, e].to(tc.f32)
        for t in tc.tiles("T", block=16):
            own = decay[b.start, h.start, t, :].to(tc.f32)
            rows = q[b.start, h.start, t, :].to(tc.f32)
            keys = k[b.start, h.start, t, :].to(tc.f32)
            i = tc.arange(t)
            sums = tc.cumsum(tc.where(i < i[:, None], own.T[:, :, None], 0.0), axis=1)
            scores = tc.sum(rows.T[:, :, None] * keys.T[:, None, :] * tc.exp(sums), axis=0)
            values = v[b.start, h.start, t, e]
            scores = tc.where(i <= i[:, None], scores, 0.0).to(values.dtype)
            read = (rows * tc.exp(tc.cumsum(own, axis=0))).to(values.dtype)
            y[b.start, h.start, t, e] = tc.dot(read, state.to(values.dtype)) + tc.dot(
                scores, values
            )
            kept = (keys * tc.exp(tc.min(sums, axis=1)).T).to(values.dtype)
            state = state * tc.exp(tc.sum(own, axis=0))[:, None] + tc.dot(kept.T, values)
        last[b.start, h.start, :, e] = state


@tc.kernel
def gated_delta(
    q: tc.Tensor["B", "H", "T", "D"], k: tc.Tensor["B", "H", "T", "D"],
    v: tc.Tensor["B", "H", "T", "E"], decay: tc.Tensor["B", "H", "T"],
    rate: tc.Tensor["B", "H", "T"], first: tc.Tensor["B", "H", "D", "E"],
    y: tc.Tensor["B", "H", "T", "E"], last: tc.Tensor["B", "H", "D", "E"],
):  # fmt: skip
    """y[t] = q[t] S[t], S[t] = exp(decay[t]) S[t - 1] + k[t]' u[t]: the gated delta rule, where
    u[t] = rate[t] (v[t] - exp(decay[t]) k[t] S[t - 1]) (Yang and others, arXiv 2412.06464).

    The u of a chunk solve (I + L) u = rate (v - exp(sums) k S): row by row, L being lower.
    """
    for b, h, e in tc.tiles("B", "H", "E", block=(1, 1, None)):
        state = first[b.start, h.start, :, e].to(tc.f32)
        for t in tc.tiles("T", block=64):
            own = decay[b.start, h.start, t].to(tc.f32)
            share = rate[b.start, h.start, t].to(tc.f32)
            sums, left = tc.exp(tc.cumsum(own, axis=0)), between(own, t)
            rows, keys = q[b.start, h.start, t, :], k[b.start, h.start, t, :]
            i = tc.arange(t)
            lower = tc.where(i < i[:, None], tc.dot(keys, keys.T) * tc.exp(left), 0.0)
            lower *= share[:, None]
            known = tc.dot(keys, state.to(keys.dtype)) * sums[:, None]
            u = (v[b.start, h.start, t, e].to(tc.f32) - known) * share[:, None]
            for n in range(64):
                solved = tc.sum(tc.where((i == n)[:, None], u, 0.0), axis=0)
                column = tc.sum(tc.where(i == n, lower, 0.0), axis=1)
                u -= column[:, None] * solved
            scores = (tc.dot(rows, keys.T) * weights(left, t)).to(rows.dtype)
            acc = tc.dot(rows, state.to(rows.dtype)) * sums[:, None]
            y[b.start, h.start, t, e] = acc + tc.dot(scores, u.to(rows.dtype))
            kept = (keys.to(tc.f32) * tc.exp(tc.min(left, axis=0))[:, None]).to(keys.dtype)
            state = state * tc.exp(tc.sum(own, axis=0)) + tc.dot(kept.T, u.to(keys.dtype))
        last[b.start, h.start, :, e] = state
