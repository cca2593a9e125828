"""Schedules as text: what is chosen beside a program itself, `threads=256,swap=small,m=16`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from tilec.ir.errors import TileError

S = TypeVar("S")


def parsed(kind: type[S], text: str) -> S:
    """A text as a schedule of a back end: what is no field of `kind` pins a tile size in `tiles`.

    Raises TileError for anything else.
    """
    words = {f.name: f.type == "str" for f in fields(kind) if f.name != "tiles"}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    tiles: dict[str, int] = {}
    for word in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in word.partition("="))
        if not name.isidentifier() or not (value.isdecimal() or (value and words.get(name))):
            raise TileError(f"a schedule: {word!r} is not CHOICE=VALUE or TILE=NUMBER",
                            hint=f"{', '.join(words)}, or a loop's variable")  # fmt: skip
        if name in found or name in tiles:
            raise TileError(f"a schedule: {name} is given twice")
        if name in words:
            found[name] = value if words[name] else int(value)
        else:
            tiles[name] = int(value)
    return kind(**found | {"tiles": tiles})


def checked(name: str, said: str, known: tuple[str, ...]) -> None:
    """Raise TileError where a choice is none of those that there are."""
    if said not in known:
        raise TileError(f"a schedule: {name} is {said!r}, expected {' or '.join(known)}")
