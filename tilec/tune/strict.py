"""JSON from outside, field by field: what is missing, unknown or of the wrong kind is an error."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar, cast

from tilec.ir.errors import TileError

T = TypeVar("T")


def document(text: str, what: str) -> Any:
    """JSON text as data. Raises TileError for what is no JSON, and for NaN and infinities."""
    try:
        return json.loads(text, parse_constant=lambda word: _no_number(word, what))
    except (ValueError, RecursionError) as e:
        raise TileError(f"{what}: this is no JSON ({e})") from None


def _no_number(word: str, what: str) -> Any:
    raise TileError(f"{what}: {word} is no number in JSON")


def fields(data: object, what: str, needed: tuple[str, ...], *more: str) -> dict[str, Any]:
    """An object that has every field of `needed`, and none that is not there or in `more`."""
    if not isinstance(data, dict):
        raise TileError(f"{what} is {_kind(data)}, expected an object")
    found = cast("dict[str, Any]", data)
    for name in found:
        if name not in needed and name not in more:
            raise TileError(f"{what}: {name!r} is no field of it",
                            hint=", ".join((*needed, *more)))  # fmt: skip
    for name in needed:
        if name not in found:
            raise TileError(f"{what}: {name!r} is missing")
    return found


def array(data: object, what: str) -> list[Any]:
    """A JSON array."""
    return cast("list[Any]", typed(data, list, what))


def typed(data: object, kind: type[T], what: str) -> T:
    """A value of one kind; no boolean passes for a number, and no whole number for a boolean."""
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise TileError(f"{what} is {_kind(data)}, expected {_WORDS[kind]}")
    return data


def number(data: object, what: str, least: float = -math.inf) -> float:
    """A finite number, not below `least`."""
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise TileError(f"{what} is {_kind(data)}, expected a number")
    try:
        value = float(data)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < least:
        raise TileError(f"{what} is {data}, expected a finite number"
                        + (f" of at least {least:g}" if least > -math.inf else ""))  # fmt: skip
    return value


_WORDS: dict[type, str] = {list: "an array", dict: "an object", str: "a string",
                           int: "a whole number", bool: "true or false"}  # fmt: skip


def _kind(data: object) -> str:
    if data is None:
        return "null"
    return "a number" if isinstance(data, float) else _WORDS.get(type(data), type(data).__name__)
