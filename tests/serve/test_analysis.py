"""What trials say: on spaces whose truth is known."""

import socket
import threading
import time

import finished_studies
import httpx
import numpy as np
import pytest
from browsed import Running
from tuning_spaces import MAKERS
from waiting import soon

from tilec.serve import analysis
from tilec.serve.analysis import Tried, band, importance
from tilec.serve.clock import Clock
from tilec.serve.database import Database
from tilec.serve.events import happened
from tilec.serve.refusal import Refused
from tilec.tune.records import Study
from tilec.tune.search.loop import Search
from tilec.tune.space import Parameter, Space


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('analysis') / 'tilec.db'}")
    database.migrate()
    Clock(database)
    ids = finished_studies.fill(database)
    yield database, ids
    database.close()


def _space(**values):
    return Space(tuple(Parameter(n, tuple(v)) for n, v in values.items()))


def _random(space, count, seconds, seed=0):
    random = np.random.default_rng(seed)
    rows = random.integers(0, space.sizes, size=(count, len(space.sizes)))
    return Tried(rows, seconds(rows, random))


@pytest.mark.parametrize("by", ["forest", "variance"])
def test_importance_finds_what_the_time_hangs_on(by, monkeypatch):
    if by == "variance":
        monkeypatch.setattr(analysis, "_forest", lambda: None)
    space = _space(most=range(8), some=range(4), noise=range(9), word=("a", "b", "c"))
    tried = _random(space, 150, lambda r, g: np.exp(
        0.5 * r[:, 0] + 0.4 * r[:, 1] + g.normal(0, 0.05, len(r))))  # fmt: skip
    found = importance(space, tried)
    shares = {s.parameter: s.share for s in found.shares}
    assert found.method == by
    assert [s.parameter for s in found.shares][:2] == ["most", "some"]
    assert sum(shares.values()) == pytest.approx(1)
    # the variance of 0.5 x uniform(0..7) to that of 0.4 x uniform(0..3): 1.31 to 0.2
    assert shares["most"] == pytest.approx(1.31 / 1.51, abs=0.08)
    assert shares["noise"] + shares["word"] < 0.03


def test_importance_sees_what_matters_only_together_by_a_forest():
    space = _space(a=range(2), b=range(2), c=range(2))
    tried = _random(space, 120, lambda r, g: 1.0 + (r[:, 0] ^ r[:, 1]) + g.normal(0, 0.01, len(r)))
    shares = {s.parameter: s.share for s in importance(space, tried).shares}
    assert shares["c"] < 0.02
    assert min(shares["a"], shares["b"]) > 0.4


def test_few_trials_and_equal_times_say_nothing():
    space = _space(a=range(4))
    assert importance(space, _random(space, 11, lambda r, g: 1.0 + r[:, 0])).method == "none"
    assert importance(space, _random(space, 50, lambda r, g: np.ones(len(r)))).method == "none"
    assert band(space, _random(space, 11, lambda r, g: 1.0 + r[:, 0]), 50).points == []


def test_the_band_is_what_random_draws_give():
    space = _space(a=range(50), b=range(50))
    tried = _random(space, 60, lambda r, g: np.where(g.random(len(r)) < 0.2, np.inf, g.random(60)))
    found = band(space, tried, 40, unbiased=True)
    assert found.source == "unbiased"
    assert [p.n for p in found.points] == list(range(1, 41))
    draws = np.random.default_rng(1).choice(tried.seconds, size=(40_000, 40))
    for n in (1, 2, 5, 20, 40):
        best = np.sort(draws[:, :n].min(1))
        point = found.points[n - 1]
        for quantile, ms in ((0.05, point.low_ms), (0.5, point.median_ms), (0.95, point.high_ms)):
            near = best[[int((quantile + d) * len(best)) for d in (-0.012, 0.012)]]
            expected = np.inf if ms is None else ms / 1000
            assert near[0] <= expected <= near[1], (n, quantile)


@pytest.mark.parametrize("name", ["product", "stencil"])
def test_weights_undo_the_choice_of_the_sampler(name):
    made = MAKERS[name](1)
    search = Search(Study("k", "d", made.space, budget=120), "evolve")
    rows, seconds = [], []
    while configs := search.ask(4):
        for config in configs:
            trial = made.trial(config)
            search.tell(trial)
            rows.append(made.space.row(config))
            seconds.append(trial.seconds or np.inf)
    tried = Tried(np.array(rows), np.array(seconds))
    everything = Tried(made.rows, np.nan_to_num(made.seconds, nan=np.inf))
    truth = band(made.space, everything, 120)
    assert truth.source == "unbiased"
    found, seen = (band(made.space, tried, 120, unbiased=u) for u in (False, True))
    assert found.source == "weighted"
    for n in (5, 20, 60):
        right, weighted, biased = (b.points[n - 1].median_ms or 0 for b in (truth, found, seen))
        assert abs(weighted / right - 1) < min(0.12, abs(biased / right - 1))


def test_without_scikit_learn_the_band_says_that_it_is_biased(monkeypatch):
    monkeypatch.setattr(analysis, "_forest", lambda: None)
    space = _space(a=range(50), b=range(50))
    tried = _random(space, 60, lambda r, g: g.random(60))
    assert band(space, tried, 40).source == "seen"


def test_a_finished_study(filled):
    database, ids = filled
    with database.read() as tx:
        study, trials = analysis.read(tx, "default", ids["done"])
    found = analysis.analysed(study, trials)
    assert found.ended == 121
    assert found.importance.method == "forest"
    assert found.band.source == "weighted"
    assert len(found.band.points) == 120
    lows = [p.low_ms or 0 for p in found.band.points]
    assert lows == sorted(lows, reverse=True)
    noise = {n.worker: n for n in found.noise}
    assert list(noise) == list(finished_studies.WORKERS)
    assert noise["gpu-1"].name == finished_studies.DEVICE.name
    assert noise["gpu-1"].quantiles[2] == pytest.approx(0.006, rel=0.2)
    assert noise["gpu-3"].quantiles[2] == pytest.approx(0.022, rel=0.2)
    assert all(n.quantiles == sorted(n.quantiles) for n in found.noise)
    assert sum(w.trials for w in found.workers) == 121
    assert sum(w.failed for w in found.workers) == study.trials.failed + study.trials.poison
    for w in found.workers:
        assert 0 < w.timed_s <= w.busy_s <= w.span_s
    cost = sum(t.cost_s or 0 for t in trials)
    assert sum(w.busy_s for w in found.workers) == pytest.approx(cost)


def test_failures_that_say_nothing_of_the_config_are_left_out(filled):
    database, ids = filled
    with database.read() as tx:
        study, trials = analysis.read(tx, "default", ids["done"])
    space = Space.from_json(study.space)
    measured = [t for t in trials if t.purpose == "measure"]
    failed = next(t for t in measured if t.state == "failed")
    poison = next(t for t in measured if t.state == "poison")
    lost = [t.model_copy(update={"failure": "infra"}) if t is failed else t for t in measured]
    assert len(analysis.tried(space, trials).seconds) == 120
    assert len(analysis.tried(space, lost).seconds) == 119
    assert np.isinf(analysis.tried(space, [poison]).seconds).all()
    foreign = measured[0].model_copy(update={"configs": [{"bm": 17}]})
    assert len(analysis.tried(space, [foreign]).seconds) == 0


def test_a_study_without_trials(filled):
    database, ids = filled
    with database.read() as tx:
        found = analysis.analysed(*analysis.read(tx, "default", ids["queued"]))
    assert (found.ended, found.importance.method, found.band.source) == (0, "none", "none")
    assert (found.noise, found.workers) == ([], [])


def test_an_analysis_is_kept_until_something_happens(filled):
    database, ids = filled
    analyses = analysis.Analyses()
    first = analyses.of(database, "default", ids["random"])
    assert analyses.of(database, "default", ids["random"]) is first
    database.write(lambda tx: happened(tx, ids["random"], "state", {"state": "done"}))
    again = analyses.of(database, "default", ids["random"])
    assert again is not first
    assert again == first


def test_no_analysis_for_another_tenant(filled):
    database, ids = filled
    analyses = analysis.Analyses()
    analyses.of(database, "default", ids["random"])
    with pytest.raises(Refused) as refused:
        analyses.of(database, "other", ids["random"])
    assert refused.value.status == 404


def test_only_so_many_wait_for_an_analysis(filled, monkeypatch):
    database, ids = filled
    analyses, go = analysis.Analyses(), threading.Event()
    monkeypatch.setattr(analysis, "analysed", lambda *_: go.wait(20))
    waiting = [threading.Thread(target=analyses.of, args=(database, "default", ids["done"]))
               for _ in range(analysis.WAITING)]  # fmt: skip
    for thread in waiting:
        thread.start()
    try:
        assert soon(lambda: not analyses._waiting._value)
        with pytest.raises(Refused) as refused:
            analyses.of(database, "default", ids["done"])
        assert refused.value.status == 503
    finally:
        go.set()
        for thread in waiting:
            thread.join(20)


def test_who_is_gone_makes_room_for_others(tmp_path, monkeypatch):
    """As a dashboard does that goes from study to study faster than they are analysed."""
    running, go = Running(tmp_path), threading.Event()
    try:
        ids = list(finished_studies.fill(running.service.database).values())
        real, port = analysis.analysed, int(running.url.rpartition(":")[2])
        monkeypatch.setattr(analysis, "analysed", lambda *a: go.wait(60) and real(*a))
        waiting = running.service.analyses._waiting
        for i in range(2 * analysis.WAITING):
            path, taken = f"/v1/studies/{ids[i % len(ids)]}/analysis", waiting._value
            with socket.create_connection(("127.0.0.1", port)) as page:
                page.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert soon(lambda taken=taken: waiting._value < taken, 30)
            assert soon(
                lambda: waiting._value == analysis.WAITING - 1, 30
            )  # who has the turn stays
        go.set()
        found = httpx.get(f"{running.url}/v1/studies/{ids[0]}/analysis", timeout=60)
        assert found.status_code == 200
        assert found.json()["study"] == ids[0]
    finally:
        go.set()
        running.stop()


@pytest.mark.slow
def test_the_largest_studies_take_seconds():
    space = _space(**{f"p{i}": range(10) for i in range(40)})
    tried = _random(space, 10_000, lambda r, g: np.exp(r[:, 0] * 0.2 + g.normal(0, 0.1, len(r))))
    start = time.process_time()
    importance(space, tried)
    band(space, tried, 10_000)
    assert time.process_time() - start < 30
