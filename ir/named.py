"""Formats by name: `f16`, `u3`, `int4<group=128, scale=f16, zero=int>`. Knows every format."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from tilec.ir.dtype import BY_NAME, DType, integer
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.scaled import Scaled, constructor

QUANTISED: dict[str, Callable[..., Scaled]] = {
    f"{'' if signed else 'u'}int{bits}": constructor(integer(bits, signed))
    for signed in (True, False)
    for bits in range(1, 9)
}
OPTIONS = ("group", "scale", "zero", "channel", "tensor")
_TEXT = re.compile(r"\s*(\w+)\s*(?:<(.*)>)?\s*", re.DOTALL)


def named(text: str) -> Format:
    """The format that a text means. Raises TileError naming what is unknown and what there is."""
    found = _TEXT.fullmatch(text)
    name = found[1] if found else text
    if found is None or (name not in BY_NAME and name not in QUANTISED):
        close = difflib.get_close_matches(name, [*QUANTISED, *BY_NAME], 1)
        hint = f"did you mean `{close[0]}`?" if close else ""
        raise TileError(f"no format is called `{name}`", hint=hint)
    if name in BY_NAME:
        if found[2] is not None:
            raise TileError(f"`{name}` takes no options", hint="a scaled format is int1..uint8")
        return Dense(BY_NAME[name])
    options: dict[str, Any] = {}
    for word in filter(None, (found[2] or "").split(",")):
        key, value = _option(name, word.strip())
        if key in options:
            raise TileError(f"{name}: `{key}` is given twice")
        options[key] = value
    return QUANTISED[name](**options)


def _option(name: str, word: str) -> tuple[str, Any]:
    key, _, value = (part.strip() for part in word.partition("="))
    if key in ("channel", "tensor") and not value:
        return "block", key
    if key not in ("group", "scale", "zero"):
        close = difflib.get_close_matches(key, OPTIONS, 1)
        raise TileError(f"{name} has no option `{key}`; it has {', '.join(OPTIONS)}",
                        hint=f"did you mean `{close[0]}`?" if close else "")  # fmt: skip
    if key == "group" and not value.isdecimal():
        raise TileError(f"{name}: group is `{value}`, expected a whole number")
    if key == "scale":
        return key, _dtype(name, value)
    return key, int(value) if key == "group" else value


def _dtype(name: str, text: str) -> DType:
    if text not in BY_NAME:
        raise TileError(f"{name}: scale is `{text}`, expected f16, bf16 or f32")
    return BY_NAME[text]
