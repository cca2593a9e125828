import json

import numpy as np
import pytest
from tuning_spaces import MAKERS, Synthetic

from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.records import Failure, Study, Trial
from tilec.tune.search.bayes import Bayes
from tilec.tune.search.loop import SAMPLERS, Search, Stop
from tilec.tune.search.told import Told
from tilec.tune.search.transfer import Source
from tilec.tune.space import Constraint, Parameter, Space

EXTRA = ("lfbo", "optuna")  # slower, and they need optional packages
MADE = {(name, seed): make(seed) for name, make in MAKERS.items() for seed in (0, 1)}
FIRST = [MADE[name, 0] for name in MAKERS]


def searched(found: Synthetic, sampler="gp", seed=0, budget=30, batch=1, **known) -> Search:
    study = Study("k", "d", found.space, seed=seed, budget=budget)
    search = Search(study, sampler, **known)
    while asked := search.ask(batch):
        search.tell(*(found.trial(c) for c in asked))
    return search


def configs(search: Search) -> list[str]:
    return [t.config.text for t in search.study.trials]


def reached(found: Synthetic, search: Search, after: int | None = None) -> float:
    """The part of the optimum that was reached."""
    times = [t.seconds for t in search.study.trials[:after] if t.seconds is not None]
    return found.optimum / min(times)


@pytest.mark.parametrize(
    "sampler", ["gp", "evolve", *(pytest.param(s, marks=pytest.mark.slow) for s in EXTRA)]
)
def test_search_beats_random(sampler):
    """Seeds are fixed and everything is deterministic: this can't fail by chance."""
    ahead = {"gp": 0.15, "lfbo": 0.1, "evolve": 0.04, "optuna": 0.04}[sampler]
    budget = 60 if sampler == "evolve" else 30
    seeds = range({"gp": 1, "lfbo": 1, "evolve": 6, "optuna": 2}[sampler])
    parts = {s: [reached(f, searched(f, s, k, budget)) for f in FIRST for k in ks]
             for s, ks in ((sampler, seeds), ("random", range(8)))}  # fmt: skip
    assert np.mean(parts[sampler]) > np.mean(parts["random"]) + ahead


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "lfbo"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_resumed_search_proposes_the_same(sampler, batch):
    found = MADE["stencil", 0]
    whole = searched(found, sampler, 5, 14, batch)
    search = Search(Study("k", "d", found.space, seed=5, budget=14), sampler)
    while asked := search.ask(batch):
        text = json.dumps(search.to_json())  # killed while these are being measured
        search = Search.resumed(json.loads(text))
        search.tell(*(found.trial(c) for c in asked))
    assert configs(search) == configs(whole)
    assert len(set(configs(whole))) == 14


@pytest.mark.slow
def test_a_resumed_forest_proposes_the_same():
    test_a_resumed_search_proposes_the_same(batch=4, sampler="lfbo")


def test_the_order_of_runs_changes_nothing():
    jobs = [
        ("product", "gp", 0),
        ("stencil", "gp", 1),
        ("stencil", "evolve", 0),
        ("product", "gp", 1),
    ]
    one = {j: configs(searched(MADE[j[0], 0], j[1], j[2], 15)) for j in jobs}
    other = {j: configs(searched(MADE[j[0], 0], j[1], j[2], 15)) for j in reversed(jobs)}
    assert one == other
    assert one["product", "gp", 0] != one["product", "gp", 1]


def best_of(search: Search) -> float:
    """The least seconds that were told."""
    best = search.study.best
    assert best is not None
    assert best.seconds is not None
    return best.seconds


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_default_comes_first_and_all_is_found_once(sampler):
    space = Space(
        (Parameter("a", (1, 2, 4)), Parameter("w", ("x", "y")), Parameter("one", (3,))),
        (Constraint("a < 4 or w == 'x'"),), Config.parsed("a=2,one=3,w=y"),
    )  # fmt: skip
    search = Search(Study("k", "d", space, budget=100), sampler)
    first = search.ask(2)
    assert first[0] == space.default
    search.tell(*(Trial(c, (1.0,)) for c in first))
    while asked := search.ask():
        search.tell(*(Trial(c, failure=Failure.COMPILE_ERROR) for c in asked))
    assert sorted(configs(search)) == sorted(c.text for c in space)
    assert search.study.best is not None
    assert search.study.best.config == space.default


def test_retried_failures_count_for_nothing():
    found = MADE["product", 0]
    search = Search(Study("k", "d", found.space, budget=6))
    (first,) = search.ask()
    search.tell(Trial(first, failure=Failure.WORKER_LOST))
    assert search.ask() == [first]
    search.tell(found.trial(first))
    while asked := search.ask(2):
        search.tell(*(found.trial(c) for c in asked))
    assert configs(search)[1:] == configs(searched(found, budget=6))[:1] + configs(search)[2:]
    assert search.spent == 6


def test_failing_regions_are_learned():
    """A third of the space fails, and what does not fail is slower the nearer it is to that."""
    values = tuple(range(1, 31))
    space = Space((Parameter("a", values), Parameter("b", values)))
    search = Search(Study("k", "d", space, budget=45, seed=1))
    while asked := search.ask():
        a, b = int(asked[0]["a"]), int(asked[0]["b"])
        good = a + b < 40
        failed = None if good else Failure.RESOURCE_EXCEEDED
        search.tell(Trial(asked[0], (1 / (a + b),) if good else (), failed))
    assert sum(t.failure is not None for t in search.study.trials) < 15
    assert best_of(search) == pytest.approx(1 / 39)


def test_where_most_fails_what_runs_is_found():
    """Of 1024 configs 105 run, in one corner; the best is at the edge of what fails."""
    values = tuple(range(1, 33))
    space = Space((Parameter("a", values), Parameter("b", values)))
    for seed in (0, 1):
        search = Search(Study("k", "d", space, budget=40, seed=seed))
        while asked := search.ask():
            a, b = int(asked[0]["a"]), int(asked[0]["b"])
            good = a >= 19 and a + b >= 51
            failed = None if good else Failure.RESOURCE_EXCEEDED
            search.tell(Trial(asked[0], (0.1 + abs(a + b - 51),) if good else (), failed))
        assert best_of(search) == pytest.approx(0.1)


def test_the_unknown_is_thought_to_do_what_most_did():
    """Far from what was tried, rows run with the chance that most of what was tried did."""
    space = Space(tuple(Parameter(n, tuple(range(16))) for n in "abcd"))
    sampler = Bayes(space, 0)
    rows = np.random.default_rng(0).integers(0, 4, (20, 4))
    block = sampler.candidates.around(Told(rows[:0], np.zeros(0), rows[:0]))
    far = (block.rows > 12).all(1)
    chances = []
    for ran in (19, 1):
        seconds = np.where(np.arange(20) < ran, 1.0, np.nan)
        told = Told(rows, seconds, rows[:0])
        guess = sampler.expected.of(block)
        chances.append(sampler.runs(block, told, guess)[far].mean())
    assert chances[0] > 0.6
    assert chances[1] < 0.45


@pytest.mark.parametrize("sampler", ["gp", pytest.param("lfbo", marks=pytest.mark.slow)])
def test_other_devices_are_a_head_start(sampler):
    for name in MAKERS:
        here, there = MADE[name, 0], MADE[name, 1]
        known = [Source(searched(there, budget=30, seed=9).study.trials, 0.8)]
        warm = searched(here, sampler, 2, 10, sources=known)
        cold = searched(here, sampler, 2, 10)
        if name == "names":  # the two have nothing in common, which costs little
            assert reached(here, warm) > reached(here, cold) - 0.2
        else:
            assert reached(here, warm, 5) > reached(here, cold, 5)
            assert reached(here, warm) > 0.7
        best = min(known[0].trials, key=lambda t: t.seconds or np.inf)
        assert warm.study.trials[1].config == best.config  # after the default


def test_a_source_may_know_other_parameters():
    stranger = Trial(Config.parsed("zz=1"), (1.0,))
    found = MADE["product", 0]
    warm = searched(found, budget=8, sources=[Source((stranger, stranger))])
    assert configs(warm) == configs(searched(found, budget=8))
    with pytest.raises(TileError, match="weight"):
        Source((), 0)


def test_an_analytic_model_leads():
    found = MADE["stencil", 0]

    def model(c):
        seconds = (6 + c["x"] * c["tx"]) * (6 + c["y"] * c["ty"]) / (c["x"] * c["y"]) ** 1.2
        return np.where(c["padded"], seconds, np.inf)

    led = searched(found, seed=1, budget=6, model=model)
    assert all(t.config["padded"] for t in led.study.trials[1:4])
    with pytest.raises(TileError, match="a model gave"):
        searched(found, budget=3, model=lambda c: np.ones(3))


def test_a_space_that_is_too_large_to_enumerate():
    values = tuple(2**i for i in range(8))
    parameters = tuple(Parameter(f"p{i}", values) for i in range(10))
    space = Space(parameters, (Constraint("p0 * p1 <= p2 * 256"), Constraint("p3 <= p4 * 16")))

    def trial(c: Config) -> Trial:
        off = sum((np.log2(c[f"p{i}"]) - i % 7) ** 2 * (1 + i % 3) for i in range(10))
        return Trial(c, (float(np.exp(0.05 * off)),))

    best = {}
    for sampler in ("gp", "evolve", "random"):
        search = Search(Study("k", "d", space, budget=50, seed=2), sampler)
        while asked := search.ask(5):
            search.tell(*map(trial, asked))
        best[sampler] = best_of(search)
    assert best["gp"] < best["evolve"] < best["random"]


def test_it_stops_by_budget_seconds_and_patience():
    found = MADE["product", 0]
    assert len(searched(found, "random", budget=7, batch=3).study.trials) == 7
    assert len(searched(found, "random", budget=50, stop=Stop(seconds=12)).study.trials) == 12
    stopped = searched(found, "random", budget=500, stop=Stop(patience=20)).study.trials
    best = min(t.seconds or np.inf for t in stopped)
    assert 20 < len(stopped) < 500
    assert all((t.seconds or np.inf) > best * (1 - 0.005) for t in stopped[-20:])


LOST = Trial(Config.of({"v": "a"}), failure=Failure.INFRA)


def test_what_is_wrong_is_said():
    found = MADE["product", 0]
    study = Study("k", "d", found.space)
    with pytest.raises(TileError, match="'best' is no sampler"):
        Search(study, "best")
    with pytest.raises(TileError, match="x is no parameter"):
        Search(study).tell(Trial(Config.of({"x": 1}), (1.0,)))
    with pytest.raises(TileError, match="'pending' is missing"):
        Search.resumed({"sampler": "gp", "study": study.to_json()})
