"""Products of 2:4 operands by the sparse matrix instructions: exact under emulation."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels
from sparse_products import counted, exact, product, pruned

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.errors import TileError
from tilec.ir.named import named

SLOW = pytest.mark.slow
F16 = "nm<2, 4, f16>"


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("instruction", ["mma", "wgmma"])
def test_stages(instruction, stages):
    """The values in rings, as they lie or in fragment order, and without them."""
    program = exact(F16, "f16", (16, 64, 320), Schedule(stages=stages, instruction=instruction))
    assert ("w.index" in program.source.orders) == (stages > 1)
    assert ("wgmma_sp<" in program.source.text) == (instruction == "wgmma" and stages > 1)


@pytest.mark.parametrize("dims", [
    (1, 64, 64), (70, 100, 320), (70, 100, 44), pytest.param((33, 17, 4), marks=SLOW),
    pytest.param((129, 65, 1028), marks=SLOW),
])  # fmt: skip
@pytest.mark.parametrize(("text", "x"), [
    (F16, "f16"), ("nm<2, 4, i8>", "i8"), pytest.param("nm<2, 4, bf16>", "bf16", marks=SLOW),
])  # fmt: skip
def test_edges(text, x, dims):
    """Tiles that are not whole, and a K of which the copies know no whole words."""
    exact(text, x, dims)


@pytest.mark.parametrize("tiles", [
    {"k": 32}, {"k": 48}, {"m": 16, "n": 256, "k": 128}, {"m": 128, "n": 32, "k": 64},
    pytest.param({"m": 8, "n": 16, "k": 256}, marks=SLOW),
])  # fmt: skip
def test_tiles(tiles):
    """One step of places to a word, two, and steps that are no power of two."""
    exact(F16, "f16", (70, 100, 384), Schedule(threads=256), **tiles)


@pytest.mark.parametrize(("text", "x"), [(F16, "f16"), ("nm<2, 4, i8>", "i8")])
def test_places_rise_where_there_is_no_element(text, x):
    """The instruction takes no others; the last tiles end beyond both edges."""
    w = pruned(text, 100, 332)
    order = product(text, x, (16, 100, 320), m=16, n=64, k=128).source.orders["w.index"]
    words = order.pack(w.parts()["index"]).view(np.uint32)
    for at in range(0, 32, 4):
        assert ((words >> at & 3) < (words >> at + 2 & 3)).all()


def test_a_step_within_four_is_refused():
    with pytest.raises(TileError, match="a step of 6 columns of a 2:4 operand ends within four"):
        exact(F16, "f16", (16, 64, 96), k=6)


@pytest.mark.parametrize("choices", [
    {"copies": "bulk"}, {"copies": "bulk", "specialise": 4}, {"split": 2}, {"stream": 3},
    {"epilogue": "shared"}, {"hints": "reuse", "swap": "small"}, {"persist": 2, "swap": "always"},
    {"copies": "bulk", "specialise": 4, "instruction": "wgmma", "overlap": 1},
])  # fmt: skip
def test_schedules(choices):
    exact(F16, "f16", (128, 128, 512), Schedule(**choices))


@pytest.mark.parametrize(("threads", "tiles"), [
    (128, {"m": 16, "n": 64, "k": 64}), (256, {"m": 64, "n": 128, "k": 128}),
    (256, {"m": 128, "n": 64, "k": 64}), (128, {"m": 64, "n": 128, "k": 32}),
    pytest.param(512, {"m": 128, "n": 256, "k": 64}, marks=SLOW),
])  # fmt: skip
@pytest.mark.parametrize(("text", "x"), [
    (F16, "f16"), ("nm<2, 4, i8>", "i8"), ("nm<2, 4, e4m3>", "e4m3"),
    pytest.param("nm<2, 4, bf16>", "bf16", marks=SLOW),
])  # fmt: skip
def test_warp_groups(text, x, threads, tiles):
    """Groups below each other and beside each other; rows of one panel and of two."""
    if x in ("i8", "e4m3"):
        tiles = tiles | {"k": 2 * tiles["k"]}
    program = exact(text, x, (70, 300, 1024),
                    Schedule(threads=threads, instruction="wgmma"), **tiles)  # fmt: skip
    assert "wgmma_sp<" in program.source.text
    assert "mma_sp<32" not in program.source.text.replace("wgmma_sp<32", "")


def test_the_sparse_operand_may_be_the_first():
    @tc.kernel
    def turned(w: tc.Tensor["N", "K"], x: tc.Tensor["M", "K"], y: tc.Tensor["N", "M"]):
        for n, m in tc.tiles("N", "M"):
            acc = tc.zeros((n, m), tc.f32)
            for k in tc.tiles("K"):
                acc += tc.dot(w[n, k], x[m, k].T)
            y[n, m] = acc

    w, x = pruned(F16, 100, 320), counted("f16", 70, 320)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(turned, types, {"M": 70, "N": 100, "K": 320})
    assert "mma_sp<32, f16, f16, 1>" in program.source.text
    y = poisoned((100, 70), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, w.dequantize().astype(float) @ x.astype(float).T)


@pytest.mark.parametrize(("text", "dims", "tiles", "choices"), [
    ("nm<2, 4, int4<group=128>>", (16, 256, 1024), {"m": 16, "n": 256, "k": 256}, {}),
    ("nm<2, 4, int4<group=32>>", (70, 100, 320), {}, {}),
    ("nm<2, 4, uint4<group=128>>", (70, 100, 512), {}, {}),
    ("nm<2, 4, int8<channel>>", (16, 64, 512), {}, {}),
    ("nm<2, 4, e2m1<group=128>>", (16, 64, 512), {}, {}),
    ("nm<2, 4, int4<group=128>>", (64, 128, 1024), {"m": 64, "n": 128, "k": 128},
     {"instruction": "wgmma"}),
])  # fmt: skip
def test_quantised_values(text, dims, tiles, choices):
    """Codes in fragment order, decoded in registers; the scales multiply the accumulator."""
    (m, n, k), rng = dims, np.random.default_rng(0)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k},
                         Schedule(threads=256, **choices), **tiles)  # fmt: skip
    assert {"w.index", "w.values.codes"} <= set(program.source.orders)
    assert ("wgmma_sp<" if choices else "mma_sp<32, f16, f16, 1>") in program.source.text
    y = poisoned((m, n), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 2e-7


def test_a_step_of_several_groups_is_refused():
    types = {"x": tc.f16, "w": named("nm<2, 4, int4<group=32>>"), "y": tc.f32}
    with pytest.raises(TileError, match="several groups of 32") as e:
        program_of(kernels.linear, types, {"M": 16, "N": 64, "K": 512}, k=128)
    assert "linear" in str(e.value)
    assert e.value.hint == "a step that divides 64"


@pytest.mark.parametrize("known", [{"N": 100, "K": 320}, {"K": 320}])
def test_open_dimensions(known):
    """Rows and columns of the result that are known at a launch only."""
    w, x, y = pruned(F16, 100, 320), counted("f16", 70, 320), poisoned((70, 100), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, known)
    assert "w.index" in program.source.orders
    sizes = {n: size for n, size in {"M": 70, "N": 100}.items() if n not in known}
    run(program, {"x": x, "w": w, "y": y, **sizes})
    assert np.array_equal(y, x.astype(float) @ w.dequantize().astype(float).T)


def test_dense_by_choice():
    program = exact(F16, "f16", (16, 64, 128), Schedule(sparse="dense"), native=False)
    assert "w.index" not in program.source.orders
