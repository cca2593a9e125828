"""Random search: every free config is as likely as any other."""

from __future__ import annotations

from itertools import islice

import numpy as np

from tilec.tune.search.candidates import Candidates
from tilec.tune.search.told import Told, digest
from tilec.tune.space import Rows, Space


class Chance:
    """The sampler: a fixed shuffle of the candidates, walked in order."""

    def __init__(self, space: Space, seed: int) -> None:
        rows = Candidates(space, seed).rows
        self.rows = rows[np.random.default_rng([seed, 3]).permutation(len(rows))]

    def propose(self, told: Told, n: int) -> Rows:
        """The next `n` rows of the shuffle that are not taken."""
        taken = {digest(r) for r in told.taken}
        free = (i for i, r in enumerate(self.rows) if digest(r) not in taken)
        return self.rows[list(islice(free, n))]
