"""How a tile gets from one register layout to another: inside threads, by shuffles of their warps,
or by shared memory.

Prices are rules of thumb for choosing, not times, in clocks of a multiprocessor: see
`passes.layout.cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np

from tilec.ir.layout.banks import WARP, wavefronts
from tilec.ir.layout.digits import Ints
from tilec.ir.layout.memory import MemoryLayout
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.runs import LINE, neighbours
from tilec.ir.layout.shared import SharedLayout

MOST = 512  # elements of a thread that are put in another order one by one
GAPS = (LINE, 2 * LINE)  # bytes by which rows in shared memory may be apart
AMONG = 4  # words of a lane among which others select
WORD = 32  # bits that a shuffle brings
MOVE = 0.25  # clocks of an instruction of a warp on registers
BARRIER = 30.0  # clocks until the slowest warp is there
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@lru_cache(maxsize=4096)
def within(source: RegisterLayout, to: RegisterLayout) -> tuple[int, ...] | None:
    """For each element of a thread its number before; None where a thread lacks some, or where the
    numbers are not the same for all threads."""
    if source.threads != to.threads or to.locals > MOST:
        return None
    threads = np.arange(to.threads)[:, None]
    holders, numbers = source.holders(*to.element(threads, np.arange(to.locals)))
    own = (holders == threads[..., None]).any(-1).all()
    return tuple(numbers[0].tolist()) if own and (numbers == numbers[0]).all() else None


def givers(source: RegisterLayout, to: RegisterLayout) -> tuple[Ints, Ints]:
    """What the elements of `to` are in `source`, as [threads, locals]: their thread, of copies the
    one whose digits without an axis are those of the thread that wants it, and their number."""
    threads = np.arange(to.threads)[:, None]
    copy = threads - source.holders(*source.element(threads, 0))[0][..., 0]
    holders, numbers = source.holders(*to.element(threads, np.arange(to.locals)))
    return holders[..., 0] + copy, numbers


@dataclass(frozen=True)
class Shuffles:
    """A tile whose words come from lanes of the same warp: for each word of a thread the numbers
    that it has in any lane that gives it, as many for all of them, one shuffle for each; how many
    elements are in a word, and clocks."""

    words: tuple[tuple[int, ...], ...]
    each: int
    clocks: float

    @property
    def count(self) -> int:
        """How many shuffles each warp executes."""
        return sum(map(len, self.words))


@lru_cache(maxsize=4096)
def shuffles(source: RegisterLayout, to: RegisterLayout, bits: int) -> Shuffles | None:
    """The way by shuffles for elements of `bits` bits; None where one leaves its warp, where words
    don't stay whole or have too many numbers, or where shared memory costs less."""
    if source.threads != to.threads or to.threads % WARP or to.locals > MOST or WORD % bits:
        return None
    each, (holders, numbers) = WORD // bits, givers(source, to)
    words, at = numbers[:, ::each] // each, np.arange(to.locals)
    torn = (numbers != words[:, at // each] * each + at % each).any()
    apart = (holders != holders[:, at // each * each]).any()
    if torn or apart or (holders // WARP != np.arange(to.threads)[:, None] // WARP).any():
        return None
    among = [np.unique(column).tolist() for column in words.T]
    most = max(map(len, among))
    if most > AMONG:
        return None
    padded = tuple((*x, *x[:1] * (most - len(x))) for x in among)
    clocks = len(padded) * most * (to.threads // WARP) * (1 + 2 * MOVE)  # find the lane, select
    found = Shuffles(padded, each, clocks)
    return found if clocks < exchange(source, to, bits).clocks else None


@dataclass(frozen=True)
class Exchange:
    """A tile written to shared memory in one layout and read in another: the gap between its rows
    and all of its bytes, the wavefronts of both ways, what they would be without conflicts, and
    clocks."""

    gap: int
    bytes: int
    wavefronts: int
    ideal: int
    clocks: float


@lru_cache(maxsize=4096)
def exchange(source: RegisterLayout, to: RegisterLayout, bits: int) -> Exchange:
    """The way with the fewest wavefronts for elements of `bits` bits."""
    each, everyone = max(8, bits), np.ones(to.threads, bool)
    size, found = prod(source.shape) * each // 8, list[Exchange]()
    around = 2 * BARRIER + (source.locals + to.locals) * -(-to.threads // WARP) * MOVE
    for gap in GAPS:
        pitch = past_a_line(source.shape[-1] * each // 8, source.rank, gap)
        where = rows_of(source.shape, each, pitch)
        out, out_ideal = _traffic(source, where, bits, _first(source))
        back, back_ideal = _traffic(to, where, bits, everyone)
        both, ideal = out + back, out_ideal + back_ideal
        found.append(Exchange(gap, size, both, ideal, both + around))
        if found[-1].wavefronts == found[-1].ideal:
            break
    return min(found, key=lambda x: x.wavefronts)


def past_a_line(row: int, rank: int, gap: int = LINE) -> int:
    """Bytes from one row of a tile to the next: whole lines, and up to `gap` more than the row has,
    so that rows below each other begin in different banks."""
    return row + gap - row % LINE if rank > 1 else row


def rows_of(sizes: tuple[int, ...], bits: int, pitch: int) -> SharedLayout:
    """A tile row by row in shared memory, `pitch` bytes from one row to the next."""
    along = pitch * 8 // bits
    strides = [along * prod(sizes[a + 1 : -1]) for a in range(len(sizes) - 1)]
    return SharedLayout(MemoryLayout(sizes, (*strides, 1)), bits)


def requests(addresses: Ints) -> Ints:
    """[threads, instructions] as [requests, lanes]."""
    threads, instructions = addresses.shape
    lanes = gcd(threads, WARP)
    return addresses.reshape(-1, lanes, instructions).swapaxes(1, 2).reshape(-1, lanes)


def _first(layout: RegisterLayout) -> Bools:
    """Which threads are the first of those that hold the same."""
    first = np.zeros(layout.threads, bool)
    first[layout.holders(*layout.element(np.arange(layout.threads), 0))[0].min(-1)] = True
    return first


def _traffic(layout: RegisterLayout, where: SharedLayout, bits: int, who: Bools
             ) -> tuple[int, int]:  # fmt: skip
    """The wavefronts of some threads that move their elements, and what they would be at best."""
    n, table = (
        neighbours(layout, layout.rank - 1) if bits >= 8 else 1,
        where.address(*layout.table()),
    )
    while n > 1 and (n * where.bits > 8 * LINE or (table[:, ::n] % (n * where.bits // 8)).any()):
        n //= 2
    busy = requests(np.where(who[:, None], table[:, ::n], -1))
    busy = busy[(busy >= 0).any(-1)]
    lanes = np.where(busy >= 0, busy, busy.max(-1, keepdims=True))
    found = wavefronts(lanes, n * where.bits // 8)
    return sum(found.wavefronts), sum(found.ideal)
