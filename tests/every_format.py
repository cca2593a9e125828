"""Formats of every kind, and kernels over weights that have them."""

from __future__ import annotations

import numpy as np

import tilec as tc
from tilec.bench.problems.stored import names
from tilec.ir.codes import CODES
from tilec.runtime.tensor import PackedTensor

# An operand of each kind of format that is made of others, or is no code times a scale.
MADE = {
    "plus": ["plus<lowrank<8>, int4<group=64>>", "plus<outliers<5>, int2<group=64>>",
             "plus<codebook<6, vector=8>, codebook<6, vector=8>>", "plus<lowrank<4>, outliers<3>>"],
    "mixed": ["mixed<10, int8<channel>, int4<group=64>>",
              "mixed<4, plus<lowrank<8>, int4<group=64>>, nvfp4>"],
    "permuted": ["permuted<uint4<group=32, zero=int>>",
                 "permuted<plus<lowrank<8>, int4<group=64>>>"],
    "lowrank": ["lowrank<8>", "lowrank<5, bf16>"],
    "outliers": ["outliers<5>"],
    "grid": ["grid<8, 256, 32, even>", "grid<4, 512, 32, each>",
             "grid<8, 2048, 32, none, u3, 32>"],
    "seedlm": ["seedlm<8, 3>"],
    "bitstack": ["bitstack<3, 2>"],
    "coded": ["coded<f16>", "coded<bf16, 4>"],
    "planes": ["planes<uint6<group=32>, 4, 2>", "planes<q4_k, 3, 1>"],
    "codebook": ["codebook<6, vector=8>", "codebook<10, vector=4>",
                 "codebook<4, rows=1, group=60>"],
}  # fmt: skip
EXPERTS = ["experts<2, int4<group=64>, int2<group=32>>", "experts<q4_k>",
           "experts<1, int8, 2, uint4<group=64, zero=int>, int2<channel>>",
           "experts<3, int4<group=96>, plus<lowrank<3>, int4<group=64>>>",
           "experts<1, permuted<int4<group=32>>, fp8_block>",
           "experts<2, codebook<4, rows=1>, nvfp4>"]  # fmt: skip
DYNAMIC = [
    "int8<channel, scale=f32>",
    "e4m3<group=60, scale=f32>",
    "int4<channel, scale=f32>",
    "mxfp8",
]
UNEVEN = ["int8<group=60>", "int4<group=40>", "int2<group=80>", "e4m3<group=24>"]  # no powers of 2
NO_ZEROS = ["bitnet", "nf4<tensor>", "iq4<tensor>", "bipolar3<tensor>"]  # code 0 is not 0
DENSE = ["f32", "f16", "bf16", "e4m3", "e5m2"]
BESIDE_SCALES = ["e4m3", "e5m2", *(name for name in CODES if name != "e8m0")]
ELEMENTS = [*DENSE, *(f"{name}<group=32, scale=f32>" for name in BESIDE_SCALES)]
TEXTS = [*names(), *(text for texts in MADE.values() for text in texts), *UNEVEN, *ELEMENTS]


@tc.kernel
def every(x: tc.Tensor["E", "M", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "M", "N"]):
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[e.start, m, k], w[e.start, n, k].T)
        y[e.start, m, n] = acc


@tc.kernel
def routed(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], i: tc.Tensor["M", tc.i32],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    for m, n in tc.tiles("M", "N", block=(1, None)):
        e = i[m.start]
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[e, n, k].T)
        y[m, n] = acc


@tc.kernel
def one(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], i: tc.i32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[i, n, k].T)
        y[m, n] = acc


@tc.kernel
def elements(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k].to(tc.f32)


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P", tc.i32], y: tc.Tensor["P", "K"]):
    for p in tc.tiles("P"):
        y[p, :] = w[i[p], :].to(tc.f32)


def weight(text: str, n: int) -> PackedTensor:
    """A normal sample in a format. Of few are 300 columns whole groups; those of a grid must be."""
    k = 512 if text in MADE["grid"] else 480 if text in UNEVEN else 300
    return tc.quantize(np.random.default_rng(n).standard_normal((n, k)), text, search=False)
