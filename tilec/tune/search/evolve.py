"""A genetic algorithm with local search, for budgets at which a model of the space costs too much.

Steady state: a child comes from two of the best rows, or is a neighbour of one of them, or is new.
"""

from __future__ import annotations

import numpy as np

from tilec.tune.population import neighbours, sample
from tilec.tune.search.candidates import Candidates
from tilec.tune.search.told import Told, digest, one_by_one
from tilec.tune.space import Rows, Space

FIRST = 10  # random rows before the first child
PARENTS = 8
NEW, CROSSED = 0.1, 0.5  # chances that a child is random, or crossed; else it is a neighbour
TRIES = 40  # children that may be invalid or taken, before a random row is taken instead


class Evolve:
    """The sampler. `first` makes the rows before the first child."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self.candidates = Candidates(space, seed)

    def propose(self, told: Told, n: int) -> Rows:
        """Up to `n` rows that are not taken."""
        return one_by_one(self._one, told, n)

    def _one(self, told: Told) -> Rows:
        random = np.random.default_rng([self.seed, 4, len(told.taken)])
        taken = {digest(r) for r in told.taken}
        order = np.argsort(np.where(told.timed, told.seconds, np.inf), kind="stable")
        parents = told.rows[order[: min(PARENTS, int(told.timed.sum()))]]
        for _ in range(TRIES if len(told.taken) >= FIRST and len(parents) > 1 else 0):
            child = self._child(parents, random)
            fresh = [r for r in child if digest(r) not in taken]
            if fresh:
                return fresh[int(random.integers(len(fresh)))].reshape(1, -1)
        return self._random(taken, random)

    def _child(self, parents: Rows, random: np.random.Generator) -> Rows:
        """Rows to choose among: neighbours of a parent, or one row that mixes two and mutates."""
        rank = np.minimum(random.geometric(0.35, 2), len(parents)) - 1
        a, b = parents[rank[0]], parents[rank[1]]
        way = random.random()
        if way < NEW:
            return sample(self.space, 1, random)
        if way > NEW + CROSSED or (a == b).all():
            return neighbours(self.space, a, far=bool(random.random() < 0.3))
        child = np.where(random.random(len(a)) < 0.5, a, b)
        if random.random() < 0.5:
            at = int(random.integers(len(child)))
            child[at] = random.integers(self.space.sizes[at])
        block = child.reshape(1, -1)
        return block[self.space.holds(block)]

    def _random(self, taken: set[bytes], random: np.random.Generator) -> Rows:
        rows = self.candidates.rows
        free = [i for i, r in enumerate(rows) if digest(r) not in taken]
        return rows[[free[int(random.integers(len(free)))]]] if free else rows[:0]
