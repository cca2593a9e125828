"""Shared memory by live ranges: never two at one place, and how far from the least possible."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilec.codegen.cuda.placement import Area, lowest, most_alive, place, total

AREAS = st.lists(
    st.builds(
        lambda begin, length, size, alignment: Area(begin, begin + length, size, alignment),
        st.integers(0, 12), st.integers(0, 8), st.integers(1, 600),
        st.sampled_from([1, 4, 16, 128, 1024]),
    ),
    max_size=9,
)  # fmt: skip


def least(areas: list[Area]) -> int:
    """The least memory that will do: some order of all gives it, each area at the lowest place.

    Take the best offsets there are, and the areas by them: each finds its place, or a lower one,
    free, since what was placed before it lies no higher than there.
    """
    orders = permutations(range(len(areas)))
    return min(total(areas, lowest(areas, order)) for order in orders)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(AREAS)
def test_no_two_overlap(areas: list[Area]):
    offsets = place(areas)
    ends = [at + a.size for a, at in zip(areas, offsets, strict=True)]
    for i, a in enumerate(areas):
        assert offsets[i] >= 0
        assert offsets[i] % a.alignment == 0
        for j, b in enumerate(areas[:i]):
            apart = ends[i] <= offsets[j] or ends[j] <= offsets[i]
            assert apart or a.end < b.begin or b.end < a.begin
    assert most_alive(areas) <= total(areas, offsets) == max(ends, default=0)


def random_areas(rng: np.random.Generator, many: int) -> list[Area]:
    """Rings that live long and scratch that lives for a step, in no order."""
    begins = rng.integers(0, 12, many)
    ends = begins + rng.choice([0, 0, 1, 3, 6], many)
    sizes = 16 * rng.integers(1, 40, many)
    alignments = rng.choice([16, 128, 1024], many, p=[0.7, 0.2, 0.1])
    return [Area(*map(int, a)) for a in zip(begins, ends, sizes, alignments, strict=True)]


def test_is_near_the_least():
    rng = np.random.default_rng(0)
    ratios = [total(a, place(a)) / least(a) for a in (random_areas(rng, 6) for _ in range(150))]
    assert min(ratios) == 1.0
    assert sum(r == 1.0 for r in ratios) >= 0.95 * len(ratios)
    assert max(ratios) <= 1.05


def test_what_follows_takes_the_same_place():
    ring, other, scratch = Area(0, 9, 4096), Area(11, 20, 8192), Area(15, 15, 512)
    offsets = place([ring, other, scratch])
    assert offsets == (0, 0, 8192)
    assert total([ring, other, scratch], offsets) == 8704
