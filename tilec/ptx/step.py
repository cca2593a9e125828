"""One instruction executed by a set of threads: how a function of an instruction sees the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.machine import Machine
from tilec.ptx.operand import Address, Constant, Operand, Vector
from tilec.ptx.threads import Threads, each
from tilec.ptx.types import Type
from tilec.ptx.values import numbers, packed


@dataclass(frozen=True)
class Jump:
    """Go on elsewhere: all threads at one instruction, or each at its own."""

    targets: int | Array


@dataclass(frozen=True)
class Exit:
    """The threads end."""


@dataclass(frozen=True)
class Wait:
    """Sleep. What wakes the threads names `what`; they go on behind the instruction or retry it.

    `then` is called with the threads that wake.
    """

    what: str
    key: int = 0
    retry: bool = False
    then: Callable[[Threads], None] | None = None


@dataclass(frozen=True)
class Parts:
    """Different outcomes for parts of the threads; without one, they go on."""

    parts: tuple[tuple[Threads, Jump | Exit | Wait | None], ...]


Outcome = Jump | Exit | Wait | Parts | None


class Step:
    """An instruction, the threads that execute it, and the machine."""

    def __init__(self, m: Machine, t: Threads, i: Instruction) -> None:
        self.m, self.t, self.i = m, t, i

    def operand(self, n: int) -> Operand:
        """An operand as it is written."""
        return self.i.operands[n]

    def bits(self, n: int, width: int = 0) -> Any:
        """The bits of an operand; of the width of the first type unless told."""
        return self.i.operands[n].bits(self.t, width or self.i.types[0].width)

    def number(self, n: int, t: Type | None = None) -> Any:
        """The numbers of an operand; of the first type unless told."""
        t = t or self.i.types[0]
        return numbers(self.i.operands[n].bits(self.t, t.width), t)

    def row(self, n: int, width: int) -> Array:
        """The bits of an operand, one item for each thread."""
        return each(self.i.operands[n].bits(self.t, width), self.t.count)

    def put(self, bits: Any, n: int = 0) -> None:
        """Set a result."""
        self.i.operands[n].put(self.t, bits)

    def put_packed(self, elements: Array, t: Type, n: int = 0) -> None:
        """Set a result from codes: packed types have an axis of elements."""
        self.i.operands[n].put(self.t, packed(elements, t) if t.lanes > 1 else elements)

    def parts(self, n: int) -> tuple[Operand, ...]:
        """The elements of a vector operand; of any other, itself."""
        o = self.i.operands[n]
        return o.parts if isinstance(o, Vector) else (o,)

    def rows(self, n: int, width: int) -> Array:
        """The bits of the elements of a vector operand: elements x threads."""
        return np.stack([each(o.bits(self.t, width), self.t.count) for o in self.parts(n)])

    def address(self, n: int, width: int = 64) -> Array:
        """The address of every thread."""
        o = self.i.operands[n]
        if not isinstance(o, Address):
            raise TileError(f"ptx: {self.i.place}: {o} is no address: {self.i.text}")
        return o.of(self.t, width)

    def constant(self, n: int) -> int:
        """An operand that must be a number in the text."""
        o = self.i.operands[n]
        if not isinstance(o, Constant):
            raise TileError(f"ptx: {self.i.place}: {o} must be a number: {self.i.text}")
        return o.number
