"""Step functions are found whatever their steps, to the last bit of an edge."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.codegen.cpu.steps import Steps, bisected

EDGES = [-np.inf, -3e38, -2.0, -1e-45, 0.0, 1e-40, 1 / 3, 1.0, 7e37, np.inf]
RESULTS = [np.nan, 5.0, -1.0, np.inf, -1.0, 2.0, 3.0, np.nan, -np.inf, 4.0]  # from each edge on


@pytest.mark.parametrize(("kind", "floating"), [("float", np.float32), ("double", np.float64)])
def test_every_edge_and_result_is_found(kind, floating):
    """Results that come again, NaN and infinities, edges at zero and at the greatest numbers."""
    edges = np.array(EDGES).astype(floating).astype(np.float64)
    with np.errstate(over="ignore"):
        samples = np.nextafter(edges[1:].astype(floating), floating(-np.inf)).tolist()
    steps = bisected(
        lambda x: np.array(RESULTS)[np.searchsorted(edges, x, "right") - 1], samples, kind
    )
    np.testing.assert_array_equal(steps.edges, edges[1:])
    np.testing.assert_array_equal(steps.results, RESULTS)


def test_one_step():
    assert bisected(lambda x: np.ones_like(x), [0.0], "double") == Steps((), (1.0,))
