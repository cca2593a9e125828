"""Kernels over rows that are found by tables, and over masks, with data and results."""

from __future__ import annotations

import numpy as np
from launches import Case

import tilec as tc
from tilec.ir import fit
from tilec.ir.dtype import Array
from tilec.ir.format import prefixed
from tilec.ir.named import named
from tilec.ir.sparse.indirect import table_of
from tilec.ops import attention
from tilec.runtime.tensor import PackedTensor, packed


@tc.kernel
def elements(w: tc.Tensor["B", "S", "D"], y: tc.Tensor["B", "S", "D"]):
    for b, s, d in tc.tiles("B", "S", "D", block=(2, 5, None)):
        y[b, s, d] = w[b, s, d].to(tc.f32)


@tc.kernel
def heads(w: tc.Tensor["B", "G", "S", "D"], y: tc.Tensor["B", "G", "S", "D"]):
    for b, g, s, d in tc.tiles("B", "G", "S", "D", block=(1, 2, 5, None)):
        y[b.start, g, s, d] = w[b.start, g, s, d].to(tc.f32)


@tc.kernel
def points(w: tc.Tensor["X", "Y", "C"], i: tc.Tensor["N", tc.i32], j: tc.Tensor["N", tc.i32],
           y: tc.Tensor["N", "C"]):  # fmt: skip
    for n, c in tc.tiles("N", "C"):
        y[n, c] = w[i[n] - 1, j[n], c].to(tc.f32)


@tc.kernel
def experts(x: tc.Tensor["E", "S", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "S", "N"]):
    for e, s, n in tc.tiles("E", "S", "N", block=(1, None, None)):
        acc = tc.zeros((s, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[e.start, s, k], w[e.start, n, k].T)
        y[e.start, s, n] = acc


def normal(*shape: int, seed: int = 0) -> Array:
    """A normal sample."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def shuffled(text: str, x: Array, pages: int) -> PackedTensor:
    """A tensor in so many pages, which lie in no order; two of them are missing."""
    format = named(text[:-1] + f", {pages}>")
    parts = fit.encode(format, x, fit.Fit())
    order = np.random.default_rng(1).permutation(pages)
    for name, values in list(parts.items()):
        if name != "table":
            moved = np.zeros_like(values)
            moved[order] = values
            parts[name] = moved
    parts["table"] = order[parts["table"].astype(int)]
    parts["table"][0, -1], parts["table"][-1, 1] = -1, pages + 7
    return packed(format, parts, x.shape)


def of_elements() -> list[Case]:
    """Every element, exactly."""
    cases: list[Case] = []
    x = normal(3, 21, 8)
    x[1, 7:], x[2] = 0, 0
    for text in (
        "paged<4, f16>",
        "paged<4, int8<group=8>>",
        "ragged<f32>",
        "ragged<int4<channel>>",
    ):
        w = tc.quantize(x, text, search=False)
        cases.append(Case(text, elements, {"w": w}, {"y": w.dequantize()}))
    for text in ("paged<4, f32>", "paged<8, int4<group=4>>"):
        w = shuffled(text, normal(3, 3, 21, 8), 40)
        cases.append(Case(f"{text} shuffled", heads, {"w": w}, {"y": w.dequantize()}))
    w = lists(normal(6, 8))
    cases.append(Case("grouped", elements, {"w": w}, {"y": w.dequantize()}))
    return [*cases, of_points()]


def lists(rows: Array) -> PackedTensor:
    """Three lists of rows, the second empty, one with a number that is no row's."""
    order = np.array([3, 1, 1, -1, 0, 5, 2, 9, 4, 3])
    format = named(f"grouped<{len(order)}, {len(rows)}, f32>")
    parts = {"start": np.array([0, 4, 4, 10]), "order": order}
    values = prefixed("values", {"": rows.astype(np.float32).astype(float)})
    return packed(format, parts | values, (3, 7, rows.shape[1]))


def of_points() -> Case:
    """Every point of a grid, and such as lie beside it."""
    rng = np.random.default_rng(0)
    key, row, probes = table_of(rng.choice(9 * 14, 20, replace=False))
    values = prefixed("values", {"": normal(20, 8).astype(np.float32).astype(float)})
    format = named(f"hashed<{len(key)}, {probes}, 20, f32>")
    w = packed(format, {"key": key, "row": row} | values, (9, 14, 8))
    i, j = (a.ravel().astype(np.int32) for a in np.meshgrid(np.arange(11), np.arange(14)))
    dense = np.pad(w.dequantize(), ((1, 1), (0, 0), (0, 0)))
    return Case("hashed", points, {"w": w, "i": i, "j": j}, {"y": dense[i, j]})


def attended(q: Array, k: Array, v: Array, seen: Array) -> Array:
    """softmax(q k^T / 4, where seen) v in doubles; rows that see nothing are 0."""
    with np.errstate(all="ignore"):
        s = np.where(seen, q @ np.swapaxes(k, -1, -2) * 0.25, -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        return np.nan_to_num(p / p.sum(-1, keepdims=True), nan=0.0) @ v


def of_attention() -> list[Case]:
    """Decoding with keys and values in pages, by lengths; and by masks of blocks."""
    cases: list[Case] = []
    length = np.array([37, 0, 5, 64], np.int32)
    q = normal(4, 2, 3, 16).astype(np.float32)
    seen = np.arange(64) < length[:, None, None, None]
    for text in ("paged<8, f32>", "paged<16, f16>", "paged<32, int8<group=16>>",
                 "paged<16, int4<rows=16, group=1>>"):  # fmt: skip
        k, v = (shuffled(text, normal(4, 2, 64, 16, seed=s), 64) for s in (1, 2))
        want = attended(q.astype(float), k.dequantize().astype(float),
                        v.dequantize().astype(float), seen)  # fmt: skip
        given = {"q": q, "k": k, "v": v, "length": length, "scale": 0.25}
        cases.append(Case(f"decode {text}", attention.decode, given, {"y": want}, 2e-6))
    rng = np.random.default_rng(0)
    q, k, v = (normal(n, 16, seed=i).astype(np.float32) for i, n in enumerate((96, 128, 128)))
    for density in (0.05, 0.4, 1.0):
        blocks = rng.random((6, 8)) < density
        seen = np.kron(blocks, np.ones((16, 16))) * (rng.random((96, 128)) < 0.9) > 0
        seen[32:48] = False
        want = attended(q.astype(float), k.astype(float), v.astype(float), seen)
        for text in ("block<16, 16, bool>", "block<32, 64, bool>"):
            given = {"q": q, "k": k, "v": v, "mask": tc.quantize(seen, text), "scale": 0.25}
            name = f"{text} at {density}"
            cases.append(Case(name, attention.masked, given, {"y": want}, 2e-6))
    return cases


def of_experts() -> Case:
    """Lists of rows times the matrix of each."""
    x, w = lists(normal(6, 24)), normal(3, 10, 24).astype(np.float32)
    want = np.einsum("esk,enk->esn", x.dequantize().astype(float), w.astype(float))
    return Case("experts", experts, {"x": x, "w": w}, {"y": want}, 1e-6)


CASES = {c.name: c for c in (*of_elements(), *of_attention(), of_experts())}
QUICK = ("paged<4, int8<group=8>>", "paged<4, f32> shuffled", "grouped", "hashed",
         "decode paged<16, f16>", "block<16, 16, bool> at 0.4", "experts")  # fmt: skip
