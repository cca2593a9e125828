"""Shared memory: one piece per block, poisoned with 0xFF, checked and counted."""

from __future__ import annotations

import numpy as np

from tilec.ptx.bytes import bounds, gather, scatter
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings
from tilec.ptx.shadow import Shadow
from tilec.ptx.statistics import Statistics
from tilec.ptx.threads import Threads

BASE = 1024  # the address of the first byte: as on sm_90, and aligned for every swizzle


class Shared:
    """The shared memory of all blocks of a wave. `size` is that of one block."""

    def __init__(
        self, memory: Array, size: int, stride: int, findings: Findings,
        statistics: Statistics | None, shadow: Shadow | None,
    ) -> None:  # fmt: skip
        self.memory, self.size, self.stride = memory, size, stride
        self.findings, self.statistics, self.shadow = findings, statistics, shadow

    def load(
        self, t: Threads, i: Instruction, addresses: Array, size: int, atomic: bool = False
    ) -> Array:
        """Rows of `size` bytes."""
        if self.statistics is not None:
            self.statistics.shared(t, i, addresses, size)
        return self.take(t, i, addresses, size, atomic)

    def take(
        self, t: Threads, i: Instruction, addresses: Array, size: int, atomic: bool = False
    ) -> Array:
        """`load` without counting passes."""
        offsets, good = self.check(t, i, addresses, size, "reads")
        if self.shadow is not None:
            self.shadow.read(self.shadow.span(t, offsets, size), i, atomic)
        rows = gather(self.memory, offsets, size)
        if good is not None:
            rows[~good] = 0xFF
        return rows

    def store(
        self, t: Threads, i: Instruction, addresses: Array, rows: Array, atomic: bool = False
    ) -> None:
        """Write a row of bytes per thread."""
        if self.statistics is not None:
            self.statistics.shared(t, i, addresses, rows.shape[1])
        self.put(t, i, addresses, rows, atomic)

    def put(
        self, t: Threads, i: Instruction, addresses: Array, rows: Array, atomic: bool = False
    ) -> None:
        """`store` without counting passes."""
        offsets, good = self.check(t, i, addresses, rows.shape[1], "writes")
        if good is not None:
            t, offsets, rows = t.subset(good), offsets[good], rows[good]
        if not t.count:
            return
        if self.shadow is None:
            scatter(self.memory, offsets, rows)
            return
        span = self.shadow.span(t, offsets, rows.shape[1])
        self.shadow.write(span, i, rows, atomic)
        scatter(self.memory, offsets, rows)
        self.shadow.wrote(span, i, rows, atomic)

    def check(
        self, t: Threads, i: Instruction, addresses: Array, size: int, verb: str
    ) -> tuple[Array, Array | None]:
        """Offsets into the memory of all blocks, and which are good (None: all)."""
        inner = addresses - BASE
        if size & (size - 1) == 0 and (inner & (size - 1)).any():
            self._report(t, i, inner % size != 0, inner, size, verb)
        good = bounds(inner, size, self.size)
        if good is not None:
            self._report(t, i, ~good, inner, size, verb)
            inner = np.where(good, inner, 0)
        return inner + t.block * self.stride, good

    def _report(
        self, t: Threads, i: Instruction, bad: Array, inner: Array, size: int, verb: str
    ) -> None:
        position = int(np.argmax(bad))
        byte = int(inner[position])
        block, thread = t.named(position)
        outside = byte < 0 or byte + size > self.size
        why = f"a block has {self.size} bytes" if outside else f"that is no multiple of {size}"
        self.findings.add(
            "bounds" if outside else "alignment",
            i,
            f"thread {thread} of block {block} {verb} {size} bytes at shared byte {byte}: {why}",
            threads=[(block, thread)],
            address=byte,
            buffer="shared",
            count=int(bad.sum()),
        )
