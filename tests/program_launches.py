"""Launches of the programs of `tilec.ops`, small enough for emulation, and results in doubles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from launches import Case, Given
from sparse_kernels import normal

import tilec as tc
from tilec.ir.dtype import Array, of_numpy
from tilec.ir.format import Format
from tilec.lang.kernel import Parameter, TensorSpec
from tilec.ops import conv, dense_attention, linear, losses, mlp, norm, rotary
from tilec.ops import decoder as decoder_ops
from tilec.program import Program

EPS = 2.0**-7
NEAR = {"f32": 1e-6, "f16": 4e-3, "bf16": 3e-2}


def case(name: str, program: Program, given: dict[str, Given], want: Array | tuple[Array, ...],
         near: float, dims: dict[str, int] | None = None) -> Case:  # fmt: skip
    """A launch of a program as a kernel, which writes what it returns."""
    types: dict[str, Format | tc.DType] = {}
    for p in program.definition.signature.params:
        x = given[p.name]
        if isinstance(p.spec, TensorSpec):
            assert isinstance(x, np.ndarray | tc.PackedTensor)
            types[p.name] = x.format if isinstance(x, tc.PackedTensor) else of_numpy(x.dtype)
    kernel = program.kernel(**types)
    results = kernel.definition.signature.params[len(given) :]
    wants = want if isinstance(want, tuple) else (want,)
    named = {p.name: _stored(p, w) for p, w in zip(results, wants, strict=True)}
    return Case(name, kernel, given, named, near, dims or {})


def _stored(p: Parameter, want: Array) -> Array:
    """Doubles for results in f32, else numbers of the result's dtype."""
    assert isinstance(p.spec, TensorSpec)
    assert p.spec.format is not None
    t = p.spec.format.value
    return want if t == tc.f32 else t.to_storage(t.round(want))


def softmax(s: Array) -> Array:
    """Of the last axis."""
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attended(name: str, t: type = np.float32) -> Case:
    """Queries after 9 keys that have no query, in two groups of three heads."""
    q = normal(2, 2, 3, 21, 16).astype(t)
    k, v = (normal(2, 2, 30, 16, seed=s).astype(t) for s in (1, 2))
    a, b, c = (x.astype(np.float64) for x in (q, k, v))
    given: dict[str, Given] = {"q": q, "k": k, "v": v, "scale": 0.25}
    scores = np.einsum("bghmd,bgnd->bghmn", a, b) * 0.25
    m, n = np.arange(21)[:, None] + 9, np.arange(30)
    seen = n <= m
    if name == "windowed":
        given |= {"width": 7, "limit": 2.0}
        seen, scores = seen & (n > m - 7), 2 * np.tanh(scores / 2)
    want = np.einsum("bghmn,bgne->bghme", softmax(np.where(seen, scores, -math.inf)), c)
    return case(name, getattr(dense_attention, name), given, want, NEAR[str(of_numpy(q.dtype))])


def headed(name: str) -> Case:
    """Three heads by themselves, with and without a bias."""
    q, k, v = (normal(2, 3, n, 16, seed=s).astype(np.float32) for s, n in enumerate((21, 30, 30)))
    scores = q.astype(float) @ k.astype(float).swapaxes(-1, -2) * 0.25
    given: dict[str, Given] = {"q": q, "k": k, "v": v}
    if name == "biased":
        given["bias"] = normal(3, 21, 30, seed=7).astype(np.float32)
        scores += given["bias"]
    want = softmax(scores) @ v.astype(float)
    return case(name, getattr(dense_attention, name), {**given, "scale": 0.25}, want, 2e-6)


def decoded() -> Case:
    """One token with keys of different numbers, of which one is stored in int8."""
    q, v = normal(2, 2, 4, 16).astype(np.float32), normal(2, 2, 40, 16, seed=2).astype(np.float32)
    k = tc.quantize(normal(2, 2, 40, 16, seed=1), "int8<group=16>")
    length = np.array([33, 1], np.int32)
    scores = q.astype(float) @ k.dequantize().astype(float).swapaxes(-1, -2) * 0.25
    seen = np.arange(40) < length[:, None, None, None]
    want = softmax(np.where(seen, scores, -math.inf)) @ v.astype(float)
    given: dict[str, Given] = {"q": q, "k": k, "v": v, "length": length, "scale": 0.25}
    return case("decode", dense_attention.decode, given, want, 2e-6)


def latent(name: str, r: int = 24) -> Case:
    """Keys and values are the same numbers; 8 more of the keys alone."""
    q, t = normal(2, 6, r).astype(np.float32), normal(2, 6, 8, seed=1).astype(np.float32)
    c, k = normal(2, 40, r, seed=2).astype(np.float32), normal(2, 40, 8, seed=3)
    k = k.astype(np.float32)
    length = np.array([17, 40], np.int32)
    scores = q.astype(float) @ c.astype(float).swapaxes(-1, -2)
    scores = (scores + t.astype(float) @ k.astype(float).swapaxes(-1, -2)) * 0.2
    seen = np.arange(40) < length[:, None, None]
    want = softmax(np.where(seen, scores, -math.inf)) @ c.astype(float)
    given: dict[str, Given] = {"q": q, "turned": t, "c": c, "k": k, "length": length, "scale": 0.2}
    return case(name, dense_attention.latent, given, want, 2e-6)


def normed(name: str) -> Case:
    """Rows of 70."""
    x = normal(9, 70).astype(np.float32) + np.float32(0.5)
    gain, bias = (normal(70, seed=s).astype(np.float32) for s in (1, 2))
    y, w = normal(9, 70, seed=3).astype(np.float32), normal(20, 70, seed=4).astype(np.float32)
    a = x.astype(float)

    def rms(z: Array) -> Array:
        return z / np.sqrt((z * z).mean(-1, keepdims=True) + EPS) * gain

    c = a - a.mean(-1, keepdims=True)
    both = (x + y).astype(float)
    given, want = {
        "rms": ({"gain": gain, "eps": EPS}, rms(a)),
        "layer": (
            {"gain": gain, "bias": bias, "eps": EPS},
            c / np.sqrt((c * c).mean(-1, keepdims=True) + EPS) * gain + bias,
        ),
        "added_rms": ({"y": y, "gain": gain, "eps": EPS}, (both, rms(both))),
        "rms_linear": ({"gain": gain, "w": w, "eps": EPS}, rms(a) @ w.astype(float).T),
        "softmax": ({}, softmax(a)),
    }[name]
    return case(name, getattr(norm, name), {"x": x, **given}, want, 2e-6)


def layered(name: str) -> Case:
    """Two products; the first gate is stored in int4."""
    x = normal(5, 32).astype(np.float32)
    up, down = (normal(*s, seed=1).astype(np.float32) / 4 for s in ((48, 32), (24, 48)))
    if name == "swiglu":
        gate = tc.quantize(normal(48, 32, seed=3), "int4<group=32>")
        g = x.astype(float) @ gate.dequantize().astype(float).T
        want = (g / (1 + np.exp(-g)) * (x.astype(float) @ up.T)) @ down.T
        return case(name, mlp.swiglu, {"x": x, "gate": gate, "up": up, "down": down}, want, 2e-6)
    bias, shift = normal(48, seed=4).astype(np.float32), normal(24, seed=5).astype(np.float32)
    h = x.astype(float) @ up.T + bias
    h = 0.5 * h * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
    given: dict[str, Given] = {"x": x, "up": up, "bias": bias, "down": down, "shift": shift}
    return case(name, mlp.gelu, given, h @ down.T + shift, 2e-6)


def lost(name: str) -> Case:
    """Targets at both ends of the vocabulary."""
    x, w = normal(7, 16).astype(np.float32), normal(90, 16, seed=1).astype(np.float32)
    target = np.array([0, 89, 3, 3, 50, 88, 1], np.int32)
    z = x.astype(float) @ w.astype(float).T
    logits = z.astype(np.float32)
    z = logits.astype(float) if name == "cross_entropy" else z
    want = np.log(np.exp(z).sum(-1)) - z[np.arange(7), target]
    operands = {"logits": logits} if name == "cross_entropy" else {"x": x, "w": w}
    return case(name, getattr(losses, name), {**operands, "target": target}, want, 2e-6)


def turned() -> Case:
    """Halves of 8."""
    x = normal(2, 9, 16).astype(np.float32)
    angle = np.arange(9)[:, None] / 10 ** np.arange(8)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = np.split(x.astype(float), 2, -1)
    want = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    return case("rotary", rotary.rotary, {"x": x, "cos": cos, "sin": sin}, want, 1e-6)


def added(name: str) -> Case:
    """Products with a bias; low_rank has its weight in int4, low_ranks rows without an adapter."""
    x, b = normal(9, 64).astype(np.float32), normal(20, seed=2).astype(np.float32)
    w = normal(20, 64, seed=1).astype(np.float32)
    z = x.astype(float) @ w.astype(float).T
    if name.startswith("affine"):
        want = z + b
        want = want / (1 + np.exp(-want)) if name == "affine_silu" else want
        return case(name, getattr(linear, name), {"x": x, "w": w, "bias": b}, want, 2e-6)
    down, up = normal(3, 4, 64, seed=3).astype(np.float32), normal(3, 20, 4, seed=4)
    up = up.astype(np.float32)
    if name == "low_rank":
        packed = tc.quantize(w, "int4<group=32>")
        z = x.astype(float) @ packed.dequantize().astype(float).T
        want = z + x.astype(float) @ down[0].astype(float).T @ up[0].astype(float).T * 0.5
        given: dict[str, Given] = {"x": x, "w": packed, "a": down[0], "b": up[0], "scale": 0.5}
        return case(name, linear.low_rank, given, want, 2e-6)
    adapter = np.array([0, 2, -1, 1, 1, 0, -1, 2, 0], np.int32)
    thin = np.einsum("mk,mrk->mr", x.astype(float), down[adapter].astype(float))
    more = np.einsum("mr,mnr->mn", thin, up[adapter].astype(float)) * 0.5
    want = z + np.where(adapter[:, None] >= 0, more, 0)
    given = {"x": x, "w": w, "a": down, "b": up, "adapter": adapter, "scale": 0.5}
    return case(name, linear.low_ranks, given, want, 2e-6)


def decoder() -> Case:
    """Two sequences of 4 and 9 tokens, two groups of three heads of 8, weights in int4."""
    b, c, g, h, half, n, hidden = 2, 32, 2, 3, 4, 12, 64
    d = 2 * half
    sides = {"wq": (g * h * d, c), "wk": (g * d, c), "wv": (g * d, c), "wo": (c, g * h * d),
             "gate": (hidden, c), "up": (hidden, c), "down": (c, hidden)}  # fmt: skip
    w = {name: tc.quantize(normal(*s, seed=i) / 4, f"int4<group={16 if name == 'wo' else 32}>")
         for i, (name, s) in enumerate(sides.items())}  # fmt: skip
    x, gain = normal(b, c, seed=8).astype(np.float32), normal(c, seed=9).astype(np.float32)
    place = np.array([4, 9], np.int32)
    angle = place[:, None] / 10 ** np.arange(half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    keys, values = (normal(b, g, n, d, seed=s).astype(np.float32) for s in (10, 11))
    given: dict[str, Given] = {
        "x": x, "first": gain, **w, "second": gain[::-1].copy(), "cos": cos, "sin": sin,
        "keys": keys, "values": values, "place": place, "scale": 0.5,
    }  # fmt: skip
    m = {name: p.dequantize().astype(np.float64) for name, p in w.items()}

    def rms(z: Array, by: Array) -> Array:
        return z / np.sqrt((z * z).mean(-1, keepdims=True) + 1e-6) * by

    def turned_by(z: Array) -> Array:
        a, e = np.split(z, 2, -1)
        u, s = (t.astype(float).reshape(b, *[1] * (z.ndim - 2), half) for t in (cos, sin))
        return np.concatenate([a * u - e * s, e * u + a * s], -1)

    z = rms(x.astype(float), gain)
    q = turned_by((z @ m["wq"].T).reshape(b, g, h, d))
    k, v = keys.astype(float), values.astype(float)
    k[np.arange(b), :, place] = turned_by((z @ m["wk"].T).reshape(b, g, d))
    v[np.arange(b), :, place] = (z @ m["wv"].T).reshape(b, g, d)
    seen = np.arange(n) <= place[:, None, None, None]
    p = softmax(np.where(seen, q @ k.swapaxes(-1, -2) * 0.5, -math.inf))
    y = x + (p @ v).reshape(b, -1) @ m["wo"].T
    z = rms(y, gain[::-1].astype(float))
    gate = z @ m["gate"].T
    want = y + (gate / (1 + np.exp(-gate)) * (z @ m["up"].T)) @ m["down"].T
    made = case("decoder", decoder_ops.step, given, want, 2e-6, {"H": h, "P": half})
    return replace(made, want={**made.want, "keys": k, "values": v})


def convolved(name: str) -> Case:
    """Windows that reach beyond both ends."""
    side = (2, 13, 5) if name != "conv2d" else (2, 9, 7, 5)
    x = normal(*side).astype(np.float32)
    if name == "depthwise1d":
        w, bias = normal(4, 5, seed=1).astype(np.float32), normal(5, seed=2).astype(np.float32)
        rows = np.pad(x, ((0, 0), (3, 0), (0, 0))).astype(float)
        want = bias + sum(w[s] * rows[:, s : s + 13] for s in range(4))
        return Case(name, conv.depthwise1d, {"x": x, "w": w, "bias": bias}, {"y": want}, 1e-6)
    w = normal(*((3, 6, 5) if name == "conv1d" else (3, 2, 6, 5)), seed=1).astype(np.float32)
    given: dict[str, Given] = {"x": x, "w": w, "stride": 2, "before": 1}
    beyond = [(0, 0), *[(1, 3)] * (x.ndim - 2), (0, 0)]
    wide = np.pad(x, beyond).astype(float)
    if name == "conv1d":
        want = sum(wide[:, s : s + 14 : 2] @ w[s].T for s in range(3))
        return Case(name, conv.conv1d, given, {"y": np.asarray(want)}, 1e-6)
    want = sum(wide[:, r : r + 10 : 2, s : s + 8 : 2] @ w[r, s].T
               for r in range(3) for s in range(2))  # fmt: skip
    return Case(name, conv.conv2d, given, {"y": np.asarray(want)}, 1e-6)


CASES = {
    c.name: c for c in (
        *map(attended, ("causal", "windowed")), *map(headed, ("full", "biased")), decoded(),
        latent("latent"), latent("latent of 512", 512), decoder(),
        *map(normed, ("rms", "layer", "added_rms", "rms_linear", "softmax")),
        *map(layered, ("swiglu", "gelu")), *map(lost, ("cross_entropy", "linear_cross_entropy")),
        turned(), *map(added, ("affine", "affine_silu", "low_rank", "low_ranks")),
        *map(convolved, ("conv1d", "conv2d", "depthwise1d")),
    )
}  # fmt: skip
NARROW = {f"{name} {t.__name__}": attended(name, t)
          for name in ("causal", "windowed") for t in (np.float16,)}  # fmt: skip
