"""The formats that a `.tile` text may name."""

from __future__ import annotations

import difflib

from tilec.ir.dtype import BY_NAME
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format


def named(text: str) -> Format:
    """The format that `f16` or `int4<group=128>` means. Raises TileError for an unknown name."""
    if text in BY_NAME:
        return Dense(BY_NAME[text])
    close = difflib.get_close_matches(text, BY_NAME, 1)
    raise TileError(
        f"no format is called `{text}`", hint=f"did you mean `{close[0]}`?" if close else ""
    )
