"""What layouts cost: conversions, accesses to memory and reductions, in clocks of a multiprocessor.

Rules of thumb for choosing, not times: an instruction of a warp is a quarter of a clock where it
works on registers (four schedulers issue one each), a shuffle is one, and so is a wavefront of
shared memory and a line of 128 bytes that a request to global memory touches (CUDA C++ Programming
Guide, "Throughput of Native Arithmetic Instructions", "Shared Memory", "Global Memory").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Literal

import numpy as np

from tilec.ir.laid import coalesced
from tilec.ir.layout.banks import WARP
from tilec.ir.layout.moves import BARRIER, MOVE, exchange, requests, rows_of, shuffles, within
from tilec.ir.layout.register import RegisterLayout, local, spatial
from tilec.ir.layout.runs import LINE, Row, run

CACHE_LINE = 128  # bytes
ROOM = 32 << 10  # bytes of shared memory that may be taken from rings to save clocks
SAVED = 0.9  # of the clocks of a store: what a conversion before it must at least bring them to
Way = Literal["nothing", "registers", "shuffles", "shared memory"]


@dataclass(frozen=True)
class Conversion:
    """A tile from one layout to another: by which way, bytes and wavefronts of shared memory (there
    and back), how many wavefronts there would be without conflicts, clocks, and shuffles of each
    warp."""

    way: Way
    bytes: int = 0
    wavefronts: int = 0
    ideal: int = 0
    clocks: float = 0.0
    shuffles: int = 0

    def __str__(self) -> str:
        if self.way == "shuffles":
            return f"by {self.shuffles} shuffle{'s' * (self.shuffles != 1)} of each warp"
        if self.way != "shared memory":
            return f"in {self.way}"
        beyond = self.wavefronts - self.ideal
        conflicts = f", {beyond} of them conflicts" if beyond else ""
        return (f"by shared memory: {self.bytes} bytes there and back, 2 barriers, "
                f"{self.wavefronts} wavefronts{conflicts}")  # fmt: skip


@lru_cache(maxsize=4096)
def conversion(source: RegisterLayout, to: RegisterLayout, bits: int) -> Conversion:
    """How a tile of elements of `bits` bits is brought to another layout."""
    if source == to:
        return Conversion("nothing")
    warps = -(-to.threads // WARP)
    if within(source, to) is not None:
        return Conversion("registers", clocks=to.locals * warps * MOVE)
    given = shuffles(source, to, bits)
    if given is not None:
        return Conversion("shuffles", clocks=given.clocks, shuffles=given.count)
    how = exchange(source, to, bits)
    return Conversion("shared memory", how.bytes, how.wavefronts, how.ideal, how.clocks)


def brought(source: RegisterLayout, to: RegisterLayout, bits: int, loaded: bool) -> float:
    """Clocks of a tile in another layout than it has: more or less of a load, where it may be
    `loaded` so from the start. A choice that takes more shared memory than ROOM is none."""
    if loaded:
        return access(to, bits) - access(source, bits)
    how = conversion(source, to, bits)
    return how.clocks if how.bytes <= ROOM else inf


@lru_cache(maxsize=4096)
def access(layout: RegisterLayout, bits: int, row: Row | None = None) -> float:
    """Clocks of moving a tile between registers and rows of global memory that are far apart."""
    each = max(8, bits)
    axis = layout.rank - 1
    row = row or Row(each, layout.shape[-1], layout.shape[-1], True, layout.rank == 1)
    n = run(layout, axis, row).elements
    table = layout.table()
    apart = -(-layout.shape[-1] * each // 8 // CACHE_LINE) * CACHE_LINE
    at = rows_of(layout.shape, each, apart).address(*table)[:, ::n]
    lines = np.sort(requests(at) // CACHE_LINE, -1)
    touched = 1 + (np.diff(lines, axis=-1) > 0).sum(-1)
    bytes_ = WARP * n * each // 8
    return float(np.maximum(touched, bytes_ / CACHE_LINE).sum())


def reduction(layout: RegisterLayout, axis: int) -> float:
    """Clocks of reducing a tile along an axis: in threads, by shuffles, by shared memory."""
    warps = -(-layout.threads // WARP)
    own = layout.reduce(axis).locals
    lanes, across = _spread(layout, axis)
    shared = 2 * BARRIER + own * warps * (1 + across) if across > 1 else 0.0
    return layout.locals * warps * MOVE + own * warps * (lanes - 1).bit_length() + shared


def _spread(layout: RegisterLayout, axis: int) -> tuple[int, int]:
    """Over how many lanes of a warp, and over how many warps, a result's elements are."""
    lanes, across, place = 1, 1, 1
    for d in reversed(layout.thread_digits):
        if d.axis == axis:
            here = max(1, min(d.size, WARP // place))
            lanes, across = lanes * here, across * (d.size // here)
        place *= d.size
    return lanes, across


@lru_cache(maxsize=4096)
def loaded(sizes: tuple[int, ...], bits: int, threads: int, axes: tuple[int, ...]
           ) -> RegisterLayout:  # fmt: skip
    """The layout for a tile that is loaded, and then reduced along each of these axes: the
    coalesced one, or where that costs less one with fewer threads along a row."""
    choices = [coalesced(sizes, bits, threads), *_by_rows(sizes, bits, threads)]
    return min(choices, key=lambda x: access(x, bits) + sum(reduction(x, a) for a in axes))


def stored(layout: RegisterLayout, bits: int, row: Row) -> RegisterLayout:
    """The layout in which a tile is stored: its own, or the coalesced one where that costs less,
    conversion included."""
    plain = coalesced(layout.shape, bits, layout.threads)
    turned = brought(layout, plain, bits, False) + access(plain, bits, row)
    return plain if turned < SAVED * access(layout, bits, row) else layout


def _by_rows(sizes: tuple[int, ...], bits: int, threads: int) -> list[RegisterLayout]:
    """The layouts of a matrix with the same number of threads along each row, and several rows of
    threads; the most threads along a row first."""
    if len(sizes) != 2:
        return []
    rows, columns = sizes
    each = max(1, 8 * LINE // bits)
    found: list[RegisterLayout] = []
    wide = threads // 2
    while wide:
        high = threads // wide
        if not (rows % high or columns % (wide * each)):
            inner = spatial(high, wide).local(1, each)
            found.append(local(rows // high, columns // (wide * each)) * inner)
        wide //= 2
    return found
