import threading
import time
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

import numpy as np
import pytest

import tilec as tc
from tilec import tuned as tuning
from tilec.compile import engine
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache
from tilec.tune import contest, tuner
from tilec.tune.blocked import Blocklist
from tilec.tune.config import Config
from tilec.tune.job import choice_of, subject
from tilec.tune.records import Failure, Trial
from tilec.tune.store import Store
from tilec.tune.tuner import Options, chosen_of, tune


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros([m, n], tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


DIMS = {"M": 64, "N": 256, "K": 256}
TYPES = {"x": tc.f32, "w": tc.f32, "y": tc.f32}
DEFAULT = Config.of({"a": 0})


def of():
    return subject(linear.definition, TYPES, DIMS)


@dataclass
class Fake:
    """Times by a rule; rounds get slower, as on a machine that others use."""

    seconds: Any
    noise: float = 0.0
    rounds: int = 20
    measured: list = field(default_factory=list)
    closed: bool = False

    def trial(self, config):
        self.measured.append(config)
        t = self.seconds(config)
        if isinstance(t, Failure):
            return Trial(config, (), t, 0.1, "so")
        return Trial(config, (t, t * 1.001, t * 0.999), None, 0.1)

    def confirm(self, configs, seconds=20.0, told=None):
        random = np.random.default_rng(len(self.measured))
        drift = np.linspace(1, 3, self.rounds)
        found = []
        for c in configs:
            noise = 1 + self.noise * random.standard_normal(self.rounds)
            found.append(Trial(c, tuple(self.seconds(c) * drift * noise), None, 0.1))
        return found

    def close(self):
        self.closed = True


def best_at(m, n):
    """Times whose optimum is at these tiles."""

    def seconds(c):
        return 1e-4 * (1 + abs(np.log2(c["m"] / m)) + abs(np.log2(c["n"] / n)))

    return seconds


def test_the_optimum_is_found_and_the_default_is_measured_first():
    fake = Fake(best_at(16, 128), 0.001)
    found = tune(of(), Options(40, 0), measurer=fake)
    assert (found.config["m"], found.config["n"]) == (16, 128)
    assert fake.measured[0] == found.default
    assert found.speedup > 1.2
    assert fake.closed
    assert len(set(fake.measured)) == len(fake.measured) <= 40
    assert "linear" in str(found)
    assert "chosen" in str(found)


def test_the_same_seed_measures_the_same():
    one, two, other = (Fake(best_at(16, 128), 0.001) for _ in range(3))
    for fake, seed in ((one, 3), (two, 3), (other, 4)):
        tune(of(), Options(20, seed, "random"), measurer=fake)
    assert one.measured == two.measured
    assert one.measured != other.measured


def test_what_is_blocked_is_not_tried(tmp_path):
    fake = Fake(best_at(16, 128), 0.001)
    best = tune(of(), Options(40, 0), measurer=fake).config
    blocked = Blocklist(Cache(tmp_path), "k", "d", "t")
    blocked.add(best)
    again = Fake(best_at(16, 128), 0.001)
    found = tune(of(), Options(40, 0), measurer=again, blocked=blocked)
    assert best not in again.measured
    assert found.config != best
    assert found.failures == {"device_fault": 1}
    blocked.add(found.default)
    with pytest.raises(TileError, match="two tuning processes down"):
        tune(of(), Options(5, 0), measurer=Fake(best_at(16, 128)), blocked=blocked)


def test_the_default_wins_ties():
    found = tune(of(), Options(20, 0), measurer=Fake(lambda c: 1e-4 if c["m"] == 64 else 0.995e-4))
    assert found.config == found.default
    assert found.speedup == 1.0


def test_who_was_lucky_must_win_again():
    class Lucky(Fake):
        def confirm(self, configs, seconds=20.0, told=None):
            many = len(configs) > 2
            self.seconds = lambda c: 1e-4 if c["m"] == 64 or not many else 0.5e-4
            return super().confirm(configs, seconds, told)

    found = tune(of(), Options(20, 0), measurer=Lucky(lambda c: 1e-4))
    assert found.config == found.default


def test_failures_are_data():
    def seconds(c):
        return Failure.WRONG_RESULT if c["m"] < 32 else best_at(16, 128)(c)

    found = tune(of(), Options(40, 0), measurer=Fake(seconds))
    assert found.failures["wrong_result"] > 0
    assert int(found.config["m"]) >= 32


def test_a_default_that_fails_is_an_error():
    fake = Fake(lambda c: Failure.RUN_TIMEOUT)
    with pytest.raises(TileError, match="default config"):
        tune(of(), Options(5, 0), measurer=fake)
    assert fake.closed


def test_rounds_that_were_slow_for_all_decide_nothing():
    other = Config.of({"a": 1})
    drift = np.linspace(1, 4, 30)
    trials = [Trial(DEFAULT, tuple(1e-3 * drift)), Trial(other, tuple(0.96e-3 * drift))]
    assert contest.paired(trials)[1].seconds == pytest.approx(0.96 * (trials[0].seconds or 0))
    assert chosen_of(trials, DEFAULT) == other
    slower = [trials[0], Trial(other, tuple(0.992e-3 * drift))]  # a tie
    assert chosen_of(slower, DEFAULT) == DEFAULT


def test_an_outlier_decides_nothing():
    other = Config.of({"a": 1})
    times = np.full(30, 0.9e-3)
    times[7] = 1.0
    assert chosen_of([Trial(DEFAULT, (1e-3,) * 30), Trial(other, tuple(times))], DEFAULT) == other


def test_without_another_that_runs_it_is_the_default():
    failed = Trial(Config.of({"a": 1}), (), Failure.LAUNCH_ERROR)
    assert chosen_of([Trial(DEFAULT, (1e-3,) * 5), failed], DEFAULT) == DEFAULT


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A process that knows nothing."""
    found = tuning.Knowledge()
    found.store = Store(Cache(tmp_path))
    monkeypatch.setattr(tuning, "knowledge", lambda: found)
    return found


def arguments(seed=0):
    random = np.random.default_rng(seed)
    x, w = (random.standard_normal(s, np.float32) for s in ((64, 256), (256, 256)))
    return x, w, np.full((64, 256), np.nan, np.float32)


def kernel(mode):
    return tuning.Kernel(linear.definition, tune=mode)


def measuring(monkeypatch, seconds, gate=None):
    """Tuning takes its times from a rule, once the gate is open."""
    real = tuner.tune

    def fake(of, options=None, **more):
        if gate is not None:
            assert gate.wait(60)
        return real(of, changed(options or Options(), budget=15), measurer=Fake(seconds, 0.001),
                    **{n: v for n, v in more.items() if n != "measurer"})  # fmt: skip

    monkeypatch.setattr(tuner, "tune", fake)


def tiles(k):
    """The config in use."""
    (config,) = k._configs.values()
    return config and (config["m"], config["n"])


def right(k, seed=0):
    x, w, y = arguments(seed)
    k(x, w, y)
    np.testing.assert_allclose(y, x @ w.T, rtol=1e-4, atol=1e-4)


def test_tune_is_used_kept_and_found_again(known, monkeypatch):
    measuring(monkeypatch, best_at(32, 128))
    k = kernel("lookup")
    right(k)
    assert tiles(k) is None
    found = k.tune(*arguments())
    assert tiles(k) == (found.config["m"], found.config["n"]) == (32, 128)
    right(k)
    again = kernel("lookup")  # another process would find it on disk
    known.store = Store(known.store._cache)
    right(again)
    assert tiles(again) == (32, 128)
    assert known.store.counts["disk"] == 1
    off = kernel("off")
    right(off)
    assert not off._configs
    off.tune(*arguments())  # said here
    assert tiles(off) == (32, 128)


def test_block_tunes_before_the_first_call(known, monkeypatch):
    measuring(monkeypatch, best_at(32, 128))
    k = kernel("block")
    right(k)
    assert tiles(k) == (32, 128)


def test_the_background_takes_over_between_calls(known, monkeypatch):
    gate = threading.Event()
    measuring(monkeypatch, best_at(32, 128), gate)
    k = kernel("background")
    right(k)
    assert tiles(k) is None  # and calls go on
    first = k.__call__
    right(k, 1)
    assert k.__call__ is first
    gate.set()
    until = time.monotonic() + 60
    while not k.settled(0):
        right(k, 2)
        assert time.monotonic() < until
    assert tiles(k) == (32, 128)
    assert k.__call__ is not first
    right(k, 3)
    made = len(k.compiles())
    right(k, 4)  # nothing is compiled again
    assert len(k.compiles()) == made


def test_a_swap_does_not_compile_other_shapes_again(known, monkeypatch):
    measuring(monkeypatch, best_at(32, 128))
    k = kernel("lookup")
    x, w, _ = arguments()
    small = np.zeros((8, 256), np.float32)
    k(x[:8], w, small)
    k.tune(*arguments())
    loads = []
    real = engine().load
    monkeypatch.setattr(type(engine()), "load", lambda self, *a, **o: loads.append(a) or real(*a))
    k(x[:8], w, small)
    right(k)
    np.testing.assert_allclose(small, x[:8] @ w.T, rtol=1e-4, atol=1e-4)
    assert not loads


def test_no_call_waits_for_a_swap(known, monkeypatch):
    """What a better config needs is compiled by who tunes it, however long that takes; calls that
    go on meanwhile, and the first ones after it, compile nothing."""
    gate, compiles, called = threading.Event(), threading.Event(), threading.Event()
    measuring(monkeypatch, best_at(32, 128), gate)
    k = kernel("background")
    right(k)
    compiled, real = [], engine().load

    def load(host, *given, **more):
        compiled.append(threading.current_thread() is threading.main_thread())
        compiles.set()
        assert called.wait(60)
        return real(*given, **more)

    monkeypatch.setattr(type(engine()), "load", load)
    gate.set()
    assert compiles.wait(60)
    right(k)
    right(k, 1)
    called.set()
    until = time.monotonic() + 60
    while not k.settled(0):
        right(k, 2)
        assert time.monotonic() < until
    right(k, 3)
    assert tiles(k) is not None
    assert compiled == [False]


def test_a_tune_begins_with_what_other_shapes_have(known, monkeypatch):
    began = []

    class Watched(Fake):
        def trial(self, config):
            began.append(config)
            return super().trial(config)

    real = tuner.tune

    def fake(of, options, **_):
        return real(of, changed(options, budget=12), measurer=Watched(best_at(16, 32), 0.001))

    monkeypatch.setattr(tuner, "tune", fake)
    k = kernel("lookup")
    whole = k.tune(*arguments())
    x, w, _ = arguments()
    half = np.zeros((32, 256), np.float32)
    found = k.tune(x[:32], w, half)
    default, first = began[-len(found.study.trials) :][:2]
    assert default == found.default
    assert (min(first["m"], 32), first["n"]) == (min(whole.config["m"], 32), whole.config["n"])


def test_trouble_while_tuning_is_no_users(known, monkeypatch):
    def broken(*_, **__):
        raise TileError("no process")

    monkeypatch.setattr(tuner, "tune", broken)
    k = kernel("background")
    right(k)
    assert k.settled(10)
    right(k)


def test_a_schedule_that_is_given_stays(known):
    given = tc.kernel(cpu=choice_of("cpu", Config.of({"m": 16})).cpu)(_source)
    assert isinstance(given, tuning.Kernel)
    x = np.ones((4, 4), np.float32)
    y = np.zeros_like(x)
    given(x, y)
    assert not given._configs
    np.testing.assert_array_equal(y, x + 1)


def _source(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] + 1.0


def test_programs_too(known, monkeypatch):
    measuring(monkeypatch, lambda c: 1e-4 * (1 + abs(np.log2(c["m"] / 2))))

    @tc.program(tune="background")
    def softmax(x: tc.Tensor["M", "N"]):
        return tc.softmax(x)

    x = np.random.default_rng(0).standard_normal((64, 128), np.float32)
    a = softmax(x)
    assert softmax.settled(60)
    k: Any
    (k,) = softmax._kernels.values()
    (config,) = k._configs.values()
    assert config["m"] == 2
    np.testing.assert_allclose(softmax(x), a, rtol=1e-6)
    found = softmax.tune(x, budget=5)
    assert found.default_seconds > 0


def test_modes_are_checked():
    with pytest.raises(TileError, match="background"):
        tuning.Kernel(linear.definition, tune="always")
    assert tc.kernel(tune="off", backend="triton")(_source).choice == Choice("triton")
