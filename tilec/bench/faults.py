"""What a cache does when the disk, the machine or a neighbour misbehaves: ours, and Triton's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

from tilec.bench.faults_damage import (
    bad_places,
    damaged_bytes,
    errors_of_the_disk,
    full_disk,
    read_only,
    skewed_clock,
    strange_files,
)
from tilec.bench.faults_processes import cold_key, killed, stopped_holder, under_load
from tilec.bench.faults_triton import Peer
from tilec.bench.faults_victim import Outcome


@dataclass(frozen=True)
class Fault:
    """One row: what goes wrong, how it is tried (in a folder, so many times), and the name of the
    peer's figures for the same."""

    name: str
    trial: Callable[[Path, int], Outcome]
    times: int
    peer: str = ""
    memory: bool = True  # in shared memory: where it is not about what survives


FAULTS = (
    Fault("kill -9 while compiling and publishing", killed, 1000, "killed", memory=False),
    Fault("truncated at every offset", lambda p, n: damaged_bytes(p, n, "truncate"), 1 << 20,
          "truncated"),
    Fault("a bit flipped at every offset", lambda p, n: damaged_bytes(p, n, "flip"), 1 << 20,
          "flipped"),
    Fault("disk full", full_disk, 60, "full"),
    Fault("read-only directory", read_only, 20, "read only"),
    Fault("foreign-owned or world-writable directory, parent, link", bad_places, 5, "places"),
    Fault("entry is a link, pipe, device, hard link, directory, ...", strange_files, 5, "links"),
    Fault("EIO, ESTALE, EBUSY, EDQUOT, ENOSPC, EROFS", errors_of_the_disk, 10),
    Fault("64 processes, 8 cold keys", cold_key, 64, "cold"),
    Fault("the process that compiles is stopped", stopped_holder, 4, "stopped"),
    Fault("eviction under 8 writers", under_load, 150, "bounds"),
    Fault("clock a day wrong", skewed_clock, 20),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A fault, what came of it, and what came of it for the peer (empty: not tried)."""

    fault: str
    ours: Outcome
    peer: str


def measure(
    scale: float = 1.0, peer: bool = True, only: Sequence[str] = ()
) -> Generator[Result, None, None]:
    """Every fault in turn; `scale` below 1 tries each less often."""
    theirs = Peer(scale) if peer else None
    for fault in chosen(only):
        ours = tried(fault, max(int(fault.times * scale), 2))
        yield Result(fault.name, ours, theirs.said(fault.peer) if theirs and fault.peer else "")


def tried(fault: Fault, times: int) -> Outcome:
    """A fault, so many times, in a folder of its own."""
    with _folder(fault.memory) as folder:
        return fault.trial(folder, times)


def chosen(only: Sequence[str]) -> Iterator[Fault]:
    """The faults whose name has one of these words; all, if there are none."""
    return (f for f in FAULTS if not only or any(word in f.name for word in only))


def clean(results: Sequence[Result]) -> bool:
    """Whether nothing was wrong, failed, needed a person, or was compiled twice."""
    return all(r.ours.clean for r in results)


def table(results: Sequence[Result]) -> Table:
    """The rows, ours beside the peer's."""
    found = Table(show_lines=True)
    columns = ("fault", "trials", "wrong results", "failures", "need a human", "note")
    for i, name in enumerate((*columns, f"Triton {version('triton')}")):
        found.add_column(name, justify="right" if 0 < i < 5 else "left")
    for r in results:
        o = r.ours
        found.add_row(r.fault, *map(str, (o.trials, o.wrong, o.failed, o.stuck)), o.note, r.peer)
    return found


def data(results: Sequence[Result]) -> list[dict[str, object]]:
    """The rows as JSON."""
    return [{"fault": r.fault, **asdict(r.ours), "triton": r.peer} for r in results]


@contextmanager
def _folder(memory: bool) -> Generator[Path]:
    """A new folder, in memory if there is such a place."""
    place = "/dev/shm" if memory and os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tilec-faults-", dir=place) as name:
        yield Path(name)
