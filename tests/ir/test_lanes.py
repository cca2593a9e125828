"""The order of sparse values for wide vectors: every component comes back, and sizes are small."""

from __future__ import annotations

import numpy as np
import pytest
from sparse_formats import DENSE_VALUES, QUANTISED, pruned, weight

import tilec as tc
from tilec.ir.errors import TileError
from tilec.ir.lanes import RUN, Lanes, Runs, order, tall
from tilec.ir.masked import DEPTH, Masked
from tilec.ir.packing import Plain, default_layout
from tilec.runtime.tensor import PackedTensor, packed

LAID = ["nm<2, 4, f16>", "nm<1, 4, f32>", "nm<4, 8, bf16>", "block<16, 8, f16>",
        "block<64, 32, bf16>", "block<16, 48, f32>", "block<16, 40, f32>", "block<48, 7, bf16>",
        "bitmap<f16>",
        "bitmap<f32>", "csr<f32>", "csr<f16>", "nm<2, 4, int8<channel>>",
        "nm<2, 4, int4<group=32>>", "nm<4, 8, mxfp4>", "nm<2, 4, nvfp4>", "nm<1, 4, fp8>",
        "bitmap<fp8>", "bitmap<int4<channel>>"]  # fmt: skip


def same(a: PackedTensor, b: PackedTensor) -> bool:
    x, y = a.parts(), b.parts()
    return set(x) == set(y) and all(np.array_equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("n", [1, 16, 67, 130])
@pytest.mark.parametrize("text", LAID)
def test_components_come_back(text, n):
    w = weight(text, n)
    assert w.layout == Lanes()
    plain = w.relayout(Plain())
    assert same(w, plain)
    assert same(plain.relayout(Lanes()), plain)


@pytest.mark.parametrize("text", LAID)
@pytest.mark.parametrize("x", [np.zeros((70, 300)), np.ones((70, 300)), np.eye(70, 300, 230)],
                         ids=["zeros", "full", "few"])  # fmt: skip
def test_nothing_everything_and_little(text, x):
    x = x[: 64, : 280] if text.startswith("nm") else x  # fmt: skip
    w = tc.quantize(x, text)
    assert same(w, w.relayout(Plain()))
    if not text.startswith("nm"):
        assert np.array_equal(w.dequantize(), x)


def test_a_stream_has_little_but_values_and_bits():
    x = pruned(256, 1024)
    w = tc.quantize(x, "bitmap<bf16>")
    needed = 2 * np.count_nonzero(x) + x.size // 8
    assert needed <= w.nbytes < 1.01 * needed


def test_a_stream_says_where_its_steps_begin():
    """The first word and value of a step are those of its first rows and columns."""
    x = pruned(130, 2 * DEPTH)
    mask = x != 0
    stream, places = Masked(130, 2 * DEPTH, tc.f32).pack(mask, x[mask])
    for block in range(3):
        for step in range(2):
            at = 2 * int(places.view(np.uint32).reshape(3, 2)[block, step])
            word = int(stream[at : at + 4].view(np.uint32)[0])
            rows, k = min(16, 130 - 64 * block), DEPTH * step
            own = mask[64 * block : 64 * block + rows, k : k + 2]
            assert [word >> b & 1 for b in range(rows)] == own[:, 0].tolist()
            assert [word >> 16 + b & 1 for b in range(rows)] == own[:, 1].tolist()


def test_codes_of_two_words_begin_at_a_byte():
    """The nibbles of the first rows and columns of a step are those of the dense matrix."""
    w = tc.quantize(pruned(67, 2 * DEPTH), "bitmap<int4<channel>>")
    dense, stream = w.dequantize(), w.arrays[0]
    scale = w.parts()["values.scale"][:, None]
    codes = np.zeros((128, 2 * DEPTH), int)
    codes[:67] = np.rint(dense / np.where(scale, scale, 1))
    for block, at in ((0, 0), (1, 2 * int(w.arrays[1].view(np.uint32)[2]))):
        bits = np.unpackbits(stream[at : at + 8], bitorder="little").reshape(16, 2, 2)
        want = codes[64 * block : 64 * block + 32, :2].reshape(2, 16, 2).transpose(1, 2, 0)
        there = (w.parts()["mask"][:, 0] if not block else np.append(w.parts()["mask"][64:, 0],
                                                                     np.zeros(64)))  # fmt: skip
        known = there[:32].astype(int)[:, None] >> np.arange(2) & 1
        assert np.array_equal(bits, known.reshape(2, 16, 2).transpose(1, 2, 0))
        used = want[bits > 0] & 15
        found = stream[at + 128 :][: -(-len(used) // 2)]
        nibbles = np.stack([found & 15, found >> 4], 1).reshape(-1)
        assert np.array_equal(nibbles[: len(used)], used)


def test_runs_do_not_cross_rows():
    w = tc.quantize(pruned(67, 300), "csr<f32>")
    own = order(w.format, w.shape)
    assert isinstance(own, Runs)
    start, column, values = (a.view(t) for a, t in zip(w.arrays, ("i4", "i4", "f4"), strict=True))
    dense = w.dequantize()
    for n in range(67):
        found = column[RUN * start[n] : RUN * start[n + 1]]
        used = found[found >= 0]
        assert np.array_equal(used, np.flatnonzero(dense[n]))
        assert np.array_equal(values[RUN * start[n] :][: len(used)], dense[n, used])
    assert RUN * start[-1] <= own.bound
    assert not values[: RUN * start[-1]][column[: RUN * start[-1]] < 0].any()


def test_what_lanes_do_not_hold():
    others = [t for kinds in (DENSE_VALUES, QUANTISED) for texts in kinds.values() for t in texts
              if t not in LAID]  # fmt: skip
    others += ["nm<2, 4, uint4<group=32>>", "nm<2, 4, int4<group=4>>", "nm<2, 4, int3<channel>>"]
    for text in others:
        w = weight(text, 64)
        assert default_layout(w.format, w.shape) != Lanes()
        if not text.startswith("plus"):
            with pytest.raises(TileError, match="lanes hold a matrix of n:m, a bitmap, CSR or"):
                packed(w.format, w.parts(), w.shape, Lanes())


def test_heights_of_tiles():
    heights = {4: 4, 16: 16, 48: 48, 80: 80, 128: 128, 192: 96, 256: 128}
    assert {n: tall(n) for n in heights} == heights
