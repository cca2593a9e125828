"""Failures that happen again: kept as entries, so that a compiler is not asked twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilec.ir.errors import Loc, TileError
from tilec.runtime.cache.entry import Entry

SECONDS = 24 * 3600.0  # for which a failure is believed


class Refusal(TileError):
    """A compiler read a source and refuses it, as it will each time: nothing that memory, disk or
    other processes decide. `kind` is the class of the failure."""

    def __init__(
        self, message: str, loc: Loc | None = None, hint: str = "", kind: str = "compile_error"
    ) -> None:
        super().__init__(message, loc, hint)
        self.kind = kind


def refused(error: Refusal, now: float) -> Entry:
    """A failure as an entry, which expires."""
    notes = list(getattr(error, "__notes__", ()))
    header = {"class": error.kind, "message": error.message, "hint": error.hint,
              "loc": _told(error.loc), "notes": notes, "until": now + SECONDS}  # fmt: skip
    return Entry(b"", header)


def refusal(entry: Entry, now: float) -> Refusal | None:
    """The failure that an entry is, None where it has expired, or says that it will live for
    longer than any does: the clock was wrong."""
    said = entry.header
    try:
        if not now <= said["until"] <= now + SECONDS:
            return None
        found = Refusal(said["message"], _loc(said["loc"]), said["hint"], said["class"])
        for note in said["notes"]:
            found.add_note(note)
    except (KeyError, TypeError):
        return None
    return found


def _told(loc: Loc | None) -> dict[str, Any] | None:
    if loc is None:
        return None
    return {"file": loc.file, "line": loc.line, "column": loc.column, "end": loc.end_column,
            "text": loc.text, "function": loc.function, "caller": _told(loc.caller)}  # fmt: skip


def _loc(said: Mapping[str, Any] | None) -> Loc | None:
    if said is None:
        return None
    place = (said["file"], said["line"], said["column"], said["end"])
    return Loc(*place, said["text"], said["function"], _loc(said["caller"]))
