"""Bayesian optimisation: Gaussian processes on log seconds, expected improvement, over candidates.

Processes with priors of short, middle and long length scales vote with equal weight: which is right
differs from space to space and can't be told from a handful of trials. On the recordings that
`tilec.bench.search_made` makes none of these was better: processes by turns or weighed by evidence,
trees beside them, twice the rows before the first model, neighbours of the best late in a search,
an effect of each value in the linear part, slow rows told apart by less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.tune.population import Encoding
from tilec.tune.search.candidates import Block, Candidates
from tilec.tune.search.gaussian import Floats, Observed, fitted, predicted
from tilec.tune.search.told import Told, digest, one_by_one
from tilec.tune.search.transfer import Expected, Guess, Prior
from tilec.tune.space import Rows, Space

PLACES, NAMES = 0, 1  # numbers lie in order, or are mere names as in `Encoding.of(exchangeable)`
# What a process sees, and the centre of its prior of length scales in widths of a parameter.
PROCESSES = ((PLACES, 0.25), (PLACES, 0.5), (PLACES, 1.0), (NAMES, 0.5), (NAMES, 1.5))
FIRST = 4  # rows that are spread out before there is a model
SPREAD = 100  # random rows that these are chosen among
FAILING = 0.5  # the same centre for the process that learns what fails
RAN = 3  # trials that ran, before there is any
BLUR = 0.05  # the least deviation of whether a row runs
REFIT = 1.15  # hyperparameters are fitted again when this many times as much is known
OBSERVED = 300  # rows that a process is conditioned on
DOUBT = 4  # trials that the prior's own estimate of its error is worth


@dataclass(frozen=True, eq=False)
class Standard:
    """What was told as the processes see it: log seconds less the prior's mean, in `scale`."""

    rows: Rows
    values: Floats
    basis: Floats
    scale: float
    lowest: float  # the best of log seconds, in the same units, the prior's mean included


class Bayes:
    """The sampler."""

    def __init__(self, space: Space, seed: int, prior: Prior | None = None) -> None:
        self.space, self.seed = space, seed
        self.prior = prior or Prior(space, (), None)
        self.views = tuple(Encoding.of(space, exchangeable=e) for e in (False, True))
        best = [k.best[:50] for k in self.prior.known]
        self.candidates = Candidates(space, seed, self.views, best)
        self.expected = Expected(self.prior, self.candidates.rows, self.candidates.places)
        self.fits: dict[bytes, list[Floats]] = {}

    def propose(self, told: Told, n: int) -> Rows:
        """Up to `n` rows, one by one: a row under way counts as told with its expected value."""
        return one_by_one(self._one, told, n)

    def _one(self, told: Told) -> Rows:
        taken = {digest(r) for r in told.taken}
        for row in self.prior.starts:
            if digest(row) not in taken:
                return row.reshape(1, -1)
        block = self.candidates.around(told)
        if not len(block.rows):
            return block.rows
        if told.timed.sum() < 2 and self.prior:
            guess = self.expected.of(block)
            return block.best(-guess.mean - 10 * guess.failed)
        if told.timed.sum() < 2 or (len(told.taken) < FIRST and not self.prior):
            return self._spread(block, told)
        return block.best(self.score(block, told))

    def _spread(self, block: Block, told: Told) -> Rows:
        """Of a random few free rows the farthest from all that are taken, and likely to run."""
        random = np.random.default_rng([self.seed, 2])
        few = random.choice(len(block.rows), min(SPREAD, len(block.rows)), replace=False)
        if not len(few) or not len(told.taken):
            return block.rows[few[:1]]
        taken = self.views[0].features(told.taken)
        apart = ((block.features[0][few][:, None] - taken) ** 2).sum(2).min(1)
        if not told.timed.all():
            apart *= self._feasible(told, block)[few] ** 2
        at = few[int(np.argmax(apart))]
        return block.rows[at : at + 1]

    def score(self, block: Block, told: Told) -> Floats:
        """Expected improvement on the best row told, times the chance that a row does not fail."""
        data, guess = self.standard(told), self.expected.of(block)
        basis = self._basis(guess, data.scale)
        thetas, total = self._thetas(told), np.zeros(len(block.rows))
        for (view, _), theta in zip(PROCESSES, thetas, strict=True):
            seen = self._believed(data, view, theta, told.pending)
            mean, deviation = predicted(seen, theta, block.features[view], basis)
            total += improvement(data.lowest - guess.mean / data.scale - mean, deviation)
        return total * self.runs(block, told, guess)

    def runs(self, block: Block, told: Told, guess: Guess) -> Floats:
        """The chance that rows do not fail, by what failed here and elsewhere."""
        chance = 1 - guess.failed / 2
        return chance if told.timed.all() else chance * self._feasible(told, block)

    def _feasible(self, told: Told, block: Block) -> Floats:
        """The chance that rows do not fail here: a process on 1 (it ran) and 0 (it failed).

        Its mean is the part that ran, with `RAN` trials that did before the first: where little
        failed, what is unknown is thought to run with chance 0.69, where most did, with less.
        """
        early = told.first(fit_point(len(told.rows)))
        key = b"fails" + digest(early.rows) + early.seconds.tobytes()
        if key not in self.fits:
            self.fits = {k: v for k, v in self.fits.items() if not k.startswith(b"fails")}
            self.fits[key] = [fitted(self._failures(early), FAILING)]
        data = self._failures(told)
        none = np.zeros((len(block.rows), 0))
        mean, deviation = predicted(data, self.fits[key][0], block.features[PLACES], none)
        return _normal_cdf((_part(told) - 0.5 + mean) / np.hypot(deviation, BLUR))

    def _failures(self, told: Told) -> Observed:
        late = slice(max(0, len(told.rows) - OBSERVED), None)
        view, ran = self.views[PLACES], told.timed[late].astype(np.float64)
        return Observed(view.features(told.rows[late]), view.groups, ran - _part(told),
                        np.zeros((len(ran), 0)))  # fmt: skip

    def _believed(self, data: Standard, view: int, theta: Floats, pending: Rows) -> Observed:
        """What was told, with rows under way at their expected values."""
        seen = self._observed(data, view)
        if not len(pending):
            return seen
        features = self.views[view].features(pending)
        basis = self._basis(self.expected.at(pending), data.scale)
        values, _ = predicted(seen, theta, features, basis)
        return Observed(np.concatenate([seen.features, features]), seen.groups,
                        np.concatenate([seen.values, values]),
                        np.concatenate([seen.basis, basis]))  # fmt: skip

    def _observed(self, data: Standard, view: int) -> Observed:
        encoding = self.views[view]
        return Observed(encoding.features(data.rows), encoding.groups, data.values, data.basis)

    def _thetas(self, told: Told) -> list[Floats]:
        """The hyperparameters of each process, fitted to a beginning of what was told."""
        early = told.first(fit_point(len(told.rows)))
        if early.timed.sum() < 2:
            early = told
        key = digest(early.rows) + early.seconds.tobytes()
        if key not in self.fits:
            data = self.standard(early)
            self.fits = {k: v for k, v in self.fits.items() if k.startswith(b"fails")}
            self.fits[key] = [fitted(self._observed(data, v), scale) for v, scale in PROCESSES]
        return self.fits[key]

    def standard(self, told: Told) -> Standard:
        """What was told, for a model of it."""
        rows, logs = _representative(told)
        guess = self.expected.at(rows)
        values = logs - guess.mean
        square = float(((values - values.mean()) ** 2).sum())
        doubt = DOUBT if self.prior else 0
        scale = np.sqrt((doubt * self.expected.error**2 + square) / (doubt + len(rows))) + 1e-9
        return Standard(rows, (values - values.mean()) / scale, self._basis(guess, scale), scale,
                        float(logs.min() - values.mean()) / scale)  # fmt: skip

    def _basis(self, guess: Guess, scale: float) -> Floats:
        """Columns of the linear part: with a prior, a constant and the sources."""
        if not self.prior:
            return guess.basis
        return np.column_stack([np.ones(len(guess.mean)), guess.basis / scale])


def _part(told: Told) -> float:
    """The part of the trials that ran."""
    return float(RAN + told.timed.sum()) / (RAN + len(told.rows))


def _representative(told: Told) -> tuple[Rows, Floats]:
    """The timed rows and their log seconds; of many, the best and the latest."""
    rows, logs = told.rows[told.timed], np.log(told.seconds[told.timed])
    if len(rows) <= OBSERVED:
        return rows, logs
    good = np.argsort(logs, kind="stable")[: OBSERVED // 2]
    kept = np.union1d(good, np.arange(len(rows) - OBSERVED // 2, len(rows)))
    return rows[kept], logs[kept]


def fit_point(n: int) -> int:
    """The largest number of trials, at most `n`, at which hyperparameters are fitted."""
    point = 2
    while (after := max(point + 1, int(point * REFIT))) <= n:
        point = after
    return point


def improvement(gain: Floats, deviation: Floats) -> Floats:
    """The expected positive part of a normal variable (Jones, Schonlau and Welch 1998)."""
    z = gain / deviation
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return gain * _normal_cdf(z) + deviation * density


_ERFC: Any = np.frompyfunc(math.erfc, 1, 1)  # a ufunc


def _normal_cdf(z: Floats) -> Floats:
    """The normal distribution, exact in its tail, where most candidates are."""
    return 0.5 * np.asarray(_ERFC(-z / np.sqrt(2)), np.float64)
