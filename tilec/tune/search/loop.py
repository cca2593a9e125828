"""A search: ask for configs, tell trials, until the budget or the patience is spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilec.ir.errors import TileError
from tilec.tune import strict
from tilec.tune.config import Config
from tilec.tune.records import Study, Trial
from tilec.tune.search.bayes import Bayes
from tilec.tune.search.chance import Chance
from tilec.tune.search.evolve import Evolve
from tilec.tune.search.foreign import Optuna
from tilec.tune.search.forest import Forest
from tilec.tune.search.told import Sampler, Told
from tilec.tune.search.transfer import Model, Prior, Source
from tilec.tune.space import Space

SAMPLERS: dict[str, Callable[[Space, int, Prior], Sampler]] = {
    "gp": Bayes,
    "lfbo": Forest,
    "evolve": lambda space, seed, prior: Evolve(space, seed),
    "random": lambda space, seed, prior: Chance(space, seed),
    "optuna": lambda space, seed, prior: Optuna(space, seed),
}


@dataclass(frozen=True)
class Stop:
    """When a search ends before its budget: seconds of trials, or trials without a gain.

    A gain is an improvement of the best by the factor 1 - `gain`.
    """

    seconds: float = math.inf
    patience: int | None = None
    gain: float = 0.005

    def says(self, trials: Sequence[Trial]) -> bool:
        """Whether these trials are enough."""
        if sum(t.cost for t in trials) >= self.seconds:
            return True
        best, since = math.inf, 0
        for t in trials:
            found = math.inf if t.seconds is None else t.seconds
            since = 0 if found < best * (1 - self.gain) else since + 1
            best = min(best, found)
        return self.patience is not None and since >= self.patience


class Search:
    """Ask and tell over a study. The default config is asked for first, then the sampler's."""

    def __init__(self, study: Study, sampler: str = "gp", sources: Sequence[Source] = (),
                 model: Model | None = None, stop: Stop | None = None) -> None:  # fmt: skip
        if sampler not in SAMPLERS:
            raise TileError(f"{sampler!r} is no sampler", hint=", ".join(SAMPLERS))
        self.study, self.name, self.stop = study, sampler, stop or Stop()
        self.pending: tuple[Config, ...] = ()
        prior = Prior(study.space, sources, model)
        self.sampler = SAMPLERS[sampler](study.space, study.seed, prior)

    def ask(self, n: int = 1) -> list[Config]:
        """Up to `n` configs to try next; none where the search is at its end.

        Trials that are to be made again count for nothing: their configs come again.
        """
        left = self.study.budget - self.spent - len(self.pending)
        if left <= 0 or self.stop.says(self.study.trials):
            return []
        found: list[Config] = []
        space, trials = self.study.space, self.study.trials
        default = space.default
        known = {t.config for t in trials if t.failure is None or not t.failure.retried}
        if default is not None and default not in known and default not in self.pending:
            found.append(default)
        wanted = min(n, left) - len(found)
        if wanted > 0:
            told = Told.of(space, trials, (*self.pending, *found))
            found += [space.config(row) for row in self.sampler.propose(told, wanted)]
        self.pending += tuple(found)
        return found

    @property
    def spent(self) -> int:
        """How many trials count towards the budget."""
        return sum(t.failure is None or not t.failure.retried for t in self.study.trials)

    def tell(self, *trials: Trial) -> None:
        """What came of configs. Raises TileError for a config that is not of the space."""
        for t in trials:
            self.study.space.row(t.config)
            self.pending = tuple(c for c in self.pending if c != t.config)
        self.study = replace(self.study, trials=(*self.study.trials, *trials))

    def to_json(self) -> dict[str, Any]:
        """A checkpoint: with the same sources and model, `resumed` goes on as if never stopped."""
        return {"sampler": self.name, "study": self.study.to_json(),
                "pending": [c.to_json() for c in self.pending]}  # fmt: skip

    @staticmethod
    def resumed(data: object, sources: Sequence[Source] = (), model: Model | None = None,
                stop: Stop | None = None) -> Search:  # fmt: skip
        """A search from its checkpoint. Raises TileError."""
        found = strict.fields(data, "a checkpoint", ("sampler", "study", "pending"))
        study = Study.from_json(found["study"])
        name = strict.typed(found["sampler"], str, "a checkpoint's sampler")
        search = Search(study, name, sources, model, stop)
        pending = strict.array(found["pending"], "pending")
        search.pending = tuple(Config.from_json(c) for c in pending)
        for c in search.pending:
            study.space.row(c)
        return search
