"""Counting: warps that execute an instruction, passes over the banks, sectors touched.

Shared memory has 32 banks of 4 bytes and serves 128 bytes a pass: a warp's 8-byte accesses go in
two halves, its 16-byte accesses in four quarters (CUDA C++ programming guide, 'Shared memory').
Not compared with a profiler on a GPU.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Row
from tilec.ptx.threads import Threads

LINE = 128  # bytes that the banks serve together
SECTOR = 32


class Statistics:
    """The counters of every instruction of a kernel."""

    def __init__(self, code: tuple[Instruction, ...]) -> None:
        self.code = code
        self.executed = [0] * len(code)
        self.wavefronts = np.zeros((len(code), 2), np.int64)
        self.sectors = np.zeros((len(code), 2), np.int64)

    def shared(self, t: Threads, i: Instruction, addresses: Array, size: int) -> None:
        """An access of `size` bytes at a shared address of every thread."""
        unit = min(max(size, 4), 16)
        rows = t.by_warp(addresses // unit, -1).reshape(-1, LINE // unit)
        self.passes(i, rows, LINE // unit)
        if size > 16:  # moved 16 bytes at a time
            self.shared(t, i, addresses + 16, size - 16)

    def passes(self, i: Instruction, rows: Array, groups: int) -> None:
        """One row of bank units per phase (-1: no access); `groups` units fit a pass."""
        ordered = np.sort(rows, axis=1)
        new = ordered >= 0
        new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        phase, _ = np.nonzero(new)
        bank = ordered[new] % groups
        per_bank = np.bincount(phase * groups + bank, minlength=len(rows) * groups)
        worst = per_bank.reshape(-1, groups).max(axis=1)
        self.wavefronts[i.pc] += int(worst.sum()), int(np.count_nonzero(worst))

    def memory(self, t: Threads, i: Instruction, addresses: Array, size: int) -> None:
        """An access of `size` bytes at a global address of every thread."""
        rows = np.sort(t.by_warp(addresses // SECTOR, -1), axis=1)
        new = rows >= 0
        new[:, 1:] &= rows[:, 1:] != rows[:, :-1]
        extra = max(size // SECTOR, 1)
        places = np.sort(t.by_warp(addresses, -1), axis=1)
        distinct = places >= 0
        distinct[:, 1:] &= places[:, 1:] != places[:, :-1]
        least = -(-distinct.sum(axis=1) * size // SECTOR)
        self.sectors[i.pc] += int(new.sum()) * extra, int(least.sum())

    def bulk(self, i: Instruction, addresses: Array, size: int) -> None:
        """A bulk copy of pieces of `size` bytes from or to global memory."""
        ends = np.concatenate([addresses // SECTOR, (addresses + size - 1) // SECTOR])
        self.sectors[i.pc] += len(np.unique(ends)), -(-len(addresses) * size // SECTOR)

    def rows(self) -> tuple[Row, ...]:
        """The counters of the instructions that were executed."""
        return tuple(
            Row(
                i.place,
                i.text,
                self.executed[i.pc],
                int(self.wavefronts[i.pc, 0]),
                int(self.wavefronts[i.pc, 1]),
                int(self.sectors[i.pc, 0]),
                int(self.sectors[i.pc, 1]),
            )
            for i in self.code
            if self.executed[i.pc]
        )
