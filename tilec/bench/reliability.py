"""The tuning service and its workers under kill, stop, poison, full disks and bad networks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from tilec.bench import reliability_scenes as scenes
from tilec.bench.reliability_lookup import Latency, latencies
from tilec.bench.reliability_ray import actor_killed
from tilec.bench.reliability_scenes import Outcome, Scene

MOST_S, AFTER_S = 0.25, 0.005  # of a first lookup, and of one after the breaker


@dataclass(frozen=True)
class Row:
    """A scene; `scale` makes one of another size."""

    name: str
    scene: Callable[[float], Scene]
    needs: str = ""  # a package


def _sized(scene: Callable[..., Outcome], *counts: int) -> Callable[[float], Scene]:
    """A scene whose counts follow the scale."""

    def made(scale: float) -> Scene:
        sizes = [max(round(n * scale), 2 if n > 3 else 1) for n in counts]
        return lambda folder: scene(folder, *sizes)

    return made


def _on_postgres(scale: float) -> Scene:
    return partial(scenes.on_postgres, trials=max(round(200 * scale), 10))


ROWS = (
    Row("service killed 2 s after every start", _sized(scenes.server_killed, 500)),
    Row("workers killed at random", _sized(scenes.workers_killed, 500, 31)),
    Row("workers stopped beyond their leases", _sized(scenes.stale_tokens, 60, 9)),
    Row("poison: loop, segfault, abort, OOM, fork bomb, 10 GB, exit(0), kill", _sized(
        scenes.poison, 1)),
    Row("disk full", _sized(scenes.disk_full, 100, 3)),
    Row("day's clock off by a day, back and forth", _sized(scenes.clock_steps, 60)),
    Row("PostgreSQL: service killed 2 s after every start", _on_postgres, "pgserver"),
    Row("Ray: an actor killed in a trial", _sized(actor_killed, 40, 2), "ray"),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A row and what came of it."""

    name: str
    outcome: Outcome


def chosen(only: Sequence[str]) -> Iterator[Row]:
    """The rows whose name has one of these words; all, if there are none."""
    return (r for r in ROWS if not only or any(word in r.name for word in only))


def measure(scale: float = 1.0, only: Sequence[str] = ()) -> Generator[Result]:
    """Every row in turn."""
    for row in chosen(only):
        with _folder() as folder:
            yield Result(row.name, _tried(row.scene(scale), folder))


def _tried(scene: Scene, folder: Path) -> Outcome:
    """A scene that breaks down is a row too, so that the others are not lost."""
    try:
        return scene(folder)
    except Exception as e:
        return Outcome(0, 0, 0, 0, 0, 1, f"broke down: {type(e).__name__}: {e}")


def table(results: Sequence[Result]) -> Table:
    """What must be 0 in every row, and how often it was tried."""
    found = Table(title="A study and what happens to it", show_lines=True)
    columns = ("what goes wrong", "times", "trials", "lost", "duplicated", "orphans",
               "errors surfaced", "note")  # fmt: skip
    for i, name in enumerate(columns):
        found.add_column(name, justify="right" if 0 < i < 7 else "left")
    for r in results:
        o = r.outcome
        counts = (o.times, o.trials, o.lost, o.duplicated, o.orphans, o.errors)
        found.add_row(r.name, *map(str, counts), o.note)
    return found


def line(result: Result) -> str:
    """A row as it comes, since all of them take minutes."""
    o = result.outcome
    return (f"{result.name}: {o.times} times, {o.trials} trials, {o.lost} lost, {o.duplicated} "
            f"duplicated, {o.orphans} orphans, {o.errors} errors; {o.note}")  # fmt: skip


def lookups() -> list[Latency]:
    """Lookups at services that misbehave."""
    return list(latencies())


def lookup_table(found: Sequence[Latency]) -> Table:
    """What a kernel's first call waits for."""
    made = Table(title="A lookup at a service that misbehaves")
    for i, name in enumerate(("service", "first, ms", "slowest of 200 more, ms", "raised")):
        made.add_column(name, justify="right" if i else "left")
    for r in found:
        made.add_row(r.manner, f"{1e3 * r.first:.1f}", f"{1e3 * r.later:.3f}", str(r.raised))
    return made


def quick(found: Sequence[Latency]) -> bool:
    """Whether no lookup raised or found anything, and none was slow."""
    return all(not r.raised and not r.found and r.first <= MOST_S and r.later <= AFTER_S
               for r in found)  # fmt: skip


def clean(results: Sequence[Result]) -> bool:
    """Whether nothing was lost, done twice or left, and nobody saw an error."""
    return all(r.outcome.clean for r in results)


def data(results: Sequence[Result], found: Sequence[Latency]) -> dict[str, object]:
    """Both tables as JSON."""
    return {"scenes": [{"name": r.name, **asdict(r.outcome)} for r in results],
            "lookups": [asdict(r) for r in found]}  # fmt: skip


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="tilec-reliability-") as name:
        yield Path(name)
