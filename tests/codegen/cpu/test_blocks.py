"""Products whose tiles are several blocks of 64 columns of a stream of codes."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from formats import random_parts, scaled

import tilec as tc
from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source
from tilec.ir.format import Dense
from tilec.ir.source import KernelSource
from tilec.ops import mlp
from tilec.runtime.tensor import packed

FORMATS = ["int4<group=64>", "uint4<group=32, zero=int>", "nf4<group=64>", "e2m1<group=16>",
           "int3<group=64>", "int8<group=128>", "int6<group=64>"]  # fmt: skip
BYTES = ["uint4<group=32, scale=uint8<group=256, scale=f16>>", "int4<group=64>", "int8<channel>",
         "int2<group=128>"]  # fmt: skip


def linear(columns: int) -> Kernel:
    """x @ w.T in tiles of so many columns."""

    @tc.kernel
    def tiled(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
        for m, n in tc.tiles("M", "N", block=(None, columns)):
            acc = tc.zeros((m, n), tc.f32)
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
            y[m, n] = acc

    return tiled


@pytest.mark.parametrize("n", [40, 130, 200, 256, 330])
@pytest.mark.parametrize("columns", [128, 192, 256])
@pytest.mark.parametrize("m", [1, 5, 40])
def test_results_of_tiles_of_several_blocks(m: int, columns: int, n: int):
    text = FORMATS[(m + columns + n) % len(FORMATS)]
    rng, shape = np.random.default_rng([m, n, columns]), (n, 256)
    w = packed(scaled(text), random_parts(scaled(text), shape), shape)
    x = rng.standard_normal((m, shape[1])).astype(ml_dtypes.bfloat16)
    y = np.full((m, n), np.nan, np.float32)
    linear(columns)(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().T.astype(np.float64)
    assert np.linalg.norm(y - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("text", BYTES)
@pytest.mark.parametrize("n", [130, 256])
@pytest.mark.parametrize("m", [1, 9, 40])
def test_products_of_bytes(m: int, n: int, text: str):
    rng, shape = np.random.default_rng([m, n]), (n, 512)
    w = packed(scaled(text), random_parts(scaled(text), shape), shape)
    x = rng.integers(-128, 128, (m, shape[1])).astype(np.int8)
    y = np.full((m, n), np.nan, np.float32)
    linear(128)(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().T.astype(np.float64)
    assert np.linalg.norm(y - want) <= 1e-5 * np.linalg.norm(want)


def source(columns: int, format: str, dims: dict[str, int]) -> KernelSource:
    """The code of a product with bf16 rows."""
    types = {"x": Dense(tc.bf16), "w": scaled(format), "y": Dense(tc.f32)}
    return cpu_source(linear(columns).definition, types, dims, engine())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("m", [1, 40])
def test_as_many_words_are_read_as_in_tiles_of_one_block(m: int, format: str):
    """Twice as many in the text, where a tile has two blocks; and no code is decoded by itself."""
    one, two = (source(columns, format, {"M": m, "N": 256, "K": 512}) for columns in (64, 128))
    assert not any("one by one" in r.message for r in (*one.remarks, *two.remarks))
    words = "load <16 x i32>, ptr"
    assert len(re.findall(words, two.text)) == 2 * len(re.findall(words, one.text)) > 0
    assert not re.findall(r"load i(8|16), ", two.text)


def test_layers_that_fuse_decode_vectors():
    types = {n: scaled("int4<group=128>") for n in ("gate", "up", "down")} | {"x": Dense(tc.bf16)}
    kernel = mlp.swiglu.kernel(**types)
    made = cpu_source(kernel.definition, types, {"M": 4, "K": 256, "F": 512, "N": 256}, engine())
    assert not any("one by one" in r.message for r in made.remarks)
