"""Mixtures of experts: each token's rows times the weights of the experts that it goes to."""

from __future__ import annotations

import numpy as np

from tilec.bench.gpu.case import Case, Dims, Values, Way
from tilec.ir.dtype import Array
from tilec.ops import moe, plan

SIZE = 64  # rows of a task


def routed(dims: Dims, rng: np.random.Generator) -> dict[str, Array]:
    """Choices that every expert has equally many of, so that the tasks are known from the sizes."""
    tokens, experts, rows = dims["T"], dims["E"], dims["R"]
    each = rows // tokens
    chosen = (np.arange(tokens)[:, None] * each + np.arange(each)) % experts
    chosen = chosen[rng.permutation(tokens)]
    r = plan.route(chosen, np.ones(chosen.shape), experts)
    t = plan.tasks(r.start, dims["S"])
    return {"token": r.token, "expert": t.owner, "first": t.first, "end": t.end,
            "offset": t.offset}  # fmt: skip


def sizes(tokens: int, experts: int, top: int, n: int, k: int, size: int = SIZE) -> dict[str, int]:
    """The dims of `tokens` that go to `top` of the experts each; tasks have `size` rows at most."""
    rows = tokens * top
    tasks = experts * -(-rows // experts // size)
    return {"T": tokens, "E": experts, "R": rows, "B": tasks, "S": size, "N": n, "K": k}


def one(dims: Dims) -> dict[str, slice]:
    """The places and tasks of the first expert, and its weights."""
    rows = dims["R"] // dims["E"]
    return {"R": slice(0, rows), "E": slice(0, 1), "B": slice(0, -(-rows // dims["S"]))}


def owners(values: Values) -> Array:
    """The expert of each place."""
    found = np.zeros(len(values["token"]), np.int64)
    for e, first, end in zip(values["expert"], values["first"], values["end"], strict=True):
        found[int(first) : int(end)] = e
    return found


def product(values: Values, dims: Dims) -> dict[str, Array]:
    """y[r] = w[e] @ x[token[r]]"""
    del dims
    rows = values["x"][values["token"].astype(np.int64)]
    return {"y": np.einsum("rk,rnk->rn", rows, values["w"][owners(values)])}


def gated(values: Values, dims: Dims) -> dict[str, Array]:
    """y[r] = silu(gate[e] @ x[token[r]]) * (up[e] @ x[token[r]])"""
    del dims
    rows, own = values["x"][values["token"].astype(np.int64)], owners(values)
    a, c = (np.einsum("rk,rnk->rn", rows, values[w][own]) for w in ("gate", "up"))
    return {"y": a / (1 + np.exp(-a)) * c}


PLACES = {"token": "i32", "expert": "i32", "first": "i32", "end": "i32", "offset": "i32"}


def expert_case(
    number: int, what: str, dims: Dims, w: str, ways: tuple[Way, ...], *, x: str = "bf16",
    small: Dims, peers: tuple[str, ...], rate: str = "half", turn: int = 2, near: float = 8e-3,
) -> Case:  # fmt: skip
    """A product of all experts."""
    return Case(
        f"{what} T{dims['T']} E{dims['E']};{dims['N']},{dims['K']}", number, moe.linear,
        {"x": x, "w": w, "y": "bf16", **PLACES}, dims, small, ways, product,
        2.0 * dims["R"] * dims["N"] * dims["K"], peers, near, rate, turn, given=routed,
        sample=one(dims),
    )  # fmt: skip


def gate_case(what: str, dims: Dims, w: str, ways: tuple[Way, ...], *, number: int, small: Dims,
              peers: tuple[str, ...]) -> Case:  # fmt: skip
    """Both products of a gated layer in one pass over the tokens."""
    return Case(
        f"{what} T{dims['T']} E{dims['E']};2*{dims['N']},{dims['K']}", number, moe.gated,
        {"x": "bf16", "gate": w, "up": w, "y": "bf16", **PLACES}, dims, small, ways, gated,
        4.0 * dims["R"] * dims["N"] * dims["K"], peers, 1e-2, turn=2, given=routed,
        sample=one(dims),
    )  # fmt: skip


SMALL = sizes(32, 4, 2, 128, 256)
FEW = sizes(16, 4, 2, 128, 256, 16)
GROUPED = ("torch grouped", "torch loop")
MANY = (Way("cuda", "threads=256,n=128,k=64", "HMMA"),
        Way("cuda", "threads=128,instruction=wgmma,stages=4,n=128,k=64", "HGMMA"),
        Way("triton", "", "HGMMA"))  # fmt: skip
CASES = (
    expert_case(18, "moe bf16", sizes(4096, 32, 1, 2048, 7168), "bf16", MANY, small=SMALL,
                peers=GROUPED),
    expert_case(18, "moe fp8", sizes(4096, 32, 1, 2048, 7168), "e4m3<channel, scale=f32>",
                (Way("cuda", "threads=128,instruction=wgmma,stages=4,n=128,k=128", "QGMMA"),
                 Way("triton", "", "QGMMA")),
                x="e4m3<channel, scale=f32>", small=SMALL, rate="byte",
                peers=("torch scaled grouped", *GROUPED), near=1e-2),
    gate_case("moe w4", sizes(64, 128, 8, 768, 2048, 16), "int4<group=128>",
              (Way("cuda", "threads=256,n=128,k=128", "HMMA"), Way("triton", "", "HGMMA")),
              number=19, small={**FEW, "K": 256}, peers=GROUPED),
    expert_case(20, "moe bf16", sizes(4096, 128, 8, 1536, 2048), "bf16", MANY, small=SMALL,
                peers=GROUPED),
)  # fmt: skip
