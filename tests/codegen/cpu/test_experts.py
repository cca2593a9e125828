"""Experts of several formats in compiled code: one launch, each expert as if it were alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from every_format import every

import tilec as tc
from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source, lower
from tilec.ir.interpret import interpret
from tilec.lang.text import parse

TWO = "experts<2, int4<group=64>, int2<group=32>>"
EVERY = [TWO, "experts<1, int8, 2, uint4<group=64, zero=int>, int2<channel>>", "experts<q4_k>",
         "experts<3, int4<group=96>, plus<lowrank<3>, int4<group=64>>>",
         "experts<1, permuted<int4<group=32>>, fp8_block>",
         "experts<2, codebook<4, rows=1>, nvfp4>"]  # fmt: skip
NUMBERED = [*EVERY[:3], "experts<2, nvfp4, fp8_block>"]
TEXT = """
kernel batched(x: bf16[E, M, K], w: FORMAT[E, N, K], y: f32[E, M, N]) {
  for e, m, n in tiles(E, M, N, block=[1, none, none]) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[e.start, m, k], w[e.start, n, k].T) }
    y[e.start, m, n] = acc
  }
}
"""


@tc.kernel
def biased(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], b: tc.Tensor["E", "N"],
           y: tc.Tensor["E", "M", "N"]):  # fmt: skip
    for n, e, m in tc.tiles("N", "E", "M", block=(24, 1, None)):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[e.start, n, k].T)
        y[e.start, m, n] = tc.maximum(acc + b[e.start, n], 0.0) + n.index.to(tc.f32)


@tc.kernel
def started(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n, k in tc.tiles("E", "N", "K", block=(1, 24, None)):
        none = tc.zeros((e, n, k), tc.f32)[0] * w[e.start, n, k]
        y[e.start, n, k] = none + tc.cast(n.start + 100 * e.start, tc.f32)


@tc.kernel
def numbered(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n, k in tc.tiles("E", "N", "K", block=(1, None, None)):
        y[e.start, n, k] = w[e.start, n, k] * 0.0 + tc.cast(tc.sum(e.index), tc.f32)


@tc.kernel
def crossed(w: tc.Tensor["E", "N", "K"], e: tc.i32, j: tc.Tensor["K", tc.i32],
            y: tc.Tensor["N", "K"]):  # fmt: skip
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[e, n, j[k]]


@tc.kernel
def beside(w: tc.Tensor["E", "N", "K"], b: tc.Tensor["P", "N"], i: tc.Tensor["M", tc.i32],
           y: tc.Tensor["E", "M", "N"]):  # fmt: skip
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        y[e.start, m, n] = b[i[m], n] + tc.sum(w[e.start, n, :], axis=1)


@tc.kernel
def decoded(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n, k in tc.tiles("E", "N", "K", block=(1, None, None)):
        y[e.start, n, k] = w[e.start, n, k]


@tc.kernel
def routed(x: tc.Tensor["T", "K"], ids: tc.Tensor["T", tc.i32], w: tc.Tensor["E", "N", "K"],
           y: tc.Tensor["T", "N"]):  # fmt: skip
    for t, n in tc.tiles("T", "N", block=(1, None)):
        e = ids[t.start]
        acc = tc.zeros((t, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[t, k], w[e, n, k].T)
        y[t, n] = acc


@tc.kernel
def chosen(x: tc.Tensor["T", "K"], w: tc.Tensor["E", "N", "K"], e: tc.i32,
           y: tc.Tensor["T", "N"]):  # fmt: skip
    for t, n in tc.tiles("T", "N"):
        acc = tc.zeros((t, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[t, k], w[e, n, k].T)
        y[t, n] = acc


@tc.kernel
def spent(x: tc.Tensor["T", "K"], ids: tc.Tensor["T", tc.i32], w: tc.Tensor["E", "N", "K"],
          y: tc.Tensor["T", "N"]):  # fmt: skip
    for t, n in tc.tiles("T", "N", block=(1, 16)):
        e = ids[t.start]
        y[t, n] = tc.dot(x[t, :], w[e, n, :].T)
        ids[t.start] = e + 1


@tc.kernel
def one_row(w: tc.Tensor["E", "N", "K"], e: tc.i32, i: tc.Tensor["P", tc.i32],
            y: tc.Tensor["P", "K"]):  # fmt: skip
    for p in tc.tiles("P"):
        y[p, :] = w[e, i[p], :]


@tc.kernel
def summed(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        total = tc.zeros((n, k), tc.f32)
        for e in range(tc.size("E")):
            total += w[e, n, k]
        y[n, k] = total


@tc.kernel
def gated(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], v: tc.Tensor["E", "N", "K"],
          y: tc.Tensor["E", "M", "N"]):  # fmt: skip
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        a = tc.zeros((m, n), tc.f32)
        b = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            a += tc.dot(x[m, k], w[e.start, n, k].T)
            b += tc.dot(x[m, k], v[e.start, n, k].T)
        y[e.start, m, n] = a * b


@tc.kernel
def several(w: tc.Tensor["E", "N", "K"], v: tc.Tensor["E", "N", "K"], u: tc.Tensor["N", "K"],
            y: tc.Tensor["E", "N", "K"], z: tc.Tensor["E", "N", "K"],
            x: tc.Tensor["N", "K"]):  # fmt: skip
    for e, n, k in tc.tiles("E", "N", "K", block=(1, None, None)):
        y[e.start, n, k] = w[e.start, n, k]
    for e, n, k in tc.tiles("E", "N", "K", block=(1, None, None)):
        z[e.start, n, k] = v[e.start, n, k]
    for n, k in tc.tiles("N", "K"):
        x[n, k] = u[n, k]


@tc.kernel
def others(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["B", "N", "K"]):
    for b, n, k in tc.tiles("B", "N", "K", block=(1, None, None)):
        y[b.start, n, k] = w[b.start, n, k]


@tc.kernel
def all_at_once(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n, k in tc.tiles("E", "N", "K"):
        y[e, n, k] = w[e, n, k]


def made(text: str, *shape: int) -> tc.PackedTensor:
    """Experts of different sizes, so that their order is not that of their numbers."""
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape) * rng.uniform(0.5, 2, (shape[0], *[1] * (len(shape) - 1)))
    return tc.quantize(x, text, search=False)


def near(got, want, most: float = 1e-6) -> bool:
    return bool(np.linalg.norm(got - want) <= most * np.linalg.norm(want))


@pytest.mark.parametrize("shape", [(5, 67, 301), (4, 64, 256)])
@pytest.mark.parametrize("text", EVERY)
def test_a_batched_linear_layer(text, shape):
    w = made(text, *shape)
    for rows, dtype in ((1, ml_dtypes.bfloat16), (16, np.float32)):
        x = np.random.default_rng(rows).standard_normal((shape[0], rows, shape[2])).astype(dtype)
        y = np.full((shape[0], rows, shape[1]), np.nan, np.float32)
        every(x, w, y)
        want = np.einsum("emk,enk->emn", x.astype(float), w.dequantize().astype(float))
        assert near(y, want), rows


def test_each_expert_is_as_if_it_were_alone():
    """The rows of an expert are those of a linear layer with it alone, to the bit."""
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((5, 128, 256)), rng.standard_normal((5, 16, 256))
    x = x.astype(ml_dtypes.bfloat16)
    w = tc.quantize(weight, TWO, search=False)
    y = np.full((5, 16, 128), np.nan, np.float32)
    every(x, w, y)
    order = w.parts()["order"].tolist()
    for e in range(5):
        text = "int4<group=64>" if order.index(e) < 2 else "int2<group=32>"
        alone = tc.quantize(weight[e : e + 1], f"experts<{text}>", search=False)
        one = np.full((1, 16, 128), np.nan, np.float32)
        every(x[e : e + 1], alone, one)
        np.testing.assert_array_equal(y[e], one[0])
        np.testing.assert_array_equal(
            w.dequantize()[e], tc.quantize(weight[e], text, search=False).dequantize()
        )


def test_codes_stay_whole_in_a_grid_over_experts():
    """The scale is on the accumulator, and nothing is read element by element."""
    types = {"x": tc.bf16, "w": tc.format(TWO), "y": tc.f32}
    dims = {"E": 5, "M": 16, "N": 128, "K": 256}
    source = cpu_source(every.definition, types, dims, engine())
    said = [r.message for r in source.remarks]
    assert sum("the scale on the accumulator" in m for m in said) == 2
    assert not [m for m in said if "one by one" in m or "element by element" in m]


@pytest.mark.parametrize("text", EVERY)
def test_with_an_epilogue_that_knows_its_columns(text):
    w, rng = made(text, 5, 70, 301), np.random.default_rng(1)
    x, b = rng.standard_normal((9, 301)), rng.standard_normal((5, 70)).astype(np.float32)
    x = x.astype(np.float32)
    y = np.full((5, 9, 70), np.nan, np.float32)
    biased(x, w, b, y)
    want = np.einsum("mk,enk->emn", x.astype(float), w.dequantize().astype(float))
    assert near(y, np.maximum(want + b[:, None], 0) + np.arange(70))


def test_the_first_row_of_a_tile():
    w = made(TWO, 5, 72, 64)
    y = np.full(w.shape, np.nan, np.float32)
    started(w, y)
    want = 24 * (np.arange(72) // 24)[None] + 100 * np.arange(5)[:, None]
    np.testing.assert_array_equal(y, np.broadcast_to(want[..., None], w.shape))


def test_the_number_of_an_expert_as_a_tile():
    w = made(TWO, 5, 40, 64)
    y = np.full(w.shape, np.nan, np.float32)
    numbered(w, y)
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(5)[:, None, None], w.shape))


def test_rows_beside_what_is_gathered():
    """Where a row's span stands beside an index tile, experts are read row by row."""
    w, rng = made(TWO, 5, 40, 64), np.random.default_rng(6)
    b, i = rng.standard_normal((9, 40)).astype(np.float32), np.array([3, 0, 8], np.int32)
    y = np.full((5, 3, 40), np.nan, np.float32)
    beside(w, b, i, y)
    assert near(y, b[i] + w.dequantize().astype(float).sum(2)[:, None])


@pytest.mark.parametrize("text", EVERY)
def test_elements_decode_to_their_values(text):
    for kernel in (decoded, others):
        w = made(text, 5, 37, 301)
        y = np.full((5, 37, 301), np.nan, np.float32)
        kernel(w, y)
        assert near(y, w.dequantize(), 3e-7)


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("kernel", [routed, chosen], ids=["tokens", "one"])
def test_an_expert_of_each_task_by_number(kernel, text):
    """Read from memory, or given; some of them outside."""
    w, rng = made(text, 5, 67, 301), np.random.default_rng(2)
    dense = w.dequantize().astype(float)
    ids = np.array([3, 0, 4, 4, -1, 5, 2, 1, 2**31 - 1, 0], np.int32)
    inside = (ids >= 0) & (ids < 5)
    x = rng.standard_normal((10, 301)).astype(ml_dtypes.bfloat16)
    want = np.einsum("tk,tnk->tn", x.astype(float), dense[ids.clip(0, 4)]) * inside[:, None]
    y = np.full((10, 67), np.nan, np.float32)
    if kernel is routed:
        routed(x, ids, w, y)
    else:
        for t, e in enumerate(ids.tolist()):
            chosen(x[t : t + 1], w, e, y[t : t + 1])
    assert near(y, want)
    assert not y[~inside].any()


def test_a_number_that_does_not_last():
    """What a task writes over can't be asked for again in another grid."""
    w, ids = made(TWO, 5, 16, 64), np.array([3, 0, 9, 4], np.int32)
    x = np.random.default_rng(7).standard_normal((4, 64)).astype(np.float32)
    y, seen = np.full((4, 16), np.nan, np.float32), ids.copy()
    spent(x, seen, w, y)
    dense = w.dequantize().astype(float)
    want = np.einsum("tk,tnk->tn", x.astype(float), dense[ids.clip(0, 4)]) * (ids < 5)[:, None]
    assert near(y, want)
    assert seen.tolist() == [4, 1, 10, 5]


@pytest.mark.parametrize("text", NUMBERED)
def test_experts_row_by_row(text):
    w = made(text, 5, 67, 301)
    dense = w.dequantize().astype(float)
    i = np.array([66, 3, -1, 67, 0], np.int32)
    for e in (-1, 0, 2, 4, 5):
        y = np.full((5, 301), np.nan, np.float32)
        one_row(w, e, i, y)
        here = (i >= 0) & (i < 67) & (0 <= e < 5)
        want = dense[np.clip(e, 0, 4)][i.clip(0, 66)]
        np.testing.assert_array_equal(y, np.where(here[:, None], want, 0).astype(np.float32))
    y = np.full((67, 301), np.nan, np.float32)
    summed(w, y)
    assert near(y, dense.sum(0))


def test_experts_row_by_row_are_remarked_upon():
    dims = {"E": 5, "N": 64, "K": 256}
    types = {"w": tc.format(TWO), "y": tc.f32}
    (remark,) = [r for r in lower(summed.definition, types, dims).remarks if r.origin == "compose"]
    assert remark.message == "`w` is read element by element"
    assert "one expert a task, known before its loops" in remark.missing
    types |= {"x": tc.bf16, "ids": tc.i32}
    func = lower(routed.definition, types, dims | {"T": 4})
    assert not [r for r in func.remarks if r.origin == "compose"]
    assert sum("the scale on the accumulator" in r.message for r in func.remarks) == 2


def test_two_tensors_of_experts_in_one_grid():
    w, v = made(TWO, 5, 64, 301), made("experts<3, int8, int3<group=32>>", 5, 64, 301)
    x = np.random.default_rng(3).standard_normal((16, 301)).astype(np.float32)
    y = np.full((5, 16, 64), np.nan, np.float32)
    gated(x, w, v, y)
    a, b = (np.einsum("mk,enk->emn", x.astype(float), t.dequantize().astype(float)) for t in (w, v))
    assert near(y, a * b, 2e-6)


def test_tensors_of_experts_in_two_grids():
    w, v = made(TWO, 5, 64, 96), made("mixed<4, int8, int3<group=32>>", 64, 96)
    y, z, u = (np.full(s, np.nan, np.float32) for s in ((5, 64, 96), (5, 64, 96), (64, 96)))
    several(w, w, v, y, z, u)
    for got, want in ((y, w), (z, w), (u, v)):
        np.testing.assert_array_equal(got, want.dequantize())


@pytest.mark.parametrize("count", [3, 7])
def test_other_tiles_than_experts(count):
    """A grid over another dimension reads the first experts, and zeros behind the last."""
    w = made(TWO, 5, 64, 96)
    y = np.full((count, 64, 96), np.nan, np.float32)
    others(w, y)
    np.testing.assert_array_equal(y[:5], w.dequantize()[:count])
    assert not y[5:].any()


@pytest.mark.parametrize("text", NUMBERED[:2])
@pytest.mark.parametrize("kernel", [decoded, summed], ids=["grid", "number"])
def test_the_interpreter_says_the_same(kernel, text):
    w = made(text, 5, 18, 96)
    dims = {"E": 5, "N": 18, "K": 96}
    func = lower(kernel.definition, {"w": w.format, "y": tc.f32}, dims)
    shape = w.shape if kernel is decoded else w.shape[1:]
    y, got = np.full(shape, np.nan), np.full(shape, np.nan, np.float32)
    interpret(func, {f"w.{n}": p for n, p in w.parts().items()} | {"y": y}, {})
    kernel(w, got)
    np.testing.assert_array_equal(got, y)
    want = w.dequantize() if kernel is decoded else w.dequantize().astype(float).sum(0)
    assert near(y, want)


def test_both_spellings():
    w = made(TWO, 5, 64, 301)
    x = np.random.default_rng(4).standard_normal((5, 16, 301)).astype(ml_dtypes.bfloat16)
    y, z = (np.full((5, 16, 64), np.nan, np.float32) for _ in range(2))
    every(x, w, y)
    Kernel(parse(TEXT.replace("FORMAT", TWO))["batched"])(x, w, z)
    np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("part", ["codebook<4>", "permuted<int4>", "plus<lowrank<2>, int4>"])
def test_what_has_no_rows_by_index_is_refused(part):
    w = made(f"experts<2, {part}, int4>", 5, 16, 64)
    with pytest.raises(tc.TileError) as e:
        summed(w, np.zeros((16, 64), np.float32))
    assert f"`w`: rows of {part[:8]}" in str(e.value)
    assert "are read by tiles, but here they have places of their own" in str(e.value)


def test_several_experts_at_once_are_refused():
    w, y = made(TWO, 5, 16, 64), np.zeros((5, 16, 64), np.float32)
    with pytest.raises(tc.TileError) as e:
        all_at_once(w, y)
    assert "`w` has experts of several formats: one is read at a time" in str(e.value)
    assert "w[e.start, n, k], where tiles of e are of 1" in str(e.value)
    with pytest.raises(tc.TileError, match="one is read at a time, its rows and columns by tiles"):
        crossed(w, 0, np.zeros(64, np.int32), y[0])
