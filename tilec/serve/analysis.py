"""What the trials of a study say: which parameters matter, what random search would have found,
how noisy the devices are, what the workers did. Nothing is measured or compiled."""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from tilec.ir.errors import TileError
from tilec.serve import models, studies
from tilec.serve.database import Database
from tilec.serve.keys import device_digest
from tilec.serve.models import Wire
from tilec.serve.refusal import Refused
from tilec.serve.tables import trials as table
from tilec.tune.config import Config
from tilec.tune.population import everything, sample
from tilec.tune.space import Rows, Space

Floats = NDArray[np.float64]
FEWEST, MOST = 12, 1000  # trials that a model is made of
TREES, FOLDS, SHUFFLES = 60, 5, 4
SCATTERED = 2000  # configs that stand for the whole space
POINTS = 240  # of the band
LOW, HIGH = 0.05, 0.95
KEPT, WAITING = 64, 4  # analyses that are kept, requests that wait for one
LOOK_S = 0.1  # between two looks whether who waits is still there
REPEATED = ("worker_lost", "infra")  # failures that say nothing about the config


class Share(Wire):
    """How much of what is known about the time hangs on a parameter; all shares add up to 1."""

    parameter: str
    share: float


class Importance(Wire):
    """Shares by size. `forest`: how much worse a random forest predicts times that it has not seen
    when the values of the parameter are shuffled (Breiman, 2001). `variance`: the part of the
    variance of log time between the values of the parameter, less what chance makes."""

    method: Literal["forest", "variance", "none"]
    trials: int
    shares: list[Share]


class BandPoint(Wire):
    """The best time after `n` random configs: quantiles 5%, 50%, 95%; None where too many fail."""

    n: int
    low_ms: float | None
    median_ms: float | None
    high_ms: float | None


class Band(Wire):
    """Random search over the same configs, in closed form: the best of n draws is slower than t
    with probability S(t)^n. `unbiased`: the trials are a random sample or the whole space.
    `weighted`: each trial counts as much as the part of the space that a forest finds like it.
    `seen`: the trials as they are, which a good sampler chose: random search looks too good."""

    source: Literal["unbiased", "weighted", "seen", "none"]
    trials: int
    points: list[BandPoint]


class Noise(Wire):
    """Standard deviation over mean of the samples of a trial: quantiles over the trials."""

    worker: str
    device: str
    name: str | None
    trials: int
    quantiles: list[float]  # 5%, 25%, 50%, 75%, 95%


class Occupation(Wire):
    """What a worker did for a study, in seconds. `timed_s` is the sum of all samples, `busy_s` what
    the trials cost in all (compiling, checking, timing), `span_s` how long the study took."""

    worker: str
    trials: int
    failed: int
    timed_s: float
    busy_s: float
    span_s: float


class Analysis(Wire):
    """What is worked out from the trials that have ended so far."""

    study: str
    ended: int
    importance: Importance
    band: Band
    noise: list[Noise]
    workers: list[Occupation]


@dataclass(frozen=True, eq=False)
class Tried:
    """Trials as numbers: value indices, and seconds (infinite where the config fails)."""

    rows: Rows
    seconds: Floats

    @property
    def ran(self) -> NDArray[np.bool_]:
        return np.isfinite(self.seconds)


class Analyses:
    """Analyses of studies, one at a time: each takes a processor for up to seconds. The last ones
    are kept until something happens to their study."""

    def __init__(self) -> None:
        self._turn, self._waiting = threading.Lock(), threading.Semaphore(WAITING)
        self._kept: dict[str, tuple[int, Analysis]] = {}

    def of(self, database: Database, tenant: str, id_: str,
           gone: Callable[[], bool] = lambda: False) -> Analysis:  # fmt: skip
        """The analysis of a study. Who waits for it and is `gone` makes room for others.

        Raises Refused: no such study (404), too many ask (503), who asked is gone (400).
        """
        with database.read() as tx:
            happened: int = studies.row_of(tx, tenant, id_).events
        here = self._kept.get(id_)
        if here is not None and here[0] == happened:
            return here[1]
        if not self._waiting.acquire(blocking=False):
            raise Refused(503, "too many analyses are asked for at once")
        try:
            while not self._turn.acquire(timeout=LOOK_S):
                if gone():
                    raise Refused(400, "the request ended early")
            try:
                return self._worked_out(database, tenant, id_)
            finally:
                self._turn.release()
        finally:
            self._waiting.release()

    def _worked_out(self, database: Database, tenant: str, id_: str) -> Analysis:
        with database.read() as tx:
            happened: int = studies.row_of(tx, tenant, id_).events
            here = self._kept.get(id_)
            if here is not None and here[0] == happened:
                return here[1]
            study, trials = read(tx, tenant, id_)
        found = analysed(study, trials)
        kept = [(k, v) for k, v in self._kept.items() if k != id_]
        self._kept = dict([*kept[1 - KEPT :], (id_, (happened, found))])
        return found


def read(tx: Connection, tenant: str, id_: str) -> tuple[models.StudyDetail, list[models.Trial]]:
    """A study and its trials. Raises Refused where the tenant has no such study."""
    study = studies.detail(tx, studies.row_of(tx, tenant, id_, light=False))
    said = select(table).where(table.c.study == id_).order_by(table.c.number)
    return study, [studies.trial(row) for row in tx.execute(said)]


def analysed(study: models.StudyDetail, trials: Sequence[models.Trial]) -> Analysis:
    """What the trials of a study say. Takes up to seconds: not for the event loop."""
    ended = [t for t in trials if t.state in ("done", "failed", "poison")]
    space = Space.from_json(study.space)
    measured = tried(space, ended)
    return Analysis(
        study=study.id, ended=len(ended), importance=importance(space, measured),
        band=band(space, measured, study.budget, unbiased=study.sampler == "random"),
        noise=_noise(study, ended), workers=_occupations(ended))  # fmt: skip


def tried(space: Space, trials: Sequence[models.Trial]) -> Tried:
    """The measurements among trials; those that say nothing about their config are left out."""
    rows: list[tuple[int, ...]] = []
    seconds: list[float] = []
    for t in trials:
        if t.purpose != "measure" or (t.state == "failed" and t.failure in REPEATED):
            continue
        try:
            rows.append(space.row(Config.of(t.configs[0])))
        except TileError:
            continue  # the space is checked by a newer version than proposed it
        times = t.samples_ms[0] if t.state == "done" and t.samples_ms else []
        seconds.append(statistics.median(times) / 1000 if times else math.inf)
    return Tried(np.array(rows, np.intp).reshape(-1, len(space.sizes)), np.array(seconds))


def importance(space: Space, measured: Tried) -> Importance:
    """The share of each parameter, by a forest where scikit-learn is installed."""
    logs = np.log(measured.seconds[measured.ran])
    rows = measured.rows[measured.ran]
    if len(logs) < FEWEST or float(np.ptp(logs)) == 0.0:
        return Importance(method="none", trials=len(logs), shares=[])
    keep = np.linspace(0, len(logs) - 1, min(len(logs), MOST)).astype(int)
    forest = _forest()
    found = (_by_variance(rows, logs) if forest is None
             else _by_forest(forest, rows[keep], logs[keep]))  # fmt: skip
    total = float(found.sum())
    if not total:
        return Importance(method="none", trials=len(logs), shares=[])
    shares = [Share(parameter=n, share=float(x) / total)
              for n, x in zip(space.names, found, strict=True)]  # fmt: skip
    shares.sort(key=lambda s: (-s.share, s.parameter))
    method = "variance" if forest is None else "forest"
    return Importance(method=method, trials=len(logs), shares=shares)


def _forest() -> Any:
    """The regressor of scikit-learn, or None where it is not installed."""
    try:
        return import_module("sklearn.ensemble").RandomForestRegressor
    except ImportError:
        return None


def _by_forest(forest: Any, rows: Rows, logs: Floats) -> Floats:
    """By how much the squared error on held-out trials grows when a column is shuffled."""
    random = np.random.default_rng(0)
    fold = random.permutation(len(rows)) % FOLDS
    grown = np.zeros(rows.shape[1])
    for f in range(FOLDS):
        out = fold == f
        model = forest(TREES, min_samples_leaf=2, max_features=0.7, random_state=f, n_jobs=1)
        model.fit(rows[~out], logs[~out])
        there, truth = rows[out], logs[out]
        error = float(((model.predict(there) - truth) ** 2).sum())
        for column in range(rows.shape[1]):
            many = np.tile(there, (SHUFFLES, 1))
            many[:, column] = np.concatenate(
                [random.permutation(there[:, column]) for _ in range(SHUFFLES)])  # fmt: skip
            wrong = (model.predict(many) - np.tile(truth, SHUFFLES)) ** 2
            grown[column] += float(wrong.sum()) / SHUFFLES - error
    return np.maximum(grown, 0.0)


def _by_variance(rows: Rows, logs: Floats) -> Floats:
    """The variance between the means of a parameter's values, less what chance makes of it."""
    total, n = float(logs.var()), len(logs)
    found = np.zeros(rows.shape[1])
    for column in range(rows.shape[1]):
        values, place = np.unique(rows[:, column], return_inverse=True)
        counts = np.bincount(place)
        means = np.bincount(place, logs) / counts
        between = float((counts * (means - logs.mean()) ** 2).sum()) / n
        found[column] = between - total * (len(values) - 1) / (n - 1)
    return np.maximum(found, 0.0)


def band(space: Space, measured: Tried, budget: int, *, unbiased: bool = False) -> Band:
    """The quantiles of the best of n random configs, for n up to the budget."""
    n = len(measured.seconds)
    if n < FEWEST or not measured.ran.any():
        return Band(source="none", trials=n, points=[])
    source: Literal["unbiased", "weighted", "seen"] = "unbiased"
    weights = np.full(n, 1 / n)
    known = everything(space, n)
    if not unbiased and (known is None or len(known) > n):  # there are more configs than trials
        found = _weights(space, measured)
        source = "seen" if found is None else "weighted"
        weights = weights if found is None else found
    order = np.argsort(measured.seconds, kind="stable")
    seconds, below = measured.seconds[order], np.cumsum(weights[order])
    counts = np.unique(np.linspace(1, budget, min(budget, POINTS)).round().astype(int))
    points = [BandPoint(n=int(c), low_ms=_best_of(seconds, below, c, LOW),
                        median_ms=_best_of(seconds, below, c, 0.5),
                        high_ms=_best_of(seconds, below, c, HIGH)) for c in counts]  # fmt: skip
    return Band(source=source, trials=n, points=points)


def _best_of(seconds: Floats, below: Floats, n: int, quantile: float) -> float | None:
    """The time, in ms, that the best of n draws does not exceed with a probability."""
    wanted = -math.expm1(math.log1p(-quantile) / n)  # of one draw
    at = int(np.searchsorted(below, wanted - 1e-12))
    found = float(seconds[min(at, len(seconds) - 1)])
    return found * 1000 if math.isfinite(found) else None


def _weights(space: Space, measured: Tried) -> Floats | None:
    """The part of the space that is like each trial: that shares leaves of a forest with it."""
    forest = _forest()
    if forest is None:
        return None
    logs = np.log(measured.seconds)
    known = logs[measured.ran]
    logs[~measured.ran] = known.max() + known.std()  # what fails is like what is very slow
    rows = sample(space, SCATTERED, np.random.default_rng(0))
    model = forest(TREES, min_samples_leaf=2, max_features=0.7, random_state=0, n_jobs=1)
    model.fit(measured.rows[-MOST:], logs[-MOST:])
    weights = np.zeros(len(logs))
    there, here = model.apply(rows), model.apply(measured.rows)
    for tree in range(TREES):
        leaf, size = here[:, tree], int(max(there[:, tree].max(), here[:, tree].max())) + 1
        in_space = np.bincount(there[:, tree], minlength=size)
        weights += in_space[leaf] / np.bincount(leaf, minlength=size)[leaf]
    return weights / weights.sum()


def _noise(study: models.StudyDetail, trials: Sequence[models.Trial]) -> list[Noise]:
    """The noise of each worker on each device."""
    name = study.measured_on.name if study.measured_on else None
    here = device_digest(study.measured_on) if study.measured_on else None
    found: dict[tuple[str, str], list[float]] = {}
    for t in trials:
        if t.purpose == "measure" and t.state == "done" and t.worker and t.device:
            times = t.samples_ms[0]
            if len(times) >= 3:
                spread = statistics.stdev(times) / statistics.fmean(times)
                found.setdefault((t.worker, t.device), []).append(spread)
    return [Noise(worker=w, device=d, name=name if d == here else None, trials=len(spreads),
                  quantiles=np.quantile(spreads, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist())
            for (w, d), spreads in sorted(found.items())]  # fmt: skip


def _occupations(trials: Sequence[models.Trial]) -> list[Occupation]:
    """What each worker did, by name."""
    ended = [t for t in trials if t.worker and t.finished is not None]
    if not ended:
        return []
    start = min((t.finished or 0.0) - (t.cost_s or 0.0) for t in ended)
    span = max(t.finished or 0.0 for t in ended) - start
    found: list[Occupation] = []
    for worker in sorted({t.worker or "" for t in ended}):
        mine = [t for t in ended if t.worker == worker]
        timed = sum(sum(times) for t in mine for times in t.samples_ms) / 1000
        busy = sum(t.cost_s or 0.0 for t in mine)
        found.append(Occupation(
            worker=worker, trials=len(mine), failed=sum(t.state != "done" for t in mine),
            timed_s=min(timed, busy), busy_s=busy, span_s=span))  # fmt: skip
    return found
