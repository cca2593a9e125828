"""Errors that point at the user's line: what is wrong, what was expected, where."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Loc:
    """A span of the user's source. Lines count from 1, columns from 0."""

    file: str
    line: int
    column: int
    end_column: int
    text: str = ""  # the source line itself
    function: str = ""
    caller: Loc | None = None  # where an inlined function was called

    @property
    def user(self) -> Loc:
        """The outermost place: in the user's function, not in what that calls."""
        return self if self.caller is None else self.caller.user

    def carets(self) -> str:
        """Blanks up to the span, then one caret per column of it (wide characters count two)."""
        lead = "".join("\t" if c == "\t" else " " * _width(c) for c in self.text[: self.column])
        span = sum(_width(c) for c in self.text[self.column : self.end_column])
        return lead + "^" * max(span, 1)

    def show(self) -> str:
        """The place, the line and the carets, innermost first, then the call chain."""
        where = f" in {self.function}" if self.function else ""
        own = f'  "{self.file}", line {self.line}, column {self.column + 1}{where}:'
        if self.text.strip():
            own += f"\n    {self.text}\n    {self.carets()}"
        return own if self.caller is None else f"{own}\n  called from\n{self.caller.show()}"


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class TileError(Exception):
    """The user's program, tensors or options are wrong, or a back end can't do what they ask."""

    def __init__(self, message: str, loc: Loc | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.loc, self.hint = message, loc, hint

    def at(self, loc: Loc | None) -> TileError:
        """This error placed at `loc`, unless a more exact place is already known."""
        self.loc = self.loc or loc
        return self

    def __str__(self) -> str:
        parts = [self.message]
        if self.loc is not None:
            parts.append(self.loc.show())
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        return "\n".join(parts)
