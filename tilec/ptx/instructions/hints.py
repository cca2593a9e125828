"""Instructions that change nothing here: hints, caches, launches of what depends on a grid."""

from __future__ import annotations

import numpy as np

from tilec.ptx.instructions.memory import ACCESS
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import types

LEVELS = ("L1", "L2", "L2::evict_last", "L2::evict_normal", "L2::evict_first",
          "L2::evict_unchanged", "L2::128B", "tensormap", "generic", "tile")  # fmt: skip


@instruction("prefetch prefetchu applypriority discard", [*ACCESS, *LEVELS], operands=(1, 2))
def prefetch(x: Step) -> None:
    """Caches are not modelled."""


@instruction("createpolicy", [*LEVELS, *ACCESS, "fractional", "range", "cvt"],
             types=(types("b64"),), operands=(1, 2, 3, 4))  # fmt: skip
def createpolicy(x: Step) -> None:
    """A cache policy: a number that nobody reads."""
    x.put(np.uint64(0))


@instruction("setmaxnreg", "inc dec sync aligned", types=(types("u32"),), operands=1)
@instruction("nanosleep", types=(types("u32"),), operands=1)
@instruction("pmevent", "mask", operands=1)
@instruction("griddepcontrol", "launch_dependents wait", operands=0)
def nothing(x: Step) -> None:
    """Registers, time and other grids are not modelled."""
