"""Why cases are behind, and what was tried in vain: `causes.toml` beside the results, by people.

[causes]
"4096x4096 int4 M=1" = "a sentence"          # the name of a case, in any suite
"gemv: 4096x4096 int4 M=1" = "a sentence"    # or of a suite alone
"gemm: f32 *" = "a sentence"                 # or all that a pattern has, where none is nearer
"torch int8 | gemm: f32 *" = "a sentence"    # or beside one peer alone

[[tried]]
what = "software prefetch two rows ahead"
result = "1% slower: the hardware does it already"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tilec.bench.report.results import Case
from tilec.ir.errors import TileError

FILE = "causes.toml"


@dataclass(frozen=True)
class Tried:
    """A speed-up that did not help, and what it did instead."""

    what: str
    result: str


@dataclass(frozen=True)
class Causes:
    """Causes by the names of cases, and what was tried."""

    cases: Mapping[str, str] = field(default_factory=dict[str, str])
    tried: tuple[Tried, ...] = ()

    def of(self, case: Case, peer: str = "") -> str:
        """Why a case is behind a peer: what was said of it by name, else by the longest pattern, of
        this peer before all; empty where nobody said."""
        for names in ([f"{peer} | {n}" for n in _names(case)], _names(case)):
            for name in names:
                if name in self.cases:
                    return self.cases[name]
            fits = [p for p in self.cases for n in names if fnmatchcase(n, _pattern(p))]
            if fits:
                return self.cases[max(fits, key=len)]
        return ""

    def idle(self, cases: list[Case]) -> list[str]:
        """The names and patterns that none of these cases has."""
        known = [n for c in cases for n in _names(c)]
        known += [f"{p} | {n}" for c in cases for p in c.peers for n in _names(c)]
        return [p for p in self.cases if not any(fnmatchcase(n, _pattern(p)) for n in known)]

    def __or__(self, other: Causes) -> Causes:
        """Those of both."""
        tried = dict.fromkeys((*self.tried, *other.tried))
        return Causes({**self.cases, **other.cases}, tuple(tried))


def _names(case: Case) -> list[str]:
    return [f"{case.suite}: {case.name}", case.name]


def _pattern(text: str) -> str:
    """A pattern whose only sign is `*`: names of formats have brackets."""
    return text.replace("[", "[[]").replace("?", "[?]")


def beside(results: Path) -> Causes:
    """What the file beside results says; nothing where there is none. Raises TileError where it
    can't be understood."""
    path = results.parent / FILE
    if not path.exists():
        return Causes()
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise TileError(f"{path} can't be read: {e}") from None
    cases: Any = found.pop("causes", {})
    tried: Any = found.pop("tried", [])
    if found:
        raise TileError(f"{path} has `{next(iter(found))}`; expected [causes] and [[tried]]")
    for name, cause in cases.items():
        if not isinstance(cause, str):
            raise TileError(f"{path}: expected a sentence for {name!r}, not {cause!r}")
    for entry in tried:
        if set(entry) != {"what", "result"}:
            raise TileError(f"{path}: expected `what` and `result` in [[tried]], "
                            f"not {', '.join(entry)}")  # fmt: skip
    return Causes(cases, tuple(Tried(str(e["what"]), str(e["result"])) for e in tried))
