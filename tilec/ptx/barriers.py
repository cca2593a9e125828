"""The barriers of blocks (PTX ISA, `barrier`): sixteen numbered ones and that of the cluster."""

from __future__ import annotations

import numpy as np

from tilec.ptx.clocks import AGENTS, Clocks
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings
from tilec.ptx.threads import Shape, Threads

NUMBERED = 16
CLUSTER = NUMBERED


class Barriers:
    """Who has arrived where. `opened` lists barriers with the blocks whose threads may go on."""

    def __init__(self, shape: Shape, clocks: Clocks | None, findings: Findings) -> None:
        self.shape, self.clocks, self.findings = shape, clocks, findings
        self.live = np.full(shape.blocks, shape.threads)
        self.arrived = np.zeros((NUMBERED + 1, shape.blocks), np.int64)
        self.expected = np.zeros((NUMBERED + 1, shape.blocks), np.int64)  # 0: every live thread
        self.held = np.zeros((NUMBERED + 1, 2, shape.blocks, AGENTS), np.int64)
        self.waiting: dict[int, list[Array]] = {}  # warps that wait, by barrier
        self.opened: list[tuple[int, Array]] = []
        self.votes = np.zeros((2, NUMBERED, shape.blocks), np.int64)  # true ones, all
        self.tallies = self.votes.copy()  # of the last phase that opened
        self.phase = np.zeros(shape.blocks, np.int64)  # of the cluster's barrier
        self.tickets = np.zeros(shape.total, np.int64)  # the phase that a thread arrived in
        self.gathered = np.zeros((2, shape.blocks, AGENTS), np.int64)  # its clocks

    def arrive(self, t: Threads, i: Instruction, number: int, count: int, waits: bool) -> None:
        """Threads reach a barrier; `count` threads open it (0: all)."""
        blocks, many = np.unique(t.block, return_counts=True)
        self.arrived[number, blocks] += many
        self.expected[number, blocks] = count
        if self.clocks is not None:
            self._publish(t, number)
            if waits:
                self.waiting.setdefault(number, []).append(t.warps)
        if count and (self.arrived[number, blocks] > count).any():
            self.findings.add("barrier", i, f"more than {count} threads arrive at barrier {number}")
        self._open(number, blocks)

    def vote(self, t: Threads, number: int, flags: Array) -> None:
        """Predicates that a barrier counts."""
        np.add.at(self.votes[0, number], t.block, flags)
        np.add.at(self.votes[1, number], t.block, 1)

    def tally(self, t: Threads, number: int) -> tuple[Array, Array]:
        """How many predicates were true, and how many there were, for every thread."""
        true, votes = self.tallies[:, number]
        return true[t.block], votes[t.block]

    def take_tickets(self, t: Threads) -> None:
        """Remember in which phase threads arrive at the cluster's barrier."""
        self.tickets[t.ids] = self.phase[t.block]

    def ticket_waits(self, t: Threads) -> Array:
        """Which threads must wait for the phase that they arrived in."""
        waits = self.tickets[t.ids] >= self.phase[t.block]
        passes = t.subset(~waits)
        if self.clocks is not None and passes.count:
            self.clocks.acquire(passes.warps, self.gathered[:, passes.warps // self.shape.warps])
        return waits

    def depart(self, t: Threads) -> None:
        """Threads end: nothing waits for them any more."""
        blocks, many = np.unique(t.block, return_counts=True)
        self.live[blocks] -= many
        for number in np.unique(np.nonzero(self.arrived[:, blocks])[0]):
            self._open(int(number), blocks)

    def lacking(self, number: int, block: int) -> tuple[int, int]:
        """How many threads have arrived, and how many must."""
        expected = int(self.expected[number, block]) or int(self.live[block])
        return int(self.arrived[number, block]), expected

    def _publish(self, t: Threads, number: int) -> None:
        assert self.clocks is not None
        clock = self.clocks.release(t.warps)
        block = t.warps // self.shape.warps
        first = np.flatnonzero(np.diff(block, prepend=-1))
        best = np.maximum.reduceat(clock, first, axis=1)
        held = self.held[number]
        held[:, block[first]] = np.maximum(held[:, block[first]], best)

    def _open(self, number: int, blocks: Array) -> None:
        wanted = np.where(
            self.expected[number, blocks] > 0, self.expected[number, blocks], self.live[blocks]
        )
        full = blocks[(self.arrived[number, blocks] >= wanted) & (self.arrived[number, blocks] > 0)]
        if not len(full):
            return
        self.arrived[number, full] = 0
        self.opened.append((number, full))
        if number == CLUSTER:
            self.phase[full] += 1
            self.gathered[:, full] = self.held[number][:, full]
        else:
            self.tallies[:, number, full] = self.votes[:, number, full]
            self.votes[:, number, full] = 0
        if self.clocks is not None:
            self._acquire(number, full)

    def _acquire(self, number: int, blocks: Array) -> None:
        clocks = self.clocks
        assert clocks is not None
        clock = np.maximum(self.held[number], clocks.departed)
        left: list[Array] = []
        for warps in self.waiting.pop(number, []):
            block = warps // self.shape.warps
            goes = np.isin(block, blocks)
            clocks.acquire(warps[goes], clock[:, block[goes]])
            if not goes.all():
                left.append(warps[~goes])
        if left:
            self.waiting[number] = left
        self.held[number][:, blocks] = 0
        clocks.settle(blocks)
