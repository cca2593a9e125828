"""The service clock: the seconds that the service has run, over all its starts.

It does not follow the time of day, which can jump, and stands still while no server runs: a lease
does not end because the server was down. Servers on one database keep in step by the stored time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, insert, select, update

from tilec.serve.database import Database
from tilec.serve.tables import facts

NAME = "clock"


class Clock:
    """`now` never goes back. `store` keeps it (about once a second)."""

    def __init__(self, database: Database, ticks: Callable[[], float] = time.monotonic,
                 day: Callable[[], float] = time.time) -> None:  # fmt: skip
        self._ticks, self.day = ticks, day
        self._base, self._start = 0.0, ticks()
        database.write(self.store)

    def now(self) -> float:
        return self._base + self._ticks() - self._start

    def store(self, tx: Connection) -> None:
        """Keep the time, and take over a later one that another server kept."""
        found = tx.execute(select(facts.c.value).where(facts.c.name == NAME)).scalar()
        now = self.now()
        if found is None:
            tx.execute(insert(facts).values(name=NAME, value=now))
        elif found > now:
            self._base += found - now
        else:
            said = update(facts).where(facts.c.name == NAME, facts.c.value < now)
            tx.execute(said.values(value=now))
