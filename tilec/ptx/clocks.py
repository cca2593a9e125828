"""Vector clocks: which warp knows of which accesses of which warp.

A block has one counter. An access is stamped with its value; a release publishes the value and
advances it; an acquire takes over what was published. A warp stands for its threads, except that
accesses of two lanes of one warp are ordered only by a synchronisation of that warp. Agents that
are no warps have columns of their own: bulk copies, and the wgmma of each warpgroup.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.threads import Shape, Threads

COPIES = 32  # the agent of bulk copies
MATRICES = 33  # the agent of the first warpgroup's wgmma
AGENTS = MATRICES + 8
FOREVER = 1 << 26
ORDER, PROXY = 0, 1  # what a warp knows of; what of that a proxy fence has made visible


class Clocks:
    """The clocks of all blocks of a wave; warps are numbered over the wave."""

    def __init__(self, shape: Shape) -> None:
        self.warps = shape.warps
        self.now = np.ones(shape.blocks, np.int64)
        self.seen = np.zeros((2, shape.blocks * shape.warps, AGENTS), np.int64)
        self.floor = np.zeros(shape.blocks, np.int64)  # what every warp knows of
        self.latest = np.zeros((shape.blocks, AGENTS), np.int64)  # of agents that are no warps
        self.departed = np.zeros((2, shape.blocks, AGENTS), np.int64)

    def release(self, warps: Array) -> Array:
        """Publish what warps know and did: an array of 2 x warps x agents."""
        block = warps // self.warps
        clock = self.seen[:, warps]
        clock[ORDER, np.arange(len(warps)), warps % self.warps] = self.now[block]
        self.now[block] += 1
        return clock

    def acquire(self, warps: Array, clock: Array) -> None:
        """Let warps know what was published: 2 x warps x agents, or one clock for all."""
        self.seen[:, warps] = np.maximum(self.seen[:, warps], clock)

    def synchronise(self, warps: Array) -> None:
        """Order the lanes of each warp."""
        self.acquire(warps, self.release(warps))

    def fence(self, warps: Array) -> None:
        """fence.proxy.async: what the warps know of may now be read by the asynchronous proxy."""
        clock = self.release(warps)
        self.seen[PROXY, warps] = np.maximum(self.seen[PROXY, warps], clock[ORDER])

    def act(self, block: int, agent: int) -> int:
        """Stamp an act of an agent that is no warp."""
        time = int(self.now[block])
        self.now[block] += 1
        self.latest[block, agent] = time
        return time

    def depart(self, warps: Array) -> None:
        """Warps end: a barrier of the others counts them in, and they hold nothing back."""
        clock = self.release(warps)
        for k, warp in enumerate(warps):
            block = warp // self.warps
            self.departed[:, block] = np.maximum(self.departed[:, block], clock[:, k])
        self.seen[ORDER, warps] = FOREVER

    def settle(self, blocks: Array) -> None:
        """Recompute what every warp of the blocks knows of: older accesses need no look."""
        seen = self.seen[ORDER].reshape(-1, self.warps, AGENTS)[blocks]
        idle = np.arange(AGENTS) >= self.warps
        seen = np.where(idle & (seen >= self.latest[blocks][:, None]), FOREVER, seen)
        self.floor[blocks] = np.minimum(seen.min(axis=(1, 2)), self.now[blocks])

    def unordered(self, t: Threads, time: Array, agent: Array) -> Array:
        """Whether an act of `agent` at `time` is not known to have come before, per thread."""
        warp = t.ids // 32
        shape = (-1,) + (1,) * (time.ndim - 1)
        return time > self.seen[ORDER][warp.reshape(shape), agent]
