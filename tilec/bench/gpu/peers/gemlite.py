"""GemLite's kernels in Triton (github.com/dropbox/gemlite): weights in codes of its own packing.

Written from its documentation; not run so far.
"""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands

GROUP = 128


def _codes(o: Operands, bits: int) -> Contender:
    """A layer of unsigned codes with scales and zero points of groups."""
    gemlite: Any = importlib.import_module("gemlite")
    core: Any = importlib.import_module("gemlite.core")
    torch, device = o.torch, o.place.device
    n, k = o.held["w"].shape
    x, half = o.dense("x", "float16"), 1 << (bits - 1)
    codes = torch.randint(0, 1 << bits, (n, k), dtype=torch.uint8, device=device)
    scale = (torch.rand(n, k // GROUP, device=device) + 0.5).half()
    layer = gemlite.GemLiteLinear(
        bits, group_size=GROUP, in_features=k, out_features=n,
        input_dtype=core.DType.FP16, output_dtype=core.DType.FP16,
    )  # fmt: skip
    zeros = torch.full_like(scale, half)
    layer.pack(codes, scale.view(-1, 1), zeros.view(-1, 1), bias=None)
    dense = (codes.double() - half) * scale.double().repeat_interleave(GROUP, 1)
    want = {"y": o.part("y", x.double() @ dense.T)}
    size = n * k * bits / 8 + 2 * scale.numel() + 2 * x.numel() + 2 * len(x) * n
    return theirs(o, f"gemlite int{bits}", "y", [partial(layer, x)], want=want, nbytes=size)


def int4(o: Operands) -> Contender:
    """Four bits, groups of 128."""
    return _codes(o, 4)


def int2(o: Operands) -> Contender:
    """Two bits, groups of 128."""
    return _codes(o, 2)


def mxfp4(o: Operands) -> Contender:
    """MXFP4 weights beside bf16: its own rounding of the case's weights."""
    assistant: Any = importlib.import_module("gemlite.helper")
    torch = o.torch
    n, k = o.held["w"].shape
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    plain = torch.nn.Linear(k, n, bias=False, device=o.place.device, dtype=torch.bfloat16)
    plain.weight.data = w
    layer = assistant.A16W4_MXFP(device=o.place.device, dtype=torch.bfloat16).from_linear(plain)
    size = n * k / 2 + n * k / 32 + 2 * x.numel() + 2 * len(x) * n
    return theirs(o, "gemlite mxfp4", "y", [partial(layer, x)], near=0.2, nbytes=size)
