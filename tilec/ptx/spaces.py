"""State spaces: which memory an address belongs to, generic addresses among them.

A generic address is the address in its space plus the number of the space's window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.local import Local, Parameters
from tilec.ptx.memory import WINDOW, Global
from tilec.ptx.shared import Shared
from tilec.ptx.threads import Threads

WINDOWS = {"shared": 1, "local": 2, "param": 3, "global": 127}
SPACE = {number: name for name, number in WINDOWS.items()}


class Readable(Protocol):
    """A memory that threads can read."""

    def load(self, t: Threads, i: Instruction, addresses: Array, size: int) -> Array: ...


@dataclass(frozen=True)
class Spaces:
    """All memories of a wave."""

    global_: Global
    shared: Shared
    local: Local
    parameters: Parameters

    def load(self, t: Threads, i: Instruction, space: str, addresses: Array, size: int) -> Array:
        """Rows of `size` bytes from addresses in a space, or generic ones."""
        match space:
            case "global" | "const":
                return self.global_.load(t, i, addresses, size)
            case "shared":
                return self.shared.load(t, i, addresses, size)
            case "local":
                return self.local.load(t, i, addresses, size)
            case "param":
                return self.parameters.load(t, i, addresses, size)
            case "generic":
                rows = np.zeros((t.count, size), np.uint8)

                def part(name: str, u: Threads, inner: Array, mask: Array) -> None:
                    rows[mask] = self.load(u, i, name, inner, size)

                self._parts(t, i, addresses, part)
                return rows
            case _:
                raise TileError(f"ptx: {i.place}: no loads from {space}")

    def store(self, t: Threads, i: Instruction, space: str, addresses: Array, rows: Array) -> None:
        """Write a row of bytes per thread."""
        match space:
            case "global":
                self.global_.store(t, i, addresses, rows)
            case "shared":
                self.shared.store(t, i, addresses, rows)
            case "local":
                self.local.store(t, i, addresses, rows)
            case "generic":

                def part(name: str, u: Threads, inner: Array, mask: Array) -> None:
                    self.store(u, i, name, inner, rows[mask])

                self._parts(t, i, addresses, part)
            case _:
                raise TileError(f"ptx: {i.place}: no stores to {space}")

    def _parts(
        self, t: Threads, i: Instruction, addresses: Array,
        part: Callable[[str, Threads, Array, Array], None],
    ) -> None:  # fmt: skip
        for name, mask in split(addresses):
            u = t if mask.all() else t.subset(mask)
            inner = addresses[mask]
            part(name, u, inner if name == "global" else inner & ((1 << WINDOW) - 1), mask)


def split(addresses: Array) -> list[tuple[str, Array]]:
    """The spaces that generic addresses lie in, with the threads of each."""
    number = addresses >> WINDOW
    return [(SPACE.get(int(n), "global"), number == n) for n in np.unique(number)]


def generic(space: str, address: int) -> int:
    """The generic address of an address in a space."""
    return address if space in ("global", "const") else address + (WINDOWS[space] << WINDOW)
