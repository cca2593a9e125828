"""A service and workers as processes of their own, to be killed, and what is found afterwards."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select

from tilec.fleet.recorded import TOOLCHAIN, Recorded, describe
from tilec.ir.errors import TileError
from tilec.serve.tables import leases, trials
from tilec.tune.client.studies import ENDED, Studies
from tilec.tune.client.wire import Address, Refused, Unreachable, Wire
from tilec.tune.config import Config
from tilec.tune.space import Parameter, Space

TILEC = (sys.executable, "-c", "from tilec.cli import main; main()")
SPACE = "synthetic"
DEVICE = "recorded:fake"
STARTS_S = 180.0  # for a service to answer
LAST = 500  # letters of a log that are told
JOURNAL = "journal"  # in the folder of a run: what its workers say that they did
# A clock of the day that is a day off, now in one direction and now in the other.
STEPS = """
import random, time
real, chance = time.time, random.Random(1)
time.time = lambda: real() + chance.choice((-86400, 0, 86400))
"""


def synthetic(cost_s: float, sizes: Sequence[int] = (8, 8, 8, 4),
              faults: Mapping[int, str] | None = None) -> Recorded:  # fmt: skip
    """A space whose trials take about so long: a bowl with noise, and a part that fails."""
    names = "abcdefgh"[: len(sizes)]
    parameters = tuple(Parameter(n, tuple(range(s))) for n, s in zip(names, sizes, strict=True))
    whole = Space(parameters)
    rows = [tuple(int(i) for i in r) for block in whole.blocks() for r in block]
    chance = random.Random(2)
    samples: list[tuple[float, ...]] = []
    for row in rows:
        bowl = 1 + sum((i - s / 3) ** 2 for i, s in zip(row, sizes, strict=True)) / len(sizes)
        seconds = 1e-4 * bowl * chance.uniform(0.95, 1.05)
        fails = chance.random() < 0.03 and any(row)
        samples.append(() if fails else tuple(seconds * chance.gauss(1, 0.01) for _ in range(8)))
    default = Config.of(dict.fromkeys(names, 0))
    costs = tuple(cost_s * chance.uniform(0.5, 1.5) for _ in rows)
    return Recorded(SPACE, Space(parameters, default=default, rows=tuple(rows)), tuple(samples),
                    costs, faults or {})  # fmt: skip


def request(space: Recorded, budget: int, sampler: str = "random",
            timeout_s: float = 60.0) -> dict[str, Any]:  # fmt: skip
    """A study of a recorded space."""
    return {"name": "reliability", "job": {"kind": "recorded", "space": SPACE}, "kernel": "ab" * 32,
            "family": "cd" * 32, "space": space.space.to_json(), "budget": budget, "seed": 1,
            "sampler": sampler, "device": {"kind": "cuda", "name": "fake"}, "toolchain": TOOLCHAIN,
            "timeout_s": timeout_s}  # fmt: skip


@dataclass
class Server:
    """A service that is started, killed and started again on the same database and port."""

    folder: Path
    lease_s: float = 5.0
    database: str = ""
    before: str = ""  # Python that runs first
    starts: int = 0
    checks: Counter[str] = field(default_factory=Counter[str])
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.database = self.database or f"sqlite:///{self.folder / 'tilec.db'}"

    @property
    def address(self) -> Address:
        return Address(f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        """Start it, and wait until it answers. Raises TileError."""
        program = [*TILEC[:2], f"{self.before}\n{TILEC[2]}"]
        options = ["serve", "--port", str(self.port), "--database", self.database, "--data",
                   str(self.folder), "--lease", str(self.lease_s)]  # fmt: skip
        self.starts += 1
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*program, *options], stdout=log, stderr=log)
        wire, end = Wire(self.address), time.monotonic() + STARTS_S
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(Unreachable, Refused):
                wire.ask("GET", "/readyz", seconds=5)
                wire.close()
                return
            time.sleep(0.05)
        said = (self.folder / "server.log").read_text(errors="replace")[-LAST:]
        raise TileError(f"the service does not start: {said}")

    def kill(self) -> None:
        """SIGKILL, and look whether the database is whole."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.database.startswith("sqlite"):
            with sqlite3.connect(self.folder / "tilec.db") as base:
                self.checks[base.execute("PRAGMA integrity_check").fetchone()[0]] += 1

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        if self.process is not None:
            self.process.terminate()
            end(self.process)

    def limit_files(self, size: int = resource.RLIM_INFINITY) -> None:
        """No file of the service may grow beyond a size: to it, the disk is full."""
        assert self.process is not None
        _, most = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, most))

    def turns_writes_away(self) -> bool:
        """Whether it says of a write that it can't be done now, but may be later."""
        who = {"worker": "probe", "device": {"kind": "cpu", "name": "none"}, "toolchain": "0" * 64}
        wire = Wire(self.address)
        try:
            wire.ask("POST", "/v1/workers", who)
        except Refused as e:
            return e.passing
        finally:
            wire.close()
        return False


@dataclass
class Fleet:
    """Workers of recorded times, each with a journal and a log."""

    folder: Path
    server: Server
    space: Recorded
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])
    killed: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()  # where the workers are: see left_over
        (self.folder / "recorded").mkdir(exist_ok=True)
        (self.folder / "recorded" / f"{SPACE}.json").write_text(describe(self.space), "utf-8")

    def add(self, count: int = 1, *more: str) -> None:
        """Start workers."""
        for _ in range(count):
            name = f"w{len(self.workers)}-{os.getpid()}"
            options = ["--service", self.server.address.url, "--device", DEVICE, "--name", name,
                       "--recorded", str(self.folder / "recorded"), "--wait", "2",
                       "--journal", str(self.folder / JOURNAL), *more]  # fmt: skip
            with (self.folder / f"{name}.log").open("ab") as log:
                command = [*TILEC, "worker", "run", *options]
                self.workers.append(
                    subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
                )

    @property
    def alive(self) -> list[subprocess.Popen[bytes]]:
        return [w for w in self.workers if w.poll() is None]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """SIGKILL."""
        worker.kill()
        worker.wait()
        self.killed.add(worker.pid)

    def end(self) -> int:
        """Drain all. How many had ended or ended now with another exit code than 0."""
        for worker in self.alive:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
                worker.terminate()
        return sum(end(w) != 0 for w in self.workers if w.pid not in self.killed)

    def journal(self) -> list[dict[str, Any]]:
        """What the workers say that they did."""
        path = self.folder / JOURNAL
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    def errors(self) -> int:
        """Tracebacks and errors in the logs of workers."""
        logs = [p.read_text(errors="replace") for p in self.folder.glob("w*.log")]
        return sum(x.count("Traceback") + x.count("error:") for x in logs)


def end(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that was told to end."""
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@dataclass(frozen=True)
class Audit:
    """What became of a study's trials, by the database and the workers' journals."""

    state: str
    trials: int
    lost: int
    duplicated: int
    orphans: int
    poison: int
    late: int


def audited(server: Server, study: str, budget: int, journal: Iterable[Mapping[str, Any]]) -> Audit:
    """Count: trials that are missing or not ended, or that a worker was told were kept and are not;
    trials that ended twice, or configs that were measured twice; leases that nobody ended."""
    engine = create_engine(server.database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as tx:
        rows = tx.execute(select(trials).where(trials.c.study == study)).all()
        held = tx.execute(select(leases).where(leases.c.study == study)).all()
    engine.dispose()
    measured = [r for r in rows if r.purpose == "measure"]
    ended = {r.id for r in rows if r.state in ("done", "failed", "poison")}
    said = [j for j in journal if j["study"] == study and j["said"] not in ("late", "given up")]
    kept = [j["trial"] for j in said if j["said"] not in ("infra", "worker_lost")]
    ends = Counter(x.trial for x in held if x.state == "done")
    states = {r.id: r.state for r in rows}
    lost = budget - sum(r.id in ended for r in measured) + len(set(kept) - ended)
    lost += sum(ends[t] == 0 for t, s in states.items() if s == "done")
    twice = sum(n - 1 for n in ends.values()) + sum(n - 1 for n in Counter(kept).values())
    twice += sum(n - 1 for n in Counter(r.configs for r in measured).values())
    state = Studies(server.address).study(study)["state"]
    held_still = sum(x.state == "active" for x in held)
    poison, late = sum(r.state == "poison" for r in rows), sum(x.late is not None for x in held)
    return Audit(state, len(measured), lost, twice, held_still, poison, late)


def waited(server: Server, study: str, seconds: float) -> bool:
    """Whether a study ends, given so many seconds from each trial that ends to the next: a machine
    that is busy with other things only takes longer."""
    until, last, client = time.monotonic() + seconds, 0, Studies(server.address)
    while time.monotonic() < until:
        found = client.study(study)
        if found["state"] in ENDED:
            return True
        ended = sum(found["trials"][n] for n in ("done", "failed", "poison"))
        if ended > last:
            until, last = time.monotonic() + seconds, ended
        time.sleep(0.2)
    return False


def left_over(folder: Path) -> int:
    """Processes of this user that work in a folder, as workers and all that they start do, or have
    its journal on their command line: other runs on this machine are none of ours."""
    return sum(_is_of(entry, folder.resolve()) for entry in Path("/proc").iterdir()
               if entry.name.isdecimal())  # fmt: skip


def _is_of(entry: Path, folder: Path) -> bool:
    """Whether a process is one of a folder's; not where it has ended meanwhile."""
    with suppress(OSError):
        if entry.stat().st_uid != os.geteuid():
            return False
        words = (entry / "cmdline").read_bytes()
        return bytes(folder / JOURNAL) in words or (entry / "cwd").readlink() == folder
    return False
