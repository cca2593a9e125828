import numpy as np
import pytest

from tilec.tune import contest
from tilec.tune.config import Config
from tilec.tune.contest import chosen, contending, known, nearest, ratio

ROUNDS = 160
DEFAULT = Config.of({"m": 64, "n": 64, "w": "a"})
OTHERS = [Config.of({"m": m, "n": n, "w": w}) for m in (16, 32, 64) for n in (32, 64)
          for w in ("a", "b")][:-2]  # fmt: skip


def rounds(times, noise, seed, count):
    """Seconds by config; a whole round is slow or not, and some samples are far off."""
    random = np.random.default_rng(seed)
    drift = random.lognormal(0, 0.3, count)
    found = np.outer(times, drift) * (1 + noise * random.standard_normal((len(times), count)))
    found[random.random(found.shape) < 0.02] *= 3
    return found.tolist()


def tuned(configs, times, noise, seed):
    """What is chosen, and after how many rounds."""
    given = rounds(times, noise, seed, ROUNDS)
    sofar, left = [[] for _ in times], list(range(len(times)))
    for i in range(ROUNDS):
        for at in left:
            sofar[at].append(given[at][i])
        if i >= 7 and i % 4 == 3:
            left = [left[at] for at in contending([sofar[at] for at in left])]
        if not left:
            break
    return chosen(configs, sofar), len(sofar[0])


def test_a_ratio_is_known_better_after_more_rounds():
    inside = 0
    for seed in range(100):
        base, other = rounds([1.0, 1.1], 0.02, seed, 100)
        few, many = ratio(other[:10], base[:10]), ratio(other, base)
        inside += (few.low < 1.1 < few.high) + (many.low < 1.1 < many.high)
        assert many.high - many.low < few.high - few.low
        assert many.middle == pytest.approx(1.1, rel=0.015)
    assert inside >= 196
    assert ratio([1.0] * 5, [1.0] * 5).low == 0.0  # too few


def test_the_default_wins_what_ties_and_it_is_decided_soon():
    for seed in range(12):
        config, took = tuned([DEFAULT, OTHERS[0]], [1.0, 0.998], 0.01, seed)
        assert config == DEFAULT
        assert took < ROUNDS
        assert tuned([DEFAULT, OTHERS[0]], [1.0, 0.995], 0.01, seed)[0] == DEFAULT


def test_two_tunes_agree_where_the_truth_is_a_tie():
    """At the very limit of what counts as one, where half of them would choose either."""
    for seed in range(24):
        config, _ = tuned([DEFAULT, OTHERS[0]], [1.0, 1 / 1.0205], 0.01, seed)
        assert config == OTHERS[0]


def test_what_was_measured_in_few_rounds_stays_the_default():
    for count in range(1, contest.FEWEST):
        assert chosen([DEFAULT, OTHERS[0]], [[1.0] * count, [0.5] * count]) == DEFAULT


def test_what_is_faster_wins_and_it_is_decided_soon():
    for seed in range(12):
        config, took = tuned([DEFAULT, *OTHERS[:3]], [1.0, 0.99, 0.95, 1.3], 0.02, seed)
        assert config == OTHERS[1]
        assert took < ROUNDS / 2


def test_of_what_ties_the_nearest_to_the_default_wins():
    far, near = Config.of({"m": 16, "n": 32, "w": "a"}), Config.of({"m": 32, "n": 64, "w": "a"})
    assert nearest([far, near], DEFAULT) == near
    assert nearest([Config.of({**DEFAULT, "m": m}) for m in (8, 32)], DEFAULT)["m"] == 32
    times = [[1.0] * 20, [0.900] * 20, [0.905] * 20]
    assert chosen([DEFAULT, far, near], times) == near
    assert chosen([DEFAULT, far, near], [times[0], times[1], [0.92] * 20]) == far


def test_what_is_surely_slower_is_measured_no_longer():
    given = rounds([1.0, 0.9, 0.899, 0.97, 1.5], 0.005, 0, 12)
    assert 0 in contending(given)
    assert {3, 4}.isdisjoint(contending(given))
    assert contending([[1.0] * 12, [0.995] * 12]) == []


def test_two_tunes_agree():
    """Times of many configs, most of them about as fast as the best: an argmin would be luck."""
    apart = []
    for case in range(24):
        random = np.random.default_rng(case)
        times = random.choice([1.0, 0.97], 1) * np.exp(0.03 * random.standard_normal(9) ** 2)
        times[0] = 1.0
        ends = [tuned([DEFAULT, *OTHERS[:8]], times, 0.02, 1000 * case + s)[0] for s in (0, 1)]
        one, other = (times[[DEFAULT, *OTHERS].index(c)] for c in ends)
        apart.append(abs(one / other - 1))
    assert np.mean(np.array(apart) <= 0.02) >= 0.95


def test_rounds_that_were_disturbed_decide_nothing():
    """Most of the time something else slows one config down by more than the other."""
    random = np.random.default_rng(0)
    slow = 1 + np.where(random.random(100) < 0.45, random.uniform(0.1, 0.6, 100), 0.0)
    noise = 1 + 0.01 * random.standard_normal((2, 100))
    base, other = slow**0.2 * noise[0], 0.9 * slow * noise[1]
    assert ratio(other, base).middle == pytest.approx(0.9, rel=0.005)
    assert 1 / ratio(base, other).middle == pytest.approx(ratio(other, base).middle)
    assert float(np.median(other / base)) > 0.905  # what all rounds say


def test_the_faster_half_is_measured_on():
    given = rounds([1.0, 1.3, 0.9, 1.2, 0.95, 1.1], 0.01, 0, 12)
    assert contest.faster_half(given) == [0, 2, 4]
    assert contest.faster_half(given[:2]) == [0, 1]
    assert contest.faster_half(given[:1]) == [0]


def test_what_was_out_before_is_not_chosen():
    """It was as fast in a few rounds only."""
    few, many = [[1.0] * 30, [0.8] * 8, [0.9] * 30], [DEFAULT, *OTHERS[:2]]
    assert chosen(many, few) == OTHERS[1]
    assert chosen(many[:2], few[:2]) == OTHERS[0]


def test_what_two_are_apart_is_measured_until_it_is_known():
    assert known(rounds([1.0, 1.01], 0.05, 0, 10)) == [0, 1]
    assert known(rounds([1.0, 1.01], 0.005, 0, 60)) == []
    assert known(rounds([1.0, 1.2], 0.05, 0, 60)) == []
    assert known([[1.0] * 9]) == []


def test_outliers_are_left_out():
    found = contest.inside(np.array([1.0, 1.01, 0.99, 1.0, 9.0]))
    assert found.tolist() == [1.0, 1.01, 0.99, 1.0]
    assert contest.inside(np.array([1.0, 9.0])).tolist() == [1.0, 9.0]


def test_what_only_rounding_tells_apart_is_no_outlier():
    same = [[t * f for f in (1.0, 1.001, 0.999, 1.0, 1.002, 0.998)] for t in (1.496, 6.35)]
    found = contest.ratio(*same)
    assert found.low == pytest.approx(1.496 / 6.35, rel=2 * contest.FLOOR)
    assert found.high == pytest.approx(1.496 / 6.35, rel=2 * contest.FLOOR)
