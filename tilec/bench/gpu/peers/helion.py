"""A dense product in Helion, as its README has it. Not run so far."""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false

from __future__ import annotations

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands
from tilec.bench.gpu.peers.naive import module_of

KERNEL = """import helion
import helion.language as hl
import torch


@helion.kernel(config=helion.Config(block_sizes=[128, 128, 64], num_warps=8, num_stages=3))
def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    m, k = x.size()
    n = w.size(0)
    y = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i, j in hl.tile([m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for d in hl.tile(k):
            total = torch.addmm(total, x[i, d], w[j, d].T)
        y[i, j] = total
    return y
"""


def dense(o: Operands) -> Contender:
    """One config, not tuned: tuning takes minutes."""
    run = module_of(KERNEL, "helion_product").product
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    return theirs(o, "helion", "y", [lambda: run(x, w)])
