"""What launches cost, beside peers in the same process; and the first call of a process."""

# pyright: basic

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tilec.bench.launch import SHAPES, first_calls, measure

WAYS = {
    f"{where}: {how}"
    for where in ("CPU", "fake driver")
    for how in ("launch", "bound, other tensors", "bound, the same")
} | {"CPU: program with out=", "CPU: program that makes its result"}


def least(rows: list[dict[str, Any]], peer: str, what: str, shape: tuple[int, int]) -> float:
    (found,) = [r["ns"] for r in rows if (r["peer"], r["what"]) == (peer, what)
                and (r["tensors"], r["integers"]) == shape]  # fmt: skip
    return found


def test_launches_cost_no_more_than_twice_a_call_of_tvm_ffi_that_does_nothing():
    """A ratio, as it holds on a busy machine too."""
    pytest.importorskip("tvm_ffi")
    rows = measure(bursts=15, calls=1000, peers=["tvm-ffi"])["rows"]
    assert {r["what"] for r in rows if r["peer"] == "tilec"} == WAYS
    for shape in SHAPES:
        nothing = least(rows, "tvm-ffi", "no-op", shape)
        for what in WAYS - {"CPU: program that makes its result"}:
            assert least(rows, "tilec", what, shape) <= 2 * nothing, what
        assert least(rows, "tilec", "CPU: bound, the same", shape) < nothing


@pytest.mark.slow
def test_the_whole_table(tmp_path):
    pytest.importorskip("triton")
    out = tmp_path / "launch.json"
    options = ["--bursts", "5", "--calls", "2000", "--no-first", "-o", str(out)]
    # In a process of its own: Triton's driver is replaced there.
    command = [sys.executable, "-W", "ignore", "-m", "tilec.bench", "launch", *options]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["skipped"] == {}
    for shape, budget in zip(SHAPES, (1500, 2500), strict=True):
        for what in ("CPU: launch", "fake driver: launch"):
            assert least(found["rows"], "tilec", what, shape) <= budget
        triton = least(found["rows"], "triton", "kernel[grid], fake driver", shape)
        assert triton > least(found["rows"], "tilec", "fake driver: launch", shape)


@pytest.mark.slow
def test_the_first_cached_call_of_a_process_is_quick():
    for found in first_calls():
        assert found["processor_ms"] < 150, found
