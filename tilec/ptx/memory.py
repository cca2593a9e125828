"""Global memory: the buffers of a launch in one heap, with gaps between them that nobody owns."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from tilec.ptx.bytes import gather, scatter
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings
from tilec.ptx.statistics import Statistics
from tilec.ptx.threads import Threads

WINDOW = 40  # bits below the number of a generic window
GLOBAL = 127 << WINDOW
GAP = 4096
ALIGNMENT = 256


@dataclass(frozen=True)
class Buffer:
    """A named piece of the heap."""

    name: str
    start: int
    size: int
    writable: bool = True


class Heap:
    """Global memory. Addresses are those that kernels see."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.contents: list[bytes] = []
        self.size = GAP
        self.memory = np.zeros(0, np.uint8)
        self.starts: list[int] = []
        self.edges = self.ends = np.zeros(0, np.int64)  # of all buffers, ascending
        self.locked = np.zeros(0, bool)

    def add(self, name: str, content: bytes, writable: bool = True) -> int:
        """Place a buffer; its address. Only before `seal`."""
        buffer = Buffer(name, self.size, len(content), writable)
        self.buffers.append(buffer)
        self.contents.append(content)
        self.size = -(-(self.size + max(len(content), 1)) // ALIGNMENT) * ALIGNMENT + GAP
        return GLOBAL + buffer.start

    def seal(self) -> None:
        """Lay the buffers out."""
        self.memory = np.zeros(self.size, np.uint8)
        for b, content in zip(self.buffers, self.contents, strict=True):
            self.memory[b.start : b.start + b.size] = np.frombuffer(content, np.uint8)
        self.contents.clear()
        self.starts = [b.start for b in self.buffers]
        self.edges = np.array(self.starts, np.int64)
        self.ends = np.array([b.start + b.size for b in self.buffers], np.int64)
        self.locked = np.array([not b.writable for b in self.buffers], bool)

    def inside(self, offsets: Array, size: int, write: bool = False) -> Array | None:
        """Where accesses stay in one buffer (that may be written); None where all do."""
        if not self.buffers:
            return np.zeros(len(offsets), bool)
        k = bisect_right(self.starts, int(offsets.min())) - 1
        if k >= 0 and int(offsets.max()) + size <= self.ends[k] and not (write and self.locked[k]):
            return None
        which = np.searchsorted(self.edges, offsets, "right") - 1
        good = (which >= 0) & (offsets + size <= self.ends[which])
        good &= ~(write & self.locked[which])
        return None if good.all() else good

    def near(self, offset: int) -> tuple[Buffer, int]:
        """The buffer that an offset lies in or nearest to, and the offset into it."""

        def distance(b: Buffer) -> int:
            return max(b.start - offset, offset - b.start - b.size + 1, 0)

        best = min(self.buffers, key=distance)
        return best, offset - best.start


class Global:
    """Accesses of the heap by threads, checked and counted."""

    def __init__(self, heap: Heap, findings: Findings, statistics: Statistics | None) -> None:
        self.heap, self.findings, self.statistics = heap, findings, statistics

    def load(self, t: Threads, i: Instruction, addresses: Array, size: int) -> Array:
        """Rows of `size` bytes; zeros from where no buffer is."""
        if self.statistics is not None:
            self.statistics.memory(t, i, addresses, size)
        return self.take(t, i, addresses, size)

    def take(self, t: Threads, i: Instruction, addresses: Array, size: int) -> Array:
        """`load` without counting sectors."""
        offsets, good = self.check(t, i, addresses, size, "reads")
        rows = gather(self.heap.memory, offsets, size)
        if good is not None:
            rows[~good] = 0
        return rows

    def store(self, t: Threads, i: Instruction, addresses: Array, rows: Array) -> None:
        """Write a row of bytes per thread; what lies in no buffer is dropped."""
        if self.statistics is not None:
            self.statistics.memory(t, i, addresses, rows.shape[1])
        self.put(t, i, addresses, rows)

    def put(self, t: Threads, i: Instruction, addresses: Array, rows: Array) -> None:
        """`store` without counting sectors."""
        offsets, good = self.check(t, i, addresses, rows.shape[1], "writes")
        if good is not None:
            offsets, rows = offsets[good], rows[good]
        scatter(self.heap.memory, offsets, rows)

    def check(
        self, t: Threads, i: Instruction, addresses: Array, size: int, verb: str
    ) -> tuple[Array, Array | None]:
        """Offsets into the heap, 0 for bad ones, and which are good (None: all)."""
        offsets = addresses - GLOBAL
        if size & (size - 1) == 0 and (offsets & (size - 1)).any():
            self._misaligned(t, i, offsets, size, verb)
        good = self.heap.inside(offsets, size, verb != "reads")
        if good is None:
            return offsets, None
        self._outside(t, i, offsets, size, verb, ~good)
        return np.where(good, offsets, 0), good

    def _outside(
        self, t: Threads, i: Instruction, offsets: Array, size: int, verb: str, bad: Array
    ) -> None:
        position = int(np.argmax(bad))
        offset = int(offsets[position])
        block, thread = t.named(position)
        where, name = f"address {offset + GLOBAL:#x}", ""
        if self.heap.buffers:
            b, inner = self.heap.near(offset)
            name = b.name
            where = f"{name}{inner:+d}, and {name} has {b.size} bytes"
            if inner >= 0 and inner + size <= b.size:
                where = f"{name}{inner:+d}, and {name} is read-only"
        self.findings.add(
            "bounds",
            i,
            f"thread {thread} of block {block} {verb} {size} bytes at {where}",
            threads=[(block, thread)],
            address=offset + GLOBAL,
            buffer=name,
            count=int(bad.sum()),
        )

    def _misaligned(self, t: Threads, i: Instruction, offsets: Array, size: int, verb: str) -> None:
        bad = offsets % size != 0
        position = int(np.argmax(bad))
        block, thread = t.named(position)
        address = int(offsets[position]) + GLOBAL
        self.findings.add(
            "alignment",
            i,
            f"thread {thread} of block {block} {verb} {size} bytes at {address:#x}, which is no "
            f"multiple of {size}",
            threads=[(block, thread)],
            address=address,
            count=int(bad.sum()),
        )
