"""How the runtime sees a packed tensor: identities of its format and layout, and addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import count

# The launcher looks for this attribute on an argument; its value is a PackedHandle's address.
HANDLE_ATTRIBUTE = "tilec_handle"
MAGIC = int.from_bytes(b"tilecPkd", "little")  # launch.ll compares with this value
_FIELDS_BEFORE_POINTERS = 4
_NUMBERS = count(1)


@cache
def identity(key: object) -> int:
    """A number for each distinct key of this process: a format with a shape, or a layout."""
    return next(_NUMBERS)


class PackedHandle:
    """A C struct of 8-byte fields: magic, format, layout, count, then `count` addresses.

    `format_id` and `layout_id` are numbers that the caller gives out; equal numbers must mean
    equal packed types (format, shape and layout), since launches are specialised on them.
    A packed tensor has the attribute `tilec_handle = handle.address`, and keeps both the handle
    and the memory of its components alive.
    """

    def __init__(self, format_id: int, layout_id: int, pointers: Sequence[int]) -> None:
        fields = (MAGIC, format_id, layout_id, len(pointers), *pointers)
        self._fields = (ctypes.c_int64 * len(fields))(*fields)
        self.address = ctypes.addressof(self._fields)


def read_handle(address: int) -> tuple[int, int, tuple[int, ...]] | None:
    """Format, layout and component addresses of the handle there, or None when it is no handle."""
    front = (ctypes.c_int64 * _FIELDS_BEFORE_POINTERS).from_address(address)
    magic, format_id, layout_id, count = front
    if magic != MAGIC:
        return None
    whole = (ctypes.c_int64 * (_FIELDS_BEFORE_POINTERS + count)).from_address(address)
    return format_id, layout_id, tuple(whole[_FIELDS_BEFORE_POINTERS:])
