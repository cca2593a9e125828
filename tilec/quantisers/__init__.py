"""Quantisers of weights: ways to choose the components of a format, each one function.

hqq       zeros by half-quadratic optimisation                no data
svd_split a part of low rank beside a rounded rest            inputs may be given
dgq       integer group scales, expanding to 8 bits           inputs may be given
awq       a scale of each column, folded into the inputs      inputs
nvfp4     NVFP4 by either published recipe, bit for bit        no data
gptq      later columns make up for the rounding of earlier   inputs
kmeans    tables of entries, learnt from the weights          inputs may be given
experts   a width for each expert of a mixture                no data

They take numpy arrays or torch tensors and give packed tensors; the same numbers give the same
bits. Rounding to nearest is `quantize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.quantisers.awq import awq
from tilec.quantisers.dgq import dgq
from tilec.quantisers.experts import experts
from tilec.quantisers.gptq import gptq
from tilec.quantisers.hqq import hqq
from tilec.quantisers.kmeans import kmeans
from tilec.quantisers.nvfp4 import nvfp4
from tilec.quantisers.svd import svd_split

METHODS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (hqq, awq, svd_split, dgq, gptq, kmeans)
}

__all__ = ["METHODS", "awq", "dgq", "experts", "gptq", "hqq", "kmeans", "nvfp4", "svd_split"]
