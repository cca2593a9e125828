"""The rows that a sampler chooses among: all of them, or of a large space a fair part and the
surroundings of what was good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilec.tune.population import Encoding, Features, everything, neighbours, sample
from tilec.tune.search.told import Told, digest
from tilec.tune.space import Rows, Space

MOST = 200_000  # rows that are kept; a larger space is sampled
SCORED = 6000  # rows that a model is asked about at once
FAIR = 4000  # of these, rows that are drawn by chance where there are more
BEST = 5  # rows whose neighbours join them


class Candidates:
    """A fixed block of rows with features, all of the space or a sample of it."""

    def __init__(self, space: Space, seed: int, encodings: Sequence[Encoding] = (),
                 extra: Iterable[Rows] = ()) -> None:  # fmt: skip
        self.space, self.seed, self.encodings = space, seed, encodings
        whole = everything(space, MOST)
        self.few = whole is not None and len(whole) <= SCORED
        if whole is None:
            whole = sample(space, FAIR, np.random.default_rng([seed, 1]))
        self.rows = _union(whole, *extra)
        self.features = [e.features(self.rows) for e in encodings]
        self.places = {digest(r): i for i, r in enumerate(self.rows)}

    def around(self, told: Told) -> Block:
        """The candidates after `told`, all of them free.

        Where there are many, another fair part of them each time, and neighbours of good rows; of
        these, some may be none of the kept rows.
        """
        taken = {digest(r) for r in told.taken}
        free = np.ones(len(self.rows), bool)
        free[[self.places[d] for d in taken if d in self.places]] = False
        left = np.flatnonzero(free)
        if self.few:
            return self._block(left, self.rows[:0])
        random = np.random.default_rng([self.seed, 8, len(told.taken)])
        part = random.choice(left, min(FAIR, len(left)), replace=False)
        order = np.argsort(np.where(told.timed, told.seconds, np.inf), kind="stable")
        near = [neighbours(self.space, r, far=True) for r in told.rows[order[:BEST]]]
        known, late = dict[int, None](dict.fromkeys(part.tolist())), list[Rows]()
        for row in np.concatenate(near) if near else ():
            key = digest(row)
            if key in self.places and key not in taken:
                known[self.places[key]] = None
            elif key not in taken:
                late.append(row)
        new = _union(self.rows[:0], np.array(late, np.intp).reshape(-1, self.rows.shape[1]))
        return self._block(np.array(list(known), np.intp), new)

    def _block(self, known: NDArray[np.intp], new: Rows) -> Block:
        features = [np.concatenate([f[known], e.features(new)])
                    for f, e in zip(self.features, self.encodings, strict=True)]  # fmt: skip
        return Block(np.concatenate([self.rows[known], new]), features, known)


@dataclass(frozen=True, eq=False)
class Block:
    """Free rows, their features by each encoding, and places among the kept rows of the first."""

    rows: Rows
    features: list[Features]
    known: NDArray[np.intp]

    def best(self, score: NDArray[np.float64]) -> Rows:
        """The row of the largest score, the first of equals; none where there is none."""
        at = int(np.argmax(np.nan_to_num(score, nan=-1e300))) if len(self.rows) else 0
        return self.rows[at : at + 1]


def _union(block: Rows, *more: Rows) -> Rows:
    """`block`, then the rows of `more` that are not in it yet, in order."""
    if not any(len(m) for m in more):
        return block
    known = {digest(r) for r in block}
    late: list[Rows] = []
    for row in np.concatenate(more):
        key = digest(row)
        if key not in known:
            known.add(key)
            late.append(row)
    return np.concatenate([block, np.array(late, np.intp).reshape(-1, block.shape[1])])
