"""Tuning here: ask for configs, measure them, confirm the best few side by side, choose.

Two stages, since a few samples choose badly among many configs: all get a few, the best again many,
in turns. What is as fast is as good, the default above all (`contest`, TUNING.md 2.3). The first
stage begins with what is next to the default and ends with what is next to the best: two tunes
start and end at the same place then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, Protocol

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from tilec.ir.errors import TileError
from tilec.tune import contest
from tilec.tune.blocked import Blocklist
from tilec.tune.config import Config
from tilec.tune.job import (
    Policy,
    Subject,
    check_policy,
    config_key,
    device,
    device_digest,
    policy_of,
    toolchain,
)
from tilec.tune.measure.measurer import Measurer
from tilec.tune.population import everything, neighbours
from tilec.tune.records import Failure, Study, Trial
from tilec.tune.relatives import adapted
from tilec.tune.search.loop import Search, Stop
from tilec.tune.search.transfer import Source
from tilec.tune.spaces import Derived, derived

CONFIRMED = 8  # configs of the second stage, and the default
HOPELESS = 8.0  # times the fastest prediction: not measured
SHOWN = 8  # rows of a report
BLOCKED = "it has taken two tuning processes down before"
AROUND = 3  # one part in so many of the budget is for what is next to the default, and to the best

Told = Callable[[str, int, int], None]  # what is done, how much of it, of how much


class Measures(Protocol):
    """What measures configs: see `measure.Measurer`."""

    def trial(self, config: Config) -> Trial:
        """What comes of a config."""
        ...

    def confirm(self, configs: Sequence[Config], seconds: float = 20.0,
                told: Callable[[int], None] | None = None) -> list[Trial]:  # fmt: skip
        """The same configs side by side, in turns."""
        ...

    def close(self) -> None:
        """End whatever it has started."""
        ...


@dataclass(frozen=True)
class Options:
    """How is tuned: how many configs, the seed, the sampler, seconds of the second stage, trials
    from elsewhere to start from; after how many configs without a gain the first stage ends; and
    configs of other shapes to begin with (`tilec.tune.relatives`)."""

    budget: int = 60
    seed: int = 0
    sampler: str = "gp"
    confirm: float = 10.0
    sources: tuple[Source, ...] = ()
    patience: int = 30
    first: tuple[Config, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """What came of tuning: the config to use, its seconds and the default's, measured in turns.

    `study` has the trials of the first stage, `confirmed` those of the second as `contest.paired`.
    Printed by rich it is a table.
    """

    subject: Subject
    config: Config
    default: Config
    seconds: float
    default_seconds: float
    key: str
    device: Mapping[str, Any]
    toolchain: str
    policy: Policy
    study: Study
    confirmed: tuple[Trial, ...]
    cost: float

    @property
    def speedup(self) -> float:
        """How many times as fast as the default."""
        return self.default_seconds / self.seconds

    @property
    def compiled(self) -> float:
        """Seconds of `cost` in which configs of the first stage were compiled."""
        return sum(t.compiled for t in self.study.trials)

    @property
    def failures(self) -> dict[str, int]:
        """How many configs of the first stage failed, by class."""
        return dict(Counter(t.failure.value for t in self.study.trials if t.failure is not None))

    def record(self) -> dict[str, Any]:
        """What is kept of it, as JSON data: see `store`."""
        samples = next((t.samples for t in self.confirmed if t.config == self.config), ())
        return {
            "key": self.key, "kernel": self.subject.job.kernel, "family": self.subject.family,
            "shape": dict(self.subject.shape), "config": self.config.to_json(),
            "time_ms": 1e3 * self.seconds,
            "provenance": {
                "study": "local", "trial": f"{len(self.study.trials)} configs", "worker": "local",
                "device": dict(self.device), "toolchain": self.toolchain,
                "policy": self.policy.to_json(), "samples_ms": [1e3 * s for s in samples],
                "default_ms": 1e3 * self.default_seconds, "date": time.time(),
            },
        }  # fmt: skip

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield report(self)

    def __str__(self) -> str:
        text = StringIO()
        Console(file=text, width=100, color_system=None).print(report(self))
        return text.getvalue()


def tune(
    of: Subject, options: Options | None = None, *, told: Told | None = None,
    found: Derived | None = None, measurer: Measures | None = None, policy: Policy | None = None,
    blocked: Blocklist | None = None,
) -> Tuned:  # fmt: skip
    """Tune a kernel on this machine. `told` is called as it goes on; `blocked` is not tried.

    Raises TileError where the default config can't be measured, or nothing by this policy.
    """
    chosen, start, job = options or Options(), time.monotonic(), of.job
    policy = policy or policy_of(job.backend)
    check_policy(policy, job.backend)
    found = found or derived(job)
    here, made_by = device(job.backend), toolchain(job.backend)
    space = pruned(found)
    assert space.space.default is not None  # as all derived spaces have
    default = space.space.default
    study = Study(job.kernel, device_digest(here), space.space, (), _text(policy), chosen.seed,
                  chosen.budget)  # fmt: skip
    measurer = measurer or Measurer(job, policy, default)
    tell = told or _silent
    try:
        search = _searched(study, chosen, space, _Guarded(measurer, blocked), tell)
        finalists = best_few(search.study.trials, default)
        confirmed = measurer.confirm(finalists, chosen.confirm, lambda i: tell("confirming", i, 0))
        best, shown = chosen_of(confirmed, default), contest.paired(confirmed)
        if best != default:  # the best of many was lucky perhaps: it must win again, alone
            duel = measurer.confirm([default, best], chosen.confirm / 2)
            best = best if _again(duel) else default
            apart = {d.config for d in duel}
            shown = contest.paired(duel) + [t for t in shown if t.config not in apart]
    finally:
        measurer.close()
    times = {t.config: t.seconds for t in shown}
    key = config_key(job.kernel, device_digest(here), made_by, policy)
    return Tuned(of, best, default, times[best] or 0.0, times[default] or 0.0, key, here, made_by,
                 policy, search.study, tuple(shown), time.monotonic() - start)  # fmt: skip


class _Guarded:
    """Measures configs, but those that are blocked; what is being tried is noted meanwhile."""

    def __init__(self, measurer: Measures, blocked: Blocklist | None) -> None:
        self._measurer = measurer
        self._blocked = Blocklist(None, "", "", "") if blocked is None else blocked
        self._configs = self._blocked.configs

    def trial(self, config: Config) -> Trial:
        """What comes of a config."""
        if config in self._configs:
            return Trial(config, (), Failure.DEVICE_FAULT, note=BLOCKED)
        with self._blocked.trying(config):
            return self._measurer.trial(config)


def _silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""
    del what, done, of


def _searched(study: Study, options: Options, space: Derived, measurer: _Guarded, tell: Told
              ) -> Search:  # fmt: skip
    """The first stage."""
    search = Search(study, options.sampler, options.sources, space.predict,
                    Stop(patience=options.patience))  # fmt: skip

    def measure(configs: Sequence[Config]) -> None:
        for config in configs[: study.budget - len(search.study.trials)]:
            search.tell(measurer.trial(config))
            tell("measuring", len(search.study.trials), study.budget)

    default = space.space.default
    assert default is not None  # as all derived spaces have
    measure(search.ask())  # the default
    starts = (adapted(c, study.space) for c in options.first)
    measure([c for c in dict.fromkeys(starts) if c is not None and c != default])
    measure(_beside(default, search.study, space)[: study.budget // AROUND])
    while len(search.study.trials) < study.budget * (1 - 1 / AROUND) and (asked := search.ask()):
        measure(asked)
    while len(search.study.trials) < study.budget and (near := _beside_best(search.study, space)):
        measure(near[:1])
    first = next((t for t in search.study.trials if t.config == default), None)
    if first is None or first.failure is not None:
        raise TileError(f"the default config can't be measured: {first.note if first else ''}")
    return search


def _beside_best(study: Study, space: Derived) -> list[Config]:
    """The configs that were not tried next to the best one, or else to the next that is as fast as
    that."""
    timed = sorted(((t.seconds, t.config) for t in study.trials if t.seconds is not None),
                   key=lambda x: (x[0], x[1].text))  # fmt: skip
    as_fast = (c for seconds, c in timed if seconds <= (1 + contest.TIE) * timed[0][0])
    return next(filter(None, (_beside(c, study, space) for c in as_fast)), list[Config]())


def _beside(config: Config, study: Study, space: Derived) -> list[Config]:
    """The configs next to one that were not tried, the fastest by the model first."""
    near = neighbours(study.space, np.array(study.space.row(config), np.intp))
    if not len(near):
        return []
    tried = {t.config for t in study.trials}
    order = np.argsort(space.predict(study.space.columns(near)), kind="stable")
    return [c for c in map(study.space.config, near[order]) if c not in tried]


def pruned(found: Derived) -> Derived:
    """The space without configs that the model takes to be far slower than the best.

    The default stays. Spaces too large to enumerate stay as they are.
    """
    rows = everything(found.space, 50_000)
    if rows is None or len(rows) < 2 or found.space.default is None:
        return found
    seconds = found.predict(found.space.columns(rows))
    default = found.space.row(found.space.default)
    kept = (seconds <= HOPELESS * seconds.min()) | (rows == np.array(default)).all(1)
    if kept.all():
        return found
    listed = tuple(tuple(map(int, r)) for r in rows[kept])
    return replace(found, space=replace(found.space, rows=listed))


def best_few(trials: Iterable[Trial], default: Config, most: int = CONFIRMED) -> list[Config]:
    """The configs of the second stage: the default first, then the fastest."""
    timed = [t for t in trials if t.seconds is not None and t.config != default]
    timed.sort(key=lambda t: (t.seconds or 0.0, t.config.text))
    return [default, *(t.config for t in timed[:most])]


def chosen_of(confirmed: Sequence[Trial], default: Config) -> Config:
    """The config to use, of trials in turns, the default's first; that where nothing else was
    measured."""
    timed = [t for t in confirmed if t.samples]
    if not timed or timed[0].config != default:
        return default
    return contest.chosen([t.config for t in timed], [t.samples for t in timed])


def _again(duel: Sequence[Trial]) -> bool:
    """Whether a config that was chosen is faster than the default once more, alone: else it was
    luck."""
    default, best = (t.samples for t in duel)
    return bool(default and best) and contest.ratio(best, default).middle < 1 - contest.NEAR


def _text(policy: Policy) -> str:
    return ",".join(f"{n}={v}" for n, v in policy.to_json().items())


def report(tuned: Tuned) -> Table:
    """The configs that were confirmed, the fastest first."""
    name, failures = tuned.subject.job.func.name, tuned.failures.items()
    said = [f"{len(tuned.study.trials)} configs in {tuned.cost:.1f} s, of these "
            f"{tuned.compiled:.1f} s for compiling"]  # fmt: skip
    said += [f"{n} {what}" for what, n in failures]
    table = Table(title=f"{name}: {tuned.speedup:.2f} x the default", caption=", ".join(said))
    for name, justify in (("config", "left"), ("us", "right"), ("x", "right"), ("", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    trials = sorted(tuned.confirmed, key=lambda t: t.seconds or float("inf"))
    for t in trials[:SHOWN]:
        marks = ["chosen"] * (t.config == tuned.config) + ["default"] * (t.config == tuned.default)
        what = [t.failure.value] if t.failure is not None else marks
        seconds = t.seconds or float("nan")
        table.add_row(_changed(t.config, tuned.default), f"{1e6 * seconds:.1f}",
                      f"{tuned.default_seconds / seconds:.2f}", ", ".join(what))  # fmt: skip
    return table


def _changed(config: Config, default: Config) -> str:
    """What a config has other than the default."""
    other = {n: v for n, v in config.items() if default.get(n) != v}
    return Config.of(other).text.replace(",", ", ") or default.text.replace(",", ", ")
