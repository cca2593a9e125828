import itertools
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_driver import FakeDriver
from launched import BACKENDS, LINEAR, definition, gpu_of

import tilec as tc
from tilec.bench.reliability_fleet import left_over
from tilec.ir.errors import TileError
from tilec.observe import counters
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy, Subject, choice_of, subject
from tilec.tune.measure import Limits, Measurer, Patience, process, timing
from tilec.tune.measure import measurer as measuring
from tilec.tune.measure.arguments import arguments
from tilec.tune.measure.measurer import LEAST_ROUNDS
from tilec.tune.measure.process import Process
from tilec.tune.measure.session import Session, Wrong
from tilec.tune.records import Failure, Trial
from tilec.tune.tuner import tune

CHILD = (sys.executable, str(Path(__file__).parents[1] / "poisoned_child.py"))
LIMIT = 1.0
SOON = Patience(LIMIT, LIMIT)
START = Patience(60.0, LIMIT, enough=2)  # the first child imports while the machine is busy
JOB = Job("func @k() {\n}\n")
WARM = Policy(threads=2)


def measurer(default=None, **limits) -> Measurer:
    return Measurer(JOB, WARM, Config.of(default or {}), limits=Limits(1 << 30, **limits),
                    compile=START, run=SOON, command=CHILD)  # fmt: skip


ASKING = """import json, os, socket, sys
asked, answers = (os.fdopen(int(fd), how) for fd, how in zip(sys.argv[-2:], ("rb", "wb")))
for line in asked:
    try:
        socket.create_connection(("127.0.0.1", json.loads(line)["port"]), 2).close()
        reached = True
    except OSError:
        reached = False
    found = [reached, [n for _, n in socket.if_nameindex()], os.getuid(), os.geteuid()]
    answers.write(json.dumps(found).encode() + b"\\n")
    answers.flush()
"""
REFUSING = """import ctypes, runpy, sys
library = ctypes.CDLL(None, use_errno=True)
class Refusing:
    prctl = library.prctl
    def unshare(self, flags):
        ctypes.set_errno(1)
        return -1
ctypes.CDLL = lambda *_, **__: Refusing()
runpy.run_path({keeper!r}, run_name="__main__")
"""


def reaching(limits=None) -> list:
    """What a process under a keeper says of the network, while a server listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = Process((sys.executable, "-c", ASKING), limits or Limits(), dict(os.environ))
        try:
            return child.ask({"port": server.getsockname()[1]}, 60)
        finally:
            child.end()


def may_leave_the_network() -> bool:
    """Whether the system lets this user make a namespace, by another way."""
    words = ["--net"] if os.geteuid() == 0 else ["--user", "--net"]
    return subprocess.run(["unshare", *words, "true"], check=False,
                          capture_output=True).returncode == 0  # fmt: skip


def test_libraries_have_one_thread_where_kernels_are_timed():
    """The threads that a library has besides would spin on the processors that a kernel needs."""
    script = (
        "import json, os, sys; asked, answers = (int(fd) for fd in sys.argv[-2:]); "
        "os.read(asked, 1 << 16); said = [os.environ[n] for n in ("
        "'OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'TILEC_THREADS')]; "
        "os.write(answers, json.dumps({'failure': 'error', 'detail': str(said)}).encode() + b'\\n')"
    )
    wanted = str(["1", "1", "1", "2"])
    with (
        Measurer(JOB, WARM, Config.of({}), command=(sys.executable, "-c", script)) as m,
        pytest.raises(TileError, match=re.escape(wanted)),
    ):
        m.trial(Config.of({}))


def test_what_is_measured_has_no_network():
    """TUNING.md 3.6, 36."""
    before = counters().fallbacks.get("no network", 0)
    reached, names, *users = reaching()
    assert users == [os.getuid(), os.geteuid()]  # it is still who owns its files
    if may_leave_the_network():
        assert (reached, names) == (False, ["lo"])
    assert reached == (counters().fallbacks.get("no network", 0) > before)  # never silently


def test_where_no_namespace_can_be_made_that_is_said(tmp_path, monkeypatch, caplog):
    script = tmp_path / "keeper.py"
    script.write_text(REFUSING.format(keeper=str(process.KEEPER)))
    monkeypatch.setattr(process, "KEEPER", script)
    before = counters().fallbacks.get("no network", 0)
    with caplog.at_level("WARNING"):
        reached, *_ = reaching()
    assert reached
    assert counters().fallbacks["no network"] == before + 1
    assert "Operation not permitted" in caplog.text


def descendants() -> set[int]:
    """All processes that this one is an ancestor of."""
    parents = {}
    for p in Path("/proc").iterdir():
        if p.name.isdecimal():
            try:
                parents[int(p.name)] = int((p / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = set(), {os.getpid()}
    while new:
        new = {c for c, p in parents.items() if p in new} - found
        found |= new
    return found


FAULTS = {
    ("loop", "compile"): Failure.COMPILE_TIMEOUT,
    ("loop", "burst"): Failure.RUN_TIMEOUT,
    ("segfault", "compile"): Failure.COMPILE_ERROR,
    ("segfault", "check"): Failure.DEVICE_FAULT,
    ("abort", "check"): Failure.DEVICE_FAULT,
    ("exit", "check"): Failure.LAUNCH_ERROR,
    ("escaped", "check"): Failure.LAUNCH_ERROR,
    ("raises", "compile"): Failure.COMPILE_ERROR,
    ("raises", "check"): Failure.LAUNCH_ERROR,
    ("ptxas", "compile"): Failure.PTXAS_CRASH,
    ("memory", "check"): Failure.RESOURCE_EXCEEDED,
    ("output", "check"): Failure.RESOURCE_EXCEEDED,
    ("forks", "check"): Failure.RESOURCE_EXCEEDED,
    ("lies", "check"): Failure.DEVICE_FAULT,
}
SLOW = {("loop", "compile"), ("memory", "check"), ("output", "check"), ("forks", "check"),
        ("abort", "check"), ("lies", "check"), ("segfault", "check")}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "at"), [pytest.param(*f, marks=[pytest.mark.slow] * (f in SLOW)) for f in FAULTS]
)
def test_poison_costs_its_time_limit_and_leaves_nothing(fault, at, tmp_path, monkeypatch):
    """Some faults end in a time limit where the machine is slow: both are right."""
    monkeypatch.chdir(tmp_path)  # so that its processes are known
    with measurer() as m:
        for i in range(3):
            assert m.trial(Config.of({"time": 1 + i})).failure is None
        start = time.monotonic()
        trial = m.trial(Config.of({"fault": fault, "at": at}))
        took = time.monotonic() - start
        late = {Failure.RUN_TIMEOUT} if fault in ("memory", "output", "forks", "lies") else set()
        assert trial.failure in {FAULTS[fault, at]} | late, trial
        assert took <= LIMIT + 1
        again = m.trial(Config.of({"time": 5.0}))  # in a new process
        assert again.samples == (0.005,)
    assert left_over(tmp_path) == 1  # this one


def test_a_wrong_result_is_a_failure():
    with measurer() as m:
        assert m.trial(Config.of({"wrong": True})).failure is Failure.WRONG_RESULT


def test_a_default_that_fails_is_an_error():
    with measurer({"fault": "raises", "at": "check"}) as m, pytest.raises(TileError, match="def"):
        m.trial(Config.of({}))
    with measurer({"opens": False}) as m:
        assert m.trial(Config.of({})).failure is Failure.INFRA


def test_configs_are_measured_until_it_is_decided(monkeypatch):
    monkeypatch.setattr(measuring, "LEAST_S", 0.0)
    configs = [Config.of({"time": t}) for t in (1.0, 1.05, 3.0)]

    def two(rounds):
        return [0, 1] if len(rounds[0]) < 12 else []

    with measurer() as m:
        assert {len(t.samples) for t in m.confirm(configs)} == {LEAST_ROUNDS}
        found = m.confirm(configs, judge=two)
        assert [len(t.samples) for t in found] == [12, 12, LEAST_ROUNDS]
        assert found[2].seconds == 0.003
        m.trial(configs[0])
        assert len(m.trial(configs[2]).samples) == 1  # hopeless beside the best


def test_time_is_spent_on_what_may_be_chosen(monkeypatch):
    """A clock that goes on by 10 ms whenever somebody looks."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.01 * next(ticks))
    configs = [Config.of({"time": t}) for t in (1.0, 0.95, 0.9, 0.97, 0.96)]

    def all_of(rounds):
        return range(len(rounds))

    with measurer() as m:
        m.trial(configs[0])
        monkeypatch.setattr(measuring, "time", clock)
        found = [len(t.samples) for t in m.confirm(configs, 4.0, judge=all_of)]
        same = [len(t.samples) for t in m.confirm(configs, 4.0, judge=all_of, halves=0)]
    default, *others = found
    assert default == others[1] == max(found)
    assert others[0] < default
    assert others[2] == others[3] < others[0]
    assert len(set(same)) == 1


def test_a_machine_that_gets_slower_says_nothing_of_a_config(monkeypatch):
    """Times drift by half of a config's advantage with every burst; the first scale is kept."""
    bursts = itertools.count()
    times = {"a": 1.0, "b": 0.9, "c": 1.1}

    def burst(self, config):
        return 1e-3 * times[config["is"]] * 1.05 ** next(bursts)

    default, faster, slower = (Config.of({"is": n}) for n in times)
    monkeypatch.setattr(Measurer, "_burst", burst)
    monkeypatch.setattr(Measurer, "_prepare", lambda self, config: 0.0)
    with Measurer(JOB, WARM, default) as m:
        found = [m.trial(c) for c in (default, slower, faster, slower, faster, default)]
    usual = 1e-3 * 1.05  # the median of the first three bursts
    for trial, time_ in zip(found, (1.0, 1.1, 0.9, 1.1, 0.9, 1.0), strict=True):
        assert len(trial.samples) == measuring.FIRST
        assert trial.seconds == pytest.approx(usual * time_, rel=0.03)
    slowest, fastest = (found[i].seconds for i in (1, 2))
    assert slowest
    assert fastest
    assert fastest / slowest == pytest.approx(0.9 / 1.1, rel=1e-9)


def test_patience_follows_what_has_finished():
    p = Patience(100.0, 2.0, 4.0, 3)
    assert p.seconds([1.0, 1.0]) == 100.0
    assert p.seconds([1.0] * 10) == 4.0
    assert p.seconds([0.1] * 10) == 2.0
    assert p.seconds([90.0] * 10) == 100.0


def linear(weight, m=8, n=64, k=128):
    @tc.kernel
    def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
        for m, n in tc.tiles("M", "N"):
            acc = tc.zeros([m, n], tc.f32)
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
            y[m, n] = acc

    types = {"x": tc.f32, "w": weight, "y": tc.f32}
    return subject(linear.definition, types, {"M": m, "N": n, "K": k}).job


WEIGHTS = ["int4<group=32>", "nm<2, 4, f16>", "block<16, 16, f16>", "bitmap<f16>"]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_arguments_are_the_same_for_a_seed(weight):
    w = tc.sparsify(np.random.default_rng(0).standard_normal((64, 128)), tc.format(weight),
                    density=0.3).format if "int" not in weight else tc.format(weight)  # fmt: skip
    func = linear(w).func
    made: Any = [arguments(func, seed)[1] for seed in (0, 0, 1)]
    a, b, c = (x.dequantize() for x in made)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert made[0].format == w


def test_a_session_times_configs_and_finds_wrong_ones():
    default = Config.of({"m": 8})
    session = Session(linear(tc.format("int4<group=32>")), WARM, default)
    session.compile(default)
    session.check(default)
    other = Config.of({"m": 4, "threads": 1})
    session.compile(other)
    assert session.check(other) > 0
    assert min(session.burst(other, 0.01)) > 0
    session.made[other.text] = lambda: None  # writes nothing
    with pytest.raises(Wrong, match="y differs"):
        session.check(other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_on_a_gpu(backend):
    """A driver that runs PTX on this processor stands for the GPU."""
    fake, types = FakeDriver(), {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    job = subject(definition(LINEAR), types, {"M": 32, "N": 32, "K": 64}, backend, "sm_80").job

    def place(argument):
        fake.hold(argument)
        return argument

    def choose(backend, config):
        return replace(choice_of(backend, config), image="ptx")

    default, other = Config.of({}), Config.of({"m": 16, "n": 16})
    session = Session(job, Policy(), default, gpu_of(fake), place, choose)
    for config in (default, other):
        session.compile(config)
        assert session.check(config) > 0
    assert session.burst(other, 0.0)
    session.made[other.text] = lambda: None
    with pytest.raises(Wrong):
        session.check(other)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_nothing_is_timed_eagerly_that_is_to_be_a_graph(backend):
    policy, job = Policy("graph"), replace(linear(tc.f32), backend=backend)
    for refused in (
        lambda: Session(job, policy, Config.of({})),
        lambda: Measurer(job, policy, Config.of({})),
        lambda: tune(subject_of(job), policy=policy),
    ):
        with pytest.raises(TileError, match="mode is graph, expected eager"):
            refused()


def subject_of(job):
    return Subject(job, "ab", {})


def test_compiling_is_told_apart_from_measuring():
    with measurer() as m:
        found = m.trial(Config.of({"time": 1.0}))
        assert found.compiled == 0.001  # as the child says
        assert Trial.from_json(found.to_json()) == found


def test_calls_are_timed():
    calls = []
    times = timing.warm(lambda: calls.append(0), 0.01)
    assert 0 < len(times) < len(calls)
    assert all(t > 0 for t in times)
    assert len(timing.cold(lambda: None, 0.0)) == 3
    assert timing.last_cache() >= 1 << 18


@pytest.mark.slow
def test_the_process_of_a_real_kernel():
    job = linear(tc.format("int4<group=32>"))
    default = Config.of({})
    with Measurer(job, WARM, default) as m:
        trials = [m.trial(c) for c in (default, Config.of({"m": 2}), Config.of({"threads": 7}))]
    assert [t.failure for t in trials] == [None, None, Failure.COMPILE_ERROR]
    assert "threads is 7" in trials[2].note
    assert not {p for p in descendants() if _name(p) == "child"}


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return "child" if b"tilec.tune.measure.child" in words else ""
