"""What follows from bursts, and files of results."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tilec.bench.case import Made
from tilec.bench.process import Burst, Known, burst, checked
from tilec.bench.results import contender, document, ratio, read, write
from tilec.bench.table import table
from tilec.ir.errors import TileError


def racer(*bursts: Burst, nbytes: int = 100, operations: float = 50.0) -> Any:
    return SimpleNamespace(bursts=list(bursts), known=Known(nbytes, operations, 1e-3, 7, {}))


def quiet(*seconds: float, work: float = 1.0) -> Burst:
    return Burst(list(seconds), len(seconds), [work])


LOUD = Burst([], 5, [4.0])


def test_ratios_are_of_rounds_in_which_nothing_disturbed_both():
    ours = racer(quiet(1.0, 2.0, 3.0), quiet(100.0), quiet(4.0))
    theirs = racer(quiet(8.0), LOUD, quiet(4.0))
    assert ratio(ours, theirs) == {"time": 2.5, "work": 1.0, "rounds": 2}
    assert ratio(ours, racer(LOUD, LOUD, LOUD)) == {"time": None, "work": 4.0, "rounds": 0}


def test_shares_are_of_what_counts_and_processor_time_stands_in():
    top = racer(quiet(1.0), quiet(1.0), nbytes=400)
    found = contender(racer(quiet(0.5, 0.5), LOUD), top, "nbytes")
    assert (found["share"], found["by"]) == (0.5, "time")
    assert (found["seconds"], found["kept"], found["timed"]) == (0.5, 2, 7)
    assert (found["error"], found["peak"], found["bytes"]) == (1e-3, 7, 100)
    assert found["samples_us"] == [[5e5, 5e5], []]
    found = contender(racer(LOUD, LOUD), top, "nbytes")
    assert (found["share"], found["by"], found["seconds"]) == (1 / 16, "work", None)
    found = contender(racer(quiet(2.0), operations=0.0), top, "operations")
    assert (found["share"], found["by"]) == (None, None)


def test_percentiles():
    found = contender(racer(quiet(*(float(i) for i in range(11)))), None, "nbytes")
    assert (found["low"], found["seconds"], found["high"]) == (1.0, 5.0, 9.0)
    assert found["share"] is None


def test_a_file_reads_back(tmp_path):
    file, suite = tmp_path / "r.json", {"suite": "gemv", "threads": 1, "cases": []}
    write(file, document([suite, suite]))
    found = read(file)
    assert found["schema"] == 1
    assert found["suites"] == [suite, suite]
    assert found["machine"]["cores"] >= 1
    assert len(file.read_text().splitlines()) == 3
    assert json.loads(file.read_text()) == found


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', "no", "\xff"])
def test_files_that_are_no_results_are_refused(tmp_path, text):
    file = tmp_path / "r.json"
    file.write_text(text, "latin-1")
    with pytest.raises(TileError, match=r"r\.json"):
        read(file)


def test_the_table_marks_what_processor_time_stands_in_for():
    own, top = racer(LOUD), racer(quiet(1.0))
    case = {"name": "c", "contenders": {"tilec": contender(own, top, "nbytes")},
            "ratios": {"slow": ratio(own, racer(LOUD)), "none": ratio(own, top)}}  # fmt: skip
    case["ratios"]["none"]["time"] = 3.0
    case["ratios"]["tilec otherwise"] = {"time": 0.5, "work": 0.5, "rounds": 1}  # no peer
    found = table({"suite": "s", "threads": 2, "cases": [case]})
    cells = [next(iter(c.cells)) for c in found.columns]
    assert cells == ["c", "~4 s", "~25", "7e-06", "slow", "~1.00 x", "2 of 2"]
    assert found.caption == "ahead of every peer in 1 of 1 cases; ~ by processor time"
    case["ratios"]["none"]["time"] = 0.9
    found = table({"suite": "s", "threads": 2, "cases": [case]})
    assert [next(iter(c.cells)) for c in found.columns][4:] == ["none", "0.90 x", "1 of 2"]
    assert found.caption == "ahead of every peer in 0 of 1 cases; ~ by processor time"


def test_a_burst_rotates_and_counts():
    seen: list[int] = []
    made = Made([lambda i=i: seen.append(i) for i in range(3)], None, repeats=10)
    found = burst(made, 0.01, first=1)
    assert seen == [(1 + i) % 3 for i in range(len(seen))]
    assert len(seen) > 1
    assert len(seen) - len(found.work) <= found.timed <= len(seen)  # the first wakes threads up
    assert len(found.kept) <= found.timed
    assert all(t < 1e-3 for t in found.work)  # of each of ten


def test_calls_longer_than_a_group_are_all_counted():
    from time import sleep

    found = burst(Made([lambda: sleep(0.005)], None), 0.0, first=0)
    assert (found.timed, len(found.work)) == (1, 1)


def test_a_result_counts_where_it_is_returned():
    from numpy import ones

    plain = Made([lambda: ones(3)], lambda: ones(3), nbytes=5)
    assert checked(plain).nbytes == 5
    assert checked(replace(plain, returns=True)).nbytes == 5 + 24


def test_results_are_checked_before_they_are_timed():
    from numpy import array, nan

    right = Made([lambda: array([1.0, 2.0, 9.0])], lambda: array([1.0, 2.0]))  # its first rows
    assert checked(right).error == 0.0
    for wrong in (array([1.0, 2.5]), array([1.0, nan])):
        with pytest.raises(TileError, match="its relative error is"):
            checked(Made([lambda w=wrong: w], lambda: array([1.0, 2.0])))
