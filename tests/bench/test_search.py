"""The search suite: its score, checked against simulation."""

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tuning_spaces import MAKERS

from tilec.bench.search import Suite, joined, table
from tilec.bench.search_data import BUDGET, Recording, recordings, write
from tilec.ir.errors import TileError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two devices of a synthetic family, in the format of recordings."""
    where = tmp_path_factory.mktemp("recorded")
    for device in (0, 1):
        found = MAKERS["stencil"](device)
        space = replace(found.space, rows=tuple(map(tuple, found.rows.tolist())))
        costs = np.ones(len(found.rows))
        write(where, [Recording("stencil", f"d{device}", space, 1e3 * found.seconds, costs)])
    return where


def test_the_curve_of_random_search(folder):
    one = recordings(folder)[0]
    times = np.sort(np.where(np.isnan(one.times), np.nanmax(one.times), one.times))
    n = len(times)
    for t in (1, 2, 7, 120):
        chances = [comb(n - 1 - i, t - 1) / comb(n, t) for i in range(n)]  # i is the best of t
        assert one.random[t - 1] == pytest.approx(float(times @ chances))
    random = np.random.default_rng(0)
    scores = [one.score(random.permutation(n)[:BUDGET].tolist()) for _ in range(400)]
    assert np.mean(scores) == pytest.approx(0, abs=0.06)
    assert one.score([int(np.nanargmin(one.times))] * 2) == pytest.approx(1)


@pytest.mark.slow
def test_a_suite_runs(folder):
    suite = Suite(folder, 1, None, ["gp", "random", "Kernel"])
    result = suite.measure(Console(quiet=True))
    found = result["contenders"]
    assert set(found) == {
        "tilec gp cold",
        "tilec gp warm all",
        "tilec gp warm 120",
        "random",
    }
    assert "--kernel-tuner" in result["skipped"]["Kernel Tuner"]
    assert found["tilec gp cold"]["P"] > 0.3
    assert found["tilec gp warm all"]["part_of_optimum"][2] > 0.8
    assert {len(v) for v in found["random"]["visits"].values()} == {BUDGET}
    assert table(result).row_count == 4


def test_results_of_other_contenders_are_kept():
    def result(seeds: int, *names: str) -> dict:
        return {"seeds": seeds, "budget": 120, "spaces": {"s": {}}, "skipped": {"d": "why"},
                "contenders": {n: {"P": seeds + len(names)} for n in names}}  # fmt: skip

    both = joined(result(3, "a", "b"), result(3, "b", "c", "d"))
    assert {n: c["P"] for n, c in both["contenders"].items()} == {"a": 5, "b": 6, "c": 6, "d": 6}
    with pytest.raises(TileError, match="other seeds"):
        joined(result(3, "a"), result(4, "b"))
