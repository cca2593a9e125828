"""Choices of code for processors: none changes a result, and what can't be is one clear error."""

from typing import Any

import numpy as np
import pytest

import tilec as tc
from tilec.artifacts import TARGETS
from tilec.compile import Kernel, engine
from tilec.cpu import Schedule, cpu_source
from tilec.gpu import Choice
from tilec.ir.choices import AHEAD
from tilec.ir.errors import TileError
from tilec.runtime import jit

ROWS = (1, 8, 13, 25)
CHOICES = [
    Schedule(), Schedule(ahead=0), Schedule(register_vectors=1), Schedule(register_vectors=3),
    Schedule(register_rows=7, register_vectors=4), Schedule(nontemporal=1),
]  # fmt: skip
KINDS = ["f32", "bf16", "int4<group=64>", "int3<group=64>", "nm<2, 4, bf16>"]


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros([m, n], tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


def weight(kind, rng) -> Any:
    """Whole numbers, so that sums are exact in any order."""
    values = rng.integers(-3, 4, (72, 128)).astype(np.float32)
    if kind.startswith("nm"):
        return tc.sparsify(values, tc.format(kind))
    if kind in ("f32", "bf16"):
        return values.astype((tc.bf16 if kind == "bf16" else tc.f32).numpy)
    return tc.quantize(values, tc.format(kind))


def dense(w):
    return w.astype(np.float32) if isinstance(w, np.ndarray) else w.dequantize()


@pytest.mark.parametrize("kind", KINDS)
def test_no_choice_changes_a_result(kind):
    rng = np.random.default_rng(0)
    w: Any = weight(kind, rng)
    xs = [rng.integers(-4, 5, (m, 128)).astype(np.float32) for m in ROWS]
    for schedule in CHOICES:
        kernel = Kernel(linear.definition, Choice(cpu=schedule))
        for x in xs:
            y = np.full((len(x), 72), np.nan, np.float32)
            kernel(x, w, y)
            np.testing.assert_allclose(y, x @ dense(w).T, rtol=2e-5, atol=1e-4)


def text(m=8, kind="int4<group=64>", host=None, **choices):
    types = {"x": tc.bf16, "w": tc.format(kind), "y": tc.f32}
    dims = {"M": m, "N": 128, "K": 128}
    return cpu_source(linear.definition, types, dims, host or engine(),
                      schedule=Schedule(**choices)).text  # fmt: skip


def test_what_is_asked_for_ahead():
    assert f"i64 {AHEAD}" in text()
    assert f"i64 {4 * AHEAD}" in text(ahead=4 * AHEAD)
    assert "@llvm.prefetch" in text()
    assert "@llvm.prefetch" not in text(ahead=0)


def test_results_go_past_the_caches_only_where_they_are_told_to():
    assert "nontemporal" not in text()
    found = text(nontemporal=1)
    assert "align 64, !nontemporal !0" in found
    assert "sfence" in found


@pytest.mark.parametrize("offset", [0, 1, 4])
def test_results_that_are_not_aligned_to_vectors(offset):
    """Only some rows begin at a multiple of 64 bytes, and not the first."""
    rng = np.random.default_rng(0)
    room = np.full(16 + 40 * 72, np.nan, np.float32)
    start = (-(room.ctypes.data // 4) + offset) % 16
    y = room[start : start + 40 * 72].reshape(40, 72)
    x, w = rng.integers(-4, 5, (40, 128)).astype(np.float32), weight("f32", rng)
    Kernel(linear.definition, Choice(cpu=Schedule(nontemporal=1)))(x, w, y)
    np.testing.assert_array_equal(y, x @ w.T)
    assert np.isnan(room[:start]).all()
    assert np.isnan(room[start + y.size :]).all()


class Older:
    """A processor with 16 vector registers of 256 bits."""

    machine = jit.host_machine("x86-64-v3", TARGETS["x86-64-v3"])
    pool = engine().pool


@pytest.mark.parametrize(
    ("choices", "host", "message"),
    [
        (
            {"register_rows": 12, "register_vectors": 4},
            None,
            "takes 48 registers, .* most 28 of 32",
        ),
        (
            {"register_rows": 4, "register_vectors": 4},
            Older,
            "takes 16 registers, .* most 12 of 16",
        ),
        ({"tiles": {"mm": 4}}, None, "no loop is called mm; there are m, n, k"),
    ],
)
def test_what_this_processor_or_kernel_has_not(choices, host, message):
    with pytest.raises(TileError, match=message):
        text(host=host, **choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"ahead": 100}, "ahead is 100, expected a multiple of 64 from 0 to 1048576"),
        ({"ahead": 1 << 21}, "ahead is 2097152"),
        ({"register_rows": 25}, "register_rows is 25, expected 0 to 24"),
        ({"register_vectors": 9}, "register_vectors is 9, expected 0 to 8"),
        ({"nontemporal": 2}, "nontemporal is 2, expected 0 to 1"),
        ({"threads": 2}, "threads is 2"),
    ],
)
def test_what_is_out_of_bounds(choices, message):
    with pytest.raises(TileError, match=message):
        Schedule(**choices)


def test_fewer_registers_hold_smaller_tiles():
    """Accumulators of a loop are its phis: 12 of 16 registers, 24 of 32."""

    def sums(found):
        return max(block.count(" = phi <") for block in found.split("\nhead"))

    assert sums(text(60, "f32", Older)) == 12
    assert sums(text(60, "f32")) == (24 if "avx512bw" in engine().machine.features else 12)
