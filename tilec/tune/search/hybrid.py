"""Processes and trees by turns: what one kind of model can't see, the other may.

Processes that are sure of a wrong basin stay there. Trees split on conditions between parameters.
It is not the default: on synthetic spaces no better than processes alone, at 1.3 times the cost.
"""

from __future__ import annotations

from tilec.tune.search import trees
from tilec.tune.search.bayes import PLACES, Bayes, improvement
from tilec.tune.search.candidates import Block
from tilec.tune.search.gaussian import Floats
from tilec.tune.search.told import Told

TURN = 3  # every so many rows the trees propose one
SINCE, TIMED = 15, 8  # rows that are taken, and timed, before their first


class Hybrid(Bayes):
    """The sampler."""

    def score(self, block: Block, told: Told) -> Floats:
        """Expected improvement by the model whose turn it is, times the chance of no failure."""
        taken = len(told.taken)
        if taken < SINCE or taken % TURN or told.timed.sum() < TIMED:
            return super().score(block, told)
        data, guess, view = self.standard(told), self.expected.of(block), self.views[PLACES]
        mean, deviation = trees.grown(view.features(data.rows), data.values, block.features[PLACES],
                                      [self.seed, 9, taken])  # fmt: skip
        gain = improvement(data.lowest - guess.mean / data.scale - mean, deviation)
        return gain * self.runs(block, told, guess)
