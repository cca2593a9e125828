"""Parts of spans, groups of coordinates, and the fields of words."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.core import Value
from tilec.ir.dtype import bf16, e4m3, f32, integer, u8, u16
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.interleaved import Interleaved, places
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


@pytest.mark.parametrize("rows", [1, 3])
def test_groups_of_rows(rows):
    for row in range(rows):
        groups = packed.Groups(K, 4, 16, row, rows)
        assert groups.result.type == Span(64 * rows, 16)
        assert groups.evaluate(range(64, 128)) == range(64 * row + 16, 64 * row + 32)


@pytest.mark.parametrize(
    "codes", [integer(4, signed=True), integer(3, signed=False), integer(7, signed=True),
              CODES["e2m1"], CODES["e3m2"], CODES["nf2"], CODES["ternary"], e4m3], ids=str,
)  # fmt: skip
def test_unpack_finds_every_code_in_every_field(codes):
    """Codes of every field go through every value, each at its own pace."""
    order, every = Interleaved(codes, 1), np.arange(1 << codes.bits)
    fields = np.arange(order.fields)
    step = Interleaved(codes, len(every) * order.fields)
    numbers = (every + 3 * fields[:, None]) % len(every)
    given = from_raw(codes, numbers.astype(np.uint8))
    words = step.packed(given.reshape(1, -1)).reshape(order.words, -1)
    for field in range(order.fields):
        tiles = tuple(Value(Tile((len(every),), u16)) for _ in words)
        got = packed.Unpack(tiles, codes, field).evaluate(*words)
        assert np.array_equal(got, given[field], equal_nan=True)


@pytest.mark.parametrize("bits", range(1, 9))
def test_words_have_no_bits_to_spare(bits):
    order = Interleaved(integer(bits, signed=False), 1)
    found = sorted(at for field in places(order.codes) for at in field)
    assert found == list(range(16 * order.words))


def test_terms_add_up():
    x = np.random.default_rng(0).standard_normal(64)
    terms = [packed.Term(Value(Tile((64,), f32)), bf16, i) for i in range(3)]
    found = [bf16.round(t.evaluate(x)) for t in terms]
    assert terms[1].result.type == Tile((64,), bf16)
    assert np.array_equal(found[0], bf16.round(x))
    for i in range(1, 3):
        left = np.abs(x - sum(found[: i + 1]))
        assert (left <= 2.0 ** (-8 * (i + 1)) * np.abs(x)).all()
    with pytest.raises(TileError, match="term: expected a float and a number, not u8, 0"):
        packed.Term(WORDS, u8, 0)


def test_what_unpack_refuses():
    i3, i4 = integer(3, signed=True), integer(4, signed=True)
    with pytest.raises(TileError, match="expected words, not i4"):
        packed.Unpack((Value(Tile((4,), i4)),), u8, 0)
    with pytest.raises(TileError, match="expected the 3 words of a unit of i3, not 1"):
        packed.Unpack((WORDS,), i3, 0)
    for field in (-1, 4):
        with pytest.raises(TileError, match=f"a unit has no i4 number {field}"):
            packed.Unpack((WORDS,), i4, field)
    with pytest.raises(TileError, match="groups: expected one of 3 rows, not 3"):
        packed.Groups(K, 4, 16, 3, 3)
    with pytest.raises(TileError, match="expected rows of a number of groups, not"):
        packed.Groups(Value(Span(Sym("K"), 64)), 4, 16, 0, 2)
    with pytest.raises(TileError, match="part: expected a span, not u16"):
        packed.Part(WORDS, 0, 1)
