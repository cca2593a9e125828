"""Made recordings have the traits that recorded spaces have, and are read back as written."""

import numpy as np
import pytest

from tilec.bench.search_data import recordings, write
from tilec.bench.search_made import family

FAMILIES = {seed: family(seed) for seed in range(8)}
EVERY = [r for found in FAMILIES.values() for r in found]


def near(recording) -> int:
    """How many configs are within 5% of the optimum."""
    return int((recording.times <= 1.05 * recording.optimum).sum())


def test_few_configs_are_near_the_optimum():
    assert all(1 <= near(r) <= 0.02 * len(r.times) for r in EVERY)
    assert np.median([near(r) for r in EVERY]) < 10


def test_the_median_is_some_times_the_optimum():
    ratios = [float(np.nanmedian(r.times)) / r.optimum for r in EVERY]
    assert min(ratios) > 1.1
    assert 2 < np.median(ratios) < 8


def test_some_kernels_fail_in_part():
    parts = np.array([np.isnan(r.times).mean() for r in EVERY])
    assert 0 < (parts > 0).mean() < 0.7
    assert parts.max() < 0.8


def test_devices_are_related_and_their_optima_lie_apart():
    agree, moved = [], []
    for one, *others in FAMILIES.values():
        for other in others:
            both = ~np.isnan(one.times) & ~np.isnan(other.times)
            ranks = [np.argsort(np.argsort(r.times[both])) for r in (one, other)]
            agree.append(float(np.corrcoef(np.stack(ranks)).min()))
            moved.append(one.optimum / one.times[int(np.nanargmin(other.times))])
    assert min(agree) > 0.2
    assert 0.6 < np.median(agree) < 0.95
    assert np.nanmin(moved) < 0.6
    assert 0.6 < np.nanmedian(moved) < 0.95


def test_a_seed_makes_the_same_again(tmp_path):
    write(tmp_path, FAMILIES[0])
    for one, other in zip(recordings(tmp_path), family(0), strict=True):
        assert one.name == other.name
        assert one.space.rows == other.space.rows
        assert one.times == pytest.approx(other.times, nan_ok=True)
    assert family(1)[0].times.tolist() != FAMILIES[0][0].times.tolist()
