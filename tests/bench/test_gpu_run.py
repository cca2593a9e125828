"""A run on a GPU, by a driver that runs PTX on this processor and a clock that counts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_driver import FakeDriver
from gpu_places import CountingClock, dying, on_fake, place, tiny

from tilec.bench import results
from tilec.bench.gpu import CASES, check, held, run
from tilec.bench.gpu.contender import ours
from tilec.bench.gpu.held import made
from tilec.bench.gpu.measured import Asked, measured, shown
from tilec.bench.gpu.timing import CudaClock

pytest.importorskip("triton")
SLOW = pytest.mark.slow
SMALL = [c for c in CASES if c.name in ("rms norm fp8 16384x8192", "bf16 4096;4096,4096")]


def test_contenders_are_checked_and_timed_in_turns():
    found = measured(tiny(), place(), CountingClock(), Asked(rounds=3))
    names = [f"tilec {w.name}" for w in tiny().ways]
    assert list(found["contenders"]) == [*names, "torch f16", "copy"]
    assert found["skipped"] == {"liger": "liger_kernel is not installed"}
    assert found["wrong"] == {}
    assert found["ours"] == names[0]
    assert [found["contenders"][n]["seconds"] for n in names] == [1.0, 2.0]
    assert found["ratios"]["torch f16"] == {"time": 3.0, "work": 3.0, "rounds": 3}
    own, top = found["contenders"][names[0]], found["contenders"]["copy"]
    assert own["share"] == pytest.approx(4.0 * own["bytes"] / top["bytes"])
    assert own["samples_us"] == [[1e6] * 3] * 3
    assert 0 < own["error"] < 1e-3


def test_ours_that_is_wrong_is_told_and_not_timed():
    case = tiny()
    off = replace(case, meaning=lambda v, d: {"y": -case.meaning(v, d)["y"]})
    found = measured(off, place(), CountingClock(), Asked(rounds=1))
    assert [n for n in found["contenders"] if n.startswith("tilec")] == []
    assert all("is wrong: y is off by 2.0e+00" in why for why in found["wrong"].values())
    assert "torch f16 is wrong" in found["skipped"]["torch f16"]
    assert len(shown([found])) == 2
    assert found["ratios"] == {}


@SLOW
def test_results_alone():
    found = measured(tiny("nf4<group=64>"), place(), CountingClock(), Asked(rounds=0))
    assert list(found["contenders"]) == [f"tilec {w.name}" for w in tiny().ways]
    assert [c["seconds"] for c in found["contenders"].values()] == [None, None]


@pytest.mark.parametrize(
    "text",
    [
        "int4<group=64>",
        *(pytest.param(t, marks=SLOW) for t in ("nm<2, 4, f16>", "mxfp4", "bitmap<f16, 64>")),
    ],
)
def test_a_block_repeated_is_the_whole(text, monkeypatch):
    """In whichever order code reads components."""
    monkeypatch.setattr(held, "BLOCK", 1 << 14)
    case = replace(tiny(text), dims={"M": 16, "N": 768, "K": 64}, sample={}, near=3e-3, density=0.5)
    for way in case.ways:
        operands = made(case, place())
        block = operands.held["w"].block
        assert block is not None
        assert block.shape == (256, 64)
        assert ours(way, operands).check(operands.want()) < 3e-3
        dense = operands.dense("w", "float64").numpy()
        assert np.array_equal(dense, np.tile(block.dequantize(), (3, 1)))


def test_copies_are_read_from_memory_of_their_own():
    fake = FakeDriver()
    there = replace(place(fake), cold=40_000)
    operands = made(tiny(), there)
    assert operands.copies == 4
    contender = ours(tiny().ways[0], operands)
    for call in contender.calls:
        call()
    first = [k.parameters for k in fake.launched[-4:]]
    assert len({p[1] for p in first}) == 4
    assert len({p[-1] for p in first}) == 1


@SLOW
@pytest.mark.parametrize("case", SMALL, ids=lambda c: c.name)
def test_cases_of_the_suite(case):
    found = measured(case, place(), CountingClock(), Asked(rounds=1, reduced=True))
    assert found["wrong"] == {}
    assert found["ours"] is not None


@SLOW
def test_a_run_writes_after_every_case_and_outlives_its_process(tmp_path):
    out, asked = tmp_path / "gpu.json", Asked(rounds=1, reduced=True, peers=("none",))
    seen: list[int] = []

    def told(_: object) -> None:
        seen.append(len(results.read(out)["suites"][0]["cases"]))

    flag = str(tmp_path / "died")
    found = run(SMALL, out, asked, told=told, setup=partial(dying, flag))
    assert seen == [1, 2]
    assert [list(r["wrong"].values()) for r in found] == [["the process that ran it has died"], []]
    document = results.read(out)
    assert document["machine"]["device"] == "fake 0"
    assert found[1]["ours"] in document["suites"][0]["cases"][1]["contenders"]
    assert check(SMALL[:0], out, setup=on_fake) == []


@SLOW
def test_without_time_cases_are_left_out_by_name(tmp_path):
    found = run(SMALL, tmp_path / "gpu.json", seconds=1.0, setup=on_fake)
    assert found == [{"name": c.name, "left_out": "no time was left"} for c in SMALL]
    left = results.read(tmp_path / "gpu.json")["suites"][0]["left_out"]
    assert list(left) == [c.name for c in SMALL]


class FakeCuda:
    """What the clock asks of torch.cuda: a kernel takes a millisecond, and time passes by calls."""

    def __init__(self, captures: bool) -> None:
        self.now, self.captures, self.recording = 0.0, captures, list[Any]()
        self.graphs = 0
        self.CUDAGraph = partial(FakeGraph, self)

    def kernel(self) -> None:
        if self.recording:
            self.recording[-1].calls += 1
        else:
            self.now += 1.0

    def Event(self, enable_timing: bool) -> Any:
        assert enable_timing
        event = SimpleNamespace(at=0.0, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda other: other.at - event.at
        return event

    def Stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    @contextmanager
    def stream(self, _: object):
        yield

    @contextmanager
    def graph(self, graph: Any):
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recording.append(graph)
        yield
        self.recording.pop()
        self.graphs += 1

    def synchronize(self) -> None:
        pass


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.calls = cuda, 0

    def replay(self) -> None:
        self.cuda.now += 0.5 * self.calls  # without the cost of launches


@pytest.mark.parametrize("captures", [True, False])
def test_the_clock_times_graphs_and_else_calls(captures):
    cuda = FakeCuda(captures)
    clock = CudaClock(SimpleNamespace(cuda=cuda))
    ready = clock.ready([cuda.kernel, cuda.kernel])
    assert (ready.calls, ready.graph, cuda.graphs) == (2, captures, int(captures))
    times = clock.burst(ready, 0.02)
    assert set(times) == {0.0005 if captures else 0.001}
    assert len(times) == (20 if captures else 10)
