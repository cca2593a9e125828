"""Which dimensions stay open, and what code there is for them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.classes import ROWS, SEVERAL, Seen, class_of
from tilec.codegen.cpu.registers import register_tile
from tilec.cpu import Schedule
from tilec.gpu import Choice
from tilec.ir.choices import Choices
from tilec.ir.errors import TileError
from tilec.ir.ranges import Range, numbers, opened, read, shown
from tilec.passes.tile import FEW

W = np.random.default_rng(0).integers(-3, 4, (48, 32)).astype(np.float32)
X = np.random.default_rng(1).integers(-3, 4, (400, 32)).astype(np.float32)
Y = X @ W.T


def multiplied(kernel: tc.Kernel, m: int) -> None:
    """The product of m rows of small whole numbers, all of whose sums are exact."""
    y = np.full((m, len(W)), np.nan, np.float32)
    kernel(X[:m], W, y)
    assert np.array_equal(y, Y[:m])


def test_classes_cover_all_sizes_once() -> None:
    at, edges = 0, set[int]()
    while at < 10_000:
        found = class_of(at)
        assert found.least == at
        assert {class_of(at), class_of((at + found.most) // 2), class_of(found.most)} == {found}
        edges.add(found.most)
        at = found.most + 1
    assert {0, 1, ROWS, FEW, 64, 256, 1024, 4096} <= edges
    wide = frozenset({"avx512bw"})
    assert register_tile(Choices(), wide).rows == ROWS


def test_ranges_have_a_text() -> None:
    sizes = {"M": Range(17, 64), "K": 5, "N": Range(1, 1)}
    assert read(shown(opened(sizes))) == opened(sizes) == {"M": Range(17, 64), "N": Range(1, 1)}
    assert numbers(sizes) == {"K": 5}
    for text, why in (("M=1", "not DIMENSION=LEAST-MOST"), ("M=5-2", "5 is more than 2")):
        with pytest.raises(TileError, match=why):
            read(text)


def test_dimensions_that_vary() -> None:
    """Of several sizes, all else alike; never those that something stored has."""
    seen = Seen()
    for n in range(SEVERAL):
        assert not seen.varying("f32", {"M": 10 + n, "N": 4}, ())
    assert seen.varying("f32", {"M": 3, "N": 4}, ()) == {"M"}
    assert not seen.varying("f32", {"M": 11, "N": 4}, ())  # has code of its own
    assert not seen.varying("bf16", {"M": 3, "N": 4}, ())
    assert not seen.varying("f32", {"M": 3, "N": 5}, ())
    assert not seen.varying("f32", {"M": 3, "N": 4}, ("M", "N"))


def test_200_lengths_and_few_compiles() -> None:
    """By default sizes have code of their own until there are several; by wish never."""
    lengths = np.random.default_rng(0).integers(2, 400, 200)
    plain, open_ = tc.Kernel(kernels.linear.definition), tc.Kernel(
        kernels.linear.definition, Choice(open=("M",)))  # fmt: skip
    for m in lengths:
        multiplied(plain, m)
        multiplied(open_, m)
    classes = {class_of(int(m)) for m in lengths}
    assert len(open_.compiles()) == len(classes) == 5
    assert SEVERAL < len(plain.compiles()) <= SEVERAL + len(classes)


def test_a_schedule_is_for_numbers() -> None:
    kernel = tc.Kernel(kernels.linear.definition, Choice(cpu=Schedule(threads=1)))
    for m in range(2, 3 + SEVERAL):
        multiplied(kernel, m)
    assert len(kernel.compiles()) == 1 + SEVERAL


def test_weights_have_code_of_their_own() -> None:
    """K of codes never stays open, however often it changes."""
    kernel = tc.Kernel(kernels.linear.definition, tune="off")
    for k in range(32, 32 * (SEVERAL + 3), 32):
        w = tc.quantize(W[:, :1].repeat(k, 1), "int8<channel>", search=False)
        x, y = np.ones((2, k), np.float32), np.empty((2, 48), np.float32)
        kernel(x, w, y)
        assert np.allclose(y, x @ w.dequantize().T)
    assert not kernel._open


def test_programs_and_results() -> None:
    """What a program makes has the size of each call."""

    @tc.program(open=("M",))
    def product(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"]):  # type: ignore[valid-type]
        return x @ w.T

    for m in (2, 3, 6, 5):
        x = np.full((m, 32), m, np.float32)
        assert np.array_equal(product(x, W), x @ W.T)
    assert len(product.compiles()) == 1


def test_threads_share_code_and_no_workspace() -> None:
    """Calls of all sizes of a class at once."""
    kernel = tc.Kernel(kernels.linear.definition, Choice(open=("M",)))
    wrong: list[BaseException] = []

    def calls(seed: int) -> None:
        try:
            for m in np.random.default_rng(seed).integers(20, 60, 40):
                multiplied(kernel, int(m))
        except BaseException as e:
            wrong.append(e)

    threads = [threading.Thread(target=calls, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(kernel._open) == 1


def test_bound_calls_keep_their_size() -> None:
    kernel = tc.Kernel(kernels.linear.definition, Choice(open=("M",)))
    x, y = np.ones((20, 32), np.float32), np.zeros((20, 48), np.float32)
    bound = kernel.bind(x, W, y)
    bound()
    assert np.array_equal(y, x @ W.T)
    with pytest.raises(TileError, match="bound to"):
        bound(np.ones((21, 32), np.float32), W, np.zeros((21, 48), np.float32))
