"""NVFP4 by either published recipe, bit for bit: every step in f32, as on the GPU.

Both have e2m1 codes in blocks of 16, an e4m3 scale for each and one f32 for the tensor. torchao
(mx_formats, nvfp4_quantize) keeps the scales of blocks at 2**-6 or more; Transformer Engine
(core_nvfp4.cuh) lets them become 0 and multiplies by reciprocals, which rounds elsewhere.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, e4m3
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.quantisers.arguments import matrix
from tilec.runtime.tensor import PackedTensor, packed

Recipe = Literal["torchao", "transformer-engine"]
BLOCK, MOST, TOP = 16, np.float32(6), np.float32(448)  # of e2m1 and of e4m3
LEAST = np.float32(2.0**-6)  # e4m3's smallest normal number
LARGEST = np.finfo(np.float32).max


def nvfp4(weight: Any, recipe: Recipe = "torchao") -> PackedTensor:
    """A weight [N, K] in the format nvfp4, K a multiple of 16, rounded by a published recipe.

    Raises TileError for another shape, for elements that are not finite, and unknown recipes.
    """
    if recipe not in ("torchao", "transformer-engine"):
        raise TileError(f"nvfp4: no recipe is called {recipe!r}; "
                        "there are torchao and transformer-engine")  # fmt: skip
    x = matrix("nvfp4", weight).astype(np.float32)
    if x.shape[1] % BLOCK:
        raise TileError(f"nvfp4: K is {x.shape[1]}, expected a multiple of {BLOCK}")
    blocks = x.reshape(len(x), -1, BLOCK)
    scales = _torchao if recipe == "torchao" else _transformer_engine
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        tensor, block, factor = scales(np.abs(blocks).max(-1))
        scaled: Array = np.clip(np.nan_to_num(blocks * factor[..., None]), -MOST, MOST)
    codes = CODES["e2m1"].round(scaled.astype(np.float64), saturate=True).reshape(x.shape)
    parts = {"codes": codes, "scale.codes": block, "scale.scale": np.asarray(float(tensor))}
    return packed(named("nvfp4"), parts, (x.shape[0], x.shape[1]))


def _torchao(most: Array) -> tuple[Any, Array, Array]:
    """The tensor's scale, the blocks', and what elements are multiplied by."""
    tensor = np.max(most) / (TOP * MOST)
    block = _e4m3(np.clip((most / MOST) / tensor, LEAST, TOP))
    return tensor, block, (np.float32(1) / tensor) / block.astype(np.float32)


def _transformer_engine(most: Array) -> tuple[Any, Array, Array]:
    """The tensor's scale, the blocks', and what elements are multiplied by."""
    encode = np.minimum(TOP * MOST / np.max(most), LARGEST)
    if np.max(most) == 0 or encode == 0:
        encode = np.float32(1)
    decode = np.float32(1) / encode
    block = _e4m3(np.minimum(most * (encode * (np.float32(1) / MOST)), TOP))
    return decode, block, np.minimum(np.float32(1) / (block.astype(np.float32) * decode), LARGEST)


def _e4m3(x: Array) -> Array:
    return e4m3.round(np.nan_to_num(x, nan=float(LEAST)).astype(np.float64), saturate=True)
