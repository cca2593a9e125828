"""Printed lines at the places of the user's program that they come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

_PLACE = re.compile(r'^(\s*#line \d+ )"([^"]*)"$', re.MULTILINE)


def unpinned(text: str) -> str:
    """A source that says nothing of the files that it is from."""
    kept = (line for line in text.splitlines() if not line.lstrip().startswith("#line"))
    return "\n".join([*kept, ""])


def relative(text: str, roots: Sequence[str]) -> str:
    """A source that names files from the innermost of the folders `roots` that each is in, or else
    by the last of their names: it is the same wherever the files are.

    A file that is not named from a root of the file system is left as it is.
    """
    folders = sorted((PurePath(r) for r in roots if r), key=lambda r: -len(r.parts))

    def named(found: re.Match[str]) -> str:
        path = PurePath(found[2])
        if not path.is_absolute():
            return found[0]
        inside = (path.relative_to(r) for r in folders if path.is_relative_to(r))
        return f'{found[1]}"{next(inside, PurePath(path.name)).as_posix()}"'

    return _PLACE.sub(named, text)


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
