"""How long a config should take, from the IR alone: what it computes and moves, in which tiles.

The seconds are right up to a factor at best. They give a search its first configs and the mean of
its surrogate, and rule out what is hopeless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilec.ir.choices import AHEAD
from tilec.ir.core import Block, Func, Op
from tilec.ir.extent import Extent, Sym, number
from tilec.ir.ops import memory
from tilec.ir.ops.control import For, Grid
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Memory, Tile
from tilec.tune.expression import Columns

Floats = NDArray[np.float64]
PRODUCTS = (Dot, ScaledDot, SparseDot)
LAST = 32 << 20  # bytes of a last cache
UNASKED = 0.7  # of the bytes a second from memory, where nothing is asked for ahead
WAITS = 8  # multiply-adds that are begun while one goes on


@dataclass(frozen=True)
class Machine:
    """A processor, by rules of thumb: workers that share the work, operations a second of each in
    products and elsewhere, bytes a second from its cache, and of all from memory; bytes of its
    cache; seconds that a tile and a step of a loop cost on top, and waking up all workers, where
    one may do it `alone`; vector registers that the schedule shares out, or 0; bytes of the last
    cache, which results may go past."""

    workers: int
    products: float
    others: float
    near: float
    far: float
    cache: int
    task: float
    step: float
    wake: float = 0.0
    alone: bool = False
    registers: int = 0
    last: int = 0


def processor(threads: int, cache: int, registers: int = 32) -> Machine:
    """A processor with vectors of 512 bits."""
    return Machine(threads, 1.5e11, 5e9, 6e10, 2e10, cache, 3e-7, 3e-8, 5e-6, True, registers, LAST)


def graphics(multiprocessors: int) -> Machine:
    """A GPU of a data centre."""
    return Machine(multiprocessors, 3e12, 1e11, 1e11, 2e12, 100 << 10, 1e-6, 2e-7)


@dataclass(frozen=True)
class Axis:
    """A dimension of a grid or a loop: its extent, and its tile or the choice that decides it."""

    extent: int
    tile: int | str

    def tiles(self, columns: Columns) -> Floats:
        """The tile for each row."""
        if isinstance(self.tile, int):
            return np.array(float(self.tile))
        return np.minimum(columns[self.tile].astype(np.float64), self.extent)

    def trips(self, columns: Columns) -> Floats:
        """How many tiles there are."""
        return np.ceil(self.extent / self.tiles(columns))


@dataclass(frozen=True)
class Work:
    """An op inside of axes, those of grids first: bytes it moves or operations, for the elements of
    a tile, whose sides are numbers or axes."""

    sides: tuple[int | Axis, ...]
    around: tuple[Axis, ...]
    each: float
    kind: str  # product, other, bytes (read) or results

    def elements(self, columns: Columns) -> Floats:
        """Of a tile."""
        sides = [s.tiles(columns) if isinstance(s, Axis) else np.array(float(s))
                 for s in self.sides]  # fmt: skip
        return np.asarray(prod(sides, start=np.array(1.0)))

    def all(self, columns: Columns) -> Floats:
        """Of all tiles together."""
        trips = [a.trips(columns) for a in self.around]
        return self.each * self.elements(columns) * np.asarray(prod(trips, start=np.array(1.0)))


@dataclass(frozen=True)
class Roofline:
    """A function as its grids, each with the work in it, and the bytes that must come from memory.

    `seconds` is a Model of `tilec.tune.search.transfer`.
    """

    machine: Machine
    grids: tuple[tuple[tuple[Axis, ...], tuple[Work, ...]], ...]
    bytes: float
    operations: float

    def seconds(self, columns: Columns) -> Floats:
        """The seconds of configs, given by column."""
        rows = len(next(iter(columns.values())))
        total = np.zeros(rows)
        for axes, work in self.grids:
            total = total + self._grid(axes, work, columns)
        far = self.bytes / (self.machine.far * _asked(columns))
        return np.maximum(total, far) * self._past(columns)

    def _past(self, columns: Columns) -> Floats:
        """How much longer it takes where results go past the caches: a third less is moved where no
        cache would keep them, and else they must come back."""
        if "nontemporal" not in columns:
            return np.ones(1)
        kept = self.bytes <= self.machine.last
        return np.where(columns["nontemporal"] > 0, 1.5 if kept else 0.8, 1.0)

    def _grid(self, axes: Sequence[Axis], work: Sequence[Work], columns: Columns) -> Floats:
        m = self.machine
        tasks = np.asarray(prod((a.trips(columns) for a in axes), start=np.array(1.0)))
        least = np.zeros(1)
        room, moved, computed, steps = least, least, least, least
        for w in work:
            every = w.all(columns)
            if w.kind in ("bytes", "results"):
                moved = moved + every
                room = room + w.each * w.elements(columns)
                steps = np.maximum(steps, every / np.maximum(w.each * w.elements(columns), 1))
            else:
                rate = m.products * _summed(m, w, columns) if w.kind == "product" else m.others
                computed = computed + every / rate
        fits = np.minimum(1.0, m.cache / np.maximum(room, 1.0))
        speed = m.near * fits + m.far / m.workers * (1 - fits) * _asked(columns)
        busy = np.maximum(computed, moved / speed) + tasks * m.task + steps * m.step
        workers = m.workers
        if m.alone and "threads" in columns:
            workers = np.where(columns["threads"] == 1, 1.0, m.workers)
        turns = np.ceil(tasks / workers)
        return busy * turns / np.maximum(tasks, 1.0) + m.wake * (workers > 1)


def _asked(columns: Columns) -> Floats:
    """The part of the bytes a second from memory that asking ahead gets: hardware asks for some by
    itself, and what is asked for too late is waited for."""
    if "ahead" not in columns:
        return np.ones(1)
    return UNASKED + (1 - UNASKED) * np.minimum(1.0, columns["ahead"] / AHEAD)


def _summed(m: Machine, w: Work, columns: Columns) -> Floats:
    """The part of the operations a second that a register tile gets: each sum waits for the one
    before, and a multiply-add needs what it multiplies loaded."""
    if not m.registers or "register_vectors" not in columns:
        return np.ones(1)
    said = columns["register_vectors"].astype(np.float64)
    share, usual = 3 * m.registers // 4, m.registers // 8
    vectors = np.where(said > 0, said, usual)
    most = np.maximum(1.0, share // vectors)
    side = w.sides[0]
    rows = side.tiles(columns) if isinstance(side, Axis) else np.array(float(side))
    rows = rows / np.ceil(rows / most)
    return np.minimum(1.0, rows * vectors / np.maximum(WAITS, rows + vectors))


def roofline(func: Func, machine: Machine, chosen: Mapping[str, int]) -> Roofline:
    """The model of a function before its tiles are chosen. `chosen` has the tiles of every loop by
    default; those whose names are no parameters stay as they are there."""
    grids = [op for op in func.body.ops if isinstance(op, Grid)]
    found = tuple(_grid(op, chosen) for op in grids)
    defaults = {n: np.array([v]) for n, v in chosen.items()}
    operations = sum(float(np.sum(w.all(defaults))) for _, work in found for w in work
                     if w.kind not in ("bytes", "results"))  # fmt: skip
    total = sum(bytes_of(p.type) for p in func.params if isinstance(p.type, Memory))
    return Roofline(machine, found, total, operations)


def bytes_of(t: Memory) -> float:
    """All that is stored of a tensor."""
    return t.format.bits(tuple(_known(t.shape))) / 8


def _known(shape: Sequence[Extent]) -> Iterator[int]:
    return (number(d, {}) for d in shape)


def _grid(op: Grid, chosen: Mapping[str, int]) -> tuple[tuple[Axis, ...], tuple[Work, ...]]:
    axes = tuple(_axis(d, s, t, chosen)
                 for d, s, t in zip(op.dims, op.sizes, op.tiles, strict=True))  # fmt: skip
    by_name = {str(s): a for s, a in zip(op.sizes, axes, strict=True)}
    return axes, tuple(_work(op.body, axes, by_name, chosen))


def _axis(dim: Extent, size: Extent, tile: int | None, chosen: Mapping[str, int]) -> Axis:
    extent = number(dim, {}) if isinstance(dim, int) else 1
    name = str(size)
    return Axis(extent, tile or (name if name in chosen else extent))


def _work(block: Block, around: tuple[Axis, ...], axes: dict[str, Axis],
          chosen: Mapping[str, int]) -> Iterator[Work]:  # fmt: skip
    for op in block.ops:
        inner = around
        if isinstance(op, For):
            axis = _axis(op.dim, op.size, op.tile, chosen)
            axes[str(op.size)] = axis
            inner = (*around, axis)
        for body in op.blocks:
            yield from _work(body, inner, axes, chosen)
        yield from _of(op, around, axes)


def _of(op: Op, around: tuple[Axis, ...], axes: Mapping[str, Axis]) -> Iterator[Work]:
    match op:
        case memory.Load() if isinstance(op.mem.type, Memory) and isinstance(op.result.type, Tile):
            yield Work(_sides(op.result.type, axes), around, _bytes(op.mem.type), "bytes")
        case memory.Write() if isinstance(op.mem.type, Memory) and isinstance(op.value.type, Tile):
            yield Work(_sides(op.value.type, axes), around, _bytes(op.mem.type), "results")
        case Dot() | ScaledDot() if isinstance(op.a.type, Tile) and isinstance(op.b.type, Tile):
            sides = (*_sides(op.a.type, axes), *_sides(op.b.type, axes)[-1:])
            yield Work(sides, around, 2.0, "product")
        case _:
            for v in op.results:
                if isinstance(v.type, Tile) and v.type.rank and not op.blocks:
                    yield Work(_sides(v.type, axes), around, 1.0, "other")


def _sides(t: Tile, axes: Mapping[str, Axis]) -> tuple[int | Axis, ...]:
    found: list[int | Axis] = []
    for e in t.shape:
        if isinstance(e, int):
            found.append(e)
        else:
            found.append(axes.get(str(e), Axis(1, 1)))
    return tuple(found)


def _bytes(t: Memory) -> float:
    """Of an element."""
    return bytes_of(t) / max(1, prod(_known(t.shape)))


def open_axes(func: Func) -> dict[str, int]:
    """The loops whose tiles are not chosen, by name, with their extents."""
    found: dict[str, Any] = {}
    for op in func.walk():
        if isinstance(op, Grid):
            for dim, size, tile in zip(op.dims, op.sizes, op.tiles, strict=True):
                if tile is None and isinstance(size, Sym) and isinstance(dim, int):
                    found.setdefault(size.text, set()).add(dim)
        elif isinstance(op, For) and op.tile is None and isinstance(op.dim, int):
            found.setdefault(str(op.size), set()).add(op.dim)
    return {n: max(dims) for n, dims in found.items()}


def tiles_of(func: Func) -> dict[str, set[int]]:
    """The tiles that loops have, by name."""
    found: dict[str, set[int]] = {}
    for op in func.walk():
        if isinstance(op, Grid):
            for size, tile in zip(op.sizes, op.tiles, strict=True):
                if tile is not None:
                    found.setdefault(str(size), set()).add(tile)
        elif isinstance(op, For) and op.tile is not None:
            found.setdefault(str(op.size), set()).add(op.tile)
    return found
