"""Printed lines at the places of the user's program that they come from."""

from __future__ import annotations


def unpinned(text: str) -> str:
    """A source that says nothing of the files that it is from."""
    kept = (line for line in text.splitlines() if not line.lstrip().startswith("#line"))
    return "\n".join([*kept, ""])


def pinned(text: str) -> str:
    """A source of which each line is at the place that the last `#line` before it says.

    What is printed for one op is many lines, and compilers count on from a `#line`.
    """
    out: list[str] = []
    place = ""
    for line in text.splitlines():
        word = line.lstrip()
        if word.startswith("#line"):
            place = line
            continue
        if place and word and not word.startswith(("#", "//", "}")):
            out.append(place)
        out.append(line)
    return "\n".join([*out, ""])
