import json
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tilec.bench.tuning import Case, Result, data, geometric_mean, table
from tilec.tune.config import Config
from tilec.tune.contest import Ratio
from tilec.tune.records import Trial

DEFAULT, ONE, OTHER = (Config.of({"m": m}) for m in (8, 2, 4))


def tuned(config) -> Any:
    study = SimpleNamespace(trials=[Trial(DEFAULT, (1.0,))] * 3)
    return SimpleNamespace(config=config, default=DEFAULT, cost=2.0, compiled=0.5, study=study,
                           failures={})  # fmt: skip


def result(family, one, other, seconds) -> Result:
    """Two tunes that chose `one` and `other`, and rounds that drift alike for all."""
    case = Case(family, None, {}, {"M": 4})  # type: ignore[arg-type]
    times = {DEFAULT: 1.0, ONE: seconds[0], OTHER: seconds[1]}
    trials = [Trial(c, tuple(times[c] * (1 + i / 7) for i in range(12)))
              for c in (DEFAULT, one, other)]  # fmt: skip
    return Result(case, (tuned(one), tuned(other)), tuple(trials))


@pytest.mark.parametrize(
    ("one", "other", "seconds", "gain", "agree"),
    [
        (ONE, OTHER, (0.8, 0.81), 1.25, True),
        (ONE, OTHER, (0.8, 0.83), 1.25, False),
        (ONE, OTHER, (0.83, 0.8), 1 / 0.83, False),
        (DEFAULT, DEFAULT, (0.8, 0.8), 1.0, True),
        (DEFAULT, ONE, (0.9, 1.0), 1.0, False),
        (ONE, ONE, (0.5, 1.0), 2.0, True),
    ],
)
def test_two_tunes_agree_where_what_they_chose_ties(one, other, seconds, gain, agree):
    found = result("a", one, other, seconds)
    assert found.gain.middle == pytest.approx(gain)
    assert found.gain.low <= gain <= found.gain.high
    assert found.agree is agree


def test_families_count_alike_and_the_interval_is_told():
    found = [result("a", ONE, ONE, (0.5, 1.0)), result("a", ONE, ONE, (0.5, 1.0)),
             result("b", DEFAULT, DEFAULT, (1.0, 1.0))]  # fmt: skip
    mean = geometric_mean(found)
    assert mean.middle == pytest.approx(2**0.5)
    assert mean.low < mean.middle < mean.high < 1.01 * mean.middle
    assert geometric_mean([]) == Ratio(1.0, 1.0, 1.0)


def test_the_report():
    found = [result("a", ONE, OTHER, (0.8, 0.9)), result("b", ONE, ONE, (0.8, 1.0))]
    console = Console(file=StringIO(), width=200)
    console.print(table(found))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.250" in told
    assert "agree on 1 of 2" in " ".join(told.split())
    assert "8 s of tuning" in " ".join(told.split())
    read = json.loads(json.dumps(data(found)))
    assert [c["agree"] for c in read["cases"]] == [False, True]
    assert read["cases"][0]["compile_s"] == [0.5, 0.5]
