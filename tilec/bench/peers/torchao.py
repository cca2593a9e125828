"""torchao's weights of 8 bits, in a product that torch.compile compiles.

Its weights of 4 bits need a package for GPUs; kernels for processors are declared in its wheels and
not in them (da8w4_linear_cpu, 0.18).
"""

# torch and torchao type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from importlib.util import find_spec

import numpy as np

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.peers.torch_eager import absent, torch_
from tilec.bench.problems.linear import WORST, Linear
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ir.named import named


def _absent() -> str:
    return absent() or ("" if find_spec("torchao") else "torchao is not installed")


def _contenders(problem: Problem) -> Mapping[str, Make]:
    if not isinstance(problem, Linear) or problem.x != "bf16":
        return {}
    format = named(problem.weight)
    bits = format.bits((problem.n, problem.k)) / problem.n / problem.k
    whole = not isinstance(format, Dense) and round(bits) == 8
    return {"torchao int8": partial(_product, problem)} if whole else {}


def _product(of: Linear) -> Made:
    torch = torch_()
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer = torch.nn.Linear(of.k, of.n, bias=False, dtype=torch.bfloat16)
    layer.weight.copy_(torch.from_numpy(of.dense()))
    model = torch.nn.Sequential(layer)
    quantize_(model, Int8WeightOnlyConfig())
    w, x = model[0].weight, torch.from_numpy(of.rows()).to(torch.bfloat16)
    nbytes = of.n * of.k + 2 * of.n  # codes, and a scale a row
    weights = [w, *(deepcopy(w) for _ in range(of.copies(nbytes) - 1))]
    linear = torch.compile(torch.nn.functional.linear, dynamic=False)

    def want() -> Array:
        return np.asarray(x.double().numpy() @ w.dequantize().double().numpy().T)

    return Made([partial(linear, x, t) for t in weights], want, nbytes=nbytes,
                operations=of.operations, worst=WORST["bf16"])  # fmt: skip


PEER = Peer("torchao", _absent, _contenders)
"""Weights of 8 bits on processors."""
