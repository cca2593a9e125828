"""Sparse formats: what they store, what they mean, and bad metadata."""

from __future__ import annotations

import numpy as np
import pytest
from sparse_formats import DENSE_VALUES, QUANTISED, TEXTS, pruned

import tilec as tc
from tilec.ir import fit
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.named import COMPOSED, named
from tilec.ir.sparse import Sparse
from tilec.ir.sparse.stored import roomy
from tilec.runtime.tensor import packed

BY_TABLES = {"Paged", "Ragged", "Grouped", "Hashed"}  # see test_indirect.py
LOSSLESS = ("block", "bitmap", "csr", "coo")  # formats that store whatever is not 0


def fitted(text: str, x: Array) -> Sparse:
    """The format that a text names, with room for a tensor."""
    found = named(text).fitted(x)
    assert isinstance(found, Sparse)
    return found


def sample(text: str) -> Array:
    """A pruned matrix of numbers that f16 and bf16 have, wide enough for any format."""
    x = np.rint(pruned(64, 320) * 8) / 8
    return x[:67, :301] if text.startswith(LOSSLESS) else x


def test_every_kind_is_here():
    kinds = {cls.__name__ for cls in Sparse.__subclasses__()} - BY_TABLES
    texts = [t for t in TEXTS if not t.startswith("plus")]
    assert {type(named(t)).__name__ for t in texts} == kinds
    assert set(DENSE_VALUES) <= set(COMPOSED)
    assert all(t.startswith(kind) for kind, ts in (DENSE_VALUES | QUANTISED).items() for t in ts)


@pytest.mark.parametrize("text", [t for t in TEXTS if not t.startswith("plus")])
def test_text_and_components(text):
    x = sample(text)
    format = fitted(text, x)
    assert named(str(format)) == format
    parts = fit.encode(format, x, fit.Fit())
    assert {c.name for c in format.components(x.shape)} == parts.keys()
    for c in format.components(x.shape):
        assert parts[c.name].shape == tuple(int(str(d)) for d in c.shape)
        assert np.array_equal(c.dtype.round(parts[c.name]), parts[c.name])
    format.check(parts, x.shape)
    assert format.bits(x.shape) < 32 * x.size


@pytest.mark.parametrize("text", [t for kind in LOSSLESS for t in DENSE_VALUES[kind]])
def test_all_but_zeros_is_stored(text):
    x = sample(text)
    assert np.array_equal(tc.quantize(x, text).dequantize(), x)
    ones, none = np.ones_like(x), np.zeros_like(x)
    assert np.array_equal(tc.quantize(ones, text).dequantize(), ones)
    assert np.array_equal(tc.quantize(none, text).dequantize(), none)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 16)])
def test_nm_keeps_the_largest(n, m):
    x = np.random.default_rng(n).standard_normal((8, 64))
    got = tc.quantize(x, tc.nm(n, m, tc.f32)).dequantize().reshape(8, -1, m)
    groups = x.reshape(8, -1, m)
    bound = np.sort(np.abs(groups), -1)[..., -n, None]
    assert np.array_equal(got, np.where(np.abs(groups) >= bound, groups, 0).astype(np.float32))


def test_vnm_keeps_four_columns_for_all_its_rows():
    x = np.random.default_rng(0).standard_normal((32, 64))
    got = tc.quantize(x, tc.vnm(16, 2, 8, tc.f32)).dequantize().reshape(2, 16, 8, 8)
    used = (got != 0).any(1)
    assert (used.sum(-1) <= 4).all()
    assert ((got != 0).sum(-1) == 2).all()
    squares = np.square(x).reshape(2, 16, 8, 8).sum(1)
    assert (np.where(used, np.inf, squares) >= 0).all()
    least = np.where(used, squares, np.inf).min(-1)
    assert (np.where(used, -np.inf, squares).max(-1) <= least).all()


def test_channels_are_the_heaviest_columns():
    x = np.random.default_rng(0).standard_normal((8, 32))
    got = tc.quantize(x, tc.channels(5, tc.f32)).dequantize()
    best = np.argsort(-np.square(x).sum(0))[:5]
    want = np.zeros_like(x)
    want[:, best] = x[:, best]
    assert np.array_equal(got, want.astype(np.float32))


def test_pruning_to_a_density():
    x = np.random.default_rng(0).standard_normal((64, 96))
    got = tc.sparsify(x, tc.bitmap(tc.f32), density=0.25).dequantize()
    assert (got != 0).sum() == x.size // 4
    assert np.abs(x[got == 0]).max() <= np.abs(x[got != 0]).min()
    blocks = tc.sparsify(x, tc.block(16, 32, tc.f32), density=0.25)
    cut = blocks.dequantize().reshape(4, 16, 3, 32).transpose(0, 2, 1, 3)
    sums, kept = np.square(x.reshape(4, 16, 3, 32)).sum((1, 3)), (cut != 0).all((2, 3))
    assert kept.sum() == 3
    assert sums[kept].min() >= sums[~kept].max()
    assert blocks.nbytes < 3 * 16 * 32 * 4 + 200


def test_few_rooms():
    """Rooms hold what they must, waste at most a sixteenth, and there are few of them."""
    rooms = [roomy(n) for n in range(1, 10000)]
    assert all(n <= room <= n * 17 / 16 for n, room in enumerate(rooms, 1))
    assert len(set(rooms)) < 200


def test_refused():
    x = np.ones((6, 8))
    for text, message in [
        ("nm<2, 2, f16>", "expected n below m"),
        ("vnm<16, 2, 4, f16>", "m from 5 to 256"),
        ("channels<0, f16>", "at least 1 column"),
        ("block<0, 4, f16>", "rows, columns and room of at least 1"),
        ("bitmap<f16, 0>", "room for at least 1"),
        ("csr<f16, 0>", "room for at least 1"),
        ("coo<f16, 0>", "room for at least 1"),
        ("csr<f16, 1, 2>", "expected csr<FORMAT, COUNT>"),
        ("nm<2, f16>", "expected nm<N, M, FORMAT>"),
    ]:
        with pytest.raises(TileError, match=message):
            named(text)
    for text, message in [
        ("nm<2, 3, f16>", "expected columns in multiples of 3, not 8"),
        ("vnm<4, 2, 8, f16>", "expected rows in multiples of 4, not 6"),
        ("channels<9, f16>", "at least 9 columns, not 8"),
    ]:
        with pytest.raises(TileError, match=message):
            tc.quantize(x, text)
    for text, message in [
        ("block<2, 2, f16, 11>", "expected at most 11 blocks, not 12"),
        ("bitmap<f16, 7>", "expected at most 7 in a row, not 8"),
        ("csr<f16, 47>", "expected at most 47 elements, not 48"),
        ("coo<f16, 47>", "expected at most 47 elements, not 48"),
    ]:
        with pytest.raises(TileError, match=message):
            fit.encode(named(text), x, fit.Fit())
    with pytest.raises(TileError, match="expected a matrix, not 3 dimensions"):
        tc.quantize(np.ones((2, 2, 2)), "csr<f16>")
    with pytest.raises(TileError, match="how many blocks are stored is not known"):
        named("block<2, 2, f16>").components((6, 8))
    with pytest.raises(TileError, match="expected a sparse format such as nm<2, 4, f16>, not int4"):
        tc.sparsify(x, tc.int4())
    with pytest.raises(TileError, match="expected a density from 0 to 1, not 2"):
        tc.sparsify(x, tc.bitmap(), density=2)


BAD = [  # format, component, place, what is put there, what is said
    ("nm<2, 4, f16>", "index", (0, 0), 3, "places that rise within every 4"),
    ("nm<2, 6, f16>", "index", (0, 1), 7, "places from 0 to 5, not 7"),
    ("vnm<2, 2, 12, f16>", "columns", (0, 3), 15, "columns from 0 to 11, not 15"),
    ("vnm<2, 2, 8, f16>", "columns", (0, 0), 7, "columns that rise within every 8"),
    ("vnm<2, 2, 8, f16>", "index", (0, 0), 3, "places that rise within every 4"),
    ("channels<3, f16>", "columns", 2, 24, "columns from 0 to 23, not 24"),
    ("channels<3, f16>", "columns", 0, 23, "columns that rise"),
    ("channels<3, f16>", "place", 1, 1, "`place` to say where `columns` are"),
    ("block<2, 4, f16>", "start", 0, 1, "starts that begin with 0"),
    ("block<2, 4, f16>", "start", 1, 100, "starts that begin with 0 and never fall"),
    ("block<2, 4, f16>", "start", -1, 1000, "at most 18 stored, not 1000"),
    ("block<2, 4, f16>", "column", 0, -1, "columns from 0 to 5, not -1"),
    ("block<2, 4, f16>", "column", 1, 0, "columns that rise within row 0"),
    ("block<2, 4, f16>", "place", (0, 0), 5, "`place` to be where"),
    ("bitmap<f16>", "start", (0, 0), 1, "`start` to count the ones"),
    ("bitmap<f16>", "mask", (0, 0), 1 << 31 | 0xFFFFFF, "no ones beyond column 23"),
    ("coo<f16>", "row", 3, 6, "rows from 0 to 5, not 6"),
    ("coo<f16>", "column", 3, -1, "columns from 0 to 23, not -1"),
    ("coo<f16>", "column", 3, 2, "every place once"),
    ("csr<f16>", "start", 3, 0, "starts that begin with 0 and never fall"),
    ("csr<f16>", "column", 5, 24, "columns from 0 to 23, not 24"),
    ("csr<f16>", "column", 1, 0, "columns that rise within row 0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name", "at", "bad", "message"), BAD)
def test_bad_metadata_is_rejected_before_a_launch(text, name, at, bad, message):
    x = np.random.default_rng(0).standard_normal((6, 24))
    format = named(text).fitted(x)
    parts = fit.encode(format, x, fit.Fit())
    packed(format, parts, x.shape)
    parts[name] = parts[name].copy()
    parts[name][at] = bad
    with pytest.raises(TileError, match=message):
        packed(format, parts, x.shape)
