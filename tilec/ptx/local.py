"""Local memory, one frame per thread, and the parameters of a kernel, the same for all."""

from __future__ import annotations

import numpy as np

from tilec.ptx.bytes import bounds, gather, scatter
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.report import Findings
from tilec.ptx.threads import Threads


def outside(
    findings: Findings, t: Threads, i: Instruction, good: Array, addresses: Array,
    what: tuple[str, int],
) -> None:  # fmt: skip
    """Report an access outside `what`: a name and a size."""
    position = int(np.argmin(good))
    block, thread = t.named(position)
    address = int(addresses[position])
    name, size = what
    findings.add(
        "bounds",
        i,
        f"thread {thread} of block {block} uses {name} byte {address}, and there are {size}",
        threads=[(block, thread)],
        address=address,
        buffer=name,
        count=int((~good).sum()),
    )


WRAP = (1 << 32) - 1


class Local:
    """The frames of all threads, poisoned with 0xFF. `size` is that of one frame."""

    def __init__(self, threads: int, size: int, findings: Findings) -> None:
        self.size = -(-size // 16) * 16
        self.memory = np.full(threads * self.size, 0xFF, np.uint8)
        self.findings = findings

    def load(self, t: Threads, i: Instruction, addresses: Array, size: int) -> Array:
        """Rows of `size` bytes."""
        return gather(self.memory, self._offsets(t, i, addresses, size)[0], size)

    def store(self, t: Threads, i: Instruction, addresses: Array, rows: Array) -> None:
        """Write a row of bytes per thread."""
        offsets, good = self._offsets(t, i, addresses, rows.shape[1])
        if good is not None:
            offsets, rows = offsets[good], rows[good]
        scatter(self.memory, offsets, rows)

    def _offsets(
        self, t: Threads, i: Instruction, addresses: Array, size: int
    ) -> tuple[Array, Array | None]:
        addresses = addresses & WRAP  # of 32 bits: what was taken away comes back with the offset
        good = bounds(addresses, size, self.size)
        if good is not None:
            outside(self.findings, t, i, good, addresses, ("local", self.size))
            addresses = np.where(good, addresses, 0)
        return addresses + t.ids * self.size, good


class Parameters:
    """The parameter block of a kernel."""

    def __init__(self, block: bytes, findings: Findings) -> None:
        self.size = len(block)
        padded = block + bytes(-len(block) % 16 + 16)
        self.memory = np.frombuffer(padded, np.uint8)
        self.findings = findings

    def load(self, t: Threads, i: Instruction, addresses: Array, size: int) -> Array:
        """Rows of `size` bytes."""
        good = bounds(addresses, size, self.size)
        if good is not None:
            outside(self.findings, t, i, good, addresses, ("parameter", self.size))
            addresses = np.where(good, addresses, 0)
        return gather(self.memory, addresses, size)
