"""The arithmetic ceiling: the faster of the instructions that there are."""

import numpy as np
import pytest

from tilec.compile import engine
from tilec.profile import ceilings


@pytest.mark.skipif("+avx512bf16" not in engine().machine.features, reason="pairs of bf16")
@pytest.mark.parametrize(("pairs", "floats", "share"), [(3.0, 1.0, 1.0), (1.5, 1.0, 2.0)])
def test_narrow_arithmetic_is_by_the_faster_instruction(monkeypatch, pairs, floats, share):
    """Pairs do twice the operations of a call, and are taken if that is less than twice as long."""
    times = iter([pairs, floats])
    monkeypatch.setattr(ceilings, "_taken", lambda _: next(times))
    assert ceilings.arithmetic()[1] == share * ceilings.arithmetic(narrow=False)[1]


def test_the_time_of_a_call():
    taken = ceilings._taken(lambda: np.linalg.norm(np.ones(1000)))
    assert 0 < taken < 1
