"""Attention: prefill, decoding with keys and values in few bits, latent, in codes, in blocks."""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false
# ruff: noqa: F821, UP037

from __future__ import annotations

import math

import numpy as np

import tilec as tc
from tilec.bench.gpu.case import Case, Dims, Values, Way, spread
from tilec.ir.dtype import Array
from tilec.ops import attention, dense_attention
from tilec.runtime.sparse import of_bsr

BLOCK = 64  # rows and columns of a block of a mask


@tc.kernel
def coded(
    q: tc.Tensor["H", "M", "D"], k: tc.Tensor["H", "N", "D"], v: tc.Tensor["H", "N", "D"],
    y: tc.Tensor["H", "M", "D"], scale: tc.f32,
):  # fmt: skip
    """softmax(q k' * scale) v with q and k in int8 and v in fp8 (SageAttention2, arXiv
    2411.10958): p is at most 1 and is cast to the dtype of v."""
    for h, m in tc.tiles("H", "M", block=(1, None)):
        rows = q[h.start, m, :]
        most = tc.full((m,), -math.inf)
        total = tc.zeros((m,))
        acc = tc.zeros((m, "D"))
        for n in tc.tiles("N"):
            scores = tc.dot(rows, k[h.start, n, :].T) * scale
            new = tc.maximum(most, tc.max(scores, axis=1))
            p = tc.exp(scores - new[:, None])
            old = tc.exp(most - new)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(v.dtype), v[h.start, n, :])
            most = new
        y[h.start, m, :] = acc / total[:, None]


def softmax(s: Array) -> Array:
    """Of the last axis; a row that sees nothing is 0."""
    with np.errstate(invalid="ignore"):
        e = np.exp(s - s.max(-1, keepdims=True))
        return np.nan_to_num(e / e.sum(-1, keepdims=True), nan=0.0)


def causal(values: Values, dims: Dims) -> dict[str, Array]:
    """The queries are the last M of N places."""
    m, n = dims["M"], dims["N"]
    scores = np.einsum("bghmd,bgnd->bghmn", values["q"], values["k"]) * values["scale"]
    seen = np.arange(n) <= np.arange(m)[:, None] + n - m
    p = softmax(np.where(seen, scores, -math.inf))
    return {"result": np.einsum("bghmn,bgne->bghme", p, values["v"])}


def decoded(values: Values, dims: Dims) -> dict[str, Array]:
    """The first `length` keys of each sequence."""
    scores = values["q"] @ values["k"].swapaxes(-1, -2) * values["scale"]
    seen = np.arange(dims["S"]) < values["length"][:, None, None, None]
    return {"y": softmax(np.where(seen, scores, -math.inf)) @ values["v"]}


def latent(values: Values, dims: Dims) -> dict[str, Array]:
    """Keys and values are the same numbers, which all heads share."""
    scores = values["q"] @ values["c"].swapaxes(-1, -2)
    scores = (scores + values["turned"] @ values["k"].swapaxes(-1, -2)) * values["scale"]
    seen = np.arange(dims["N"]) < values["length"][:, None, None]
    return {"result": softmax(np.where(seen, scores, -math.inf)) @ values["c"]}


def whole(values: Values, dims: Dims) -> dict[str, Array]:
    """All keys."""
    del dims
    scores = values["q"] @ values["k"].swapaxes(-1, -2) * values["scale"]
    return {"y": softmax(scores) @ values["v"]}


def masked(values: Values, dims: Dims) -> dict[str, Array]:
    """The keys that a mask has."""
    del dims
    scores = values["q"] @ values["k"].T * values["scale"]
    return {"y": softmax(np.where(values["mask"] > 0, scores, -math.inf)) @ values["v"]}


def lengths(dims: Dims, rng: np.random.Generator) -> dict[str, Array]:
    """All of the keys, as floors count them; fewer for some where the case is small."""
    keys = dims.get("S", dims.get("N", 0))
    found = np.full(dims["B"], keys, np.int32)
    if keys < 1024:
        found[:] = rng.integers(1, keys + 1, dims["B"])
    return {"length": found}


def mask_of(density: float):
    """What makes a mask of blocks, the diagonal among them."""

    def given(dims: Dims, rng: np.random.Generator) -> dict[str, Array]:
        rows, columns = dims["M"] // BLOCK, dims["N"] // BLOCK
        each = max(1, round(density * columns))
        column = np.sort(np.argsort(rng.random((rows, columns)), 1)[:, :each], 1).reshape(-1)
        start = np.arange(0, rows * each + 1, each, dtype=np.int32)
        ones = np.ones((rows * each, BLOCK, BLOCK), bool)
        mask = of_bsr(start, column.astype(np.int32), ones, (dims["M"], dims["N"]))
        return {"mask": mask}  # type: ignore[dict-item]

    return given


def prefill(d: int, t: str = "bf16", near: float = 1e-2, rate: str = "half") -> Case:
    """Row 25: 16k tokens, each seeing those before it."""
    n, groups, heads = 16384, 8, 4
    dims = {"B": 1, "G": groups, "H": heads, "M": n, "N": n, "D": d, "E": d}
    ways = (
        Way("cuda", f"threads={256 if d > 128 else 128},instruction=wgmma,m=64,k=64", "HGMMA.RS"),
        Way("triton", "stages=2" if d > 128 else "", "HGMMA"),
    )
    peers = ("torch sdpa", "torch flex") if d == 128 else ("torch sdpa",)
    return Case(
        f"prefill d{d} {t} causal 16k", 25, dense_attention.causal,
        {"q": t, "k": t, "v": t}, dims, {"G": 1, "H": 2, "M": 128, "N": 192}, ways, causal,
        2.0 * groups * heads * n * n * d, peers, near, rate,
        0 if d == 128 and t == "bf16" else 3, {"scale": d**-0.5}, quick=d == 64,
        sample={"G": slice(0, 1), "H": slice(0, 1), "M": slice(-16, None)},
    )  # fmt: skip


def decode(kv: str, what: str) -> Case:
    """Row 26: one token of each of 64 sequences, with 8k keys."""
    dims = {"B": 64, "G": 8, "H": 4, "S": 8192, "D": 128, "E": 128}
    ways = (Way("cuda", "threads=128,s=64", "HMMA"), Way("triton", "", "HGMMA"))
    return Case(
        f"decode {what} B64 8k", 26, attention.decode,
        {"q": "bf16", "k": kv, "v": kv, "y": "bf16", "length": "i32"}, dims,
        {"B": 2, "G": 2, "S": 256}, ways, decoded, 4.0 * 64 * 32 * 8192 * 128,
        ("torch sdpa", "torch flex") if kv == "bf16" else ("torch sdpa",), 1.5e-2, turn=1,
        numbers={"scale": 128**-0.5}, given=lengths, sample={"B": spread(64, 2)},
    )  # fmt: skip


def sparse_blocks(density: float) -> Case:
    """Row 29: one head of 32k tokens and blocks of keys that each row of blocks has."""
    n, each = 32768, max(1, round(density * 32768 // BLOCK))
    count = n // BLOCK * each
    ways = (Way("cuda", "m=64", "HMMA"), Way("triton", "m=64", "HGMMA"))
    return Case(
        f"blocks {density:.0%} of 32k", 29, attention.masked,
        {"q": "bf16", "k": "bf16", "v": "bf16", "y": "bf16",
         "mask": f"block<{BLOCK}, {BLOCK}, bool, {count}>"},
        {"M": n, "N": n, "D": 128, "E": 128}, {"M": 256, "N": 512}, ways, masked,
        4.0 * count * BLOCK * BLOCK * 128, ("torch flex",) if density < 0.2 else (), 1.5e-2, turn=2,
        numbers={"scale": 128**-0.5}, given=mask_of(density), sample={"M": spread(n, 32)},
    )  # fmt: skip


MLA = Case(
    "latent decode B64 8k", 27, dense_attention.latent,
    {"q": "bf16", "turned": "bf16", "c": "bf16", "k": "bf16", "length": "i32"},
    {"B": 64, "H": 128, "R": 512, "P": 64, "N": 8192}, {"B": 2, "H": 64, "R": 128, "N": 192},
    (Way("cuda", "threads=256", "HMMA"), Way("triton", "", "HGMMA")), latent,
    2.0 * 64 * 128 * 8192 * (512 + 64 + 512), ("torch sdpa",), 1.5e-2, turn=2,
    numbers={"scale": 192**-0.5}, given=lengths, sample={"B": spread(64, 2)},
)  # fmt: skip
SAGE = Case(
    "int8 q k, fp8 v 16k", 28, coded,
    {"q": "int8<channel, scale=f32>", "k": "int8<channel, scale=f32>", "v": "e4m3", "y": "bf16"},
    {"H": 32, "M": 16384, "N": 16384, "D": 128}, {"H": 2, "M": 64, "N": 192},
    (Way("cuda", "threads=128,m=64,n=64", "IMMA"), Way("triton", "m=64,n=64", "IGMMA")), whole,
    4.0 * 32 * 16384 * 16384 * 128, ("torch sdpa",), 5e-2, "byte", 2, {"scale": 128**-0.5},
    sample={"H": slice(0, 1), "M": spread(16384, 16)},
)  # fmt: skip
CASES = (
    prefill(128), prefill(64), prefill(256),
    decode("bf16", "bf16"), decode("int8<channel>", "kv8"), decode("int4<group=64>", "kv4"),
    decode("uint2<group=32, zero=float>", "kv2"),
    MLA, SAGE, sparse_blocks(0.1), sparse_blocks(0.25),
)  # fmt: skip
