"""Grids: a code stands for several elements at once, an entry of the tensor's own table.

Knows what such a tensor means and how one is rounded; which tables llama.cpp has is the concern of
`tilec.files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tilec.ir import fit, kmeans
from tilec.ir.dtype import Array, DType, f16, f32, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts

Sign = Literal["none", "even", "each"]
SIGNS: tuple[Sign, ...] = ("none", "even", "each")
BLOCK, OCTET = 256, 8  # elements of a row that share a scale; that share a byte of signs
SHIFT = 0.125  # what is added to (or taken from) entries, where a format has shifts
STEP = integer(4, signed=False)
MOST_ENTRIES = 1 << 16
FACTORS = (1.0, 0.9, 1.1, 0.8, 1.2, 0.7, 1.35, 0.6, 1.5)  # of a group's size, tried as its scale
CHUNK = 256  # blocks that are rounded together


@dataclass(frozen=True)
class Grid(Format):
    """`length` elements a code: one of `entries` entries of a table of f16, signed and scaled.

        (scale * (2 * step + 1)) * (sign(entry) + shift)

    each step rounded to f32. 256 elements of a row share a scale in f16, `piece` a step, 8 a byte
    of signs, `shift` elements the bit that makes 1/8 (0) or -1/8 (1) of their shift, if they have
    one. Bit i of the signs is of the i-th element; `even` signs are seven bits, and the eighth
    makes the number of ones even.
    """

    length: int
    entries: int
    piece: int
    signs: Sign = "none"
    step: DType = STEP
    shift: int = 0

    def __post_init__(self) -> None:
        if self.length not in (2, 4, 8, 16):
            raise TileError(f"grid: an entry has 2, 4, 8 or 16 elements, not {self.length}")
        if not 2 <= self.entries <= MOST_ENTRIES or self.entries & self.entries - 1:
            raise TileError(f"grid: expected a power of two of 2 to {MOST_ENTRIES} entries, "
                            f"not {self.entries}")  # fmt: skip
        for what, size in {"piece": self.piece, "shift": self.shift or self.length}.items():
            if size < 1 or size % self.length or BLOCK % size:
                raise TileError(f"grid: a {what} has a multiple of {self.length} elements that "
                                f"divides {BLOCK}, not {size}")  # fmt: skip
        if self.signs not in SIGNS:
            raise TileError(f"grid: no signs are called {self.signs!r}; "
                            f"there are {', '.join(SIGNS)}")  # fmt: skip
        if self.step.kind != "uint" or self.step.bits > 8:
            raise TileError(f"grid: steps are unsigned integers of 1 to 8 bits, not {self.step}")

    def __str__(self) -> str:
        words = [self.length, self.entries, self.piece, self.signs, self.step, self.shift]
        return f"grid<{', '.join(map(str, words if self.shift else words[:-1]))}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def width(self) -> int:
        """Bits of a code."""
        return self.entries.bit_length() - 1

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        *lead, k = shape

        def each(name: str, bits: int, size: int) -> Component:
            return Component(name, integer(bits, signed=False), (*lead, ceil_div(k, size)))

        found = [each("codes", min(self.width, 8), self.length)]
        found += [each("high", self.width - 8, self.length)] if self.width > 8 else []
        if self.signs != "none":
            found.append(each("signs", 7 if self.signs == "even" else 8, OCTET))
        found += [each("shift", 1, self.shift)] if self.shift else []
        found.append(each("steps", self.step.bits, self.piece))
        found.append(Component("scale", f16, (*lead, ceil_div(k, BLOCK))))
        return (*found, Component("table", f16, (self.entries * self.length,)))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        k = np.arange(shape[-1])
        code = parts["codes"][..., k // self.length].astype(np.int64)
        if self.width > 8:
            code = code | parts["high"][..., k // self.length].astype(np.int64) << 8
        out = parts["table"][code * self.length + k % self.length]
        if self.signs != "none":
            signs = parts["signs"][..., k // OCTET].astype(np.int64)
            if self.signs == "even":
                signs = signs | parity(signs) << 7
            out = np.where(signs >> k % OCTET & 1, -out, out)
        if self.shift:
            out = f32.round(out + np.where(parts["shift"][..., k // self.shift], -SHIFT, SHIFT))
        steps = 2.0 * parts["steps"][..., k // self.piece] + 1.0
        with np.errstate(invalid="ignore", over="ignore"):
            return f32.round(f32.round(parts["scale"][..., k // BLOCK] * steps) * out)


def parity(x: Array) -> Array:
    """1 where a byte has an odd number of ones."""
    for by in (4, 2, 1):
        x = x ^ x >> by
    return x & 1


@fit.encode.register
def _(format: Grid, x: Array, how: fit.Fit) -> Parts:
    """A table learnt from the tensor (k-means), and the nearest of its entries."""
    x = fit.checked(format, x)
    return nearest(format, x, learnt(format, x))


def nearest(format: Grid, x: Array, table: Array) -> Parts:
    """The components of x[..., K] that has a known table [entries * length]."""
    x = fit.checked(format, x)
    *lead, k = x.shape
    padded = np.zeros((*lead, -(-k // BLOCK) * BLOCK))
    padded[..., :k] = x
    entries = table.reshape(format.entries, format.length)
    blocks = padded.reshape(-1, BLOCK)
    chunks = [_rounded(format, blocks[i : i + CHUNK], entries)
              for i in range(0, len(blocks), CHUNK)]  # fmt: skip
    parts: Parts = {"table": table}
    for c in format.components(x.shape):
        if c.name != "table":
            known = tuple(int(str(d)) for d in c.shape)
            whole = np.concatenate([p[c.name] for p in chunks]).reshape(*lead, -1)
            parts[c.name] = whole[..., : known[-1]]
    return parts


def learnt(format: Grid, x: Array) -> Array:
    """A table for x[..., K]: the means of its vectors, each divided by the size of its group."""
    *lead, k = x.shape
    padded = np.zeros((*lead, -(-k // BLOCK) * BLOCK))
    padded[..., :k] = x
    a = _unsigned(format, padded.reshape(-1, BLOCK))[0].reshape(-1, format.piece)
    size = _size(a)
    vectors = (a / np.where(size, size, 1)[:, None]).reshape(-1, format.length)
    table = kmeans.of_vectors(vectors, np.ones_like(vectors), format.entries)
    return f16.round(table.reshape(-1))


def _size(x: Array) -> Array:
    """The root mean square of vectors."""
    return np.sqrt(np.square(x).mean(-1))


def _unsigned(format: Grid, x: Array) -> tuple[Array, Array]:
    """Blocks [B, 256] without the signs that are stored, and those as bits [B, 32]."""
    octets = x.reshape(len(x), -1, OCTET)
    if format.signs == "none":
        return x, np.zeros(octets.shape[:-1], np.int64)
    minus = octets < 0
    if format.signs == "even":  # the smallest of an odd number of negative ones is turned
        odd = (minus.sum(-1) & 1).astype(bool)
        least = np.abs(octets).argmin(-1)
        minus ^= odd[..., None] & (np.arange(OCTET) == least[..., None])
    bits = (minus << np.arange(OCTET)).sum(-1)
    if format.signs == "even":
        bits &= 127
    return np.where(minus, -octets, octets).reshape(x.shape), bits


def _choice(format: Grid, a: Array, table: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Of unsigned blocks [B, 256] with scales [B, groups]: codes, bits of shifts, unit values."""
    spread = np.repeat(scale, format.piece, 1)
    unit = np.divide(a, spread, out=np.zeros_like(a), where=spread != 0)
    best: tuple[Array, Array, Array] | None = None
    least = np.zeros(())
    for bit, shift in enumerate((SHIFT, -SHIFT) if format.shift else (0.0,)):
        code = kmeans.nearest((unit - shift).reshape(len(a), -1, format.length), table)
        value = table[code].reshape(a.shape) + shift
        size = format.shift or format.length
        error = np.square(value - unit).reshape(len(a), -1, size).sum(-1)
        if best is None:
            best, least = (code, np.full(error.shape, bit), value), error
            continue
        better = error < least
        wide = [np.repeat(better, size // n, 1) for n in (format.length, size, 1)]
        new = (code, np.full(error.shape, bit), value)
        best = tuple(np.where(w, n, o) for w, n, o in zip(wide, new, best, strict=True))  # pyright: ignore[reportAssignmentType]
    assert best is not None
    return best


def _scales(format: Grid, a: Array, table: Array) -> Array:
    """The scale of every group of blocks [B, 256] that is nearest of a few."""
    groups = a.reshape(len(a), -1, format.piece)
    unit = _size(groups) / max(float(_size(table.reshape(1, -1))[0]), 1e-30)
    best, least = unit, np.full(unit.shape, np.inf)
    for factor in FACTORS:
        scale = unit * factor
        value = _choice(format, a, table, scale)[2].reshape(groups.shape)
        error = np.square(value * scale[..., None] - groups).sum(-1)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


def _rounded(format: Grid, x: Array, table: Array) -> Parts:
    """The components of blocks [B, 256], but for the table."""
    a, signs = _unsigned(format, x)
    groups, top = _scales(format, a, table), format.step.high
    scale = f16.round(groups.max(1) / (2 * top + 1))
    if (~np.isfinite(scale) | (scale == 0) & (groups.max(1) > 0)).any():
        raise TileError(f"{format}: the scale of a block whose largest element is "
                        f"{np.abs(x).max():.3g} is out of the range of f16")  # fmt: skip
    ratio = np.divide(groups, scale[:, None], out=np.ones_like(groups), where=scale[:, None] != 0)
    steps = np.rint((ratio - 1) / 2).clip(0, top).astype(np.int64)
    odd = 2.0 * steps + 1.0
    code, shift, value = _choice(format, a, table, odd * scale[:, None])
    unit = value * np.repeat(odd, format.piece, 1)
    energy = np.square(unit).sum(1)  # the scale that is best for these entries
    fitted = np.divide((a * unit).sum(1), energy, out=np.zeros(len(a)), where=energy != 0)
    scale = f16.round(np.where(scale != 0, fitted, 0.0))
    parts = {"codes": code & 255, "high": code >> 8, "signs": signs, "shift": shift}
    return parts | {"steps": steps, "scale": scale[:, None]}
