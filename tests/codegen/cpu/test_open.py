"""Kernels whose dimensions stay open: every size of a class, beside the interpreter."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.classes import class_of
from tilec.gpu import Choice
from tilec.ir import ranges
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ranges import Range
from tilec.ir.sparse import Sparse
from tilec.ops import dense_attention, mlp, norm
from tilec.ops.linear import linear
from tilec.runtime.tensor import PackedTensor

SIZES = (0, 1, 2, 3, 6, 7, 13, 16, 17, 23, 64, 65, 70)
FORMATS = ["int4<group=64>", "int3<group=128>", "int8<channel>", "nvfp4", "mxfp4", "nf4<group=64>",
           "gptq<group=64>", "plus<lowrank<8>, int4<group=64>>", "nm<2, 4, f32>",
           "nm<2, 4, int4<group=64>>", "csr<f32>", "bitmap<f32>", "block<16, 16, f32>",
           "sm4<group=32>"]  # fmt: skip
FEW = {"int4<group=64>", "nvfp4", "nm<2, 4, int4<group=64>>"}


def whole(*shape: int) -> Array:
    """Small whole numbers, whose products with others of them are exact sums."""
    return np.random.default_rng(list(shape)).integers(-3, 4, shape).astype(np.float32)


def fenced(x: Array) -> Array:
    """The same with NaN behind it, which what reads too much brings in."""
    room = np.full(x.size + 4096, np.nan, x.dtype)
    room[: x.size] = x.reshape(-1)
    return room[: x.size].reshape(x.shape)


@cache
def stored(text: str, *shape: int) -> PackedTensor:
    """A weight: of a sparse one every third element is there."""
    w = whole(*shape)
    if isinstance(named(text), Sparse):
        return tc.sparsify(np.where(np.arange(shape[1]) % 3, 0, w), text, search=False)
    return tc.quantize(w, text, search=False)


def opened(kernel: tc.Kernel | tc.Program, *dims: str) -> Any:
    """The same with dimensions that stay open."""
    made: Any = type(kernel)
    return made(kernel.definition, Choice(open=dims), tune="off")


def differ(kernel: tc.Kernel, given: list[Any], shapes: list[tuple[int, ...]]) -> float:
    """The most that results of these shapes are beside the interpreter's; nothing else is written
    to, and no result is left as it was."""
    names = [p.name for p in kernel.definition.signature.params]
    outs = [np.full(int(np.prod(s)) + 64, np.nan, np.float32) for s in shapes]
    views = [out[: int(np.prod(s))].reshape(s) for out, s in zip(outs, shapes, strict=True)]
    kind = kernel.kind((*given, *views))
    kernel(*(fenced(x) if isinstance(x, np.ndarray) else x for x in given), *views)
    carriers: dict[str, Array] = {}
    for name, x in zip(names, [*given, *views], strict=True):
        wide = x.dequantize() if isinstance(x, PackedTensor) else np.asarray(x)
        carriers[name] = np.array(wide, np.float64 if wide.dtype.kind == "f" else wide.dtype)
    func = kernel.definition.ir(kind.types)
    for p in func.params[len(names) :]:
        shape = [d if isinstance(d, int) else kind.dims[str(d)] for d in p.type.shape]  # type: ignore[union-attr]
        carriers[p.hint] = np.zeros(shape)
    interpret(func, carriers, kind.dims)
    worst = 0.0
    for out, view, name in zip(outs, views, names[len(given) :], strict=True):
        assert np.isnan(out[view.size :]).all()
        worst = max(worst, float(np.abs(view - carriers[name]).max(initial=0)))
    return worst


def slow(cases: list[str], fast: set[str]) -> list[Any]:
    return [pytest.param(c, marks=[] if c in fast else pytest.mark.slow) for c in cases]


@pytest.mark.parametrize("text", slow(FORMATS, FEW))
def test_products_of_any_number_of_rows(text: str) -> None:
    kernel, w = opened(linear, "M"), stored(text, 70, 128)
    sizes = SIZES if text not in FEW else (*range(2, 8), 17, 22, 66)
    for m in sizes:
        assert differ(kernel, [whole(m, 128), w], [(m, 70)]) < 1e-3, m
    assert len(kernel.compiles()) == len({class_of(m) for m in sizes})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16", "i8"])
def test_every_number_of_rows(dtype: str) -> None:
    """Of dense operands, where rows and columns both fill no tile: all sums are exact."""
    kernel, t = opened(kernels.linear, "M"), getattr(tc, dtype)
    w = whole(67, 100).astype(t.numpy)
    for m in range(1, 71):
        assert differ(kernel, [whole(m, 100).astype(t.numpy), w], [(m, 67)]) == 0, m
    assert len(kernel.compiles()) == 5


def test_rows_and_columns_and_depth() -> None:
    """All dimensions of a dense product may stay open."""
    kernel = opened(kernels.linear, "M", "N", "K")
    for m, n, k in ((2, 3, 5), (6, 6, 6), (4, 20, 33), (2, 33, 64)):
        assert differ(kernel, [whole(m, k), whole(n, k)], [(m, n)]) == 0
    assert len(kernel.compiles()) == 2


def test_dynamic_activations() -> None:
    """Rows that are rounded to codes when the kernel starts, in memory of its own."""
    kernel, w, x = opened(linear, "M"), stored("int8<channel>", 64, 128), whole(66, 128)
    for m in (2, 5, 66):
        rows = tc.dynamic(x[:m].copy(), "int8<channel>")
        assert differ(kernel, [rows, w], [(m, 64)]) < 0.5
    assert len(kernel.compiles()) == 2


def test_norms() -> None:
    """Rows and columns; of columns scratch memory is sized by the most of a class."""
    x, g = whole(70, 40), whole(40)
    for dims, classes in (("M", 5), ("MN", 5)):
        kernel = opened(norm.rms, *dims).kernel(x=tc.f32, gain=tc.f32)
        for m in (1, 2, 7, 17, 50, 70):
            assert differ(kernel, [x[:m], g, 1e-5], [(m, 40)]) < 1e-5
        assert len(kernel.compiles()) == classes
        if dims == "MN":
            assert differ(kernel, [x[:3, :33].copy(), g[:33], 1e-5], [(3, 33)]) < 1e-5
            assert len(kernel.compiles()) == classes


@pytest.mark.parametrize("sizes", [((2, 9), (6, 16)),
                                   pytest.param(((1, 1), (1, 30), (20, 33), (64, 17), (70, 70)),
                                                marks=pytest.mark.slow)])  # fmt: skip
def test_attention(sizes: tuple[tuple[int, int], ...]) -> None:
    """Queries and keys: the loop over keys ends where they do."""
    types = dict.fromkeys("qkv", tc.f32)
    full = opened(dense_attention.full, "M", "N").kernel(**types)
    causal = opened(dense_attention.causal, "M", "N").kernel(**types)
    for m, n in sizes:
        q, k, v = whole(1, 2, m, 16), whole(1, 2, n, 16), whole(1, 2, n, 24)
        assert differ(full, [q, k, v, 0.1], [(1, 2, m, 24)]) < 1e-5
        if m <= n:
            heads = q.reshape(1, 2, 1, m, 16)
            assert differ(causal, [heads, k, v, 0.1], [(1, 2, 1, m, 24)]) < 1e-5
    assert len(full.compiles()) == len({(class_of(m), class_of(n)) for m, n in sizes})


def test_an_mlp() -> None:
    """What lies between the kernels of a program has room for the most rows of the class."""
    types = dict.fromkeys(("x", "gate", "up", "down"), tc.f32)
    kernel = opened(mlp.swiglu, "M").kernel(**types)
    gate, up, down = whole(48, 32) / 8, whole(48, 32) / 16, whole(20, 48)
    for m in (2, 5, 6):
        assert differ(kernel, [whole(m, 32), gate, up, down], [(m, 20)]) < 1e-3
    assert len(kernel.compiles()) == 1


def test_code_is_for_its_class_alone() -> None:
    source = opened(linear, "M")
    text = source.source(dict.fromkeys("xwy", tc.f32), {"M": Range(17, 64), "N": 64, "K": 64})
    known = source.source(dict.fromkeys("xwy", tc.f32), {"M": 64, "N": 64, "K": 64})
    assert text != known
    y = np.empty((20, 64), np.float32)
    source(whole(20, 64), whole(64, 64), y)
    (made,) = source._open.values()
    with pytest.raises(TileError, match="linear: M is 65, this code is for 17 to 64"):
        made.sized("linear", {"M": 65})


def test_what_must_be_known_is() -> None:
    """Codes lie in memory as their extents say, which have code of their own."""
    kernel = opened(linear, "M", "N")
    for n in (64, 70):
        for m in (5, 6):
            w = stored("int4<group=64>", n, 128)
            assert differ(kernel, [whole(m, 128), w], [(m, n)]) < 1e-3
    assert len(kernel.compiles()) == 2
    with pytest.raises(TileError, match=r"linear has no dimension `R`; it has M, K, N"):
        opened(linear, "R")(whole(2, 8), whole(8, 8), whole(2, 8))


def test_code_for_each_size_where_none_is_for_a_class() -> None:
    class Refusing(tc.Kernel):
        __slots__ = ()

        def _for_cpu(self, types: Any, dims: Any, layouts: Any = None) -> Any:
            if ranges.opened(dims):
                raise TileError("cpu: sizes must be known")
            return super()._for_cpu(types, dims, layouts)

    kernel = Refusing(linear.definition, Choice(open=("M",)), tune="off")
    before = tc.counters().fallbacks.get("open dimensions", 0)
    for m in (2, 3, 2):
        assert differ(kernel, [whole(m, 64), whole(64, 64)], [(m, 64)]) == 0
    assert tc.counters().fallbacks["open dimensions"] == before + 1
    assert [c.dims["M"] for c in kernel.compiles()] == [2, 3]
