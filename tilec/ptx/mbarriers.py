"""mbarrier objects in shared memory: arrivals, bytes to come, phases (PTX ISA, `mbarrier`).

What a bulk copy brings lands when the phase that waits for it completes, and that is as late as
may be: when a thread has asked in vain, or when nothing else can run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tilec.ptx.clocks import AGENTS, COPIES, Clocks
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings
from tilec.ptx.shared import BASE, Shared
from tilec.ptx.threads import Threads

SIZE = 8


@dataclass
class Mbarrier:
    """One object. `clock` gathers what arrivals publish, `done` what completed phases did.

    `due` are bytes that copies have brought and not told of.
    """

    count: int
    pending: int
    bytes: int = 0
    due: int = 0
    phase: int = 0
    clock: Array = field(default_factory=lambda: np.zeros((2, AGENTS), np.int64))
    done: Array = field(default_factory=lambda: np.zeros((2, AGENTS), np.int64))
    landing: list[Callable[[], int]] = field(default_factory=list[Callable[[], int]])

    def __str__(self) -> str:
        return f"phase {self.phase} lacks {self.pending} arrivals and {self.bytes} bytes"


class Mbarriers:
    """The objects of all blocks. `version` counts phases that completed."""

    def __init__(self, shared: Shared, clocks: Clocks | None, findings: Findings) -> None:
        self.shared, self.clocks, self.findings = shared, clocks, findings
        self.objects: dict[int, Mbarrier] = {}
        self.version = 0

    def create(self, t: Threads, i: Instruction, addresses: Array, counts: Array) -> None:
        """mbarrier.init."""
        offsets, _ = self.shared.check(t, i, addresses, SIZE, "initialises")
        if self.shared.shadow is not None:
            span = self.shared.shadow.span(t, offsets, SIZE)
            self.shared.shadow.write(span, i, None)
            self.shared.shadow.wrote(span, i, None)
        for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True):
            self.objects[offset] = Mbarrier(count, count)

    def destroy(self, t: Threads, i: Instruction, addresses: Array) -> None:
        """mbarrier.inval: the bytes may be used again, and hold nothing."""
        for offset in self.shared.check(t, i, addresses, SIZE, "ends")[0].tolist():
            if self.objects.pop(offset, None) is None:
                self._missing(t, i, offset)

    def find(self, t: Threads, i: Instruction, addresses: Array) -> tuple[list[Mbarrier], Array]:
        """The objects at addresses, and which of them each thread means."""
        offsets, _ = self.shared.check(t, i, addresses, SIZE, "uses")
        distinct, which = np.unique(offsets, return_inverse=True)
        found: list[Mbarrier] = []
        for offset in distinct.tolist():
            if offset not in self.objects:
                self._missing(t, i, offset)
                self.objects[offset] = Mbarrier(1 << 20, 1 << 20)
            found.append(self.objects[offset])
        if self.shared.shadow is not None:
            span = self.shared.shadow.span(t, offsets, SIZE)
            self.shared.shadow.read(span, i, atomic=True)
        return found, which

    def arrive(
        self, t: Threads, i: Instruction, addresses: Array, counts: Array, expected: Array,
        drops: bool = False,
    ) -> Array:  # fmt: skip
        """Arrivals (`counts` of them per thread), with bytes to expect; tokens of the phase."""
        found, which = self.find(t, i, addresses)
        tokens = np.array([m.phase for m in found], np.uint64)[which]
        self._publish(t, found, which)
        for k, m in enumerate(found):
            mine = which == k
            many = int(counts[mine].sum())
            m.bytes += int(expected[mine].sum())
            m.pending -= many
            m.count -= many * drops
            if m.pending < 0:
                self.findings.add(
                    "barrier", i, f"{-m.pending} arrivals more than the mbarrier counts ({m.count})"
                )
            self.complete(m)
        return tokens

    def share(self, t: Threads, i: Instruction, addresses: Array) -> None:
        """Publish what the threads did to whoever waits, without an arrival."""
        found, which = self.find(t, i, addresses)
        self._publish(t, found, which)

    def expect(self, t: Threads, i: Instruction, addresses: Array, expected: Array) -> None:
        """mbarrier.expect_tx: more bytes to come in this phase."""
        found, which = self.find(t, i, addresses)
        for k, m in enumerate(found):
            m.bytes += int(expected[which == k].sum())

    def complete(self, m: Mbarrier, brought: int = 0) -> None:
        """Bytes have come; the phase completes where nothing lacks any more."""
        m.bytes -= brought
        if m.pending > 0 or m.bytes != 0:
            return
        times = [land() for land in m.landing]
        m.landing.clear()
        m.clock[0, COPIES] = max([*times, int(m.clock[0, COPIES])])
        m.done = np.maximum(m.done, m.clock)
        m.clock = np.zeros_like(m.clock)
        m.phase += 1
        m.pending = m.count
        self.version += 1

    def deliver(self, m: Mbarrier) -> None:
        """Let copies tell of what they have brought."""
        brought, m.due = m.due, 0
        self.complete(m, brought)

    def deliver_all(self) -> bool:
        """`deliver` for every object; whether there was anything."""
        late = [m for m in self.objects.values() if m.due]
        for m in late:
            self.deliver(m)
        return bool(late)

    def passed(
        self, t: Threads, i: Instruction, addresses: Array, phases: Array, parity: bool
    ) -> Array:
        """Whether the phase of that parity, or of that token, has completed, per thread."""
        found, which = self.find(t, i, addresses)
        now = np.array([m.phase for m in found], np.int64)[which]
        wanted = phases.astype(np.int64)
        done: Array = (now & 1) != (wanted & 1) if parity else now > wanted
        for k, m in enumerate(found):
            if m.due and not done[which == k].all():
                self.deliver(m)
        if self.clocks is not None and done.any():
            self._acquire(t, found, which, done)
        return done

    def _publish(self, t: Threads, found: list[Mbarrier], which: Array) -> None:
        if self.clocks is None:
            return
        clock = self.clocks.release(t.warps)
        of_warp = np.searchsorted(t.warps, t.ids // 32)
        for k, m in enumerate(found):
            warps = np.unique(of_warp[which == k])
            m.clock = np.maximum(m.clock, clock[:, warps].max(axis=1))

    def _acquire(self, t: Threads, found: list[Mbarrier], which: Array, done: Array) -> None:
        assert self.clocks is not None
        for k, m in enumerate(found):
            warps = np.unique(t.ids[done & (which == k)] // 32)
            if len(warps):
                self.clocks.acquire(warps, m.done[:, None])

    def _missing(self, t: Threads, i: Instruction, offset: int) -> None:
        byte = offset % self.shared.stride
        self.findings.add(
            "barrier",
            i,
            f"there is no initialised mbarrier at shared byte {byte}",
            threads=[t.named(0)],
            address=byte,
            buffer="shared",
        )

    def waits(self, address: int, block: int) -> str:
        """What the object at an address lacks, in words."""
        byte = address - BASE
        m = self.objects.get(byte + block * self.shared.stride)
        return f"the mbarrier at shared byte {byte}" + (f", whose {m}" if m else "")
