"""Remarks: what a pass or back end chose or could not do, at the user's line, as data."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.errors import Loc


@dataclass(frozen=True)
class Remark:
    """`origin` is the pass or back end; `missing` the fact that would have made it better."""

    origin: str
    message: str
    loc: Loc | None = None
    missing: str = ""

    def __str__(self) -> str:
        parts = [f"{self.origin}: {self.message}"]
        if self.loc is not None:
            parts.append(self.loc.show())
        if self.missing:
            parts.append(f"  missing: {self.missing}")
        return "\n".join(parts)
