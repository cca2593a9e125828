"""Coded exponents: elements kept to the bit, the exponents of nearly all of them in a few bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, bf16, f16, f32, i32, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts

ELEMENTS = (bf16, f16, f32)
LOW = 8  # bits of the first part of sign and mantissa
BLOCK = 1 << LOW  # columns of a row, whose escapes those bits can number
EACH = 1024  # elements of a tensor that have room for `room` escapes


@dataclass(frozen=True)
class Coded(Format):
    """Elements without loss: sign and mantissa as they are, exponents as codes of `width` bits.

    DFloat11's aim (arXiv 2504.11651), for code that decodes many elements at once: all codes have
    one width. They are places in a table of the tensor's most frequent exponents, but for the last,
    which says that an element is an escape. The bits of escapes stand whole in `escapes`: in place
    of its sign and mantissa an escape has its number among those of its 256 columns, which begin
    at `start`. There is room for `room` escapes for every 1024 elements of the tensor.

    Escapes as a part of a sum would lose -0, since -0 + 0 is 0.
    """

    element: DType = bf16
    width: int = 3
    room: int = 40

    def __post_init__(self) -> None:
        if self.element not in ELEMENTS:
            raise TileError(f"coded: elements are bf16, f16 or f32, not {self.element}")
        if not 1 <= self.width <= self.element.exponent:
            raise TileError(f"coded: a code of an exponent of {self.element} has 1 to "
                            f"{self.element.exponent} bits, not {self.width}")  # fmt: skip
        if not 1 <= self.room <= EACH:
            raise TileError(f"coded: expected room for 1 to {EACH} escapes for every {EACH} "
                            f"elements, not {self.room}")  # fmt: skip

    def __str__(self) -> str:
        return f"coded<{self.element}, {self.width}, {self.room}>"

    @property
    def value(self) -> DType:
        return self.element

    @property
    def escape(self) -> int:
        """The code of an escape, which is also how many exponents the table has."""
        return (1 << self.width) - 1

    @property
    def high(self) -> int:
        """Bits of sign and mantissa that are not in the low byte."""
        return 1 + self.element.mantissa - LOW

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        *lead, k = shape
        size: Extent = 1
        for d in shape:
            size = d * size
        found = [Component("codes", integer(self.width, signed=False), shape),
                 Component("low", integer(LOW, signed=False), shape)]  # fmt: skip
        if self.high:
            found.append(Component("high", integer(self.high, signed=False), shape))
        whole = integer(self.element.bits, signed=False)
        return (*found, Component("table", i32, (self.escape,)),
                Component("start", i32, (*lead, ceil_div(k, BLOCK))),
                Component("escapes", whole, (self.room * ceil_div(size, EACH),)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        stored = bits(self, parts, shape).astype(f"u{self.element.bits // 8}")
        with np.errstate(invalid="ignore"):  # a NaN of any kind
            return self.element.from_storage(stored.view(self.element.numpy))


def bits(format: Coded, parts: Parts, shape: tuple[int, ...]) -> Array:
    """The bits of every element that components stand for, as whole numbers."""
    t, k = format.element, np.arange(shape[-1])
    codes, rest = parts["codes"].astype(np.int64), parts["low"].astype(np.int64)
    number = parts["start"].astype(np.int64)[..., k // BLOCK] + rest
    if format.high:
        rest = rest | parts["high"].astype(np.int64) << LOW
    escaped = codes == format.escape
    exponent = np.append(parts["table"], 0).astype(np.int64)[codes]
    sign, mantissa = rest >> t.mantissa, rest & (1 << t.mantissa) - 1
    found = sign << t.bits - 1 | exponent << t.mantissa | mantissa
    return np.where(escaped, parts["escapes"].astype(np.int64)[np.where(escaped, number, 0)], found)


@fit.encode.register
def _(format: Coded, x: Array, how: fit.Fit) -> Parts:
    """Rounds to the element's dtype, which its own values keep; infinities stay what they are."""
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise TileError(f"{format}: the tensor has NaNs, whose bits no number keeps",
                        hint="tilec.ir.coded.of_bits takes the bits of elements")  # fmt: skip
    finite = format.element.round(x, saturate=True)
    stored = format.element.to_storage(np.where(np.isinf(x), x, finite))
    return of_bits(format, stored.view(f"u{format.element.bits // 8}"))


def of_bits(format: Coded, x: Array) -> Parts:
    """The components of elements x[..., K] given as their bits, of which every pattern is kept.

    Raises TileError where there are more escapes than room, with the format that holds them.
    """
    t, x = format.element, np.asarray(x).astype(np.int64)
    exponent, order = _exponents(t, x)
    table = np.sort(order[: format.escape])
    code = np.full(1 << t.exponent, format.escape)
    code[table] = np.arange(len(table))
    codes = code[exponent]
    escaped = codes == format.escape
    found, capacity = int(escaped.sum()), format.room * -(-x.size // EACH)
    if found > capacity:
        raise TileError(
            f"{format}: {found} of {x.size} elements have other exponents than the {len(table)} "
            f"most frequent; there is room for {capacity}", hint=f"{fitted(x, t)} holds them",
        )  # fmt: skip
    number, count = _numbered(escaped)
    rest = x >> t.bits - 1 << t.mantissa | x & (1 << t.mantissa) - 1
    parts = {"codes": codes, "low": np.where(escaped, number, rest & (1 << LOW) - 1)}
    if format.high:
        parts["high"] = np.where(escaped, 0, rest >> LOW)
    escapes = np.zeros(capacity, np.int64)
    escapes[:found] = x[escaped]
    start = (np.cumsum(count) - count.reshape(-1)).reshape(count.shape)
    return parts | {"table": table, "start": start, "escapes": escapes}


def fitted(x: Array, element: DType = bf16) -> Coded:
    """The format of the fewest bits that holds elements x[..., K] given as their bits."""
    x = np.asarray(x).astype(np.int64)
    exponent, order = _exponents(element, x)
    left = x.size - np.cumsum(np.bincount(exponent.reshape(-1), minlength=len(order))[order])
    found: list[Coded] = []
    for width in range(1, element.exponent + 1):
        escapes = int(left[(1 << width) - 2])
        found.append(Coded(element, width, max(1, -(-escapes // -(-x.size // EACH)))))
    return min(found, key=lambda format: format.bits(x.shape))


def _exponents(t: DType, x: Array) -> tuple[Array, Array]:
    """The exponent of every element, and all exponents from the most frequent on; of equals, the
    larger one first."""
    exponent = x >> t.mantissa & (1 << t.exponent) - 1
    counts = np.bincount(exponent.reshape(-1), minlength=1 << t.exponent)
    return exponent, len(counts) - 1 - np.argsort(-counts[::-1], kind="stable")


def _numbered(escaped: Array) -> tuple[Array, Array]:
    """The number of each escape in its block [..., K], and how many each block has."""
    *lead, k = escaped.shape
    padded = np.zeros((*lead, -(-k // BLOCK) * BLOCK), bool)
    padded[..., :k] = escaped
    blocks = padded.reshape(*lead, -1, BLOCK)
    number = (np.cumsum(blocks, -1) - 1).reshape(padded.shape)[..., :k]
    return number, blocks.sum(-1)
