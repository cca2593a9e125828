"""Decoding in two steps: codes times their groups' scales are bytes, scaled once a step."""

from __future__ import annotations

import numpy as np
import pytest
from formats import random_parts, scaled
from lang import kernels
from piped import Piped, said

import tilec as tc
from tilec.compile import engine
from tilec.ir.dtype import Array
from tilec.ir.named import named
from tilec.ir.packing import Layout, Plain
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

U4, U3 = "uint4<channel, scale=f16, zero=none>", "uint3<channel, scale=f16, zero=none>"
FORMATS = {  # and a step of several groups
    "vsq": 64,
    f"int4<group=16, scale={U4}>": 256,
    f"uint4<group=32, scale={U3}, zero=int>": 96,
    f"uint4<group=128, scale={U4}, zero=none>": 256,  # up to 225: unsigned
    "uint2<group=16, scale=uint5<group=16, scale=f16>, zero=int>": 128,
    "int4<group=24, scale=uint4<tensor, scale=f32, zero=none>>": 192,
    "bipolar3<group=64, scale=int5<channel, scale=f16>>": 256,
}  # fmt: skip
WAY = "codes times the scales of groups in i8, the outer scale on the accumulator"


def stepped(step: int, **options: bool) -> Piped:
    return Piped(kernels.linear, {"tile": {"k": step}, "lower-formats": {**options}})


def tensor(text: str, shape: tuple[int, int], exact: bool = False,
           layout: Layout | None = None) -> PackedTensor:  # fmt: skip
    format = scaled(text)
    return packed(format, random_parts(format, shape, exact), shape, layout)


def run(kernel: Piped, x: Array | PackedTensor, w: PackedTensor) -> Array:
    y = np.full((x.shape[0], w.shape[0]), np.nan, np.float32)
    kernel(x, w, y)
    return y


@pytest.mark.parametrize("text", FORMATS)
def test_every_code_and_scale_takes_part(text):
    """One row, a few, many; odd N and K; outer scales are powers of two: equal, not only near."""
    kernel = stepped(FORMATS[text])
    for m, n, k in ((1, 64, 512), (16, 67, 300), (70, 130, 515)):
        w = tensor(text, (n, k), exact=True)
        x = np.random.default_rng(m).integers(-128, 128, (m, k)).astype(np.int8)
        want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
        assert np.array_equal(run(kernel, x, w), want.astype(np.float32)), (m, n, k)


@pytest.mark.parametrize("text", ["vsq", f"uint4<group=32, scale={U3}, zero=int>"])
def test_within_the_bound(text):
    """|error| <= K * eps * sum |x| |q - z| s2 s1, of activations that the kernel rounds."""
    rng, kernel = np.random.default_rng(7), stepped(128)
    for m in (1, 16, 70):
        a = tc.dynamic(rng.standard_normal((m, 387)).astype(np.float32), "int8<scale=f32>")
        w = tensor(text, (75, 387))
        x, dense = a.dequantize().astype(np.float64), w.dequantize().astype(np.float64)
        error = np.abs(run(kernel, a, w) - x @ dense.T)
        assert (error <= 387 * 2.0**-24 * (np.abs(x) @ np.abs(dense).T)).all()
        assert np.linalg.norm(error) < 5e-7 * np.linalg.norm(x @ dense.T)


@pytest.mark.parametrize("text", ["vsq", f"uint4<group=32, scale={U3}, zero=int>"])
def test_steps_that_cut_groups_and_other_layouts(text):
    """Where no whole records are read, bytes are computed one by one, and equal."""
    for step, layout in ((40, None), (96, Plain())):
        w = tensor(text, (70, 250), exact=True, layout=layout)
        x = np.random.default_rng(step).integers(-128, 128, (9, 250)).astype(np.int8)
        want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
        assert np.array_equal(run(stepped(step), x, w), want), step


@pytest.mark.parametrize("machine", ["x86-64-v2", "cascadelake"])
def test_on_processors_with_less(machine):
    features = (
        "" if machine == "x86-64-v2" else "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512vnni"
    )
    older = Engine(Cache(None), host_machine(machine, features))
    w = tensor("vsq", (70, 96), exact=True)
    x = np.random.default_rng(1).integers(-128, 128, (9, 96)).astype(np.int8)
    types = {"x": tc.i8, "w": w.format, "y": tc.f32}
    compiled = older.load(stepped(64).compiled(types, {"M": 9, "N": 70, "K": 96}, older))
    y = np.full((9, 70), np.nan, np.float32)
    older.dispatcher("linear", lambda _, c=compiled: c).launch(x, w, y)
    assert np.array_equal(y, x.astype(np.float64) @ w.dequantize().T)


def remarks(x: str, w: str, step: int, **options: bool) -> list[tuple[str, str]]:
    types = {"x": named(x), "w": named(w), "y": tc.f32}
    return said(stepped(step, **options).compiled(types, {"M": 16, "N": 64, "K": 512}).remarks)


def test_it_is_said_which_way_was_taken():
    """And what was missing, with the range that was found."""
    assert remarks("i8", "vsq", 64) == [(WAY, "")]
    assert remarks("dynamic<int8<scale=f32>>", "vsq", 64) == [(WAY, "")]
    one = [("codes in i8, the scale on the accumulator", "")]
    assert remarks("i8", "vsq", 16) == one  # a group a step
    wide = ("codes are not multiplied by the scales of groups",
            "products in -128 to 127 for every code; they are in -3825 to 3825")  # fmt: skip
    assert remarks("i8", "qserve", 128) == [wide, *one]
    assert remarks("f32", "vsq", 16) == [("codes in f32, the scale on the accumulator", "")]
    decoded = "a step of k that divides the group of 16; it is 64"
    for found in (remarks("f32", "vsq", 64), remarks("i8", "vsq", 64, two_steps=False)):
        assert decoded in [missing for _, missing in found]
        assert WAY not in [message for message, _ in found]


def test_scales_of_groups_are_read_beside_their_codes():
    """No group's scale is read one by one, and sums are scaled once a step."""
    types = {"x": tc.i8, "w": named("vsq"), "y": tc.f32}
    columns = 64 * engine().pool.threads  # a whole tile for each of them
    source = stepped(256).compiled(types, {"M": 1, "N": columns, "K": 512})
    assert source.text.count("call <16 x float> @llvm.fma.v16f32") == 4  # one for each vector
    assert said(source.remarks) == [(WAY, "")]
