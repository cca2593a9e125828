"""Well-known kernels on the CPU back end, against doubles."""

from __future__ import annotations

import pytest
from well_known import CASES, kernel


@pytest.mark.parametrize("name", CASES)
def test_right(name):
    case = CASES[name]()
    given = case.poisoned()
    kernel(name)(*(a if a.ndim else a.item() for a in given.values()))
    assert not case.wrong(given)
