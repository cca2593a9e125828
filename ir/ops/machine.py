"""What a machine with threads adds: who holds which element, shared memory, copies that go on.

Copies are complete at once in meaning; a machine may take until the wait that follows them.
"""

from __future__ import annotations

import math

import numpy as np

from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.dtype import Array, DType, i64
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.arith import tile
from tilec.ir.ops.memory import Index, accessed, hinted, positions
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


class Shift(Op, name="shift"):
    """out[..., i, ...] = a[..., start + i, ...] along an axis, at its ends what is nearest"""

    a: Value
    start: Value
    axis: int
    size: int

    def infer(self) -> Type:
        a = tile("shift", self.a)
        start = tile("shift", self.start)
        if not 0 <= self.axis < a.rank or self.size < 1:
            raise TileError(f"shift: {a} has no {self.size} elements along axis {self.axis}")
        if start.shape or not start.dtype.is_integer:
            raise TileError(f"shift: the start is {start}, not a whole number")
        return Tile((*a.shape[: self.axis], self.size, *a.shape[self.axis + 1 :]), a.dtype)

    def evaluate(self, a: Array, start: Array) -> Array:
        places = int(start) + np.arange(self.size)
        return np.take(a, np.clip(places, 0, a.shape[self.axis] - 1), self.axis)


class Shared(Op, name="shared", traits=Trait.READS):
    """out = memory of a block of threads, full of anything

    With a swizzle of 32, 64 or 128 bytes (PTX ISA, "Swizzling modes") the rows of each of the
    `sizes[0]` tiles are cut into runs of so many bytes: first those at the beginning of all rows,
    then the next ones.
    """

    sizes: tuple[int, ...]
    dtype: DType
    swizzle: int = 0

    def infer(self) -> Type:
        if not self.sizes or min(self.sizes) < 1:
            raise TileError(f"shared: expected sizes of at least 1, not {list(self.sizes)}")
        if self.swizzle not in (0, 32, 64, 128):
            raise TileError(f"shared: a swizzle is 32, 64 or 128 bytes wide, not {self.swizzle}")
        rows, bits = math.prod(self.sizes[1:-1]), self.sizes[-1] * self.dtype.bits
        if self.swizzle and (rows % 8 or bits % (8 * self.swizzle)):
            raise TileError(f"shared: {rows} rows of {bits // 8} bytes are no groups of 8 rows "
                            f"of runs of {self.swizzle} bytes")  # fmt: skip
        return Memory(self.sizes, Dense(self.dtype))

    def evaluate(self) -> Array:
        poison = np.nan if self.dtype.carrier is np.float64 else 0
        return np.full(self.sizes, poison, self.dtype.carrier)


class Copy(Op, name="copy", traits=Trait.READS | Trait.WRITES):
    """to[slot] = mem[indices, the span of `axis` moved by `ahead`], and 0 outside of the memory

    It goes on while the threads do other things, until a `wait` that leaves its group no time. One
    that counts on `full` is one thread's: its bytes come before the phase of full[slot] ends.
    """

    to: Value
    slot: Value
    mem: Value
    indices: tuple[Value, ...]
    axis: int
    ahead: int
    full: Value | None = None
    cache: str | None = None

    def infer(self) -> tuple[Type, ...]:
        if not isinstance(self.to.type, Memory) or not isinstance(self.mem.type, Memory):
            raise TileError(f"copy: expected memory, not {self.mem.type} to {self.to.type}")
        sizes = accessed("copy", self.mem, self.indices)
        if not isinstance(self.indices[self.axis].type, Span) or self.to.type.shape[1:] != sizes:
            raise TileError(f"copy: {list(map(str, sizes))} of {self.mem.type} is no slot "
                            f"of {self.to.type}")  # fmt: skip
        if self.to.type.dtype != self.mem.type.dtype:
            raise TileError(f"copy: {self.mem.type} has other elements than {self.to.type}")
        if not isinstance(self.slot.type, Tile) or self.slot.type.shape:
            raise TileError(f"copy: the slot is {self.slot.type}, not a number")
        hinted("copy", self.cache)
        if self.full is not None:
            _barrier("copy", self.full, self.slot)
        return ()

    def evaluate(self, to: Array, slot: Array, mem: Array, indices: tuple[Index, ...]) -> None:
        moved = list(indices)
        span = moved[self.axis]
        assert isinstance(span, range)
        moved[self.axis] = range(span.start + self.ahead, span.stop + self.ahead)
        at, inside = positions(mem.shape, tuple(moved))
        to[int(slot)] = np.where(inside, mem[at], np.zeros((), mem.dtype))


class InPlace(Op, name="in_place", traits=Trait.READS):
    """out = mem[slot], which a product reads where it lies"""

    mem: Value
    slot: Value

    def infer(self) -> Type:
        if not isinstance(self.mem.type, Memory) or len(self.mem.type.shape) != 3:
            raise TileError(f"in_place: expected slots of matrices, not {self.mem.type}")
        if not isinstance(self.slot.type, Tile) or self.slot.type.shape:
            raise TileError(f"in_place: the slot is {self.slot.type}, not a number")
        return Tile(self.mem.type.shape[1:], self.mem.type.dtype)

    def evaluate(self, mem: Array, slot: Array) -> Array:
        return mem[int(slot)]


class Settle(Op, name="settle"):
    """out = a, once all products that were begun are complete but for the last `pending`

    Products that read an operand in place go on while the threads do other things. With `pending`
    the sum itself may be under way: it is for the next product alone.
    """

    a: Value
    pending: int = 0

    def infer(self) -> Type:
        if self.pending < 0:
            raise TileError(f"settle: {self.pending} products can't be under way")
        return tile("settle", self.a)

    def evaluate(self, a: Array) -> Array:
        return a


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


class Barriers(Op, name="barriers", traits=Trait.READS):
    """out = `count` barriers; a phase of one ends as a thread arrives, or as every one with `all`

    They are told apart by number; out[i] counts the phases of barrier i that have ended. Those that
    one thread arrives at wait for the bytes of copies, too (PTX ISA, "mbarrier").
    """

    count: int
    all: bool

    def infer(self) -> Type:
        if self.count < 1:
            raise TileError(f"barriers: expected at least 1, not {self.count}")
        return Memory((self.count,), Dense(i64))

    def evaluate(self) -> Array:
        return np.zeros(self.count, np.int64)


class Arrive(Op, name="arrive", traits=Trait.WRITES):
    """barriers[slot] += 1: every thread is done with what it has read and written so far"""

    barriers: Value
    slot: Value

    def infer(self) -> tuple[Type, ...]:
        return _barrier("arrive", self.barriers, self.slot)

    def evaluate(self, barriers: Array, slot: Array) -> None:
        barriers[int(slot)] += 1


class Expect(Op, name="expect", traits=Trait.WRITES):
    """barriers[slot] += 1 when so many bytes of copies that count on it have come"""

    barriers: Value
    slot: Value
    bytes: int

    def infer(self) -> tuple[Type, ...]:
        if self.bytes < 1:
            raise TileError(f"expect: {self.bytes} bytes never come")
        return _barrier("expect", self.barriers, self.slot)

    def evaluate(self, barriers: Array, slot: Array) -> None:
        barriers[int(slot)] += 1


class Await(Op, name="await", traits=Trait.WRITES):
    """barriers[slot] % 2 != parity from here on: the phase of this parity has ended

    Without threads nothing changes any more, so it is an error if that does not hold already.
    """

    barriers: Value
    slot: Value
    parity: Value

    def infer(self) -> tuple[Type, ...]:
        _barrier("await", self.barriers, self.parity)
        return _barrier("await", self.barriers, self.slot)

    def evaluate(self, barriers: Array, slot: Array, parity: Array) -> None:
        if barriers[int(slot)] % 2 == int(parity):
            raise TileError(f"await: barrier {slot} has ended {barriers[int(slot)]} phases, so one "
                            f"that waits for parity {parity} waits for ever")  # fmt: skip


class Alone(Op, name="alone", traits=Trait.READS | Trait.WRITES):
    """body() by one thread; with `warps`, of so many more warps, which do nothing else

    These go through the loops around it on their own, ahead of the others as far as barriers allow.
    """

    warps: int
    body: Block

    def infer(self) -> tuple[Type, ...]:
        if self.warps < 0 or self.body.params or self.body.results:
            raise TileError("alone: expected a number of warps, and a body that takes and yields "
                            "nothing")  # fmt: skip
        return ()


def _barrier(op: str, barriers: Value, number: Value) -> tuple[Type, ...]:
    """Check that a number names one of these barriers, or a parity."""
    if not isinstance(barriers.type, Memory) or barriers.type.dtype != i64:
        raise TileError(f"{op}: {barriers.type} are no barriers")
    if not isinstance(number.type, Tile) or number.type.shape or not number.type.dtype.is_integer:
        raise TileError(f"{op}: the number of a barrier is {number.type}")
    return ()
