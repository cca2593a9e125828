"""A running service: the database, the clock, the planner, and what ties them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tilec.serve import auth, fleet, leasing, replies
from tilec.serve.analysis import Analyses
from tilec.serve.artifacts import Artifacts
from tilec.serve.auth import Caller
from tilec.serve.clock import Clock
from tilec.serve.database import Database
from tilec.serve.metrics import Metrics
from tilec.serve.planner import Planner
from tilec.serve.setup import Setup

SWEEP_S, FORGET_S = 0.5, 600.0
log = logging.getLogger("tilec.serve")
M = TypeVar("M", bound=BaseModel)


class Service:
    """What the routes work with. Its state is the database's: another one may take over."""

    def __init__(self, setup: Setup, ticks: Callable[[], float] = time.monotonic) -> None:
        self.setup = setup
        self.database = Database(setup.database)
        self.database.migrate()
        self.clock = Clock(self.database, ticks)
        self.artifacts = Artifacts(self.database, setup)
        self.metrics = Metrics()
        self.analyses = Analyses()
        self.planner = Planner(self.database, self.clock, setup)
        self.streams: Counter[str] = Counter()  # of events, by tenant
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The service with its sweeper, within an event loop."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            self.changed()
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper
            await self.planner.close()
            self._loop = None
            await asyncio.to_thread(self.database.close)

    async def caller(self, text: str) -> Caller | None:
        """Whose token this is; None for one that is wrong, expired or revoked."""

        def looked_up() -> Caller | None:
            with self.database.read() as tx:
                return auth.caller(tx, text, self.clock.day())

        return await asyncio.to_thread(looked_up)

    def changed(self) -> None:
        """Wake whoever waits for something to happen; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        assert self._changed is not None
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def change(self) -> asyncio.Event:
        """What is set at the next change. Take it before you look, and wait for it after."""
        assert self._changed is not None
        return self._changed

    def once(self, tenant: str, key: str | None, request: object, kind: type[M],
             make: Callable[[Connection], M]) -> M:  # fmt: skip
        """What `make` returns in a transaction, or returned when the Idempotency-Key came first."""
        day = self.clock.day()
        return self.database.write(
            lambda tx: replies.once(tx, tenant, key, request, day, kind, make)
        )

    def gone_once(self, tenant: str, key: str | None, subject: str,
                  drop: Callable[[Connection], None]) -> None:  # fmt: skip
        """Drop something for good; asked again with the same Idempotency-Key, it was dropped."""

        def change(tx: Connection) -> replies.Made:
            drop(tx)
            return replies.Made(id=subject)

        self.once(tenant, key, {"delete": subject}, replies.Made, change)
        self.changed()

    @staticmethod
    async def wait(change: asyncio.Event, seconds: float) -> None:
        """Until something happens, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await change.wait()

    def sweep(self) -> int:
        """End leases that are over and store the time. Returns how many leases ended."""

        def change(tx: Connection) -> int:
            self.clock.store(tx)
            return leasing.expire(tx, self.clock)

        expired = self.database.write(change)
        if expired:
            self.metrics.expired.inc(expired)
            self.changed()
        return expired

    async def _sweep(self) -> None:
        forgotten = self.clock.now()
        while True:
            try:
                await asyncio.to_thread(self.sweep)
                if self.clock.now() - forgotten > FORGET_S:
                    forgotten = self.clock.now()
                    await asyncio.to_thread(self._forget)
            except SQLAlchemyError as e:
                log.warning("the sweep failed: %s", type(e).__name__)  # the next one may not
            await asyncio.sleep(SWEEP_S)

    def _forget(self) -> None:
        def change(tx: Connection) -> None:
            replies.forget(tx, self.clock.day())
            fleet.forget(tx, self.clock)

        self.database.write(change)
        self.artifacts.collect()
