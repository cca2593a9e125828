"""What is known of every granule of shared memory: who wrote it, who read it, what is in flight.

A granule is the smallest access that the kernel makes, so that no two accesses share one by
accident. The last writer is kept, and the last readers of two warps: a write that is ordered after
both, but not after an earlier reader of a third warp, is not found. Two writes of the same value
are no race.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ptx.clocks import PROXY, Clocks
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings, Kind
from tilec.ptx.threads import WARP, Threads

# A record of an access: 11 bits of thread or agent, two flags, the instruction, the time.
WHO, SEVERAL, ATOMIC, PC, TIME = 0x7FF, 1 << 11, 1 << 12, 13, 37
PCS = (1 << TIME - PC) - 1


@dataclass(frozen=True)
class Span:
    """Where the threads of an access hit: granules (one row per thread) of the whole wave."""

    threads: Threads
    granules: Array


class Shadow:
    """The records of the shared memory of all blocks."""

    def __init__(
        self, code: tuple[Instruction, ...], clocks: Clocks, findings: Findings,
        memory: Array, stride: int, granule: int,
    ) -> None:  # fmt: skip
        self.code, self.clocks, self.findings = code, clocks, findings
        self.memory, self.stride, self.granule = memory, stride, granule
        count = memory.size // granule
        self.written = np.full(count, -1, np.int64)
        self.readers = np.full((2, count), -1, np.int64)
        self.arriving = np.zeros(count, np.int32)  # the instruction of a copy under way, plus 1
        self.busy = np.zeros(count, np.int16)  # asynchronous reads under way
        self.busy_by = np.zeros(count, np.int32)
        self.flights = 0  # copies and reads under way: nothing to look for when 0

    def span(self, t: Threads, offsets: Array, size: int) -> Span:
        """The granules of `size` bytes at an offset (into all of shared memory) per thread."""
        first = offsets // self.granule
        many = max(size // self.granule, 1)
        return Span(t, first[:, None] + np.arange(many))

    def mark(self, t: Threads, i: Instruction, atomic: bool = False) -> Array:
        """The record of an access by these threads now, a column."""
        time = self.clocks.now[t.block] << TIME
        return (time | (i.pc << PC) | (ATOMIC if atomic else 0) | t.local)[:, None]

    def agent_mark(self, i: Instruction, agent: int, time: int) -> int:
        """The record of an access by an agent that is no warp."""
        return time << TIME | i.pc << PC | agent * WARP

    def read(self, s: Span, i: Instruction, atomic: bool = False) -> None:
        """A read by threads."""
        self.look(s, i, "reads")
        self._check(s, i, self.written[s.granules], "reads", "wrote", atomic)
        self._remember(s, self.mark(s.threads, i, atomic))

    def look(self, s: Span, i: Instruction, verb: str) -> None:
        """Report granules that nothing wrote, or that a copy in flight will write."""
        never = (self.written[s.granules] < 0) & (self.arriving[s.granules] == 0)
        if never.any():
            self._report(s, i, never, "uninitialised", f"{verb} what nothing has written")
        if self.flights:
            self.landing(s, i, verb)

    def landing(self, s: Span, i: Instruction, verb: str) -> None:
        """Report granules that a copy in flight will write."""
        copies = self.arriving[s.granules]
        if copies.any():
            other = self.code[int(copies[copies > 0][0]) - 1]
            message = f"{verb} what the copy of {other.place} has yet to bring: nothing waited"
            self._report(s, i, copies > 0, "in-flight", message, other)

    def reading(self, s: Span, i: Instruction, verb: str) -> None:
        """Report granules that an asynchronous operation still reads."""
        busy = self.busy[s.granules] > 0
        if busy.any():
            other = self.code[int(self.busy_by[s.granules[busy][0]])]
            message = f"{verb} what the asynchronous {other.name} of {other.place} still reads"
            self._report(s, i, busy, "in-flight", message, other)

    def write(self, s: Span, i: Instruction, data: Array | None, atomic: bool = False) -> None:
        """A write by threads of one row of bytes each; call it before the bytes change."""
        if self.flights:
            self.landing(s, i, "overwrites")
            self.reading(s, i, "overwrites")
        self._check(s, i, self.written[s.granules], "overwrites", "wrote", atomic, data)
        for readers in self.readers:
            self._check(s, i, readers[s.granules], "overwrites", "reads", atomic)

    def wrote(self, s: Span, i: Instruction, data: Array | None, atomic: bool = False) -> None:
        """Record a write; call it when the bytes have changed."""
        mark = self.mark(s.threads, i, atomic)
        self.written[s.granules] = mark
        if atomic or data is None:
            return
        lost = (self.written[s.granules] != mark) & self._differs(s, data)
        if lost.any():
            self._report(s, i, lost, "race", "and another thread write here at the same time")

    def _differs(self, s: Span, data: Array) -> Array:
        """Whether the bytes in memory are not those, per granule."""
        now = self.memory.reshape(-1, self.granule)[s.granules]
        return (now != data.reshape(now.shape)).any(axis=2)

    def _check(
        self, s: Span, i: Instruction, record: Array, verb: str, did: str, atomic: bool,
        data: Array | None = None,
    ) -> None:  # fmt: skip
        time = record >> TIME
        recent = time > self.clocks.floor[s.threads.block][:, None]
        if not recent.any():
            return
        who = np.where(record < 0, 0, record & WHO)
        same = (who == s.threads.local[:, None]) & ((record & SEVERAL) == 0)
        bad = recent & ~same & self.clocks.unordered(s.threads, time, who // WARP)
        if atomic:
            bad &= (record & ATOMIC) == 0
        if data is not None and bad.any():
            bad &= self._differs(s, data)
        if bad.any():
            old = int(record[bad][0])
            other = self.code[old >> PC & PCS]
            message = f"{verb} what {_name(old)} {did} at {other.place}, with nothing between"
            self._report(s, i, bad, "race", message, other)

    def _remember(self, s: Span, mark: Array) -> None:
        """Record a read: the newest reader, and the newest of another warp."""
        first, second = self.readers
        old = first[s.granules]
        floor = self.clocks.floor[s.threads.block][:, None]
        mine = s.threads.local[:, None] // WARP
        keep = (old >> TIME > floor) & ((old & WHO) // WARP != mine)
        if keep.any():
            second[s.granules[keep]] = old[keep]
        first[s.granules] = mark
        won = first[s.granules]
        lost = won != mark
        if not lost.any():
            return
        fellow = lost & ((won & WHO) // WARP == mine)
        first[s.granules[fellow]] |= SEVERAL
        stranger = lost & ~fellow
        if stranger.any():
            places, marks = s.granules[stranger], np.broadcast_to(mark, won.shape)[stranger]
            second[places] = marks
            again = second[places] != marks
            second[places[again]] |= SEVERAL

    def begin(self, s: Span, i: Instruction) -> None:
        """An asynchronous read begins, on behalf of the threads."""
        self.look(s, i, "reads")
        self._check(s, i, self.written[s.granules], "reads", "wrote", atomic=False)
        self.unfenced(s, i)
        for row in s.granules:  # rows may share granules
            self.busy[row] += 1
        self.busy_by[s.granules] = i.pc
        self.flights += len(s.granules)

    def end(self, granules: Array, record: int | Array, floor: int) -> None:
        """One row of granules has been read, by what `record` says."""
        self.busy[granules] -= 1
        self.flights -= 1
        first, second = self.readers
        old = first[granules]
        keep = (old >> TIME > floor) & ((old & WHO) // WARP != (record & WHO) // WARP)
        second[granules[keep]] = old[keep]
        first[granules] = record

    def unfenced(self, s: Span, i: Instruction) -> None:
        """Report generic writes that no fence.proxy.async has made visible to these threads."""
        record = self.written[s.granules]
        time, agent = record >> TIME, (record & WHO) // WARP
        warp = (s.threads.ids // WARP)[:, None]
        known = self.clocks.seen[PROXY][warp, np.minimum(agent, WARP - 1)]
        bad = (record >= 0) & (agent < WARP) & (time > known)
        if bad.any():
            other = self.code[int(record[bad][0]) >> PC & PCS]
            message = f"reads what {other.place} wrote, and no fence.proxy.async is between"
            self._report(s, i, bad, "proxy", message, other)

    def _report(
        self, s: Span, i: Instruction, bad: Array, kind: Kind, message: str,
        other: Instruction | None = None,
    ) -> None:  # fmt: skip
        position, column = (int(k[0]) for k in np.nonzero(bad))
        byte = int(s.granules[position, column]) * self.granule % self.stride
        block, thread = s.threads.named(position)
        self.findings.add(
            kind,
            i,
            f"thread {thread} of block {block} {message} (shared byte {byte})",
            threads=[(block, thread)],
            address=byte,
            buffer="shared",
            other=other.place if other else None,
            count=int(bad.any(axis=1).sum()),
        )


def _name(record: int) -> str:
    who = record & WHO
    if who < 32 * WARP:
        return f"thread {who}"
    return "a bulk copy" if who // WARP == 32 else f"the wgmma of warpgroup {who // WARP - 33}"
