"""Parts of spans, groups of coordinates, and the fields of words."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.core import Value
from tilec.ir.dtype import integer, u8, u16
from tilec.ir.errors import TileError
from tilec.ir.ops import packed
from tilec.ir.types import Span, Tile

K = Value(Span(256, 64))
WORDS = Value(Tile((4,), u16))


def test_part_and_groups():
    part, groups = packed.Part(K, 32, 16), packed.Groups(K, 4, 16)
    assert part.result.type == Span(256, 16)
    assert part.evaluate(range(64, 128)) == range(96, 112)
    assert groups.result.type == Span(64, 16)
    assert groups.evaluate(range(64, 128)) == range(16, 32)


@pytest.mark.parametrize(
    "codes", [integer(4, signed=True), integer(3, signed=False), CODES["e2m1"], CODES["nf2"]],
    ids=str,
)  # fmt: skip
def test_unpack_finds_every_code_in_every_field(codes):
    count = 16 // codes.bits
    every = np.arange(1 << codes.bits)
    for field in range(count):
        rest = (0xA5A5 << (field + 1) * codes.bits | 0x1F & (1 << field * codes.bits) - 1) & 0xFFFF
        words = rest | every << field * codes.bits
        words &= ~((1 << codes.bits) - 1 << field * codes.bits) | every << field * codes.bits
        got = packed.Unpack(Value(Tile((len(every),), u16)), codes, field).evaluate(words)
        assert np.array_equal(got, from_raw(codes, every.astype(np.uint8)))


def test_what_unpack_refuses():
    with pytest.raises(TileError, match="expected words, not i4"):
        packed.Unpack(Value(Tile((4,), integer(4, signed=True))), u8, 0)
    for field in (-1, 4):
        with pytest.raises(TileError, match=f"a u16 has no i4 number {field}"):
            packed.Unpack(WORDS, integer(4, signed=True), field)
    with pytest.raises(TileError, match="part: expected a span, not u16"):
        packed.Part(WORDS, 0, 1)
