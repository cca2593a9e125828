"""The file of an entry: bytes in, bytes out. Knows no disk.

    magic and version   8 bytes
    key                 32 bytes: the sha256 that the entry is for
    sections            u32, then for each its name (16 bytes), offset and length (u64)
    the sections        one after the other, without gaps: `meta` (JSON), `code`
    checksum            sha256 of all before

Numbers are little-endian. A file is exactly what was written, or it is no entry.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tilec.runtime.cache.key import Key, canonical

MAGIC = b"tilec\x00e"
VERSION = 2
_FRONT = struct.Struct("<7sB32sI")
_ROW = struct.Struct("<16sQQ")
_DIGEST = 32
_SECTIONS = (b"meta", b"code")


class Damage(ValueError):
    """Bytes that are not exactly an entry."""


class OtherVersion(ValueError):
    """An entry of an older or a newer tilec."""


@dataclass(frozen=True)
class Entry:
    """What the cache stores: a payload, and what its reader must know about it."""

    payload: bytes
    header: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Stored:
    """An entry as a file holds it: under which key, what that was made of, and what people want to
    know of it."""

    name: str
    entry: Entry
    key: Mapping[str, Mapping[str, str]]
    about: Mapping[str, Any]


def encode(key: Key, entry: Entry) -> bytes:
    """The bytes of an entry. The same entry always has the same bytes."""
    said = {"header": dict(entry.header), "key": key.shown(), "about": dict(key.about)}
    meta = canonical(said).encode("ascii")
    sections = (meta, entry.payload)
    at = _FRONT.size + len(sections) * _ROW.size
    rows: list[bytes] = []
    for name, data in zip(_SECTIONS, sections, strict=True):
        rows.append(_ROW.pack(name, at, len(data)))
        at += len(data)
    front = _FRONT.pack(MAGIC, VERSION, bytes.fromhex(key.name), len(sections))
    body = b"".join([front, *rows, *sections])
    return body + hashlib.sha256(body).digest()


def decode(data: bytes, name: str | None = None) -> Stored:
    """The entry that these bytes are, under the key `name` if given.

    Raises OtherVersion for those of another version, and Damage for anything else.
    """
    end = len(data) - _DIGEST
    if end < _FRONT.size:
        raise Damage("too short")
    magic, version, key, count = _FRONT.unpack_from(data)
    if magic != MAGIC:
        raise Damage("another magic number")
    if version != VERSION:
        raise OtherVersion(f"version {version}, not {VERSION}")
    if name is not None and key.hex() != name:
        raise Damage("an entry of another key")
    if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise Damage("wrong checksum")
    meta, code = _sections(data, count, end)
    try:
        said = json.loads(meta)
        entry = Entry(code, dict(said["header"]))
        return Stored(key.hex(), entry, dict(said["key"]), dict(said["about"]))
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise Damage(f"a description that is none: {e}") from None


def _sections(data: bytes, count: int, end: int) -> tuple[bytes, bytes]:
    """The two sections, which follow each other from the table to the checksum."""
    at = _FRONT.size + count * _ROW.size
    if count != len(_SECTIONS) or at > end:
        raise Damage(f"{count} sections")
    found: list[bytes] = []
    for i, wanted in enumerate(_SECTIONS):
        name, start, size = _ROW.unpack_from(data, _FRONT.size + i * _ROW.size)
        if name.rstrip(b"\0") != wanted or start != at or size > end - at:
            raise Damage("sections that do not follow each other")
        found.append(data[at : at + size])
        at += size
    if at != end:
        raise Damage("bytes that are in no section")
    return found[0], found[1]
