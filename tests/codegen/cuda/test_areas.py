"""Shared memory that is used again: rings after rings, and tiles handed over between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from emulated import poisoned, program_of, run

import tilec as tc
from tilec.cuda import emulate


@tc.kernel
def twice(x: tc.Tensor["M", "K"], v: tc.Tensor["N", "K"], w: tc.Tensor["N", "K"],
          y: tc.Tensor["M", "N"], first: tc.Tensor["M"]):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        left = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            left += tc.dot(x[m, k], v[n, k].T)
        first[m] = tc.argmax(left, axis=1)
        right = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            right += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = left - right


def given() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"x": (64, 256), "v": (64, 256), "w": (64, 256)}
    arrays = {n: rng.integers(-4, 5, s).astype(np.float16) for n, s in sizes.items()}
    return arrays | {"y": poisoned((64, 64), tc.f32), "first": poisoned((64,), tc.i32)}


@pytest.fixture(scope="module")
def program():
    types = {"x": tc.f16, "v": tc.f16, "w": tc.f16, "y": tc.f32, "first": tc.i32}
    return program_of(twice, types, {"M": 64, "N": 64, "K": 256})


def test_rings_that_follow_share_memory_and_nothing_races(program):
    (launch,) = program.source.launches
    four = 4 * 3 * 64 * (64 * 2 + 16)  # rings of three slots, with padded rows
    assert launch.shared <= four / 2
    arrays = given()
    run(program, arrays)
    x, v, w = (arrays[n].astype(float) for n in "xvw")
    assert np.array_equal(arrays["y"], x @ v.T - x @ w.T)
    assert np.array_equal(arrays["first"], (x @ v.T).argmax(1))


def test_a_ring_waits_for_those_who_read_there(program):
    """The one barrier that reuse brings: without it a copy overwrites what is still read."""
    text = program.source.text
    barrier = '  barrier();\n  // for k in tc.tiles("K"):'
    assert text.count(barrier) == 1
    broken = replace(program.source, text=text.replace(barrier, barrier.partition("\n")[2]))
    (report,) = emulate(replace(program, source=broken), given())
    assert "race" in {f.kind for f in report.findings}


@tc.kernel
def greatest(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        total = tc.zeros((m,), tc.i32)
        for n in tc.tiles("N"):
            acc = tc.zeros((m, n), tc.f32)
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
            total += tc.argmax(acc, axis=1)
        y[m] = total


def test_rings_of_a_later_turn_wait_for_what_was_handed_over_in_the_last():
    """The ring of a loop in a loop lies where the turn before looked for its greatest."""
    types = {"x": tc.f16, "w": tc.f16, "y": tc.i32}
    program = program_of(greatest, types, {"M": 64, "N": 192, "K": 128}, m=64, n=64, k=64)
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-4, 5, s).astype(np.float16) for s in ((64, 128), (192, 128)))
    y = poisoned((64,), tc.i32)
    run(program, {"x": x, "w": w, "y": y})
    s = (x.astype(float) @ w.astype(float).T).reshape(64, 3, 64)
    assert np.array_equal(y, s.argmax(2).sum(1))
    (launch,) = program.source.launches
    assert launch.shared == 2 * 3 * 64 * (64 * 2 + 16)
    text = program.source.text
    first = text.index("copy_async<16>")
    at = text.rindex("    barrier();\n", 0, first)
    broken = replace(program.source, text=text[:at] + text[at:].replace("    barrier();\n", "", 1))
    (report,) = emulate(replace(program, source=broken), {"x": x, "w": w, "y": y})
    assert "race" in report.kinds
