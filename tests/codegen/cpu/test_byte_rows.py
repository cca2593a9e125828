"""Activations in codes: rows of bytes turned out of a stream, each with its sum."""

from __future__ import annotations

import re

import numpy as np
import pytest
from formats import random_parts, scaled
from lang import kernels
from piped import Piped

import tilec as tc
from tilec.codegen.cpu.atoms import QUADS
from tilec.compile import engine
from tilec.ir.dtype import Array
from tilec.ir.packing import Layout, Plain
from tilec.runtime.tensor import PackedTensor, packed

ROWS = [f"int{bits}<channel, scale=f32>" for bits in (2, 3, 4, 7, 8)] + [
    "int8<group=128, scale=f32>"
]
WEIGHTS = ["int4<group=64, scale=f32>", "int8<channel, scale=f32>"]
SUMMED = "@llvm.vector.reduce.add.v16i32("


@pytest.fixture(autouse=True)
def _bytes() -> None:
    """Whether this processor multiplies bytes."""
    if any(f"+{f}" not in engine().machine.features.split(",") for f in QUADS):
        pytest.skip("this processor has no products of bytes")


def tensor(text: str, shape: tuple[int, int], layout: Layout | None = None) -> PackedTensor:
    """Random codes whose scales are powers of two."""
    format = scaled(text)
    return packed(format, random_parts(format, shape, True), shape, layout)


def product(x: PackedTensor, w: PackedTensor, step: int) -> Array:
    y = np.full((x.shape[0], w.shape[0]), np.nan, np.float32)
    Piped(kernels.linear, {"tile": {"k": step}})(x, w, y)
    return y


def functions(x: PackedTensor, w: PackedTensor, step: int) -> dict[str, str]:
    """The code of each part of a product: `linear.0` multiplies, `linear.copy0` copies rows."""
    types = {"x": x.format, "w": w.format, "y": tc.f32}
    dims = {"M": x.shape[0], "N": w.shape[0], "K": x.shape[1]}
    text = Piped(kernels.linear, {"tile": {"k": step}}).compiled(types, dims).text
    parts = re.split(r"(?m)^define ", text)[1:]
    return {re.match(r"[^@]*@\"?([\w.]+)", part).group(1): part for part in parts}  # type: ignore[union-attr]


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("text", ROWS)
def test_every_code_of_every_row_takes_part(text, weight):
    """Whole blocks of rows, parts of them, vectors that are not whole: equal, not only near."""
    for m, n, k in ((1, 64, 256), (7, 128, 128), (64, 192, 512), (83, 256, 256), (145, 130, 384)):
        x, w = tensor(text, (m, k)), tensor(weight, (n, k))
        want = x.dequantize().astype(np.float64) @ w.dequantize().astype(np.float64).T
        assert np.array_equal(product(x, w, 64), want.astype(np.float32)), (m, n, k)


@pytest.mark.parametrize("step", [48, 64])
def test_other_steps_and_layouts_are_equal(step):
    """Steps that are no whole vectors, rows that end within one, and codes row by row."""
    for k, layout in ((288, None), (250, None), (256, Plain())):
        x, w = tensor(ROWS[-2], (21, k), layout), tensor(WEIGHTS[1], (192, k))
        want = x.dequantize().astype(np.float64) @ w.dequantize().astype(np.float64).T
        assert np.array_equal(product(x, w, step), want.astype(np.float32)), (k, layout)


def test_rows_are_turned_and_summed_once():
    """By vectors in the copy that all tasks share; tasks read sums."""
    found = functions(tensor(ROWS[-2], (70, 256)), tensor(WEIGHTS[0], (512, 256)), 64)
    copy, work = found["linear.copy0"], found["linear.0"]
    assert "store i8 " not in copy
    assert copy.count("store <64 x i8>") == 16 * (4 + 1)  # vectors of a block, of what is left
    assert copy.count(SUMMED) == 1
    assert SUMMED not in work


def test_rows_that_lie_otherwise_are_summed_once_too():
    found = functions(tensor(ROWS[-2], (70, 240)), tensor(WEIGHTS[1], (512, 240)), 48)
    assert "store <64 x i8>" not in found["linear.copy0"]
    assert SUMMED in found["linear.copy0"]
    assert SUMMED not in found["linear.0"]
