"""Sparse formats of every kind, also with quantised values, and weights that have them."""

from __future__ import annotations

import numpy as np

import tilec as tc
from tilec.ir.dtype import Array
from tilec.runtime.tensor import PackedTensor

# A weight of each kind of format, and the quantised ones.
DENSE_VALUES = {
    "nm": ["nm<2, 4, f16>", "nm<1, 4, f32>", "nm<4, 8, bf16>", "nm<1, 2, e4m3>"],
    "vnm": ["vnm<16, 2, 8, f16>", "vnm<64, 2, 16, bf16>"],
    "channels": ["channels<57, bf16>"],
    "block": ["block<16, 8, f16>", "block<64, 32, bf16>", "block<4, 4, f32>",
              "block<16, 48, f32>", "block<16, 40, f32>", "block<24, 32, f16>"],
    "bitmap": ["bitmap<f16>", "bitmap<f32>"],
    "csr": ["csr<f32>", "csr<f16>"],
    "coo": ["coo<f32>"],
}  # fmt: skip
QUANTISED = {
    "nm": ["nm<2, 4, int4<group=32>>", "nm<2, 4, nf4<group=16>>", "nm<4, 8, mxfp4>"],
    "vnm": ["vnm<32, 2, 16, int4<group=16>>"],
    "channels": ["channels<64, int8<channel>>"],
    "block": ["block<32, 32, int4<group=32>>", "block<32, 64, nvfp4>"],
    "bitmap": ["bitmap<fp8>", "bitmap<int4<group=16>>"],
    "csr": ["csr<int8<group=32>>"],
    "coo": ["coo<int8<group=16>>"],
    "plus": ["plus<lowrank<4>, nm<2, 4, int4<group=32>>>"],
}  # fmt: skip
BY_TABLES = ("paged", "ragged", "grouped", "hashed")  # see sparse_kernels.py
TEXTS = [t for kinds in (DENSE_VALUES, QUANTISED) for texts in kinds.values() for t in texts]
FEW = [
    "nm<2, 4, f16>", "vnm<16, 2, 8, f16>", "channels<57, bf16>", "block<16, 48, f32>",
    "bitmap<f16>", "csr<f32>", "block<32, 32, int4<group=32>>", "bitmap<int4<group=16>>",
]  # fmt: skip


def pruned(n: int, k: int, seed: int = 0) -> Array:
    """A normal sample with blocks of zeros, rows without anything, and single zeros."""
    rng = np.random.default_rng(seed)
    blocks = rng.random((-(-n // 16), -(-k // 16))) < 0.4
    kept = np.kron(blocks, np.ones((16, 16)))[:n, :k] * (rng.random((n, k)) < 0.6)
    kept[n // 3 : n // 3 + 16] = 0
    return rng.standard_normal((n, k)) * kept


def weight(text: str, n: int, seed: int = 0) -> PackedTensor:
    """A matrix of n rows in a format. Blocks and elements may end at an edge that divides nothing;
    the columns of others come in wholes."""
    loose = text.startswith(("block", "bitmap", "csr", "coo", "channels"))
    n = n if loose else -(-n // 64) * 64
    return tc.quantize(pruned(n, 300 if loose else 320, seed), text, search=False)
