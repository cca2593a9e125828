"""Asks samplers for trials, beside the event loop. All that it knows is in the database: after a
restart it goes on as if nothing had happened, and one worker gets the same trials for a seed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from typing import Any

from sqlalchemy import Connection, func, select, update

from tilec.serve import studies
from tilec.serve.clock import Clock
from tilec.serve.database import Database
from tilec.serve.progress import add_trial, advance
from tilec.serve.proposals import Proposer
from tilec.serve.setup import Setup
from tilec.serve.tables import studies as table
from tilec.serve.tables import trials, workers
from tilec.settings import tool_environment
from tilec.tune.measure.measurer import ONE_THREAD

BATCH = 16  # trials that are proposed at a time, at most
LINE = 64 << 20  # bytes of an answer, at most
log = logging.getLogger("tilec.serve")


class Planner:
    """Plans each study once at a time; `setup.planners` children propose (0: this process)."""

    def __init__(self, database: Database, clock: Clock, setup: Setup) -> None:
        self.database, self.clock, self.setup = database, clock, setup
        self.tasks: dict[str, asyncio.Task[bool]] = {}
        self.children: asyncio.Queue[_Child | _Here] = asyncio.Queue()
        for _ in range(setup.planners):
            self.children.put_nowait(_Child())
        if not setup.planners:
            self.children.put_nowait(_Here())

    def plan(self, study: str) -> asyncio.Task[bool]:
        """The task that plans a study, under way or new: whether there may be trials now."""
        task = self.tasks.get(study)
        if task is None:
            task = self.tasks[study] = asyncio.create_task(self._plan(study))
            task.add_done_callback(lambda _: self.tasks.pop(study, None))
        return task

    async def close(self) -> None:
        """End the tasks and the children."""
        for task in list(self.tasks.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        while not self.children.empty():
            await self.children.get_nowait().close()

    async def _plan(self, study: str) -> bool:
        asked = await asyncio.to_thread(self._question, study)
        if asked is None:
            return False
        planned = asked.pop("planned")
        answer = await self._answer(asked)
        await asyncio.to_thread(self._keep, study, planned, answer)
        return True

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        child = await self.children.get()
        try:
            async with asyncio.timeout(self.setup.plan_s):
                answer = await child.ask({**asked, "head": None})
                return await child.ask(asked) if "unknown" in answer else answer
        except TimeoutError:
            await child.close()
            return {"error": f"the sampler took more than {self.setup.plan_s:g} s"}
        except (OSError, ValueError):
            await child.close()
            return {"error": "the sampler broke down"}
        except asyncio.CancelledError:
            await child.close()
            raise
        finally:
            self.children.put_nowait(child)

    def _question(self, study: str) -> dict[str, Any] | None:
        with self.database.read() as tx:
            row = tx.execute(select(table).where(table.c.id == study)).first()
            if row is None or row.state not in ("queued", "running") or row.exhausted:
                return None
            told, pending = _told(tx, study)
            n = min(row.budget - row.planned, self._workers(tx, row), BATCH)
            if n < 1:
                return None
            sources = [{"weight": w, "trials": _told(tx, id_)[0]}
                       for id_, w in json.loads(row.sources)]  # fmt: skip
            head = {"space": json.loads(row.space), "seed": row.seed, "budget": row.budget,
                    "sampler": row.sampler, "sources": sources}  # fmt: skip
            return {"id": study, "head": head, "trials": told, "pending": pending, "n": n,
                    "planned": row.planned}  # fmt: skip

    def _workers(self, tx: Connection, row: Any) -> int:
        since = self.clock.now() - self.setup.alone_s
        said = select(func.count()).select_from(workers).where(
            workers.c.tenant == row.tenant, workers.c.kind == row.device_kind,
            workers.c.toolchain == row.toolchain, workers.c.state == "active",
            workers.c.seen > since)  # fmt: skip
        if row.measured_device is not None:
            said = said.where(workers.c.device == row.measured_device)
        return max(tx.execute(said).scalar_one(), 1)

    def _keep(self, study: str, planned: int, answer: dict[str, Any]) -> None:
        def change(tx: Connection) -> None:
            row = tx.execute(select(*studies.LIGHT).where(table.c.id == study)
                             .with_for_update()).first()  # fmt: skip
            if row is None or row.planned != planned or row.state not in ("queued", "running"):
                return  # another server was faster, or the study has ended
            if "error" in answer:
                studies.stop(tx, study, "failed", self.clock.day(), answer["error"][:1000])
                return
            found = answer["configs"]
            for config in found:
                add_trial(tx, study, "measure", [config], self.clock)
            more = update(table).where(table.c.id == study)
            tx.execute(more.values(planned=planned + len(found), exhausted=int(not found)))
            if not found:
                advance(tx, study, self.clock)

        self.database.write(change)


def _told(tx: Connection, study: str) -> tuple[list[Any], list[Any]]:
    """Configs with their seconds (None: failed) in the order of their numbers; those under way."""
    said = select(trials.c.configs, trials.c.state, trials.c.time).where(
        trials.c.study == study, trials.c.purpose == "measure")  # fmt: skip
    told: list[Any] = []
    pending: list[Any] = []
    for row in tx.execute(said.order_by(trials.c.number)):
        config = json.loads(row.configs)[0]
        if row.state in ("pending", "leased"):
            pending.append(config)
        elif row.state != "cancelled":
            told.append([config, None if row.time is None else row.time / 1000])
    return told, pending


class _Here:
    """Proposals made in a thread of this process: for tests and very small services."""

    def __init__(self) -> None:
        self.proposer = Proposer()

    async def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(self.proposer.answer, asked)

    async def close(self) -> None:
        self.proposer = Proposer()


class _Child:
    """A child process that proposes. It is started when it is needed, and again after its end."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None

    async def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        process = self.process
        if process is None or process.returncode is not None:
            process = self.process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        return json.loads(line)  # ValueError where the child died

    async def _started(self) -> asyncio.subprocess.Process:
        environment = {**tool_environment("PYTHONPATH"), **ONE_THREAD}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "tilec.serve.proposals", env=environment, limit=LINE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True)  # fmt: skip

    async def close(self) -> None:
        process, self.process = self.process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
