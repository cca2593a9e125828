"""What is known from elsewhere: trials on other devices or shapes, and analytic models.

Each is a source: seconds for rows of this space, right up to a factor. Sources give the first rows
to try and the mean of the surrogate; the surrogate learns how far each can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.tune.expression import Columns
from tilec.tune.population import Encoding
from tilec.tune.records import Trial
from tilec.tune.search.candidates import Block
from tilec.tune.search.gaussian import Floats, Observed, fitted, predicted
from tilec.tune.search.told import Told, digest
from tilec.tune.space import Rows, Space

Model = Callable[[Columns], Floats]  # seconds for columns of values, inf where it can't run
TRUST = 0.25  # prior variance of the weight of a source of its own, beside their mean with weight 1
KEPT = 256  # trials of a source that stand for what it did not try
FAR = 0.7  # deviation of log seconds by which a lone source is taken to be wrong, of its own


@dataclass(frozen=True)
class Source:
    """Trials made on another device or shape, and how similar that is, from 0 to 1."""

    trials: tuple[Trial, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise TileError(f"a source's weight is {self.weight}, expected more than 0, at most 1")


class Known:
    """What the trials of one source say about every row: exact where tried, else by a surrogate."""

    def __init__(self, space: Space, source: Source) -> None:
        inside = tuple(t for t in source.trials if t.config in space)
        told = Told.of(space, inside)
        self.space, self.weight = space, source.weight
        logs = np.log(told.seconds)
        self.useful = bool(told.timed.sum() >= 2)
        if self.useful:
            self.best = told.rows[np.argsort(np.where(told.timed, logs, np.inf), kind="stable")]
            self.best = self.best[: int(told.timed.sum())]
            self.middle, self.worst = float(np.nanmedian(logs)), float(np.nanmax(logs))
            self.tried = {digest(r): float(v) for r, v in zip(told.rows, logs, strict=True)}
            self.surrogate = cache(lambda: Surrogate(space, told, logs))  # all may be tried

    def logs(self, rows: Rows) -> tuple[Floats, Floats]:
        """Log seconds of rows above the source's median, and where they failed there (1) or not.

        What failed counts as slow as the slowest.
        """
        found = np.array([self.tried.get(digest(r), np.inf) for r in rows])
        failed = np.isnan(found)
        found[failed] = self.worst
        new = np.isinf(found)
        if new.any():
            found[new] = self.surrogate().logs(rows[new])
        return found - self.middle, failed.astype(np.float64)


class Surrogate:
    """A process on a part of a source's trials: the best, and of the others an even spread."""

    def __init__(self, space: Space, told: Told, logs: Floats) -> None:
        order = np.argsort(logs, kind="stable")[: int(told.timed.sum())]
        rest = order[KEPT // 2 :]
        even = np.linspace(0, len(rest) - 1, min(KEPT // 2, len(rest))).astype(np.intp)
        kept = np.concatenate([order[: KEPT // 2], rest[even]])
        self.encoding, values = Encoding.of(space), logs[kept]
        self.shift, self.size = float(values.mean()), float(values.std()) + 1e-9
        features, none = self.encoding.features(told.rows[kept]), np.zeros((len(kept), 0))
        values = (values - self.shift) / self.size
        self.data = Observed(features, self.encoding.groups, values, none)
        self.theta = fitted(self.data, 0.5)

    def logs(self, rows: Rows) -> Floats:
        """Expected log seconds of rows."""
        none = np.zeros((len(rows), 0))
        mean, _ = predicted(self.data, self.theta, self.encoding.features(rows), none)
        return mean * self.size + self.shift


class Prior:
    """All sources together: a weighted mean of log seconds, and each one's deviation from its own.

    With no source the mean is 0 and there is nothing to start from.
    """

    def __init__(self, space: Space, sources: Sequence[Source], model: Model | None) -> None:
        every = sorted((Known(space, s) for s in sources), key=lambda k: -k.weight)
        self.known = [k for k in every if k.useful]
        self.space, self.model = space, model
        weights = [k.weight for k in self.known] + [0.5] * (model is not None)
        self.weights = np.array(weights) / max(sum(weights), 1e-9)
        self.starts = self._starts()

    def __bool__(self) -> bool:
        return len(self.weights) > 0

    def _starts(self) -> Rows:
        """The best row of each source, the most similar source first, each row once."""
        best = {digest(k.best[0]): k.best[0] for k in self.known}
        return np.array(list(best.values()), np.intp).reshape(-1, len(self.space.sizes))

    def logs(self, rows: Rows) -> tuple[Floats, Floats]:
        """Log seconds by every source (one column each), and the part of them that failed."""
        found = [k.logs(rows) for k in self.known]
        if self.model is not None:
            found.append(_modelled(self.model, self.space, rows))
        return np.stack([f for f, _ in found], 1), np.stack([b for _, b in found], 1) @ self.weights


@dataclass(frozen=True, eq=False)
class Guess:
    """What a prior says of rows: log seconds, columns that reweigh sources, part that failed."""

    mean: Floats
    basis: Floats
    failed: Floats

    def take(self, at: NDArray[np.intp]) -> Guess:
        """The same for some of the rows."""
        return Guess(self.mean[at], self.basis[at], self.failed[at])


class Expected:
    """A prior over the candidates: what it says of them is worked out once."""

    def __init__(self, prior: Prior, rows: Rows, places: Mapping[bytes, int]) -> None:
        self.prior, self.places = prior, places
        self.error, self.centre = 0.0, np.zeros(len(prior.weights))
        if prior:
            logs, _ = prior.logs(rows)
            self.centre = logs.mean(0)
            apart = ((logs - (logs @ prior.weights)[:, None]) ** 2) @ prior.weights
            lone = FAR * float((logs - self.centre).std())
            self.error = max(float(np.sqrt(apart.mean())) if len(prior.weights) > 1 else lone, 1e-3)
        self.guess = self._worked_out(rows)

    def of(self, block: Block) -> Guess:
        """What the prior says of candidates."""
        return self._joined(block.known, block.rows[len(block.known) :])

    def at(self, rows: Rows) -> Guess:
        """What the prior says of any rows."""
        places = [self.places.get(digest(r), -1) for r in rows]
        known = np.array([p for p in places if p >= 0], np.intp)
        new = rows[[i for i, p in enumerate(places) if p < 0]]
        early, late = iter(range(len(known))), iter(range(len(known), len(rows)))
        order = [next(late) if p < 0 else next(early) for p in places]
        return self._joined(known, new).take(np.array(order, np.intp))

    def _joined(self, known: NDArray[np.intp], new: Rows) -> Guess:
        old = self.guess.take(known)
        if not len(new):
            return old
        late = self._worked_out(new)
        return Guess(np.concatenate([old.mean, late.mean]),
                     np.concatenate([old.basis, late.basis]),
                     np.concatenate([old.failed, late.failed]))  # fmt: skip

    def _worked_out(self, rows: Rows) -> Guess:
        if not self.prior:
            return Guess(np.zeros(len(rows)), np.zeros((len(rows), 0)), np.zeros(len(rows)))
        logs, failed = self.prior.logs(rows)
        basis = (logs - self.centre) * np.sqrt(TRUST * self.prior.weights)
        return Guess(logs @ self.prior.weights, basis, failed)


def _modelled(model: Model, space: Space, rows: Rows) -> tuple[Floats, Floats]:
    """An analytic model as a source: what it says can't run counts as slow as the slowest."""
    seconds = np.asarray(model(space.columns(rows)), np.float64)
    if seconds.shape != (len(rows),):
        raise TileError(f"a model gave {seconds.shape} for {len(rows)} configs")
    good = np.isfinite(seconds) & (seconds > 0)
    logs = np.log(np.where(good, seconds, np.max(seconds[good], initial=1e-30)))
    return logs - np.median(logs), (~good).astype(np.float64)
