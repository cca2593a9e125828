"""A wave of blocks: everything that instructions can change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ptx.barriers import Barriers
from tilec.ptx.clocks import Clocks
from tilec.ptx.flights import Flights
from tilec.ptx.formats import Array
from tilec.ptx.mbarriers import Mbarriers
from tilec.ptx.report import Findings
from tilec.ptx.shadow import Shadow
from tilec.ptx.spaces import Spaces
from tilec.ptx.statistics import Statistics
from tilec.ptx.threads import Registers, Shape


@dataclass
class Machine:
    """The state of a wave. `clocks`, `shadow` and `statistics` are None where not wanted."""

    shape: Shape
    registers: Registers
    spaces: Spaces
    barriers: Barriers
    mbarriers: Mbarriers
    findings: Findings
    clocks: Clocks | None
    shadow: Shadow | None
    statistics: Statistics | None
    copies: Flights  # cp.async, by thread
    bulk: Flights  # bulk copies out of shared memory, by thread
    matrices: Flights  # wgmma, by warp
    carry: Array  # the carry flag of every thread
    progress: int = 0  # stores, arrivals and ends: what can end another thread's wait

    def alive(self) -> Array:
        """A mask of all threads that exist."""
        mask = np.zeros(self.shape.total, bool)
        mask[self.shape.everyone()] = True
        return mask
