"""What a search knows: the rows that were tried with their times, and the rows under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tilec.tune.config import Config
from tilec.tune.records import Trial
from tilec.tune.space import Rows, Space

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Told:
    """Rows in the order in which they were told, seconds (NaN: it failed), and rows under way."""

    rows: Rows
    seconds: Floats
    pending: Rows

    @staticmethod
    def of(space: Space, trials: Iterable[Trial], pending: Iterable[Config] = ()) -> Told:
        """What trials say. A failure that says nothing about its config is left out."""
        kept = [t for t in trials if t.failure is None or not t.failure.retried]
        seconds = [np.nan if t.seconds is None else t.seconds for t in kept]
        return Told(_block(space, [t.config for t in kept]), np.array(seconds, np.float64),
                    _block(space, list(pending)))  # fmt: skip

    @property
    def timed(self) -> NDArray[np.bool_]:
        """Which rows have a time."""
        return ~np.isnan(self.seconds)

    @property
    def taken(self) -> Rows:
        """The rows that must not be proposed: told or under way."""
        return np.concatenate([self.rows, self.pending])

    def with_pending(self, row: Rows) -> Told:
        """The same with one more row under way."""
        return Told(self.rows, self.seconds, np.concatenate([self.pending, row.reshape(1, -1)]))

    def first(self, n: int) -> Told:
        """What was known after `n` rows, when nothing was under way."""
        return Told(self.rows[:n], self.seconds[:n], self.pending[:0])


def _block(space: Space, configs: Sequence[Config]) -> Rows:
    return np.array([space.row(c) for c in configs], np.intp).reshape(-1, len(space.sizes))


class Sampler(Protocol):
    """Proposes rows that are valid and not taken; fewer than `n` where the space is used up."""

    def propose(self, told: Told, n: int) -> Rows: ...


def one_by_one(one: Callable[[Told], Rows], told: Told, n: int) -> Rows:
    """Up to `n` rows: each is found with those before it under way, until there is none."""
    found: list[Rows] = []
    for _ in range(n):
        row = one(told)
        if not len(row):
            break
        found.append(row)
        told = told.with_pending(row[0])
    return np.concatenate(found) if found else told.rows[:0]


def digest(block: Rows) -> bytes:
    """Rows as a key of a table."""
    return np.ascontiguousarray(block, np.int64).tobytes()
