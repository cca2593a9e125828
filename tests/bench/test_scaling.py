"""The suites that say what cost grows with."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.bench.case import OURS, as_array, difference
from tilec.bench.problems.grown import Grown
from tilec.bench.problems.kept import Kept
from tilec.bench.suites.scaling import SUITES, counts


@pytest.mark.parametrize(("kind", "parts"), [("chain", 3), ("layers", 1), ("layers", 3)])
def test_programs_of_any_length(kind, parts):
    torch = pytest.importorskip("torch")
    made = Grown(kind, (parts, 16, 64), "f32", "f32").made()
    want = made.want()
    assert difference(as_array(made.program(*made.ours)), want) < 1e-6
    assert difference(as_array(made.theirs(torch)()), want) < 1e-6
    longer = Grown(kind, (parts + 1, 16, 64), "f32", "f32").made()
    assert difference(longer.want(), want) > 0.01


def test_a_hit_of_the_cache():
    kept = Kept(100, 2000)
    made = kept.ours()[OURS]()
    assert len(made.calls) == len(kept.asked) == 100
    assert made.want is not None
    assert np.array_equal(made.got(made.calls[0]()), made.want())
    assert made.calls[7]() == kept.code(7)
    assert len(Kept(10_000).asked) == 65


def test_every_curve_has_points_enough():
    for suite in SUITES:
        lengths: dict[str, int] = {}
        names = [c.name for c in suite.cases(False)]
        assert len(names) == len(set(names))
        for case in suite.cases(False):
            curve = str(case.axes.get("curve", ""))
            lengths[curve] = lengths.get(curve, 0) + 1
        if suite.name == "scaling":
            assert set(lengths) == {"M", "N", "K", "MLP batch", "prefill sequence",
                                    "decode sequence", "density"}  # fmt: skip
            assert all(6 <= n <= 8 for n in lengths.values())
        assert suite.cases(True)


@pytest.mark.parametrize(("most", "found"), [
    (1, (1, 2)), (2, (1, 2, 3, 4)), (8, (1, 2, 3, 4, 6, 8, 12, 16)),
    (32, (1, 8, 12, 16, 24, 32, 48, 64)),
])  # fmt: skip
def test_numbers_of_threads(most, found):
    assert counts(most) == found
