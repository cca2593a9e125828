"""A race of contenders whose times are known: who is timed, who is left out, what is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import pytest
from racing import NOBODY, SLEEPERS, Sleep, sleeper
from rich.console import Console

from tilec.bench.case import Case, Make, Peer, Suite
from tilec.bench.harness import Asked, Ceilings, measure
from tilec.bench.process import Process
from tilec.bench.results import begun, document, joined, write
from tilec.bench.table import skipped, table
from tilec.ir.errors import TileError

SECONDS = 0.004


def sleeps(quick: bool) -> list[Case]:
    names = ["a nap"] if quick else ["a nap", "a rest"]
    return [Case(n, {"seconds": SECONDS}, Sleep(SECONDS)) for n in names]


SUITE = Suite("sleep", "contenders that sleep", sleeps, threads=(2, 1), seconds=0.05)


@pytest.fixture(scope="module")
def raced():
    (found,) = measure(SUITE, [SLEEPERS, NOBODY], Asked(3, "nap", (1,), True), Console(quiet=True))
    return found


def test_the_sleepers_are_timed(raced):
    (case,) = raced["cases"]
    assert (raced["suite"], raced["threads"], raced["rounds"]) == ("sleep", 1, 3)
    assert (case["name"], case["axes"]) == ("a nap", {"seconds": SECONDS})
    assert set(case["contenders"]) == {"tilec", "slow"}
    ours, slow = case["contenders"]["tilec"], case["contenders"]["slow"]
    assert (ours["error"], ours["bytes"], ours["operations"]) == (0.0, 100, 8.0)
    assert ours["about"] == {"slept": SECONDS}
    assert ours["timed"] >= ours["kept"]
    assert len(ours["samples_us"]) == 3
    for found, least in ((ours, SECONDS), (slow, 3 * SECONDS)):
        assert found["work"] < least
        assert found["seconds"] is None or least <= found["low"] <= found["seconds"]
    ratio = case["ratios"]["slow"]
    both = zip(ours["samples_us"], slow["samples_us"], strict=True)
    found = [median(b) / median(a) for a, b in both if a and b]
    assert ratio["rounds"] == len(found)
    assert ratio["time"] == (pytest.approx(median(found), rel=1e-3) if found else None)


def test_who_is_left_out_is_told_why(raced):
    (case,) = raced["cases"]
    assert raced["skipped"] == {"nobody": "it is not installed"}
    assert case["skipped"] == {
        "wrong": "its relative error is 5.0e-01, more than 1e-02",
        "refuses": "it has no such kernel",
        "dies": "its process has died (3)",
    }
    assert skipped(raced)["a nap: refuses"] == "it has no such kernel"
    assert table(raced).row_count == 1


@dataclass(frozen=True)
class Wrong(Sleep):
    def ours(self):
        return {"tilec": partial(sleeper, 0.0, 2.0)}


def test_ours_that_is_wrong_is_told():
    suite = Suite("bad", "", lambda _: [Case("nap", {}, Sleep(0.0))], seconds=0.01)
    wrong = Suite("bad", "", lambda _: [Case("nap", {}, Wrong(0.0))], seconds=0.01)
    (found,) = measure(suite, [], Asked(1, threads=(1,)), Console(quiet=True))
    assert (found["failed"], len(found["cases"])) == ({}, 1)
    (found,) = measure(wrong, [], Asked(1, threads=(1,)), Console(quiet=True))
    assert found["failed"] == {"nap": "tilec: its relative error is 1.0e+00, more than 1e-02"}
    assert found["cases"] == []


def test_cases_are_chosen():
    assert [c.name for c in Asked().cases(SUITE)] == ["a nap", "a rest"]
    assert [c.name for c in Asked(only="rest").cases(SUITE)] == ["a rest"]
    assert [c.name for c in Asked(quick=True).cases(SUITE)] == ["a nap"]
    assert Asked(only="rest", quick=True).cases(SUITE) == []


def test_a_process_is_stopped_whatever_it_does():
    p = Process("slow", partial(sleeper, 30.0), 1)
    p.stop()
    assert not p._process.is_alive()


def test_results_are_told_after_each_case():
    seen = list[int]()
    asked = Asked(1, threads=(1,), quick=False)
    list(measure(SUITE, [], asked, Console(quiet=True), lambda r: seen.append(len(r["cases"]))))
    assert seen == [1, 2]


def test_what_was_begun_is_gone_on_with(tmp_path):
    file, seen = tmp_path / "r.json", list[int]()
    asked = Asked(1, "nap", threads=(1,))
    (first,) = measure(SUITE, [], asked, Console(quiet=True))
    first["failed"] = {"a rest": "tilec: it was tired"}
    write(file, document([{**first, "suite": "other"}, first]))
    earlier = begun(file)
    asked = Asked(1, threads=(1,))
    (found,) = measure(SUITE, [], asked, Console(quiet=True),
                       lambda r: seen.append(len(r["cases"])), earlier)  # fmt: skip
    assert seen == [2]
    assert [c["name"] for c in found["cases"]] == ["a nap", "a rest"]
    assert found["cases"][0] == earlier[1]["cases"][0]
    assert found["failed"] == {}
    both = joined(earlier, [found])
    assert [(s["suite"], len(s["cases"])) for s in both] == [("other", 1), ("sleep", 2)]
    assert begun(tmp_path / "none.json") == []
    write(file, {**document([first]), "machine": {"processor": "another", "cores": 1}})
    with pytest.raises(TileError, match="of another machine: another"):
        begun(file)


@dataclass(frozen=True)
class Odd(Sleep):
    def ours(self):
        raise KeyError("nf4")


def odd(problem: object) -> dict[str, Make]:
    raise ValueError("of what?\nAnd why?")


def test_whatever_fails_does_not_end_a_run():
    cases = [Case("odd", {}, Odd(0.0)), Case("nap", {}, Sleep(0.0))]
    suite = Suite("bad", "", lambda _: cases, seconds=0.01)
    strange = Peer("strange", lambda: "", odd)
    (found,) = measure(suite, [strange], Asked(1, threads=(1,)), Console(quiet=True))
    assert found["failed"] == {"odd": "KeyError: 'nf4'"}
    (case,) = found["cases"]
    assert case["skipped"] == {"strange": "ValueError: of what?"}
    assert set(case["took"]) == {"ready", "timed"}


def test_ceilings_stay_for_the_cases_after():
    case = Case("a", {}, Sleep(0.0), "call")
    held = Ceilings(1)
    try:
        (first,) = held.of(case).values()
        first.ready()
        first.burst(0.0)
        (again,) = held.of(replace(case, name="b")).values()
        assert (again, again.bursts) == (first, [])
        again.ready()  # at once
        again.burst(0.0)
        first.stop()
        (other,) = held.of(case).values()
        assert other is not first
        assert held.of(replace(case, ceiling=None)) == {}
    finally:
        held.stop()
    assert not other.alive
