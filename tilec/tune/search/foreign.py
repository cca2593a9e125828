"""Optuna's samplers behind our interface. It needs optuna, the extra `optuna`.

Optuna knows no listed spaces and no constraints between parameters before a trial: what it asks for
in vain is told back as failed, and after some tries the nearest free config is taken.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.tune.population import Encoding
from tilec.tune.search.candidates import Candidates
from tilec.tune.search.told import Told, digest, one_by_one
from tilec.tune.space import Rows, Space

TRIES = 30


class Optuna:
    """The sampler: multivariate TPE."""

    def __init__(self, space: Space, seed: int) -> None:
        try:
            optuna: Any = import_module("optuna")
        except ImportError:
            raise TileError("the sampler optuna needs optuna",
                            hint="pip install tilec[optuna]") from None  # fmt: skip
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna
        self.space, self.seed = space, seed
        self.encoding = Encoding.of(space)
        self.candidates = Candidates(space, seed, [self.encoding])
        dist = optuna.distributions
        self.kinds: dict[str, Any] = {
            p.name: dist.CategoricalDistribution(tuple(range(len(p.values)))) if p.is_category
            else dist.IntDistribution(0, len(p.values) - 1)
            for p in space.parameters}  # fmt: skip

    def propose(self, told: Told, n: int) -> Rows:
        """Up to `n` rows: each from a study that knows all that was told."""
        return one_by_one(self._one, told, n)

    def _one(self, told: Told) -> Rows:
        study, taken = self._study(told), {digest(r) for r in told.taken}
        row = np.zeros(len(self.space.sizes), np.intp)
        for _ in range(TRIES):
            trial = study.ask(self.kinds)
            row = np.array([trial.params[n] for n in self.space.names], np.intp)
            if digest(row) not in taken and self.space.holds(row.reshape(1, -1))[0]:
                return row.reshape(1, -1)
            study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        block = self.candidates.around(told)
        wanted = self.encoding.features(row.reshape(1, -1))
        return block.best(-((block.features[0] - wanted) ** 2).sum(1))

    def _study(self, told: Told) -> Any:
        optuna = self.optuna
        seed = int(np.random.default_rng([self.seed, 7, len(told.taken)]).integers(2**31))
        with np.errstate(all="ignore"):
            sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
        study = optuna.create_study(sampler=sampler)
        values = np.where(told.timed, told.seconds, np.nanmax(told.seconds, initial=1.0) * 10)
        for row, value in zip(told.rows.tolist(), values, strict=True):
            study.add_trial(optuna.trial.create_trial(
                params=dict(zip(self.space.names, row, strict=True)), distributions=self.kinds,
                value=float(np.log(value))))  # fmt: skip
        return study
