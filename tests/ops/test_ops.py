"""`tilec.ops` on every back end, and what is made of several launches."""

from __future__ import annotations

import launches
import numpy as np
import pytest
from op_launches import CASES, f32
from sparse_formats import pruned
from sparse_kernels import attended, normal, shuffled

import tilec as tc
from tilec.cpu import lower
from tilec.ops import attention, graph, moe, plan

SLOW = pytest.mark.slow
QUICK = ("decode_parts", "moe.scattered", "sparse_conv3d")


@pytest.mark.parametrize("name", CASES)
def test_on_this_processor(name):
    launches.on_cpu(CASES[name])


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in CASES])
def test_cuda(name):
    launches.on_cuda(CASES[name])


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_triton(name):
    pytest.importorskip("triton")
    launches.on_triton(CASES[name])


@pytest.mark.parametrize("experts", [64, 128])
@pytest.mark.parametrize("multiple", [1, 16])
def test_a_layer_of_experts(experts, multiple):
    """One expert has half of the tokens, ten have none; nothing is copied to a padded buffer."""
    tokens, top, k, n, size = 96, 4, 64, 48, 16
    scores = normal(tokens, experts)
    scores[: tokens // 2, 0] += 100
    scores[:, 1:11] -= 100
    chosen = np.argsort(-scores, axis=1)[:, :top]
    weight = np.exp(np.take_along_axis(scores, chosen, 1) - scores.max())
    r = plan.route(chosen, weight, experts, multiple=multiple, scores=scores)
    t = plan.tasks(r.start, size)
    assert (r.counts[1:11] == 0).all()
    assert t.wasted == 0 if multiple == size else 0 < t.wasted < 0.8
    x, w = f32(tokens, k), tc.quantize(normal(experts, n, k, seed=1), "int4<group=32>")
    y = np.full((len(r.token), n), np.nan, np.float32)
    moe.linear(x, r.token, w, t.owner, t.first, t.end, t.offset, y)
    owner = np.repeat(np.arange(experts), r.counts)
    want = np.einsum("rk,rnk->rn", x[r.token].astype(float), w.dequantize()[owner].astype(float))
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    types = {"x": tc.f32, "token": tc.i32, "w": w.format, "expert": tc.i32, "first": tc.i32,
             "end": tc.i32, "offset": tc.i32, "y": tc.f32}  # fmt: skip
    dims = {"T": tokens, "K": k, "E": experts, "N": n, "R": len(r.token), "B": len(t.owner),
            "S": size}  # fmt: skip
    func = lower(moe.linear.definition, types, dims)
    assert len(func.params) <= len(types) + 1  # codes and scales: no buffer of its own


def test_a_prefix_that_sequences_share():
    """What they share and what follows, merged, is attention to both."""
    q = f32(4, 2, 3, 16)
    shared, values = f32(50, 16, seed=5), f32(50, 16, seed=6)
    own_k, own_v = (shuffled("paged<8, f32>", normal(4, 2, 24, 16, seed=s), 20) for s in (3, 4))
    length = np.array([24, 0, 3, 17], np.int32)
    x, lse = np.full((2, 24, 16), np.nan, np.float32), np.full((2, 24), np.nan, np.float32)
    attention.prefix(q.reshape(24, 16), shared, values, x[0], lse[0], 0.25)
    first, last = np.zeros((4, 1), np.int32), length[:, None]
    attention.decode_parts(q, own_k, own_v, first, last, x[1].reshape(1, 4, 2, 3, 16),
                           lse[1].reshape(1, 4, 2, 3), 0.25)  # fmt: skip
    y, total = np.full((24, 16), np.nan, np.float32), np.full(24, np.nan, np.float32)
    attention.merge(x, lse, y, total)
    for b in range(4):
        for g in range(2):
            k = np.concatenate([shared, own_k.dequantize()[b, g, : length[b]]]).astype(float)
            v = np.concatenate([values, own_v.dequantize()[b, g, : length[b]]]).astype(float)
            want = attended(q[b, g].astype(float), k, v, np.array(True))
            got = y.reshape(4, 2, 3, 16)[b, g]
            assert np.linalg.norm(got - want) <= 2e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("rows", [7, 256])
def test_products_of_sparse_matrices(rows):
    a, b = (np.rint(pruned(n, k, s) * 4) for n, k, s in ((40, 64, 0), (64, 50, 1)))
    c = graph.spgemm(tc.quantize(a, "csr<f32>"), tc.quantize(b, "csr<f16>"), rows=rows)
    assert np.array_equal(c.dequantize(), (a @ b).astype(np.float32))
    assert str(c.format) == f"csr<f32, {np.count_nonzero(a @ b)}>"
    with pytest.raises(tc.TileError, match=r"the columns of \[64, 50\] are not the rows"):
        graph.spgemm(tc.quantize(b, "csr<f32>"), tc.quantize(a, "csr<f32>"))
    with pytest.raises(tc.TileError, match="expected matrices in csr, not"):
        graph.spgemm(tc.quantize(b, "csr<f32>"), tc.quantize(a, "bitmap<f32>"))


def test_shortest_paths():
    """Steps until nothing changes, against the same in numpy."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, 200)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    column = rng.integers(0, 200, start[-1]).astype(np.int32)
    value = rng.integers(1, 20, start[-1]).astype(np.float32)
    near = np.where(np.arange(200) == 0, 0, np.inf).astype(np.float32)
    want, rows = near.copy(), np.repeat(np.arange(200), counts)
    for _ in range(20):
        step = np.empty_like(near)
        graph.relax(start, column, value, near, step)
        near = np.minimum(near, step)
        new = want.copy()
        np.minimum.at(new, rows, value + want[column])
        want = new
    assert np.isfinite(want).sum() > 50
    assert np.array_equal(near, want)
