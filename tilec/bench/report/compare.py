"""What changed from one run to another: case by case, beyond noise or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tilec.bench.report.results import Case, Results, read
from tilec.bench.report.spread import Interval, between
from tilec.profile.table import seconds

VERDICTS = {1: "faster", 0: "within noise", -1: "slower"}
UNKNOWN = "not known"


@dataclass(frozen=True)
class Change:
    """What became of a case. `time` is our old median over the new one, `share` our new share of
    the ceiling over the old one: above 1 is faster in both. `interval` is that of what decides:
    `by` says share or time."""

    suite: str
    threads: int
    case: str
    before: float | None
    after: float | None
    time: float | None
    share: float | None
    by: str
    interval: Interval | None

    @property
    def ratio(self) -> float | None:
        """The one that decides."""
        return self.share if self.by == "share" else self.time

    @property
    def verdict(self) -> str:
        """faster, slower, within noise, or not known."""
        return UNKNOWN if self.interval is None else VERDICTS[self.interval.verdict]

    def slower_than(self, part: float) -> bool:
        """Whether it takes longer by more than this part, beyond noise."""
        ratio = self.ratio
        return self.verdict == "slower" and ratio is not None and 1 / ratio - 1 > part

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        return asdict(self) | {"ratio": self.ratio, "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """Two runs: the changes of the cases of both, and the cases that only one has."""

    same_machine: bool
    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def slower(self, part: float) -> tuple[Change, ...]:
        """The cases that got slower by more than this part, beyond noise."""
        return tuple(c for c in self.changes if c.slower_than(part))

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        changes = [c.as_json() for c in self.changes]
        return {"same_machine": self.same_machine, "changes": changes, "gone": self.gone,
                "new": self.new}  # fmt: skip

    def lines(self) -> list[str]:
        """What the table can't say."""
        counts = {v: sum(c.verdict == v for c in self.changes)
                  for v in (*VERDICTS.values(), UNKNOWN)}  # fmt: skip
        said = [", ".join(f"{n} {v}" for v, n in counts.items() if n) or "no case is in both"]
        if not self.same_machine:
            said.insert(0, "different machines: compared by the share of the ceiling alone")
        said += [f"only in the first: {n}" for n in self.gone]
        said += [f"only in the second: {n}" for n in self.new]
        return said

    def table(self) -> Table:
        """A row a case."""
        out = Table(box=SIMPLE_HEAD)
        for heading in ("case", "before", "after", "time", "share", "95% of rounds", ""):
            left = heading in ("case", "")
            out.add_column(heading, justify="left" if left else "right", no_wrap=heading != "case")
        for c in self.changes:
            sure = f"{c.interval.low:.3f} to {c.interval.high:.3f}" if c.interval else ""
            name = f"{c.suite}, {c.threads} thread{'s' * (c.threads != 1)}: {c.case}"
            out.add_row(name, seconds(c.before), seconds(c.after), _times(c.time),
                        _times(c.share), sure, c.verdict)  # fmt: skip
        return out


def compare(a: Path, b: Path) -> Comparison:
    """What is faster and slower in the second file than in the first. Raises TileError where one
    can't be read.

    A case's share of a ceiling decides where both runs measured it: the ceiling's time between our
    own takes out most of what else the machine did. Else its time does, on the same machine.
    """
    old, new = read(a), read(b)
    same = old.same_machine(new)
    before, after = ({c.key: c for c in r.cases} for r in (old, new))
    changes = tuple(_change(c, after[k], same) for k, c in before.items() if k in after)
    return Comparison(same, changes, _missing(old, new), _missing(new, old))


def _missing(here: Results, there: Results) -> tuple[str, ...]:
    known = {c.key for c in there.cases}
    return tuple(f"{c.suite}, {c.threads} threads: {c.name}" for c in here.cases
                 if c.key not in known)  # fmt: skip


def _change(old: Case, new: Case, same: bool) -> Change:
    a, b = (c.ours.seconds if c.ours else None for c in (old, new))
    time = a / b if same and a and b else None
    shares = [tuple(s for s in c.shares() if s) for c in (new, old)]
    share = median(shares[0]) / median(shares[1]) if all(shares) else None
    if share is not None:
        by, interval = "share", between(*shares)
    elif time is not None and old.ours is not None and new.ours is not None:
        by, interval = "time", between(old.ours.rounds, new.ours.rounds)
    else:
        by, interval = "", None
    return Change(old.suite, old.threads, old.name, a, b, time, share, by, interval)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}x"
