"""Learnt codebooks: codes find numbers, or vectors of them, in tables that are the tensor's own.

Tables of a format's own are element types (`ir.codes`); the grids of llama.cpp, whose tables are
given and whose blocks have signs and steps, are in `ir.grid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tilec.ir import fit, kmeans
from tilec.ir.dtype import Array, DType, f16, f32, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format
from tilec.ir.granularity import TENSOR, Granularity
from tilec.ir.scaled import Parts

LENGTHS = (1, 2, 4, 8)
OF_NUMBERS, OF_VECTORS = 8, 16  # bits of a code, at most
FEW = 6  # bits of codes for which other first centres gain something
TURNS = 6  # tables and scales in turn, with a search
CHUNK = 1 << 20  # numbers that are clustered or coded together


@dataclass(frozen=True)
class Codebook(Format):
    """A code stands for `length` neighbours of a row: an entry of a table of 2**bits, scaled.

    The elements that `tables` says share a table: one of the tensor (FLUTE, arXiv 2407.10960; AQLM,
    arXiv 2401.06118), of each row (SqueezeLLM, arXiv 2306.07629) or of each group of columns. Those
    that `block` says share a scale; without, an element is its entry. The product of both is
    rounded to f32. Entries and scales are floats of at most 32 bits, scales also powers of two.
    """

    width: int
    length: int = 1
    tables: Granularity = TENSOR
    entry: DType = f16
    block: Granularity | None = None
    scale: DType = f16

    def __post_init__(self) -> None:
        if self.length not in LENGTHS:
            raise TileError(f"codebook: a vector has {', '.join(map(str, LENGTHS[1:]))} elements, "
                            f"not {self.length}")  # fmt: skip
        most = OF_NUMBERS if self.length == 1 else OF_VECTORS
        if not 1 <= self.width <= most:
            what = "numbers" if self.length == 1 else "vectors"
            raise TileError(f"codebook: codes of {what} have 1 to {most} bits, not {self.width}")
        if (self.tables.columns or self.length) % self.length:
            raise TileError(f"codebook: a table is for a multiple of {self.length} columns, "
                            f"not {self.tables.columns}")  # fmt: skip
        if self.block is not None and self.block.rows != 1:
            raise TileError(f"codebook: a scale is for a group of a row or a channel, "
                            f"not {self.block}")  # fmt: skip
        for what, t in (("entries", self.entry), ("scales", self.scale)):
            if not (t.is_float and t.bits <= 32) and not (what == "scales" and t.name == "e8m0"):
                raise TileError(f"codebook: {what} are floats of at most 32 bits, not {t}")

    def __str__(self) -> str:
        words = [str(self.width)]
        words += [f"vector={self.length}"] if self.length > 1 else []
        words += [] if self.tables.rows is None else [f"rows={self.tables.rows}"]
        words += [] if self.tables.columns is None else [f"columns={self.tables.columns}"]
        words += [] if self.entry == f16 else [f"table={self.entry}"]
        words += [] if self.block is None else [str(self.block), f"scale={self.scale}"]
        return f"codebook<{', '.join(words)}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def entries(self) -> int:
        """Entries of a table."""
        return 1 << self.width

    @property
    def coded(self) -> Granularity:
        """The codes that share a table."""
        columns = self.tables.columns
        return Granularity(columns and columns // self.length, self.tables.rows)

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        codes = (*shape[:-1], ceil_div(shape[-1], self.length))
        found = [Component("codes", integer(min(self.width, 8), signed=False), codes)]
        if self.width > 8:
            found.append(Component("high", integer(self.width - 8, signed=False), codes))
        if self.block is not None:
            found.append(Component("scale", self.scale, self.block.shape(shape)))
        size: Extent = self.entries * self.length
        for d in self.tables.shape(shape):
            size = d * size
        return (*found, Component("table", self.entry, (size,)))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        k = np.arange(shape[-1])
        code = parts["codes"].astype(np.int64)
        if self.width > 8:
            code = code | parts["high"].astype(np.int64) << 8
        blocks = _known(self.tables.shape(shape))
        number = self.tables.spread(np.arange(prod(blocks)).reshape(blocks), shape)
        place = (number * self.entries + code[..., k // self.length]) * self.length
        out = parts["table"][place + k % self.length]
        if self.block is None:
            return out
        with np.errstate(invalid="ignore", over="ignore"):
            return f32.round(out * self.block.spread(parts["scale"], shape))


def _known(shape: tuple[Extent, ...]) -> tuple[int, ...]:
    return tuple(int(str(d)) for d in shape)


@fit.encode.register
def _(format: Codebook, x: Array, how: fit.Fit) -> Parts:
    return learnt(format, x, np.ones(np.shape(x)), how)


def learnt(format: Codebook, x: Array, weight: Array, how: fit.Fit) -> Parts:
    """The components of x[..., K] whose squared errors count `weight` times, by k-means.

    Scales are the largest elements of their blocks; with a search, they and the tables are then
    fitted to one another in turn, and the best is kept. Raises TileError for elements that are not
    finite, and for numbers that are out of the range of entries or scales.
    """
    x = fit.checked(format, x)
    format.components(x.shape)
    if format.block is None:
        return _with_tables(format, x, weight, how)
    scale = _stored(format, format.block.split(np.abs(x))[0].max(-1))
    best: Parts = {}
    least = np.inf
    for _ in range(TURNS):
        spread = format.block.spread(scale, x.shape)
        unit = np.divide(x, spread, out=np.zeros_like(x), where=spread != 0)
        parts = _with_tables(format, unit, weight * np.square(spread), how)
        if not how.search:
            return parts | {"scale": scale}
        entry = format.values(parts | {"scale": np.ones_like(scale)}, x.shape)
        found = float((weight * np.square(entry * spread - x)).sum())
        if found < least:
            best, least = parts | {"scale": scale}, found
        scale = _fitted(format, x, weight, entry, scale)
    return best


def _stored(format: Codebook, scale: Array) -> Array:
    """Scales as they are stored."""
    stored = format.scale.round(scale)
    lost = ~np.isfinite(stored) | (stored == 0) & (scale > 0)
    if lost.any():
        raise TileError(f"{format}: the scale of a block whose largest element is "
                        f"{scale[lost].max():.3g} is out of the range of {format.scale}",
                        hint="use scale=f32")  # fmt: skip
    return stored


def _fitted(format: Codebook, x: Array, weight: Array, entry: Array, scale: Array) -> Array:
    """The scales that are best for these entries (least squares), where those can be stored."""
    assert format.block is not None
    moment, energy = (_sums(format.block, weight * entry * other) for other in (x, entry))
    better = np.divide(moment, energy, out=np.zeros_like(scale), where=energy > 0)
    better = format.scale.round(better)
    return np.where((better > 0) & np.isfinite(better), better, scale)


def _sums(block: Granularity, x: Array) -> Array:
    blocks, valid = block.split(x)
    return (blocks * valid).sum(-1)


def _with_tables(format: Codebook, x: Array, weight: Array, how: fit.Fit) -> Parts:
    """Tables for x[..., K], and the codes of the entries nearest to it."""
    vectors, weights = _vectors(format, x, weight)
    starts = kmeans.STARTS if how.search and format.width <= FEW else kmeans.STARTS[:1]
    step = max(1, CHUNK // (vectors.shape[1] * format.length))
    chunks = [slice(i, i + step) for i in range(0, len(vectors), step)]
    tables = np.concatenate([_tables(format, vectors[c], weights[c], starts) for c in chunks])
    stored = format.entry.round(tables)
    lost = ~np.isfinite(stored).all((1, 2)) | ~stored.any((1, 2)) & tables.any((1, 2))
    if lost.any():
        top = float(np.abs(tables[lost]).max())
        raise TileError(f"{format}: a table whose largest entry is {top:.3g} is out of the range "
                        f"of {format.entry}", hint="use table=f32")  # fmt: skip
    codes = np.concatenate([_nearest(vectors[c], weights[c], stored[c]) for c in chunks])
    shape = (*x.shape[:-1], -(-x.shape[-1] // format.length))
    codes = format.coded.join(codes, shape)
    high = {"high": codes >> 8} if format.width > 8 else {}
    return {"codes": codes & 255, "table": stored.reshape(-1)} | high


def _vectors(format: Codebook, x: Array, weight: Array) -> tuple[Array, Array]:
    """x[..., K] as vectors [tables, vectors, length], and their weights: none for padding."""
    lead, k = x.shape[:-1], x.shape[-1]
    found: list[list[Array]] = [[], []]
    padded = np.zeros((2, *lead, -(-k // format.length) * format.length))
    padded[0, ..., :k], padded[1, ..., :k] = x, weight
    for i in range(format.length):
        own, valid = format.coded.split(padded[0, ..., i :: format.length])
        found[0].append(own)
        found[1].append(format.coded.split(padded[1, ..., i :: format.length])[0] * valid)
    vectors, weights = (np.stack(f, -1) for f in found)
    size = vectors.shape[-2:]
    return vectors.reshape(-1, *size), weights.reshape(-1, *size)


def _tables(format: Codebook, x: Array, weight: Array, starts: tuple[float, ...]) -> Array:
    """Tables [T, entries, length] for vectors x[T, V, length]."""
    if format.length == 1:
        return kmeans.of_numbers(x[..., 0], weight[..., 0], format.entries, starts)[..., None]
    return np.stack([kmeans.of_vectors(a, w, format.entries)
                     for a, w in zip(x, weight, strict=True)])  # fmt: skip


def _nearest(x: Array, weight: Array, tables: Array) -> Array:
    """The codes [T, V] of vectors x[T, V, length], whose tables of numbers are in order."""
    if x.shape[-1] > 1:
        each = zip(x, tables, weight, strict=True)
        return np.stack([kmeans.nearest(a, t, w) for a, t, w in each])
    middle = (tables[:, 1:, 0] + tables[:, :-1, 0]) / 2
    numbers, which = x[..., 0], np.arange(len(x))
    step = max(1, CHUNK // len(x))
    return np.concatenate([kmeans.below(middle, which, numbers[:, i : i + step])
                           for i in range(0, numbers.shape[1], step)], -1)  # fmt: skip
