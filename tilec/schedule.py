"""Schedules as text: what is chosen beside a program itself, `threads=256,swap=small,m=16`.

The field of a schedule says itself what a tuner may choose there (`choice`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from tilec.ir.errors import TileError

S = TypeVar("S")
Values = tuple[int | str, ...]


@dataclass(frozen=True)
class Facts:
    """What the values of a choice may depend on: the target, how many threads or multiprocessors
    share the work, the operations of a call, how many products there are and how many of them are
    of sparse operands, the rows of the smallest product, and the tiles of the largest grid by
    default; how many operands of products are read as streams, bytes of the results, and how many
    vector registers there are."""

    target: str
    workers: int
    operations: float = 0.0
    products: int = 0
    sparse: int = 0
    rows: int = 0
    tasks: int = 1
    streams: int = 0
    written: int = 0
    registers: int = 0

    @property
    def number(self) -> int:
        """The number of a target of NVIDIA's: 90 of sm_90a; else 0."""
        text = self.target.removeprefix("sm_").rstrip("af")
        return int(text) if text.isdecimal() else 0


Domain = Callable[[Facts], Values]


def choice(default: int | str, domain: Domain) -> Any:
    """A field of a schedule, and the values that a tuner tries."""
    return field(default=default, metadata={"domain": domain})


def domains(kind: type[Any], facts: Facts) -> dict[str, Values]:
    """The values of every field that has a choice, the default among them."""
    found: dict[str, Values] = {}
    for f in fields(kind):
        if "domain" in f.metadata:
            default: Any = f.default
            found[f.name] = tuple(dict.fromkeys((default, *f.metadata["domain"](facts))))
    return found


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


def within(name: str, said: int, least: int, most: int, of: int = 1) -> None:
    """Raise TileError where a choice is not in a range, or no multiple of a number."""
    if not least <= said <= most or said % of:
        multiple = f"a multiple of {of} from " * (of > 1)
        raise TileError(f"a schedule: {name} is {said}, expected {multiple}{least} to {most}")


def checked(name: str, said: str, known: tuple[str, ...]) -> None:
    """Raise TileError where a choice is none of those that there are."""
    if said not in known:
        raise TileError(f"a schedule: {name} is {said!r}, expected {' or '.join(known)}")
