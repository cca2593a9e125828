"""Places: where an instruction stands in the PTX, and in the source it was compiled from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class SourceLine:
    """A line of a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{PurePath(self.file).name}:{self.line}"


@dataclass(frozen=True)
class Place:
    """A line of PTX, counted from 1, and the source line that it comes from, innermost first."""

    line: int
    source: tuple[SourceLine, ...] = ()

    def __str__(self) -> str:
        if not self.source:
            return f"PTX line {self.line}"
        chain = " called at ".join(map(str, self.source))
        return f"{chain} (PTX line {self.line})"
