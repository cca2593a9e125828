"""DeepGEMM (github.com/deepseek-ai/DeepGEMM): fp8 with scales of blocks, codes of its own.

Written from its README; not run so far.
"""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import importlib
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands


def blocks(o: Operands) -> Contender:
    """Activations with a scale for each 128 of a row, weights for each 128 x 128."""
    library: Any = importlib.import_module("deep_gemm")
    torch, device = o.torch, o.place.device
    (n, k), m = o.held["w"].shape, o.held["x"].shape[0]
    x, w = (torch.randn(r, k, device=device).to(torch.float8_e4m3fn) for r in (m, n))
    a = torch.rand(m, k // 128, device=device) + 0.5
    b = torch.rand(-(-n // 128), k // 128, device=device) + 0.5
    y = torch.empty(m, n, device=device, dtype=torch.bfloat16)

    def call() -> Any:
        library.fp8_gemm_nt((x, a), (w, b), y)
        return y

    left = x.double() * a.double().repeat_interleave(128, 1)
    right = w.double() * b.double().repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)
    return theirs(o, "deep_gemm", "y", [call], want={"y": o.part("y", left @ right.T)})
