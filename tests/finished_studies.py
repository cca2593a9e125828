"""A tuning service with studies in its database: what the dashboard is tried and shown on.

`python finished_studies.py FOLDER` fills FOLDER/tilec.db.
"""

from __future__ import annotations

import heapq
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import insert, select, update
from tuning_spaces import MAKERS, Synthetic

from tilec.runtime.cache.key import canonical, digest
from tilec.serve import models
from tilec.serve.clock import Clock
from tilec.serve.database import Database
from tilec.serve.events import happened
from tilec.serve.keys import device_digest
from tilec.serve.progress import advance
from tilec.serve.setup import Limits
from tilec.serve.studies import made
from tilec.serve.tables import studies, trials, workers
from tilec.tune.config import Config
from tilec.tune.records import Failure, Study, Trial
from tilec.tune.search.loop import Search
from tilec.tune.space import Space

STARTED = 1_790_000_000.0
TOOLCHAIN = digest("tilec 0.1.0, synthetic")
DEVICE = models.Fingerprint(kind="cuda", name="Synthetic GPU, 36 units", sms=36, capability="9.0")
WORKERS = ("gpu-1", "gpu-2", "gpu-3")
DETAILS = {
    "resource_exceeded": "ptxas error: too many registers: {registers} of 255 for each of 128 "
    "threads\n  in linear_kernel, line 41: acc += dot(x[m, k], w[n, k].T)",
    "compile_timeout": "the compiler was stopped after 30.0 s (p90 of the finished: 2.9 s)",
    "wrong_result": "y differs from the default config's: relative norm 3.1e-01, allowed 1.0e-02",
    "run_timeout": "no result after 20.0 s; the process group was killed",
    "device_fault": "CUDA_ERROR_ILLEGAL_ADDRESS in linear_kernel; the process was replaced",
}


@dataclass
class Past:
    """A study as it went: three workers, one search, a simulated time of day."""

    database: Database
    space: Synthetic
    name: str = "linear int4, M=1500"
    sampler: str = "evolve"
    budget: int = 120
    seed: int = 0
    started: float = STARTED
    details: dict[str, str] = field(default_factory=lambda: dict(DETAILS))
    shape: tuple[tuple[str, int], ...] = (("M", 1500), ("N", 1500), ("K", 4096))
    work: models.Work | None = None
    id: str = ""

    def submit(self) -> Past:
        request = models.StudyRequest(
            name=self.name, job=models.RecordedJob(kind="recorded", space=self.space.name),
            kernel=digest(["kernel", self.space.name]), family=digest(["family", self.space.name]),
            shape=dict(self.shape),
            space=models.SpaceModel.model_validate(self.space.space.to_json()),
            budget=self.budget, seed=self.seed, sampler="auto", work=self.work,
            toolchain=TOOLCHAIN, device=models.DeviceFilter(kind="cuda", name="Synthetic*"),
        )  # fmt: skip
        space = Space.from_json(request.space.model_dump(exclude_none=True))
        self.id = self.database.write(
            lambda tx: made(tx, "default", request, space, self.started, Limits()))  # fmt: skip
        self.put(state="running", sampler=self.sampler, measured_device=device_digest(DEVICE),
                  measured_on=canonical(DEVICE.model_dump(exclude_none=True)))  # fmt: skip
        self.event("state", state="running", note="")
        return self

    def put(self, **values: object) -> None:
        said = update(studies).where(studies.c.id == self.id).values(**values)
        self.database.write(lambda tx: tx.execute(said))

    def event(self, kind: str, **data: object) -> None:
        self.database.write(lambda tx: happened(tx, self.id, kind, data))

    def run(self, count: int | None = None) -> Past:
        """Measure `count` configs (by default the budget), three at a time."""
        random = np.random.default_rng(self.seed)
        study = Study("k", "d", self.space.space, seed=self.seed, budget=self.budget)
        search = Search(study, self.sampler)
        free = [(self.started + 1.5 * i, worker) for i, worker in enumerate(WORKERS)]
        under_way: list[tuple[float, int, Trial]] = []
        rows: list[dict[str, object]] = []
        for number in range(1, (count or self.budget) + 1):
            now, worker = heapq.heappop(free)
            while under_way and under_way[0][0] <= now:
                search.tell(heapq.heappop(under_way)[2])
            config = search.ask(1)[0]
            trial, values = self._measured(config, number, worker, random)
            end = now + trial.cost
            rows.append({**values, "number": number, "worker": worker, "created": now - 0.2,
                         "finished": end})  # fmt: skip
            heapq.heappush(under_way, (end, number, trial))
            heapq.heappush(free, (end + 0.15 + random.exponential(0.25), worker))
        blank = {"failure": None, "samples": None, "time": None, "detail": "",
                 "compiled": None}  # fmt: skip
        rows = [{**blank, "study": self.id, "ready": 0.0, "lost": 0, **row} for row in rows]
        self.database.write(lambda tx: tx.execute(insert(trials), rows))
        self.put(planned=len(rows))
        return self

    def _measured(self, config: Config, number: int, worker: str,
                  random: np.random.Generator) -> tuple[Trial, dict[str, object]]:  # fmt: skip
        """A trial, and its row: what is too slow or drawn to fail has failed."""
        true, failure = self.space.trial(config), None
        compiling = 1.1 + random.exponential(0.9)
        drawn = random.random() if number > 1 else 1.0
        if true.failure:
            failure = "resource_exceeded"
        elif drawn < 0.075:
            failure = ("wrong_result", "compile_timeout", "run_timeout", "device_fault",
                       "worker_lost")[int(drawn / 0.015)]  # fmt: skip
        row: dict[str, object] = {
            "id": f"t{number:04x}{self.id[5:]}", "purpose": "measure", "attempts": 1,
            "configs": canonical([config.to_json()]), "device": device_digest(DEVICE),
            "toolchain": TOOLCHAIN}  # fmt: skip
        if failure:
            cost = {"compile_timeout": 30.0, "run_timeout": 21.0}.get(failure, compiling)
            state = "poison" if failure == "worker_lost" else "failed"
            lost = {"attempts": 2, "lost": 2} if state == "poison" else {}
            said = "the lease ended without a word" if lost else self.details[failure]
            registers = sum(int(v) for v in config.values() if isinstance(v, int))
            row |= {"state": state, "failure": failure, "cost": cost, **lost,
                    "detail": said.replace("{registers}", str(256 + registers))}  # fmt: skip
            known = Failure.RUN_TIMEOUT if lost else Failure(failure)
            return Trial(config, failure=known, cost=cost), row
        spread = {"gpu-1": 0.006, "gpu-2": 0.009, "gpu-3": 0.022}[worker]
        seconds = float(true.seconds or 1.0) * np.exp(random.normal(0, spread, 12))
        cost = compiling + 60 * float(seconds.sum())
        samples = [1000 * s for s in seconds.tolist()]
        row |= {"state": "done", "samples": canonical([samples]), "compiled": compiling,
                "time": float(np.median(samples)), "cost": cost}  # fmt: skip
        return Trial(config, tuple(seconds.tolist()), cost=cost), row

    def finish(self) -> Past:
        """Confirm the best few on another worker, and publish the winner."""
        random = np.random.default_rng(self.seed + 1)
        last = max(row.finished for row in self._rows())
        clock = Clock(self.database, day=lambda: last + 6.0)
        self.database.write(lambda tx: advance(tx, self.id, clock))
        row = self._rows()[-1]
        seconds = [self.space.trial(Config.of(c)).seconds for c in json.loads(row.configs)]
        samples = [[1000 * float(s or 1) * float(np.exp(random.normal(0, 0.006)))
                    for _ in range(30)] for s in seconds]  # fmt: skip
        worker = next(w for w in WORKERS if w != row.avoid)
        said = update(trials).where(trials.c.id == row.id).values(
            state="done", samples=canonical(samples), worker=worker, cost=5.2, attempts=1,
            device=device_digest(DEVICE), toolchain=TOOLCHAIN, created=last + 0.3,
            finished=last + 5.8)  # fmt: skip
        self.database.write(lambda tx: tx.execute(said))
        self.database.write(lambda tx: advance(tx, self.id, clock))
        return self

    def _rows(self) -> list:
        said = select(trials).where(trials.c.study == self.id).order_by(trials.c.number)
        with self.database.read() as tx:
            return list(tx.execute(said))


def add_workers(database: Database, now: float) -> None:
    """The three workers, and what they did; `now` is the time of day."""
    fingerprint = canonical(DEVICE.model_dump(exclude_none=True))
    with database.read() as tx:
        ended = [(r.worker, r.state, r.cost or 0.0) for r in tx.execute(select(trials))]
    rows = [{"tenant": "default", "worker": w, "state": "draining" if w == "gpu-3" else "active",
             "kind": "cuda", "name": DEVICE.name, "device": device_digest(DEVICE),
             "fingerprint": fingerprint, "toolchain": TOOLCHAIN, "recorded": "[]", "first": now,
             "seen": -2.0 - 3600 * (w == "gpu-2"),
             "measured": sum(c for n, _, c in ended if n == w),
             "done": sum(n == w and s == "done" for n, s, _ in ended),
             "failed": sum(n == w and s in ("failed", "poison") for n, s, _ in ended)}
            for w in WORKERS]  # fmt: skip
    database.write(lambda tx: tx.execute(insert(workers), rows))


def fill(database: Database, sampler: str = "evolve", started: float = STARTED) -> dict[str, str]:
    """Studies in several states. Returns their ids by name."""
    product, stencil, names = (MAKERS[n](1) for n in ("product", "stencil", "names"))
    work = models.Work(operations=2 * 1500 * 1500 * 4096, bytes=1500 * 4096 * 2.5 + 1500 * 1500 * 2,
                       operations_per_s=5.2e12, bytes_per_s=42e9)  # fmt: skip
    done = Past(database, product, sampler=sampler, started=started, work=work).submit()
    going = Past(
        database, stencil, "depthwise convolution, 7x7", budget=80, started=started + 800,
        shape=(("C", 96), ("H", 224), ("W", 224)),
    ).submit().run(31)  # fmt: skip
    plain = Past(
        database, names, "softmax, rows of 4096", "random", budget=60, started=started + 300,
        shape=(("M", 8192), ("N", 4096)),
    ).submit().run().finish()  # fmt: skip
    new = Past(database, product, "linear int4, M=1", started=started + 880,
               shape=(("M", 1), ("N", 1500), ("K", 4096))).submit()  # fmt: skip
    new.put(state="queued", measured_on=None)
    done.run().finish()
    add_workers(database, started)
    return {"done": done.id, "running": going.id, "random": plain.id, "queued": new.id}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    store = Database(f"sqlite:///{folder / 'tilec.db'}")
    store.migrate()
    print(json.dumps(fill(store, "lfbo", time.time() - 900)))
