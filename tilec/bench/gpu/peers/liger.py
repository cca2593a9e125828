"""Liger's kernels of rows, forward only. Written from its documentation; not run so far."""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import importlib
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError


def rows(o: Operands) -> Contender:
    """RMS norm, SwiGLU or cross-entropy."""
    name = o.case.name
    if name.startswith("rms norm"):
        norm: Any = importlib.import_module("liger_kernel.ops.rms_norm").LigerRMSNormFunction
        x, gain = (o.dense(n, "bfloat16") for n in ("x", "gain"))

        def call() -> Any:
            return norm.apply(x, gain, o.case.numbers["eps"])

    elif name.startswith("swiglu"):
        gated: Any = importlib.import_module("liger_kernel.ops.swiglu").LigerSiLUMulFunction
        gate, up = (o.dense(n, "bfloat16") for n in ("gate", "up"))

        def call() -> Any:
            return gated.apply(gate, up)

    elif name.startswith("cross entropy"):
        loss: Any = importlib.import_module("liger_kernel.transformers").LigerCrossEntropyLoss
        logits, target = o.dense("logits", "bfloat16"), o.held["target"].tensor.long()
        run = loss(reduction="none")

        def call() -> Any:
            return run(logits, target)

    else:
        raise TileError("it has no such kernel")
    return theirs(o, "liger", "result", [call])
