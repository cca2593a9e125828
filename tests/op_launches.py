"""Launches of `tilec.ops`, small enough for emulation, and their results in doubles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from launches import Case
from sparse_kernels import attended, normal, shuffled

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ops import attention, conv, graph, linear, lookup, moe, plan


def f32(*shape: int, seed: int = 0) -> Array:
    """A normal sample in f32."""
    return normal(*shape, seed=seed).astype(np.float32)


def parted() -> Case:
    """Keys in pages, cut into parts of which some are empty."""
    length = np.array([200, 0, 5])
    first = np.array([[0, 64, 128], [0, 0, 0], [0, 5, 5]], np.int32)
    last = np.minimum(np.array([[64, 128, 200], [0, 0, 0], [5, 5, 5]]), length[:, None])
    q = f32(3, 2, 4, 16)
    k, v = (shuffled("paged<16, f16>", normal(3, 2, 208, 16, seed=s), 60) for s in (1, 2))
    scores = q.astype(float) @ np.swapaxes(k.dequantize().astype(float), -1, -2) * 0.25
    want, lse = np.zeros((3, *q.shape)), np.zeros((3, *q.shape[:3]))
    for p in range(3):
        at = np.arange(208)
        seen = (at >= first[:, p, None]) & (at < last[:, p, None])
        want[p] = attended(q.astype(float), k.dequantize().astype(float),
                           v.dequantize().astype(float), seen[:, None, None])  # fmt: skip
        with np.errstate(divide="ignore"):
            lse[p] = np.log(np.where(seen[:, None, None], np.exp(scores), 0).sum(-1))
    given = {"q": q, "k": k, "v": v, "first": first, "last": last.astype(np.int32), "scale": 0.25}
    return Case("decode_parts", attention.decode_parts, given, {"y": want, "lse": lse}, 2e-6)


def merged() -> Case:
    """Parts whose weights differ much; one row that no part has seen."""
    x, lse = f32(3, 9, 16), f32(3, 9, seed=1) * 10
    lse[0, 2], lse[:, 4], x[:, 4] = -np.inf, -np.inf, 0
    weight = np.exp(lse.astype(float) - np.nan_to_num(lse.max(0), neginf=0.0))
    whole = weight.sum(0)
    want = np.where(whole[:, None] > 0, (weight[..., None] * x).sum(0) / np.maximum(
        whole, 1e-30)[:, None], 0)  # fmt: skip
    with np.errstate(divide="ignore"):
        total = np.nan_to_num(lse.max(0), neginf=0.0) + np.log(whole)
    return Case("merge", attention.merge, {"x": x, "lse": lse}, {"y": want, "total": total}, 2e-6)


def shared_prefix() -> Case:
    """Keys in int8, which every query sees."""
    q, k = f32(21, 16), tc.quantize(normal(70, 16), "int8<group=16>")
    v = f32(70, 16, seed=1)
    dense = k.dequantize().astype(float)
    want = attended(q.astype(float), dense, v.astype(float), np.array(True))
    lse = np.log(np.exp(q.astype(float) @ dense.T * 0.25).sum(1))
    given = {"q": q, "k": k, "v": v, "scale": 0.25}
    return Case("prefix", attention.prefix, given, {"y": want, "lse": lse}, 2e-6)


def packed_sequences() -> Case:
    """Sequences of 70, 0, 1 and 30 rows."""
    start = np.array([0, 70, 70, 71, 101], np.int32)
    q, k, v = (f32(2, 101, 16, seed=s) for s in range(3))
    t = plan.tasks(start, 64, local=True)
    owner = np.repeat(np.arange(4), np.diff(start))
    seen = (owner[:, None] == owner) & (np.arange(101)[:, None] >= np.arange(101))
    want = attended(q.astype(float), k.astype(float), v.astype(float), seen)
    given = {"q": q, "k": k, "v": v, "start": start, "sequence": t.owner, "first": t.first,
             "scale": 0.25}  # fmt: skip
    return Case("ragged", attention.ragged, given, {"y": want}, 2e-6)


def routed(experts: int = 12, tokens: int = 40, top: int = 3, size: int = 16
           ) -> tuple[plan.Routing, plan.Tasks, dict[str, Array]]:  # fmt: skip
    """Skewed choices: expert 0 has half of the tokens, the last three have none."""
    rng = np.random.default_rng(0)
    chosen = np.stack([rng.choice(np.arange(1, experts - 3), top, replace=False)
                       for _ in range(tokens)])  # fmt: skip
    chosen[: tokens // 2, 0] = 0
    r = plan.route(chosen, rng.random(chosen.shape), experts)
    t = plan.tasks(r.start, size)
    own = {"token": r.token, "expert": t.owner, "first": t.first, "end": t.end, "offset": t.offset}
    return r, t, own


def experts() -> list[Case]:
    """A layer of experts in its parts, with weights in int4."""
    r, _, own = routed()
    owner = np.repeat(np.arange(12), r.counts)
    x = f32(40, 64)
    gate, up, w = (tc.quantize(normal(12, n, k, seed=s), "int4<group=32>")
                   for s, n, k in ((1, 24, 64), (2, 24, 64), (3, 20, 32)))  # fmt: skip
    a, c = (np.einsum("rk,rnk->rn", x[r.token].astype(float), m.dequantize()[owner].astype(float))
            for m in (gate, up))  # fmt: skip
    hidden = f32(len(r.token), 32, seed=4)
    out = np.einsum("rk,rnk->rn", hidden.astype(float), w.dequantize()[owner].astype(float))
    summed = np.zeros((40, 20))
    np.add.at(summed, r.token, out * r.weight[:, None])
    weight = np.where(r.place >= 0, r.weight[r.place], 0).astype(np.float32)
    place = np.where(np.arange(40)[:, None] % 5 == 0, -1, r.place).astype(np.int32)
    kept = np.where((place >= 0)[..., None], out[place], 0)
    rows = out.astype(np.float32)
    return [
        Case("moe.linear", moe.linear, {"x": x, "w": gate, **own}, {"y": a}, 1e-6),
        Case("moe.gated", moe.gated, {"x": x, "gate": gate, "up": up, **own},
             {"y": a / (1 + np.exp(-a)) * c}, 2e-6),
        Case("moe.scattered", moe.scattered, {"x": hidden, "weight": r.weight, "w": w,
             "y": np.zeros((40, 20), np.float32), **own}, {"y": summed}, 2e-6),
        Case("moe.combine", moe.combine, {"x": rows, "place": place, "weight": weight},
             {"y": (kept * weight[..., None]).sum(1)}, 1e-6),
    ]  # fmt: skip


def bags() -> Case:
    """Bags of 0, 1, 40 and 3 rows of a table in int4, with ids that are no row's."""
    start = np.array([0, 0, 1, 41, 44], np.int32)
    rng = np.random.default_rng(0)
    ids, weight = rng.integers(0, 30, 44).astype(np.int32), f32(44)
    ids[[5, 43]] = -1, 30
    table = tc.quantize(normal(30, 64), "int4<group=32>")
    rows = np.where(((ids >= 0) & (ids < 30))[:, None], table.dequantize()[ids % 30], 0)
    terms = rows.astype(float) * weight[:, None]
    want = np.stack([terms[a:b].sum(0) for a, b in pairwise(start)])
    given = {"ids": ids, "weight": weight, "start": start, "table": table}
    return Case("embedding_bag", lookup.embedding_bag, given, {"y": want}, 1e-6)


def best_keys() -> Case:
    """The 4 best of 20 * 20 keys."""
    q, keys = np.rint(normal(9, 2, 16) * 8) / 8, np.rint(normal(2, 20, 16, seed=1) * 8) / 8
    scores = np.einsum("tsd,snd->tsn", q, keys)
    sums = (scores[:, 0, :, None] + scores[:, 1, None, :]).reshape(9, 400)
    ids = np.argsort(-sums, axis=1, kind="stable")[:, :4]
    best = np.take_along_axis(sums, ids, 1)
    weight = np.exp(best - best[:, :1])
    want = {"ids": ids.astype(np.int32), "weight": weight / weight.sum(1, keepdims=True)}
    given = {"q": q.astype(np.float32), "keys": keys.astype(np.float32)}
    return Case("product_keys", lookup.product_keys, given, want, 1e-6)


def points() -> Case:
    """Points of 5 % of a grid of 8 * 9 * 10, convolved where they are."""
    shape = (8, 9, 10)
    keys = np.random.default_rng(0).choice(np.prod(shape), 36, replace=False)
    at = np.stack(np.unravel_index(keys, shape), 1).astype(np.int32)
    rows, w = f32(36, 16), f32(27, 20, 16, seed=1)
    x = tc.hashed(rows, at, shape)
    grid = np.pad(x.dequantize().astype(float), ((1, 1), (1, 1), (1, 1), (0, 0)))
    want = np.zeros((36, 20))
    for o, (i, j, k) in enumerate(np.ndindex(3, 3, 3)):
        want += grid[at[:, 0] + i, at[:, 1] + j, at[:, 2] + k] @ w[o].astype(float).T
    return Case("sparse_conv3d", conv.sparse_conv3d, {"x": x, "at": at, "w": w}, {"y": want}, 2e-6)


def edges(nodes: int = 30) -> dict[str, Array]:
    """A graph in CSR; some nodes have no edges, one has 90."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, nodes)
    counts[3], counts[7] = 90, 0
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    column = rng.integers(0, nodes, start[-1]).astype(np.int32)
    return {"start": start, "column": column, "value": rng.random(start[-1]).astype(np.float32)}


def steps() -> list[Case]:
    """A step of shortest paths, and one of a search by breadth."""
    g = edges()
    rows = np.repeat(np.arange(30), np.diff(g["start"]))
    x = np.random.default_rng(1).random(30).astype(np.float32)
    best = np.full(30, np.inf, np.float32)
    np.minimum.at(best, rows, g["value"] + x[g["column"]])
    frontier = (np.arange(30) % 9 == 0).astype(np.int32)
    seen = (np.arange(30) % 4 == 0).astype(np.int32)
    found = np.zeros(30, np.int32)
    np.maximum.at(found, rows, frontier[g["column"]])
    plain = {n: g[n] for n in ("start", "column")}
    return [
        Case("relax", graph.relax, {**g, "x": x}, {"y": best}),
        Case("reach", graph.reach, {**plain, "frontier": frontier, "seen": seen},
             {"y": np.where(seen == 0, found, 0).astype(np.int32)}),
    ]  # fmt: skip


def few_channels() -> Case:
    """The 13 largest channels of a row, and their rows of weights in int8."""
    x, w = f32(1, 96), tc.quantize(normal(96, 40), "int8<group=8>")
    ids = np.sort(np.argsort(-np.abs(x[0]))[:13]).astype(np.int32)
    want = x[:, ids].astype(float) @ w.dequantize()[ids].astype(float)
    return Case("channels", linear.channels, {"x": x, "ids": ids, "w": w}, {"y": want}, 1e-6)


CASES = {
    c.name: c
    for c in (
        parted(), merged(), shared_prefix(), packed_sequences(), *experts(), bags(), best_keys(),
        points(), *steps(), few_channels(),
    )
}  # fmt: skip
