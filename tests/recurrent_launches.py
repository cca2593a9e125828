"""Launches of `tilec.ops.recurrent` and `tilec.ops.adapters`, small enough for emulation, and their
results in doubles, token by token."""

from __future__ import annotations

import numpy as np
from launches import Case
from op_launches import f32
from sparse_kernels import normal

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ops import adapters, plan, recurrent

B, G, H, T, D, E = 1, 2, 2, 70, 16, 24


def stepped(q: Array, k: Array, v: Array, decay: Array, first: Array, rate: Array | None = None
            ) -> tuple[Array, Array]:  # fmt: skip
    """y and the last state: q and k [N, T, D], v [N, T, E], decay [N, T, D or 1]."""
    q, k, v, decay, state = (x.astype(np.float64) for x in (q, k, v, decay, first))
    y = np.zeros(v.shape)
    for t in range(v.shape[1]):
        state = state * np.exp(decay[:, t])[..., None]
        u = v[:, t]
        if rate is not None:
            u = (u - np.einsum("nd,nde->ne", k[:, t], state)) * rate[:, t, None]
        state = state + k[:, t, :, None] * u[:, None]
        y[:, t] = np.einsum("nd,nde->ne", q[:, t], state)
    return y, state


def decayed(name: str, tokens: int = T, strong: float = 1.0) -> Case:
    """Groups of two heads; the state at the start is not 0."""
    q, k = (f32(B, G, tokens, D, seed=s) for s in (0, 1))
    v, first = f32(B, G, H, tokens, E, seed=2), f32(B, G, H, D, E, seed=3)
    decay = -strong * np.abs(f32(B, G, H, tokens, seed=4))
    rows, keys = (np.repeat(x, H, axis=1).reshape(-1, tokens, D) for x in (q, k))
    y, last = stepped(rows, keys, v.reshape(-1, tokens, E), decay.reshape(-1, tokens, 1),
                      first.reshape(-1, D, E))  # fmt: skip
    given = {"q": q, "k": k, "v": v, "decay": decay, "first": first}
    want = {"y": y.reshape(v.shape), "last": last.reshape(first.shape)}
    if name != "parallel_decayed":
        return Case(name, recurrent.decayed, given, want, 2e-6)
    types = {n: tc.f32 for n in (*given, *want)}
    kernel = recurrent.parallel_decayed.kernel(**types)
    return Case(name, kernel, given, want, 2e-6, {"C": tokens // 64})


def headed(name: str) -> Case:
    """Three heads by themselves; the gates of some rows of the state close at once."""
    q, k = (f32(B, 3, T, D, seed=s) for s in (0, 1))
    v, first = f32(B, 3, T, E, seed=2), f32(B, 3, D, E, seed=3)
    given = {"q": q, "k": k, "v": v, "first": first}
    if name == "gated":
        given["decay"] = -np.exp(3 * f32(B, 3, T, D, seed=4))
        decay, rate = given["decay"].reshape(-1, T, D), None
    else:
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
        given["decay"] = -np.abs(f32(B, 3, T, seed=4))
        given["rate"] = (1 / (1 + np.exp(-normal(B, 3, T, seed=5)))).astype(np.float32)
        decay, rate = given["decay"].reshape(-1, T, 1), given["rate"].reshape(-1, T)
    rows, keys, values = (x.reshape(-1, T, x.shape[-1]) for x in (q, k, v))
    y, last = stepped(rows, keys, values, decay, first.reshape(-1, D, E), rate)
    want = {"y": y.reshape(v.shape), "last": last.reshape(first.shape)}
    return Case(name, getattr(recurrent, name), given, want, 2e-6)


def adapted() -> Case:
    """Rows of three adapters of four, and some of none; the weight is in int4."""
    x, w = f32(37, 64), tc.quantize(normal(40, 64, seed=1), "int4<group=32>")
    down, up = f32(4, 8, 64, seed=2), f32(4, 40, 8, seed=3)
    owner = np.random.default_rng(0).choice([-1, 0, 2, 3], 37).astype(np.int32)
    row, t = plan.owned(owner, 4, 16)
    thin = np.einsum("mk,mrk->mr", x.astype(float), down[owner].astype(float))
    more = np.einsum("mr,mnr->mn", thin, up[owner].astype(float)) * 0.5
    dense = x.astype(float) @ w.dequantize().astype(float).T
    given = {"x": x, "w": w, "a": down, "b": up, "row": row, "adapter": t.owner, "first": t.first,
             "end": t.end, "offset": t.offset, "scale": 0.5}  # fmt: skip
    want = {"y": dense + np.where(owner[:, None] >= 0, more, 0)}
    return Case("adapted", adapters.linear, given, want, 2e-6)


CASES = {
    c.name: c
    for c in (decayed("decayed"), decayed("parallel_decayed", 128), headed("gated"),
              headed("gated_delta"), adapted())
}  # fmt: skip
