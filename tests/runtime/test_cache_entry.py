"""The bytes of an entry: none but exactly what was written is one."""

from __future__ import annotations

import hashlib
import struct

import pytest
from caches import KEY

from tilec.runtime.cache import Entry
from tilec.runtime.cache.entry import Damage, OtherVersion, decode, encode

SMALL = encode(KEY, Entry(b"code", {"a": 1}))


def test_every_flipped_bit_and_every_truncation_is_damage() -> None:
    assert decode(SMALL, KEY.name).entry == Entry(b"code", {"a": 1})
    for place in range(len(SMALL)):
        with pytest.raises(Damage):
            decode(SMALL[:place], KEY.name)
        for bit in range(8):
            flipped = bytearray(SMALL)
            flipped[place] ^= 1 << bit
            with pytest.raises((Damage, OtherVersion)):
                decode(bytes(flipped), KEY.name)
    with pytest.raises(Damage):
        decode(SMALL + b"x", KEY.name)


def resealed(data: bytes) -> bytes:
    """With the checksum that belongs to it: what only who may write here anyway can do."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


ROW = 44  # where the table begins: 7 + 1 + 32 + 4
FIELDS = [(40, "<I"), (ROW + 16, "<Q"), (ROW + 24, "<Q"), (ROW + 48, "<Q"), (ROW + 56, "<Q")]


@pytest.mark.parametrize("value", [0, 1, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1])
def test_lengths_and_offsets_that_lie(value: int) -> None:
    for at, form in FIELDS:
        lying = bytearray(SMALL)
        struct.pack_into(form, lying, at, value % (1 << (8 * struct.calcsize(form))))
        with pytest.raises(Damage):
            decode(resealed(bytes(lying)), KEY.name)


def test_sections_that_overlap_or_leave_gaps() -> None:
    start, size = struct.unpack_from("<QQ", SMALL, ROW + 16)
    for changes in ((-1, 0), (1, 0), (0, -1), (0, 1), (-size, 0)):
        lying = bytearray(SMALL)
        struct.pack_into(
            "<QQ",
            lying,
            ROW + 16,
            *(x % (1 << 64) for x in (start + changes[0], size + changes[1])),
        )
        with pytest.raises(Damage):
            decode(resealed(bytes(lying)), KEY.name)


@pytest.mark.parametrize(
    "meta", [b"", b"[]", b"{}", b"\xff", b'{"header":1}', b"[" * 5000, b'{"header":[],"key":{}}']
)
def test_descriptions_that_are_none(meta: bytes) -> None:
    at = ROW + 80
    head = bytearray(SMALL[:at])
    struct.pack_into("<QQ", head, ROW + 16, at, len(meta))
    struct.pack_into("<QQ", head, ROW + 56, at + len(meta), 4)
    with pytest.raises(Damage):
        decode(resealed(bytes(head) + meta + b"code" + b"\0" * 32), KEY.name)
