"""What a machine with threads adds: who holds which element, shared memory, copies that go on.

Copies are complete at once in meaning; a machine may take until the wait that follows them.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.arith import tile
from tilec.ir.ops.memory import Index, positions
from tilec.ir.types import Memory, Span, Tile, Type


class Convert(Op, name="convert"):
    """out = a, held by the threads of a block as the layout says"""

    a: Value
    layout: RegisterLayout

    def infer(self) -> Type:
        a = tile("convert", self.a)
        known = tuple(d for d in a.shape if isinstance(d, int))
        if len(known) == a.rank and known != self.layout.shape:
            raise TileError(f"convert: {a} can't have the layout {self.layout} "
                            f"of {list(self.layout.shape)}")  # fmt: skip
        return a

    def evaluate(self, a: Array) -> Array:
        return a


class Shared(Op, name="shared", traits=Trait.READS):
    """out = memory of a block of threads, full of anything"""

    sizes: tuple[int, ...]
    dtype: DType

    def infer(self) -> Type:
        if not self.sizes or min(self.sizes) < 1:
            raise TileError(f"shared: expected sizes of at least 1, not {list(self.sizes)}")
        return Memory(self.sizes, Dense(self.dtype))

    def evaluate(self) -> Array:
        poison = np.nan if self.dtype.carrier is np.float64 else 0
        return np.full(self.sizes, poison, self.dtype.carrier)


class Copy(Op, name="copy", traits=Trait.READS | Trait.WRITES):
    """to[slot] = mem[indices, the span of `axis` moved by `ahead`], and 0 outside of the memory

    It goes on while the threads do other things, until a `wait` that leaves its group no time.
    """

    to: Value
    slot: Value
    mem: Value
    indices: tuple[Value, ...]
    axis: int
    ahead: int

    def infer(self) -> tuple[Type, ...]:
        if not isinstance(self.to.type, Memory) or not isinstance(self.mem.type, Memory):
            raise TileError(f"copy: expected memory, not {self.mem.type} to {self.to.type}")
        spans = [i.type for i in self.indices]
        sizes = tuple(s.size for s in spans if isinstance(s, Span))
        if len(sizes) != len(self.mem.type.shape) or self.to.type.shape[1:] != sizes:
            raise TileError(f"copy: {list(map(str, sizes))} of {self.mem.type} is no slot "
                            f"of {self.to.type}")  # fmt: skip
        if self.to.type.dtype != self.mem.type.dtype:
            raise TileError(f"copy: {self.mem.type} has other elements than {self.to.type}")
        if not isinstance(self.slot.type, Tile) or self.slot.type.shape:
            raise TileError(f"copy: the slot is {self.slot.type}, not a number")
        return ()

    def evaluate(self, to: Array, slot: Array, mem: Array, indices: tuple[Index, ...]) -> None:
        moved = list(indices)
        span = moved[self.axis]
        assert isinstance(span, range)
        moved[self.axis] = range(span.start + self.ahead, span.stop + self.ahead)
        at, inside = positions(mem.shape, tuple(moved))
        to[int(slot)] = np.where(inside, mem[at], np.zeros((), mem.dtype))


class Commit(Op, name="commit", traits=Trait.WRITES):
    """the copies since the last commit = one group"""

    def infer(self) -> tuple[Type, ...]:
        return ()


class Wait(Op, name="wait", traits=Trait.WRITES):
    """all groups of copies but the last `pending` = complete, for every thread of the block"""

    pending: int

    def infer(self) -> tuple[Type, ...]:
        if self.pending < 0:
            raise TileError(f"wait: {self.pending} groups can't be under way")
        return ()
