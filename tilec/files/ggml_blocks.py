"""The blocks of GGUF's quantised types: which of their bits belong to which component.

Knows one block after the other; the file around them is the concern of `tilec.files.gguf`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from tilec.files.ggml_grids import Table, Words
from tilec.ir.bits import from_raw, raw
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Component, Format
from tilec.ir.named import named
from tilec.ir.scaled import Parts


class Field(Protocol):
    """A piece of every block that holds some bits of some elements of one component."""

    def read(self, blocks: Array, elements: Array) -> None:
        """Add the bits in blocks [..., bytes] to the raw elements [..., count]."""
        ...

    def write(self, elements: Array, blocks: Array) -> None:
        """Add the bits of the raw elements to the blocks."""
        ...


@dataclass(frozen=True)
class Bits:
    """`size` bytes from `at` on, divided into runs, with a field of `width` bits at each shift.

    The elements of a run are the lowest field of all its bytes, then the next field of all, and so
    on. They begin at element `first` of the component, and are its bits from bit `to` on.
    """

    at: int
    size: int
    width: int
    run: int = 1
    shifts: tuple[int, ...] = ()
    first: int = 0
    to: int = 0

    @property
    def _shifts(self) -> Array:
        return np.array(self.shifts or range(0, 8, self.width), np.uint8)[:, None]

    @property
    def _own(self) -> tuple[slice, slice]:
        """Its bytes of a block, and its elements of a component."""
        count = self.size * self._shifts.size
        return slice(self.at, self.at + self.size), slice(self.first, self.first + count)

    def read(self, blocks: Array, elements: Array) -> None:
        data, own = self._own
        lead = blocks.shape[:-1]
        runs = blocks[..., data].reshape(*lead, self.size // self.run, 1, self.run)
        fields = (runs >> self._shifts & np.uint8((1 << self.width) - 1)) << np.uint8(self.to)
        elements[..., own] |= fields.reshape(*lead, own.stop - own.start)

    def write(self, elements: Array, blocks: Array) -> None:
        data, own = self._own
        lead = blocks.shape[:-1]
        fields = elements[..., own] >> np.uint8(self.to) & np.uint8((1 << self.width) - 1)
        apart = fields.reshape(*lead, self.size // self.run, self._shifts.size, self.run)
        joined = np.bitwise_or.reduce(apart << self._shifts, axis=-2)
        blocks[..., data] |= joined.reshape(*lead, self.size)


@dataclass(frozen=True)
class Number:
    """One number of 16 or 32 bits at byte `at`; `negated` if the component has the other sign."""

    at: int
    negated: bool = False

    def read(self, blocks: Array, elements: Array) -> None:
        t = elements.dtype
        stored = np.ascontiguousarray(blocks[..., self.at : self.at + t.itemsize]).view(t)
        elements |= stored ^ self._flip(t)

    def write(self, elements: Array, blocks: Array) -> None:
        t = elements.dtype
        stored = np.ascontiguousarray(elements ^ self._flip(t)).view(np.uint8)
        blocks[..., self.at : self.at + t.itemsize] |= stored

    def _flip(self, t: np.dtype[np.generic]) -> Array:
        """The sign's bit if it is to be turned."""
        return np.array(self.negated << 8 * t.itemsize - 1).astype(t)


@dataclass(frozen=True)
class Trits:
    """`size` bytes from `at` on in runs, each with `digits` elements 0, 1 or 2.

    A byte is the fraction 0.d0 d1 d2 d3 d4 of base 3, rounded up to 1/256: times 3 the next digit
    comes before the point. The order of elements is that of `Bits`.
    """

    at: int
    size: int
    run: int
    first: int
    digits: int = 5

    @property
    def _own(self) -> tuple[slice, slice]:
        count = self.size * self.digits
        return slice(self.at, self.at + self.size), slice(self.first, self.first + count)

    def read(self, blocks: Array, elements: Array) -> None:
        data, own = self._own
        lead = blocks.shape[:-1]
        runs = blocks[..., data].reshape(*lead, self.size // self.run, 1, self.run)
        powers = 3 ** np.arange(self.digits, dtype=np.uint16)[:, None]
        fractions = runs.astype(np.uint16) * powers & np.uint16(255)
        digits = (fractions * np.uint16(3) >> np.uint16(8)).astype(np.uint8)
        elements[..., own] |= digits.reshape(*lead, own.stop - own.start)

    def write(self, elements: Array, blocks: Array) -> None:
        data, own = self._own
        lead = blocks.shape[:-1]
        apart = elements[..., own].reshape(*lead, self.size // self.run, self.digits, self.run)
        powers = 3 ** np.arange(4, 4 - self.digits, -1)[:, None]
        whole = (apart * powers).sum(axis=-2)
        blocks[..., data] |= (-(-whole * 256 // 243)).astype(np.uint8).reshape(*lead, self.size)


@dataclass(frozen=True)
class Sums:
    """At byte `at` the sums, in 16 bits, of every 16 signed codes: they follow from the codes."""

    at: int

    def read(self, blocks: Array, elements: Array) -> None:
        pass

    def write(self, elements: Array, blocks: Array) -> None:
        apart = elements.view(np.int8).reshape(*elements.shape[:-1], -1, 16)
        sums = apart.sum(axis=-1, dtype=np.int16).view(np.uint8)
        blocks[..., self.at : self.at + sums.shape[-1]] = sums


@dataclass(frozen=True)
class BlockType:
    """A block of `elements` of a row in so many bytes, and the published format that it stores.

    A component without fields is 1. Raw codes from a limit on mean nothing, or something else than
    in the format; a component that has a limit has no zero with a sign. `table` is the component
    of that name, which every tensor of such blocks has.
    """

    published: str
    elements: int
    bytes: int
    fields: dict[str, tuple[Field, ...]]
    limits: dict[str, int] = field(default_factory=dict[str, int])
    table: Table | None = None

    @cached_property
    def format(self) -> Format:
        """The format of a tensor of such blocks."""
        return named(self.published)

    def _components(self) -> Iterator[tuple[Component, int]]:
        """The components, and how many elements a block has of each."""
        for c in self.format.components((self.elements,)):
            if c.name == "table":
                continue
            yield c, int(str(c.shape[-1])) if c.shape else 0

    def unpack(self, blocks: Array) -> Parts:
        """Blocks [..., blocks of a row, bytes] as components. Raises TileError for codes that the
        format has no meaning for, and for blocks that `pack` would not give back."""
        parts: Parts = {}
        for c, count in self._components():
            if not count:
                parts[c.name] = np.array(1.0)
                continue
            elements = np.zeros((*blocks.shape[:-1], count), _bits(c.dtype))
            for f in self.fields[c.name]:
                f.read(blocks, elements)
            self._check(c.name, elements)
            rows = elements.reshape(*blocks.shape[:-2], blocks.shape[-2] * count)
            parts[c.name] = _carried(c.dtype, rows)
        if self.table is not None:
            parts["table"] = self.table.values
        again = (self.pack(parts) == blocks).all(axis=-1)
        if not again.all():
            where = np.argwhere(~again)[0].tolist()
            raise TileError(f"block {where} has bits that can't be kept: no encoder writes them")
        return parts

    def pack(self, parts: Parts) -> Array:
        """The blocks [..., blocks of a row, bytes] of components. Raises TileError for codes that
        mean something else in such blocks."""
        *lead, k = parts["codes"].shape
        own = next(count for c, count in self._components() if c.name == "codes")
        blocks = np.zeros((*lead, k // own, self.bytes), np.uint8)
        if self.table is not None and not np.array_equal(parts["table"], self.table.values):
            raise TileError(f"its table is its own, but such blocks have that of {self.table.kind}")
        for c, count in self._components():
            x = parts[c.name]
            if not count:
                if x != 1.0:
                    raise TileError(f"{c.name} is {x}, but the blocks have no place for one that "
                                    "is not 1: store it as a tensor of its own")  # fmt: skip
                continue
            if c.name in self.limits:
                x = x + 0.0
            elements = _stored(c.dtype, x).reshape(*blocks.shape[:-1], count)
            self._check(c.name, elements)
            for f in self.fields[c.name]:
                f.write(elements, blocks)
        return blocks

    def _check(self, name: str, elements: Array) -> None:
        limit = self.limits.get(name)
        if limit is not None and (elements >= limit).any():
            where = np.argwhere((elements >= limit).any(axis=-1))[0].tolist()
            code = elements[elements >= limit][0]
            raise TileError(f"block {where} has {name} with the bits {code:#x}, which mean "
                            f"a number up to {limit - 1:#x} only")  # fmt: skip


def _bits(t: DType) -> np.dtype[np.generic]:
    """The numpy type of an element's bits."""
    return np.dtype(f"u{t.numpy.itemsize}")


def _carried(t: DType, elements: Array) -> Array:
    if t.bits <= 8:
        return from_raw(t, elements)
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        return t.from_storage(elements.view(t.numpy))


def _stored(t: DType, x: Array) -> Array:
    return raw(t, x) if t.bits <= 8 else t.to_storage(x).view(_bits(t))


def _scale(at: int) -> dict[str, tuple[Field, ...]]:
    return {"scale": (Number(at),)}


def _scale_and_min(at: int) -> dict[str, tuple[Field, ...]]:
    """The numbers of a block that has a least value."""
    return {"scale": (Number(at),), "zero": (Number(at + 2),)}


def _outer(at: int, least: int) -> dict[str, tuple[Field, ...]]:
    """The scale of the scales, and that of the zeros, of which the block has the negative."""
    return {"scale.scale": (Number(at),), "zero.scale": (Number(least, negated=True),)}


# Eight scales and eight zeros of 6 bits in 12 bytes: of the first four of each in the low bits of
# a byte, of the others four bits in a byte shared by both and two above those of the first four.
SIXES: dict[str, tuple[Field, ...]] = {
    "scale.codes": (
        Bits(4, 4, 6, shifts=(0,)),
        Bits(12, 4, 4, shifts=(0,), first=4),
        Bits(4, 4, 2, shifts=(6,), first=4, to=4),
    ),
    "zero.codes": (
        Bits(8, 4, 6, shifts=(0,)),
        Bits(12, 4, 4, shifts=(4,), first=4),
        Bits(8, 4, 2, shifts=(6,), first=4, to=4),
    ),
}
SEVENS, THREES = (0, 7, 14, 21), (0, 3, 6, 9)  # where a word has signs; parts of codes, or steps
BLOCKS = {
    "Q1_0": BlockType("q1_0", 128, 18, _scale(0) | {"codes": (Bits(2, 16, 1),)}),
    "Q4_0": BlockType("q4_0", 32, 18, _scale(0) | {"codes": (Bits(2, 16, 4, 16),)}),
    "Q4_1": BlockType("q4_1", 32, 20, _scale_and_min(0) | {"codes": (Bits(4, 16, 4, 16),)}),
    "Q5_0": BlockType("q5_0", 32, 22,
                      _scale(0) | {"codes": (Bits(6, 16, 4, 16), Bits(2, 4, 1, to=4))}),
    "Q5_1": BlockType("q5_1", 32, 24,
                      _scale_and_min(0) | {"codes": (Bits(8, 16, 4, 16), Bits(4, 4, 1, to=4))}),
    "Q8_0": BlockType("q8_0", 32, 34, _scale(0) | {"codes": (Bits(2, 32, 8),)}),
    "Q2_K": BlockType("q2_k", 256, 84, _outer(80, 82) | {
        "scale.codes": (Bits(0, 16, 4, shifts=(0,)),),
        "zero.codes": (Bits(0, 16, 4, shifts=(4,)),),
        "codes": (Bits(16, 64, 2, 32),)}),
    "Q3_K": BlockType("q3_k", 256, 110, {
        "scale.scale": (Number(108),),
        "scale.codes": (Bits(96, 8, 4, 8), Bits(104, 4, 2, 4, to=4)),
        "codes": (Bits(32, 64, 2, 32), Bits(0, 32, 1, 32, to=2))}),
    "Q4_K": BlockType("q4_k", 256, 144, _outer(0, 2) | SIXES | {"codes": (Bits(16, 128, 4, 32),)}),
    "Q5_K": BlockType("q5_k", 256, 176, _outer(0, 2) | SIXES | {
        "codes": (Bits(48, 128, 4, 32), Bits(16, 32, 1, 32, to=4))}),
    "Q6_K": BlockType("q6_k", 256, 210, {
        "scale.scale": (Number(208),),
        "scale.codes": (Bits(192, 16, 8),),
        "codes": (Bits(0, 128, 4, 64), Bits(128, 64, 2, 32, to=4))}),
    "Q8_K": BlockType("q8_k", 256, 292, _scale(0) | {"codes": (Bits(4, 256, 8), Sums(260))}),
    "IQ4_NL": BlockType("iq4_nl", 32, 18, _scale(0) | {"codes": (Bits(2, 16, 4, 16),)}),
    "IQ4_XS": BlockType("iq4_xs", 256, 136, {
        "scale.scale": (Number(0),),
        "scale.codes": (Bits(4, 4, 4), Bits(2, 2, 2, to=4)),
        "codes": (Bits(8, 128, 4, 16),)}),
    "TQ2_0": BlockType("tq2_0", 256, 66, _scale(64) | {"codes": (Bits(0, 64, 2, 32),)},
                       {"codes": 3}),
    "TQ1_0": BlockType("tq2_0", 256, 54, _scale(52) | {
        "codes": (Trits(0, 32, 32, 0), Trits(32, 16, 16, 160), Trits(48, 4, 4, 240, 4))},
        {"codes": 3}),
    "MXFP4": BlockType("mxfp4", 32, 17,
                       {"scale": (Bits(0, 1, 8),), "codes": (Bits(1, 16, 4, 16),)},
                       {"scale": 255}),  # NaN in the format, 2**128 in llama.cpp
    "NVFP4": BlockType("nvfp4", 64, 36,
                       {"scale.codes": (Bits(0, 4, 8),), "codes": (Bits(4, 32, 4, 8),)},
                       {"scale.codes": 127}),  # llama.cpp's scales have no sign and no NaN
    "IQ2_XXS": BlockType("grid<8, 256, 32, even>", 256, 66, _scale(0) | {
        "codes": (Words(2, 4, 8, 8, 8, (0, 8, 16, 24)),),
        "signs": (Words(6, 4, 8, 8, 7, SEVENS),),
        "steps": (Words(6, 4, 8, 8, 4, (28,)),)}, table=Table("IQ2_XXS", 8)),
    "IQ2_XS": BlockType("grid<8, 512, 16, even>", 256, 74, _scale(0) | {
        "codes": (Words(2, 2, 32, 2, 8, (0,)),),
        "high": (Words(2, 2, 32, 2, 1, (8,)),),
        "signs": (Words(2, 2, 32, 2, 7, (9,)),),
        "steps": (Bits(66, 8, 4),)}, table=Table("IQ2_XS", 8)),
    "IQ2_S": BlockType("grid<8, 1024, 16, each>", 256, 82, _scale(0) | {
        "codes": (Bits(2, 32, 8),),
        "high": (Bits(66, 8, 2),),
        "signs": (Bits(34, 32, 8),),
        "steps": (Bits(74, 8, 4),)}, table=Table("IQ2_S", 8)),
    "IQ3_XXS": BlockType("grid<4, 256, 32, even>", 256, 98, _scale(0) | {
        "codes": (Bits(2, 64, 8),),
        "signs": (Words(66, 4, 8, 4, 7, SEVENS),),
        "steps": (Words(66, 4, 8, 4, 4, (28,)),)}, table=Table("IQ3_XXS", 4)),
    "IQ3_S": BlockType("grid<4, 512, 32, each>", 256, 110, _scale(0) | {
        "codes": (Bits(2, 64, 8),),
        "high": (Bits(66, 8, 1),),
        "signs": (Bits(74, 32, 8),),
        "steps": (Bits(106, 4, 4),)}, table=Table("IQ3_S")),
    "IQ1_S": BlockType("grid<8, 2048, 32, none, u3, 32>", 256, 50, _scale(0) | {
        "codes": (Bits(2, 32, 8),),
        "high": (Words(34, 2, 8, 2, 3, THREES),),
        "shift": (Words(34, 2, 8, 2, 1, (15,)),),
        "steps": (Words(34, 2, 8, 2, 3, (12,)),)}, table=Table("IQ1_S")),
    "IQ1_M": BlockType("grid<8, 2048, 16, none, u3, 8>", 256, 56, {
        "scale": tuple(Words(48 + 2 * i, 2, 1, 2, 4, (12,), 4 * i) for i in range(4)),
        "codes": (Bits(0, 32, 8),),
        "high": (Bits(32, 16, 3, shifts=(0, 4)),),
        "shift": (Bits(32, 16, 1, shifts=(3, 7)),),
        "steps": (Words(48, 2, 4, 2, 3, THREES),)}, table=Table("IQ1_M")),
}  # fmt: skip
