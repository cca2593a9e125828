"""What goes wrong with a service and its workers, each tried in a folder of its own."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tilec.bench.reliability_fleet import (
    STEPS,
    Audit,
    Fleet,
    Server,
    audited,
    left_over,
    request,
    synthetic,
    waited,
)
from tilec.fleet.poison import FAULTS
from tilec.fleet.recorded import Recorded
from tilec.tune.client.studies import Studies

LIMIT_S = 240.0  # for what is done to a study, and then for each of its steps
SPARE_S = 1.0  # that a poisoned trial may take beyond its time


@dataclass(frozen=True)
class Outcome:
    """What came of a scene: how often it happened (a kill, a fault), trials, and what must be 0:
    trials that are lost or done twice, leases and processes that are left, errors that a user or an
    operator would see."""

    times: int
    trials: int
    lost: int
    duplicated: int
    orphans: int
    errors: int
    note: str

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.orphans or self.errors)


@contextmanager
def _site(
    folder: Path, space: Recorded, workers: int, lease_s: float = 5.0, before: str = "",
    database: str = "",
) -> Generator[tuple[Server, Fleet]]:  # fmt: skip
    """A service with workers; all of them are gone afterwards."""
    server = Server(folder, lease_s, database, before)
    fleet = Fleet(folder, server, space)
    try:
        server.start()
        fleet.add(workers)
        yield server, fleet
    finally:
        for worker in fleet.alive:
            worker.kill()
            worker.wait()
        server.stop()


def _outcome(
    server: Server, fleet: Fleet, study: str, budget: int, times: int, note: str
) -> Outcome:
    """The outcome of a study that should have ended."""
    ended = waited(server, study, LIMIT_S)
    found: Audit = audited(server, study, budget, fleet.journal())
    codes = fleet.end()
    errors = codes + fleet.errors() + (not ended or found.state != "done")
    said = [f"study {found.state}", *([f"{found.poison} poison"] if found.poison else []),
            *([f"{found.late} late results refused"] if found.late else []), note]  # fmt: skip
    orphans = found.orphans + left_over(fleet.folder)
    return Outcome(times, found.trials, found.lost, found.duplicated, orphans, errors,
                   "; ".join(filter(None, said)))  # fmt: skip


def server_killed(folder: Path, trials: int, database: str = "", up_s: float = 2.0) -> Outcome:
    """SIGKILL to the service 2 s after each start, until the study has ended."""
    space = synthetic(0.15)
    with _site(folder, space, 4, database=database) as (server, fleet):
        client = Studies(server.address)
        study = client.submit(request(space, trials))["id"]
        kills, away, until = 0, 0.0, time.monotonic() + LIMIT_S
        while client.study(study)["state"] != "done" and time.monotonic() < until:
            time.sleep(up_s)
            start = time.monotonic()
            server.kill()
            server.start()
            kills, away = kills + 1, away + time.monotonic() - start
        whole = server.checks["ok"]
        checked = f"integrity_check ok {whole} of {kills}, " if not database else ""
        note = f"{checked}away for {away / max(kills, 1):.1f} s each time"
        found = _outcome(server, fleet, study, trials, kills, note)
        broken = 0 if database else kills - whole
        return replace(found, errors=found.errors + broken)


def workers_killed(folder: Path, trials: int, kills: int) -> Outcome:
    """SIGKILL to workers at random moments; for each another one starts."""
    space, chance = synthetic(0.25), random.Random(3)
    with _site(folder, space, 4, lease_s=2.0) as (server, fleet):
        study = Studies(server.address).submit(request(space, trials))["id"]
        time.sleep(2)
        for _ in range(kills):
            time.sleep(chance.uniform(0.2, 1.0))
            fleet.kill(chance.choice(fleet.alive))
            fleet.add()
        return _outcome(server, fleet, study, trials, kills, "leases of 2 s")


def stale_tokens(folder: Path, trials: int, stops: int) -> Outcome:
    """SIGSTOP to a worker until its trial is another's; then it goes on and hands in its result."""
    space = synthetic(0.5)
    with _site(folder, space, 3, lease_s=1.0) as (server, fleet):
        study = Studies(server.address).submit(request(space, trials))["id"]
        time.sleep(3)
        for i in range(stops):
            worker = fleet.workers[i % 3]
            worker.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.5)
        refused = sum(j["said"] in ("late", "given up") for j in fleet.journal())
        note = f"{refused} leases were lost by stopped workers, leases of 1 s"
        return _outcome(server, fleet, study, trials, stops, note)


def poison(folder: Path, rounds: int) -> Outcome:
    """Configs that loop, crash, fork, fill memory or print 10 GB, and one that takes its worker
    down."""
    faults = {i: name for i, name in enumerate((*FAULTS, "worker") * rounds, start=1)}
    space = synthetic(0.05, (4, 4, 2), faults)
    trials, timeout = 32, 5.0
    with _site(folder, space, 2, lease_s=2.0) as (server, fleet):
        client = Studies(server.address)
        study = client.submit(request(space, trials, timeout_s=timeout))["id"]
        until = time.monotonic() + LIMIT_S
        while client.study(study)["state"] != "done" and time.monotonic() < until:
            for worker in fleet.workers:
                if worker.poll() == -signal.SIGKILL and worker.pid not in fleet.killed:
                    fleet.killed.add(worker.pid)  # by the config: an operator's system starts it
                    fleet.add()
            time.sleep(0.1)
        rows = [t for t in client.trials(study) if t["purpose"] == "measure"]
        found = _outcome(server, fleet, study, trials, len(faults), "")
        costs = [t["cost_s"] for t in rows if t["failure"] is not None and t["cost_s"]]
        over = sum(c > timeout + SPARE_S for c in costs)
        lost = len(fleet.killed) - 2 * rounds
        note = f"{found.note}; at most {max(costs):.1f} s for {timeout:.0f} s allowed; " \
               f"{_classes(rows)}; {len(fleet.killed)} workers taken down"  # fmt: skip
        return replace(found, errors=found.errors + over + (lost != 0), note=note)


def _classes(rows: list[dict[str, Any]]) -> str:
    classes = sorted(t["failure"] for t in rows if t["failure"] is not None)
    return ", ".join(f"{classes.count(c)} {c}" for c in dict.fromkeys(classes))


def disk_full(folder: Path, trials: int, times: int) -> Outcome:
    """No file of the service may grow for some seconds, again and again."""
    space = synthetic(0.3)
    with _site(folder, space, 3, lease_s=30.0) as (server, fleet):
        client = Studies(server.address)
        study = client.submit(request(space, trials))["id"]
        refused = 0
        for _ in range(times):
            time.sleep(1.5)
            server.limit_files(4096)
            time.sleep(2.0)
            refused += server.turns_writes_away()
            server.limit_files()
        note = f"a write was told to come again {refused} of {times} times"
        found = _outcome(server, fleet, study, trials, times, note)
        with sqlite3.connect(folder / "tilec.db") as base:
            whole = base.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return replace(found, errors=found.errors + (not whole))


def clock_steps(folder: Path, trials: int) -> Outcome:
    """The day's clock of the service is a day off, each time that it is read in another way; the
    service is killed once."""
    space = synthetic(0.1)
    with _site(folder, space, 3, lease_s=2.0, before=STEPS) as (server, fleet):
        study = Studies(server.address).submit(request(space, trials))["id"]
        time.sleep(3)
        server.kill()
        server.start()
        return _outcome(server, fleet, study, trials, 1, "")


def on_postgres(folder: Path, trials: int) -> Outcome:
    """`server_killed` with a PostgreSQL server in the folder."""
    with postgres(folder / "base") as url:
        return server_killed(folder, trials, url)


@contextmanager
def postgres(folder: Path) -> Generator[str]:
    """The URL of a PostgreSQL server that runs while this lasts."""
    folder.mkdir()
    base: Any = import_module("pgserver").get_server(folder)
    try:
        yield base.get_uri().replace("postgresql:", "postgresql+psycopg:")
    finally:
        base.cleanup()


Scene = Callable[[Path], Outcome]
