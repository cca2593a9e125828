"""Rings of bulk copies: their meaning, and what keeps loads from being copied so."""

# Hypothesis types its health checks loosely.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from products import PRODUCTS, Product

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.ops import machine
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.types import Memory
from tilec.ir.verify import verify
from tilec.passes import Step, run

FEW = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
CHOICES = [{"copies": "bulk", "stages": s, "kept": k, "specialise": w}
           for s, k, w in ((2, 0, 0), (3, 0, 1), (3, 1, 0), (3, 1, 1), (4, 2, 0))]  # fmt: skip
Staged = tuple[Product, dict[str, int], DType, Func, Step]
TYPES = [tc.f16, tc.bf16, tc.f32, tc.e4m3]


def padded(kernel: Kernel, types: dict[str, DType], dims: dict[str, int], **tiles: int) -> Func:
    func = kernel.definition.ir(types)
    sizes = dict.fromkeys("mnkj", 16) | tiles
    return run((Step("specialise", {**dims}), Step("tile", {**sizes}), Step("pad")), func)


def result(func: Func, arguments: dict[str, Array], dims: dict[str, int]) -> Array:
    """What the interpreter gives; memory of the function's own is full of what is no number."""
    carried = {
        n: x.astype(np.int64 if n in ("ends", "which") else np.float64)
        for n, x in arguments.items()
    }
    for p in func.params:
        if p.hint not in carried:
            assert isinstance(p.type, Memory)
            carried[p.hint] = np.full(tuple(int(str(d)) for d in p.type.shape), np.nan)
    interpret(func, carried, dims)
    return carried["y"]


def ops(func: Func, cls: type[Any]) -> list[Any]:
    return [op for op in func.walk() if isinstance(op, cls)]


@pytest.mark.parametrize("options", CHOICES, ids=str)
@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("k", [8, 24, 40, 56, 136])
def test_a_ring_of_whole_tiles_keeps_the_meaning(name, k, options):
    """Fewer steps than slots, as many, and more; the interpreter refuses waits that never end."""
    product = PRODUCTS[name]
    m, n = (24, 40)
    arguments, want = product.arguments(m, n, k, tc.f16, k)
    dims = product.dims(m, n, k)
    after = Step("stage-loads", options)(padded(product.kernel, product.types(tc.f16), dims))
    verify(after)
    assert all(op.full is not None for op in ops(after, machine.Copy))
    assert ops(after, machine.Copy)
    assert np.array_equal(result(after, arguments, dims), want)
    assert show(parse(show(after))) == show(after)
    assert show(Step("stage-loads", options)(after)) == show(after)


@st.composite
def staged(draw: st.DrawFn) -> Staged:
    """A product of any sizes in tiles, blocks of some kind, and how its loads are staged."""
    product, t = PRODUCTS[draw(st.sampled_from(list(PRODUCTS)))], draw(st.sampled_from(TYPES))
    dims = product.dims(draw(st.integers(1, 50)), 8 * draw(st.integers(1, 7)),
                        8 * draw(st.integers(1, 20)))  # fmt: skip
    sizes = {d: 16 << draw(st.integers(0, 2)) for d in "mnkj"}
    func = padded(product.kernel, product.types(t), dims, **sizes)
    blocks = draw(st.sampled_from([None, ("persist", "blocks"), ("split-k", "parts"),
                                   ("stream-k", "blocks")]))  # fmt: skip
    if blocks is not None:
        name, option = blocks
        func = Step(name, {option: draw(st.integers(2, 5))})(func)
    stages = draw(st.integers(2, 5))
    options = {"copies": "bulk", "specialise": draw(st.sampled_from([0, 1, 4])), "stages": stages,
               "kept": draw(st.integers(0, stages - 2))}  # fmt: skip
    return product, dims, t, func, Step("stage-loads", options)


@given(drawn=staged(), seed=st.integers(0, 1 << 16))
@FEW
def test_any_product(drawn: Staged, seed: int):
    """The interpreter refuses waits that never end, so it finds phases that are counted wrong."""
    product, dims, t, func, step = drawn
    after = step(func)
    verify(after)
    arguments, want = product.arguments(dims["M"], dims["N"], dims["K"], t, seed)
    assert np.array_equal(result(after, arguments, dims), want)
    assert show(parse(show(after))) == show(after)
    assert show(step(after)) == show(after)


@pytest.mark.parametrize("instruction", ["mma", "wgmma"])
@given(drawn=staged(), seed=st.integers(0, 1 << 16))
@settings(FEW, max_examples=15)
def test_any_product_laid_out(instruction: str, drawn: Staged, seed: int):
    """What follows in a schedule keeps barriers, and what one thread does, as they are."""
    product, dims, t, func, step = drawn
    rest = (step, Step("lay-out", {"threads": 128, "instruction": instruction}), Step("overlap"),
            Step("canonicalize"))  # fmt: skip
    after = run(rest, func)
    arguments, want = product.arguments(dims["M"], dims["N"], dims["K"], t, seed)
    assert np.array_equal(result(after, arguments, dims), want)
    assert show(parse(show(after))) == show(after)


def test_most_products_have_whole_tiles():
    found: list[bool] = []

    @given(drawn=staged())
    @FEW
    def collect(drawn: Staged):
        *_, func, step = drawn
        found.append(any(op.full is not None for op in ops(step(func), machine.Copy)))

    collect()
    assert sum(found) > 50


@tc.kernel
def in_place(x: tc.Tensor["M", "K"], w: tc.Tensor["K", "K"]):
    for m in tc.tiles("M"):
        for k in tc.tiles("K"):
            x[m, k] = tc.dot(x[m, k], w[k, k])


@tc.kernel
def computed_end(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        end = tc.cast(tc.max(tc.max(x[m, :], axis=1), axis=0), tc.i32)
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", to=end):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def step_by_step(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"],
                 which: tc.Tensor["K", tc.i32], y: tc.Tensor["M", "N"]):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[which[k.start], n, k].T)
        y[m, n] = acc


@tc.kernel
def computed_number(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        e = tc.cast(tc.max(tc.max(x[m, :], axis=1), axis=0), tc.i32)
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[e, n, k].T)
        y[m, n] = acc


@tc.kernel
def repeated(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for _ in range(3):
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


HALVES = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
DIMS = {"M": 16, "N": 24, "K": 40}


def missing(kernel: Kernel, types: dict[str, DType], dims: dict[str, int], **options: Any
            ) -> set[str]:  # fmt: skip
    """What the remarks on a kernel say."""
    func = padded(kernel, types, dims)
    after = Step("stage-loads", {"copies": "bulk", **options})(func)
    return {f"{r.message}: {r.missing}" for r in after.remarks}


def in_pieces(what: str) -> set[str]:
    return {f"`{x}` is copied in pieces: {what}" for x in "xw"}


def test_rows_that_are_no_tensor_maps_are_copied_in_pieces():
    linear, upright = PRODUCTS["linear"].kernel, PRODUCTS["upright"].kernel
    assert missing(linear, HALVES, DIMS) == set()
    assert missing(linear, HALVES, {**DIMS, "K": 36}) == in_pieces("rows of a multiple of 16 bytes")
    assert missing(upright, HALVES, {**DIMS, "K": 35}) == {
        "`x` is loaded when it is needed: rows and steps of a multiple of 4 bytes"
    }
    assert missing(upright, HALVES, {"M": 16, "N": 24}) == {
        "`x` is loaded when it is needed: rows whose length is a number"
    }


def test_loops_whose_turns_are_not_counted_have_copies_in_pieces():
    rounds = in_pieces("as many steps in every round of the loops around")
    assert missing(repeated, HALVES, DIMS) == rounds
    assert missing(computed_end, HALVES, DIMS) == set()
    ends = in_pieces("ends that the warps that copy know, too")
    assert missing(computed_end, HALVES, DIMS, specialise=1) == ends
    ragged = PRODUCTS["ragged"].kernel
    assert missing(ragged, HALVES, {**DIMS, "B": 1}, specialise=1) == set()


def test_numbers_beside_spans():
    """The same in every step, and known to the warps that copy."""
    dims = {**DIMS, "E": 3, "B": 1}
    assert missing(PRODUCTS["picked"].kernel, HALVES, dims, specialise=1) == set()
    assert missing(step_by_step, HALVES, dims) == {
        "`w` is loaded when it is needed: numbers that are the same in every step"
    }
    assert missing(computed_number, HALVES, dims) == set()
    assert missing(computed_number, HALVES, dims, specialise=1) == {
        "`w` is copied in pieces: indices that the warps that copy know, too"
    }


def test_what_a_grid_writes_is_not_copied_ahead():
    types = {"x": tc.f32, "w": tc.f16}
    assert missing(in_place, types, {"M": 16, "K": 40}) == {
        "`x` is loaded when it is needed: memory that nothing writes meanwhile",
        "`w` is loaded when it is needed: one axis along which the loop goes",
    }


@pytest.mark.parametrize("options", [{"copies": "all"}, {"specialise": 1}, {"kept": 2},
                                     {"copies": "bulk", "specialise": -1}], ids=str)  # fmt: skip
def test_refused(options: dict[str, Any]):
    func = padded(PRODUCTS["linear"].kernel, HALVES, DIMS)
    with pytest.raises(TileError, match=r"^stage-loads: "):
        Step("stage-loads", options)(func)


def test_rings_that_no_block_has_room_for():
    """Three slots of 16 rows each of 1024 floats; a fourth of that is little enough."""
    dims = {"M": 16, "N": 24, "K": 2000}
    func = padded(PRODUCTS["linear"].kernel, dict.fromkeys("xwy", tc.f32), dims, k=1024)
    after = Step("stage-loads", {"stages": 3})(func)
    assert not ops(after, machine.Shared)
    needed = 3 * (16 + 16) * 1024 * 4
    assert {(r.message, r.missing) for r in after.remarks} == {
        (
            f"`{x}` is loaded when it is needed",
            f"rings of at most {195 << 10} bytes: they are {needed}",
        )
        for x in "xw"
    }
    short = padded(PRODUCTS["linear"].kernel, dict.fromkeys("xwy", tc.f32), dims, k=256)
    assert ops(Step("stage-loads", {"stages": 3})(short), machine.Shared)
