"""A random forest that tells good rows from bad ones (likelihood-free Bayesian optimisation: Song,
Yu, Neiswanger, Ermon, ICML 2022). It needs scikit-learn, the extra `tune`.

A row is good when it is among the best part; its weight is by how much. What failed is bad.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.tune.search.bayes import Bayes
from tilec.tune.search.candidates import Block
from tilec.tune.search.gaussian import Floats
from tilec.tune.search.told import Told
from tilec.tune.search.transfer import Prior
from tilec.tune.space import Space

GOOD = 0.15  # the part of the trials that counts as good
TREES = 50
FEATURES = 0.7  # the part of the features that a split chooses among
PULL = 2.0  # of the prior's mean, in log odds for each unit of log seconds


class Forest(Bayes):
    """The sampler: what differs from `Bayes` is how candidates are scored."""

    def __init__(self, space: Space, seed: int, prior: Prior | None = None) -> None:
        try:
            ensemble: Any = import_module("sklearn.ensemble")
        except ImportError:
            raise TileError("the sampler lfbo needs scikit-learn",
                            hint="pip install tilec[tune]") from None  # fmt: skip
        super().__init__(space, seed, prior)
        self.forest = ensemble.RandomForestClassifier

    def score(self, block: Block, told: Told) -> Floats:
        """The log odds that a row is good, less the prior's mean."""
        logs = np.where(told.timed, np.log(told.seconds), np.inf)
        edge = np.sort(logs)[max(1, int(np.ceil(GOOD * len(logs)))) - 1]
        good = logs <= edge
        if good.all():
            return np.zeros(len(block.rows))
        weight = np.ones(len(logs))
        ahead = edge - logs[good]
        weight[good] = (ahead + 0.1 * (ahead.mean() + 1e-9)) / (1.1 * (ahead.mean() + 1e-9))
        seed = np.random.default_rng([self.seed, 5, len(told.taken)]).integers(2**31)
        model = self.forest(TREES, max_features=FEATURES, random_state=int(seed), n_jobs=1)
        model.fit(self.views[0].features(told.rows), good, sample_weight=weight)
        chance = np.asarray(model.predict_proba(block.features[0]), np.float64)[:, 1]
        near = 1e-6 * np.random.default_rng([self.seed, 6]).random(len(chance))  # parts equals
        odds = np.log(chance + 0.01 + near) - np.log(1.01 - chance)
        return odds - PULL * self.expected.of(block).mean
