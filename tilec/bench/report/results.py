"""Files of `tilec bench` as values: what was measured, where, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tilec.bench.case import BYTES, OURS
from tilec.bench.results import read as document
from tilec.ir.errors import TileError

SAME = ("processor", "cores", "kernel")  # what two runs on one machine agree in


@dataclass(frozen=True)
class Timing:
    """A contender of a case. `seconds` is the median of its undisturbed calls, None where there are
    none; `work` the processor time of all threads per call; `rounds` the median of each round, None
    where it was disturbed; `share` the part of the ceiling that it reaches; `about` other facts."""

    name: str
    bytes: int
    operations: float
    seconds: float | None
    low: float | None
    high: float | None
    work: float | None
    kept: int
    timed: int
    share: float | None
    rounds: tuple[float | None, ...]
    peak: int | None = None
    error: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def time(self) -> float | None:
        """The median, or the processor time where every round was disturbed."""
        return self.work if self.seconds is None else self.seconds


@dataclass(frozen=True)
class Ratio:
    """Ours is so many times as fast as a peer: by time, and by processor time."""

    time: float | None
    work: float | None

    @property
    def value(self) -> float | None:
        """By time, or by processor time where every round was disturbed."""
        return self.work if self.time is None else self.time


@dataclass(frozen=True)
class Case:
    """A case of a suite with all of its contenders: `ours`, peers, and the ceiling by its name."""

    suite: str
    threads: int
    name: str
    axes: Mapping[str, Any]
    ceiling: str | None
    contenders: Mapping[str, Timing]
    ratios: Mapping[str, Ratio]
    skipped: Mapping[str, str]

    @property
    def key(self) -> tuple[str, int, str]:
        """What it is known by in another file."""
        return self.suite, self.threads, self.name

    @property
    def ours(self) -> Timing | None:
        """None where ours was skipped."""
        return self.contenders.get(OURS)

    @property
    def roof(self) -> Timing | None:
        """The ceiling that was measured between the contenders."""
        return self.contenders.get(self.ceiling) if self.ceiling else None

    @property
    def others(self) -> tuple[str, ...]:
        """Those who were measured beside ours: peers, and other ways of ours."""
        return tuple(n for n in self.contenders if n not in (OURS, self.ceiling))

    @property
    def peers(self) -> Mapping[str, float]:
        """How many times as fast as each peer ours is, where that is known."""
        found = {n: r.value for n, r in self.ratios.items() if not _is_ours(n)}
        return {n: value for n, value in found.items() if value is not None}

    @property
    def behind(self) -> tuple[str, ...]:
        """The peers that are faster."""
        return tuple(n for n, value in self.peers.items() if value < 1)

    def shares(self) -> tuple[float | None, ...]:
        """The share of the ceiling in each round; None where that is not known."""
        ours, roof = self.ours, self.roof
        if ours is None or roof is None:
            return ()
        if self.ceiling in BYTES:
            part = ours.bytes / roof.bytes
        else:
            part = ours.operations / roof.operations
        pairs = zip(ours.rounds, roof.rounds, strict=False)
        return tuple(part * b / a if a and b else None for a, b in pairs)


@dataclass(frozen=True)
class Suite:
    """A suite as it was run with so many threads; `skipped` has peers and reasons, `failed` cases
    in which ours failed and reasons."""

    name: str
    threads: int
    rounds: int
    skipped: Mapping[str, str]
    cases: tuple[Case, ...]
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def title(self) -> str:
        """`gemv, 2 threads`."""
        return f"{self.name}, {self.threads} thread{'s' * (self.threads != 1)}"

    @property
    def others(self) -> tuple[str, ...]:
        """Those of any case, peers first."""
        found = dict.fromkeys(n for c in self.cases for n in c.others)
        return tuple(sorted(found, key=_is_ours))


@dataclass(frozen=True)
class Results:
    """A file: the machine, and the suites that were run on it."""

    path: Path
    machine: Mapping[str, Any]
    suites: tuple[Suite, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """Those of all suites."""
        return tuple(c for s in self.suites for c in s.cases)

    def same_machine(self, other: Results) -> bool:
        """Whether times of both can be compared."""
        return all(self.machine.get(n) == other.machine.get(n) for n in SAME)


def _is_ours(name: str) -> bool:
    return name.split()[0] == OURS


def read(path: Path) -> Results:
    """The results in a file. Raises TileError where it has none."""
    found = document(path)
    try:
        return Results(path, found["machine"], tuple(map(_suite, found["suites"])))
    except (KeyError, TypeError, AttributeError) as e:
        raise TileError(f"{path} has no results of `tilec bench`: {type(e).__name__}: {e}") from e


def _suite(found: Mapping[str, Any]) -> Suite:
    name, threads = found["suite"], found["threads"]
    cases = tuple(_case(name, threads, c) for c in found["cases"])
    failed = found.get("failed", {})
    return Suite(name, threads, found["rounds"], found["skipped"], cases, failed)


def _case(suite: str, threads: int, found: Mapping[str, Any]) -> Case:
    contenders = {n: _timing(n, c) for n, c in found["contenders"].items()}
    ratios = {n: Ratio(r["time"], r["work"]) for n, r in found["ratios"].items()}
    return Case(suite, threads, found["name"], found["axes"], found["ceiling"], contenders, ratios,
                found["skipped"])  # fmt: skip


def _timing(name: str, found: Mapping[str, Any]) -> Timing:
    rounds = tuple(median(r) / 1e6 if r else None for r in found["samples_us"])
    return Timing(
        name, found["bytes"], found["operations"], found["seconds"], found["low"], found["high"],
        found["work"], found["kept"], found["timed"], found["share"], rounds, found.get("peak"),
        found.get("error"), found.get("about", {}),
    )  # fmt: skip
