"""torchao's weights in four bits. Written from its documentation; not run so far."""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands


def int4(o: Operands) -> Contender:
    """`Int4WeightOnlyConfig` with groups of 128, its own rounding of the case's weights."""
    library: Any = importlib.import_module("torchao.quantization")
    torch = o.torch
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    n, k = w.shape
    layer = torch.nn.Sequential(torch.nn.Linear(k, n, False, o.place.device, torch.bfloat16))
    layer[0].weight.data = w
    library.quantize_(layer, library.Int4WeightOnlyConfig(group_size=128))
    size = n * k / 2 + n * k / 32 + 2 * x.numel() + 2 * len(x) * n
    return theirs(o, "torchao int4", "y", [partial(layer, x)], near=0.2, nbytes=size)


def nf4(o: Operands) -> Contender:
    """NF4 weights, made dense before each product."""
    library: Any = importlib.import_module("torchao.dtypes.nf4tensor")
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    weight = library.to_nf4(w, 64, 256)

    def call() -> Any:
        return library.linear_nf4(x, weight)

    size = w.numel() / 2 + w.numel() / 64 + 2 * x.numel() + 2 * len(x) * len(w)
    return theirs(o, "torchao nf4", "y", [call], near=0.2, nbytes=size)
