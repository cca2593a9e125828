"""Marlin (github.com/IST-DASLab/marlin) as it is built from its own source.

Written from its README; not run so far.
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


def int4(o: Operands) -> Contender:
    """A layer of groups of 128, packed by itself from weights that are codes times scales."""
    marlin: Any = importlib.import_module("marlin")
    torch, device = o.torch, o.place.device
    (n, k), x = o.held["w"].shape, o.dense("x", "float16")
    codes = torch.randint(-8, 8, (k, n), device=device)
    scale = (torch.rand(k // 128, n, device=device) + 0.5).half()
    dense = (codes * scale.float().repeat_interleave(128, 0)).half()
    plain = torch.nn.Linear(k, n, bias=False, device=device, dtype=torch.float16)
    plain.weight.data = dense.t().contiguous()
    layer = marlin.Layer(k, n, groupsize=128)
    layer.pack(plain, scale.t().contiguous())
    layer = layer.to(device)
    want = {"y": o.part("y", x.double() @ dense.double())}
    size = n * k / 2 + 2 * scale.numel() + 2 * x.numel() + 2 * len(x) * n
    return theirs(o, "marlin", "y", [partial(layer, x)], want=want, nbytes=size)
