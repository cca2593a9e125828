"""K-means: near what is best, exact where it can be, and the same each time."""

import numpy as np
import pytest

from tilec.ir import kmeans

KINDS = {
    "normal": lambda rng, s: rng.standard_normal(s),
    "heavy": lambda rng, s: rng.standard_t(2, s),
    "even": lambda rng, s: rng.random(s),
    "outliers": lambda rng, s: rng.standard_normal(s) * np.where(rng.random(s) < 0.01, 30, 1),
}


def least(x: np.ndarray, weight: np.ndarray, count: int) -> float:
    """The least error of any `count` centres: parts of a row that is in order, by all of its
    cuts."""
    order = np.argsort(x)
    x, weight = x[order], weight[order]
    w, m, s = (np.r_[0, np.cumsum(v)] for v in (weight, weight * x, weight * x * x))
    i, j = np.meshgrid(np.arange(len(w)), np.arange(len(w)), indexing="ij")
    with np.errstate(all="ignore"):
        cost = np.where(j > i, s[j] - s[i] - (m[j] - m[i]) ** 2 / (w[j] - w[i]), 0.0)
    cost[j < i] = np.inf
    best = cost[0]
    for _ in range(count - 1):
        best = (best[:, None] + cost).min(0)
    return float(best[-1])


def error(x: np.ndarray, weight: np.ndarray, centres: np.ndarray) -> np.ndarray:
    away = np.abs(x[:, :, None] - centres[:, None]).min(-1)
    return (weight * away**2).sum(-1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_near_the_best_clusters(kind, count, weighted):
    rng = np.random.default_rng(count)
    x = KINDS[kind](rng, (6, 200))
    weight = rng.standard_normal(x.shape) ** 2 if weighted else np.ones(x.shape)
    centres = kmeans.of_numbers(x, weight, count)
    assert (np.diff(centres, axis=-1) >= 0).all()
    want = np.array([least(x[i], weight[i], count) for i in range(len(x))])
    found = error(x, weight, centres)
    assert (found > want * (1 - 1e-9)).all()
    assert found.sum() < 1.1 * want.sum()


def test_a_search_is_no_worse_than_one_start():
    x = np.random.default_rng(0).standard_t(2, (20, 300))
    one = error(x, np.ones(x.shape), kmeans.of_numbers(x, np.ones(x.shape), 8, (2 / 3,)))
    every = error(x, np.ones(x.shape), kmeans.of_numbers(x, np.ones(x.shape), 8))
    assert (every <= one * (1 + 1e-9)).all()
    assert every.sum() < one.sum()


@pytest.mark.parametrize("kinds", [1, 3, 16])
def test_few_different_numbers_are_the_centres(kinds):
    """Also beside rows that have more, and where all are equal."""
    rng = np.random.default_rng(kinds)
    x = rng.choice(rng.standard_normal(kinds), (3, 60))
    x = np.concatenate([x, rng.standard_normal((1, 60))])
    centres = kmeans.of_numbers(x, np.ones(x.shape), 16)
    for row, own in zip(x[:3], centres, strict=False):
        assert set(row) == set(own)
    assert error(x, np.ones(x.shape), centres)[3] > 0
    one = rng.standard_normal((4, 1))
    np.testing.assert_array_equal(kmeans.of_numbers(one, one * 0 + 1, 2), np.repeat(one, 2, 1))


def test_what_has_no_weight_does_not_count():
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((4, 100)), np.ones((4, 100))
    x[:, ::3] *= 50
    weight[:, ::3] = 0
    kept = np.arange(100) % 3 > 0
    alone = error(x[:, kept], weight[:, kept],
                  kmeans.of_numbers(x[:, kept], weight[:, kept], 4))  # fmt: skip
    among = error(x, weight, kmeans.of_numbers(x, weight, 4))
    np.testing.assert_allclose(among, alone, rtol=0.1)
    assert np.isfinite(kmeans.of_numbers(x, weight * 0, 4)).all()


def test_below_counts_as_numpy_does():
    rng = np.random.default_rng(2)
    for length in (1, 2, 7, 8, 33):
        x = np.sort(rng.integers(0, 9, (5, length)), -1)
        rows, limit = np.array([4, 0, 2]), rng.integers(-2, 12, (3, 20)) - 0.5
        limit[:, ::2] += 0.5
        want = [np.searchsorted(x[r], v, side="right") for r, v in zip(rows, limit, strict=True)]
        np.testing.assert_array_equal(kmeans.below(x, rows, limit), want)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_nearest_vector(weighted):
    rng = np.random.default_rng(3)
    x, centres = rng.standard_normal((2, 3000, 4)), rng.standard_normal((37, 4))
    weight = rng.random(x.shape) if weighted else None
    away = np.square(x[..., None, :] - centres) * (1 if weight is None else weight[..., None, :])
    np.testing.assert_array_equal(kmeans.nearest(x, centres, weight), away.sum(-1).argmin(-1))


def test_vectors_settle():
    """Better than vectors that were picked, and each centre the mean of what is nearest to it."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4000, 2))
    weight = rng.random(x.shape) + 0.1
    centres = kmeans.of_vectors(x, weight, 16)
    which = kmeans.nearest(x, centres, weight)
    found, picked = (
        (weight * np.square(c[kmeans.nearest(x, c, weight)] - x)).sum() for c in (centres, x[:16])
    )
    assert found < 0.65 * picked
    for i in range(16):
        own = which == i
        mean = (weight[own] * x[own]).sum(0) / weight[own].sum(0)
        assert np.abs(mean - centres[i]).max() < 0.1
    np.testing.assert_array_equal(centres, kmeans.of_vectors(x.copy(), weight.copy(), 16))


def test_vectors_of_clusters_are_found_again():
    """Also those of one vector beside those of hundreds."""
    rng = np.random.default_rng(5)
    means = rng.standard_normal((32, 4)) * 10
    x = means[rng.integers(0, 3, 2000)]
    x[:29] = means[3:]
    x += rng.standard_normal(x.shape) * 1e-3
    centres = kmeans.of_vectors(x, np.ones(x.shape), 32)
    assert np.square(centres[kmeans.nearest(x, centres)] - x).sum() < 0.1
    few = kmeans.of_vectors(means[:5].repeat(9, 0), np.ones((45, 4)), 8)
    assert few.shape == (8, 4)
    np.testing.assert_array_equal(np.unique(few, axis=0), np.unique(means[:5], axis=0))
