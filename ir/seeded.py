"""Seeds for matrices: blocks of weights as combinations of pseudo-random columns (SeedLM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, f32, integer, u16
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts

MOST = 48  # states of a block: with the seed they are windows of one word of 64 bits
MIDDLE = 1 << 15  # of the states, taken from each
TAPS = (0, 2, 3, 5)  # bits of a state whose parity is the next bit: x^16 + x^14 + x^13 + x^11 + 1
AHEAD = 11  # next bits that depend on none of one another
CODE, EXPONENT = integer(4, signed=True), integer(4, signed=False)
FEW, ALL = 1 << 10, 1 << 16  # seeds that are tried without and with a search
BEST = 16  # seeds of a block whose rounded coefficients are compared
LEAST = -110  # the scale of smaller ones is no f32
CHUNK = 64  # blocks that are rounded together


@dataclass(frozen=True)
class Seeded(Format):
    """`length` weights of a row as U(seed) @ c, with `rank` coefficients of 4 bits (SeedLM, arXiv
    2410.10714).

    U[length, rank] has, row by row, the states that follow the seed in a register of 16 bits, less
    2**15. An element is the exact sum of its products with the coefficients, times
    2**exponent * scale, each rounded to f32; the exponent is the block's, the scale (which contains
    the divisor 2**15 - 1) the tensor's. The paper's exponents are of no stated origin: a scale of
    the tensor puts their 16 steps where its weights are.
    """

    length: int
    rank: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.rank < 1 or self.length * self.rank > MOST:
            raise TileError(f"seedlm: expected a matrix of 1 to {MOST} elements, "
                            f"not {self.length} x {self.rank}")  # fmt: skip

    def __str__(self) -> str:
        return f"seedlm<{self.length}, {self.rank}>"

    @property
    def value(self) -> DType:
        return f32

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        *lead, k = shape
        blocks = ceil_div(k, self.length)
        return (Component("seeds", u16, (*lead, blocks)),
                Component("coefficients", CODE, (*lead, blocks * self.rank)),
                Component("exponents", EXPONENT, (*lead, blocks)),
                Component("scale", f32, (1,)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        *lead, k = shape
        seeds = parts["seeds"].astype(np.int64)
        c = parts["coefficients"].astype(np.int64).reshape(*seeds.shape, self.rank, 1)
        total = (states(seeds, self.length, self.rank) - MIDDLE) @ c
        step = f32.round(np.exp2(parts["exponents"]) * parts["scale"])
        with np.errstate(over="ignore", invalid="ignore"):
            out = f32.round(total[..., 0] * step[..., None])
        return out.reshape(*lead, -1)[..., :k]


def states(seeds: Array, length: int, rank: int) -> Array:
    """The states [..., length, rank] that follow seeds, each the one before it shifted down by one
    bit, with the parity of its taps as the highest."""
    word = np.asarray(seeds).astype(np.uint64)
    count = length * rank
    for start in range(0, count, AHEAD):
        last = word >> np.uint64(start)
        new = np.bitwise_xor.reduce([last >> np.uint64(t) for t in TAPS])
        kept = np.uint64((1 << min(AHEAD, count - start)) - 1)
        word = word | (new & kept) << np.uint64(16 + start)
    found = word[..., None] >> np.arange(1, count + 1, dtype=np.uint64) & np.uint64(0xFFFF)
    return found.astype(np.int64).reshape(*word.shape, length, rank)


@fit.encode.register
def _(format: Seeded, x: Array, how: fit.Fit) -> Parts:
    """The seed of those tried (with `search`, all) whose rounded combination is nearest."""
    x = fit.checked(format, x)
    *lead, k = x.shape
    padded = np.zeros((*lead, -(-k // format.length) * format.length))
    padded[..., :k] = x
    blocks = padded.reshape(-1, format.length)
    seeds = np.arange(1, ALL if how.search else FEW)
    u = (states(seeds, format.length, format.rank) - MIDDLE) / (MIDDLE - 1.0)
    inverse = np.linalg.pinv(u)
    basis = np.linalg.qr(u)[0] if format.rank < format.length else None
    found = [_found(blocks[i : i + CHUNK], u, inverse, basis)
             for i in range(0, len(blocks), CHUNK)]  # fmt: skip
    which, ideal, exponent = (np.concatenate(v) for v in zip(*found, strict=True))
    low = max(int(exponent.max()) - EXPONENT.high, LEAST)
    exponent = np.maximum(exponent, low)
    scale = f32.round(np.ldexp(1.0, low) / (MIDDLE - 1.0))
    if not np.isfinite(f32.round(scale * 2.0**37)):
        raise TileError(f"{format}: the largest element {np.abs(x).max():.3g} is out of the range "
                        "of f32")  # fmt: skip
    codes = CODE.round(ideal * np.ldexp(1.0, -exponent)[:, None], saturate=True)
    return {"seeds": seeds[which].reshape(*lead, -1),
            "coefficients": codes.astype(np.int64).reshape(*lead, -1),
            "exponents": (exponent - low).reshape(*lead, -1),
            "scale": np.array([scale])}  # fmt: skip


def _found(x: Array, u: Array, inverse: Array, basis: Array | None
           ) -> tuple[Array, Array, Array]:  # fmt: skip
    """Of blocks x[B, length]: the number of the seed, its ideal coefficients, and the exponent."""
    if basis is None:
        basis = u
    turned = np.ascontiguousarray(basis.swapaxes(0, 1).reshape(x.shape[1], -1), np.float32)
    size = np.abs(x).max(1, keepdims=True)
    unit = (x / np.where(size, size, 1)).astype(np.float32)
    kept = np.square(unit @ turned).reshape(len(x), len(u), -1).sum(-1)
    few = min(BEST, len(u))
    which = np.sort(np.argpartition(-kept, few - 1, 1)[:, :few], 1)
    ideal = np.einsum("bsrl,bl->bsr", inverse[which], x)
    exponent = np.frexp(np.abs(ideal).max(-1))[1] - 3
    exponent = np.where(np.abs(ideal).max(-1) > 0, exponent, -126)
    step = np.ldexp(1.0, exponent)
    rounded = CODE.round(ideal / step[..., None], saturate=True) * step[..., None]
    made = np.einsum("bslr,bsr->bsl", u[which], rounded)
    one = np.square(made - x[:, None]).sum(-1).argmin(1)
    rows = np.arange(len(x))
    return which[rows, one], ideal[rows, one], exponent[rows, one]
