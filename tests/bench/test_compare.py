"""Two runs side by side: what is noise and what is not."""

from __future__ import annotations

import bench_results as made
import numpy as np
import pytest

from tilec.bench.report.compare import compare
from tilec.bench.report.spread import Interval, between, paired


def files(tmp_path, *runs, **machine):
    a = made.write(tmp_path / "a.json", *runs[0])
    return a, made.write(tmp_path / "b.json", *runs[1], **machine)


def test_a_run_beside_itself_is_noise(tmp_path):
    found = compare(*files(tmp_path, made.several(), made.several()))
    assert {c.verdict for c in found.changes} == {"within noise"}
    assert {c.ratio for c in found.changes} == {1.0}
    assert found.slower(0) == ()


@pytest.mark.parametrize(("slower", "verdict"), [(1.2, "slower"), (0.8, "faster")])
def test_what_is_beyond_noise(tmp_path, slower, verdict):
    found = compare(*files(tmp_path, made.several(), made.several(slower)))
    assert {c.verdict for c in found.changes} == {verdict}
    assert all(c.time == pytest.approx(1 / slower, rel=1e-6) for c in found.changes)
    assert all(c.share == pytest.approx(1 / slower, rel=1e-6) for c in found.changes)
    assert len(found.slower(0.05)) == (10 if verdict == "slower" else 0)
    assert len(found.slower(0.18)) == len(found.slower(0.05))
    assert found.slower(0.25) == ()


def test_noise_hides_what_is_small(tmp_path):
    found = compare(*files(tmp_path, made.several(noise=0.2), made.several(1.02, noise=0.2)))
    assert {c.verdict for c in found.changes} == {"within noise"}


def test_a_machine_that_is_slower_as_a_whole_is_no_change(tmp_path):
    times = {"tilec": 100.0, "read": 80.0}
    doubled = {n: 2 * t for n, t in times.items()}
    runs = [[made.suite("gemv", [made.case("a", {}, t)])] for t in (times, doubled)]
    (change,) = compare(*files(tmp_path, *runs)).changes
    assert change.time == pytest.approx(0.5)
    assert (change.by, change.verdict) == ("share", "within noise")


def test_other_machines_are_compared_by_share_alone(tmp_path):
    plain = made.suite("launch", [made.case("b", {}, {"tilec": 5.0}, None)])
    runs = [[*made.several(f), plain] for f in (1, 1.3)]
    found = compare(*files(tmp_path, *runs, processor="Another"))
    assert not found.same_machine
    assert "by the share of the ceiling alone" in found.lines()[0]
    assert all(c.time is None for c in found.changes)
    *shared, alone = found.changes
    assert {c.verdict for c in shared} == {"slower"}
    assert (alone.verdict, alone.ratio) == ("not known", None)
    here = compare(*files(tmp_path, *runs)).changes[-1]
    assert (here.by, here.verdict) == ("time", "within noise")


def test_cases_of_one_run_are_named(tmp_path):
    old, new = made.several(), made.several()
    del old[0]["cases"][0]
    del new[1]["cases"][0]
    found = compare(*files(tmp_path, old, new))
    assert found.gone == ("gemm, 2 threads: 256 square",)
    assert found.new == ("gemv, 1 threads: int4 M=1",)
    assert len(found.changes) == 8
    assert found.as_json()["changes"][0]["verdict"] == "within noise"


def test_intervals_hold_the_ratio():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(100):
        a, b = 1.5 + 0.1 * rng.standard_normal(9), 1 + 0.1 * rng.standard_normal(9)
        found = between(list(a), list(b))
        assert found is not None
        inside += found.low <= 1.5 <= found.high
    assert inside >= 85  # of a bootstrap of nine that says 95


def test_rounds_that_were_disturbed_do_not_count():
    assert paired([2, None, 2, 2], [1, 1, None, 1]) is None
    assert paired([2, 2, None, 2], [1, 1, 1, 1]) == Interval(2, 2)
    assert between([2, 2], [1, 1, 1]) is None
    assert [Interval(*i).verdict for i in ((0.9, 1.1), (1.1, 1.2), (0.8, 0.9))] == [0, 1, -1]
