"""What launches cost, beside peers in the same process; and the first call of a process."""

# pyright: basic

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from tilec.bench.harness import Asked, measure
from tilec.bench.launch import first_calls
from tilec.bench.peers import peers
from tilec.bench.problems.launched import CALLS, CPU, FAKE, WAYS, Launched
from tilec.bench.suites.launching import SHAPES, SUITE
from tilec.ir.errors import TileError

SLOWER = "program that makes its result"


def least(calls: Sequence[Callable[[], object]], bursts: int) -> list[float]:
    """Nanoseconds of a launch, the least of bursts in which all take turns."""
    found = [float("inf")] * len(calls)
    for _ in range(bursts):
        for i, call in enumerate(calls):
            start = time.perf_counter_ns()
            call()
            found[i] = min(found[i], (time.perf_counter_ns() - start) / CALLS)
    return found


def test_launches_cost_no_more_than_twice_a_call_of_tvm_ffi_that_does_nothing():
    """A ratio, as it holds on a busy machine too."""
    pytest.importorskip("tvm_ffi")
    (tvm,) = peers(["tvm-ffi"])
    for shape in SHAPES:
        ways = [Launched(where, how, *shape) for where in WAYS for how in WAYS[where]]
        (nothing,) = tvm.contenders(ways[0]).values()
        made = [nothing(), *(w.ours()["tilec"]() for w in ways)]
        assert all(m.repeats == CALLS for m in made)
        floor, *found = least([m.calls[0] for m in made], 15)
        for way, ns in zip(ways, found, strict=True):
            assert way.how == SLOWER or ns <= 2 * floor, way
            assert way != Launched(CPU, "bound, the same", *shape) or ns < floor


def test_unknown_ways_are_refused():
    with pytest.raises(TileError, match="no launch is called 'program"):
        Launched(FAKE, "program with out=", 3, 0).call()


@pytest.mark.slow
def test_launches_are_quicker_than_tritons():
    pytest.importorskip("triton")
    asked = Asked(3, f"{FAKE}: launch")
    (found,) = measure(SUITE, peers(["triton"]), asked, Console(quiet=True))
    assert [c["skipped"] for c in found["cases"]] == [{}, {}]
    for case, budget in zip(found["cases"], (1.5e-6, 2.5e-6), strict=True):
        assert case["ratios"]["triton kernel[grid]"]["work"] > 1
        assert case["contenders"]["tilec"]["work"] <= budget


@pytest.mark.slow
def test_the_first_cached_call_of_a_process_is_quick():
    for found in first_calls():
        assert found["processor_ms"] < 150, found
