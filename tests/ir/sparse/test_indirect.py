"""Formats whose rows are found by tables: what they mean, and bad tables."""

from __future__ import annotations

import numpy as np
import pytest
from sparse_kernels import normal, shuffled

import tilec as tc
from tilec.ir import fit
from tilec.ir.errors import TileError
from tilec.ir.format import prefixed
from tilec.ir.named import named
from tilec.ir.sparse.indirect import hashed, table_of
from tilec.runtime.tensor import packed


def rounded(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that f16 has."""
    return np.rint(normal(*shape) * 64) / 64


@pytest.mark.parametrize(
    "text", ["paged<4, f16>", "paged<7, f32, 40>", "ragged<f16>", "ragged<f32, 80>"]
)
@pytest.mark.parametrize("shape", [(3, 21, 8), (2, 3, 10, 4)])
def test_every_element_comes_back(text, shape):
    x = rounded(shape)
    if text.startswith("ragged"):
        x[0, 5:] = x[-1] = 0
    format = named(text).fitted(x)
    assert named(str(format)) == format
    assert np.array_equal(tc.quantize(x, text).dequantize(), x)


def test_pages_in_any_order_shared_and_missing():
    x = rounded((3, 2, 32, 8))
    w = shuffled("paged<8, f16>", x, 20)
    got = w.dequantize()
    assert (got[0, :, 24:] == 0).all()
    assert (got[2, :, 8:16] == 0).all()
    x[0, :, 24:], x[2, :, 8:16] = 0, 0
    assert np.array_equal(got, x)
    parts = w.parts()
    parts["table"][1] = parts["table"][0, 0]
    shared = packed(w.format, parts, x.shape).dequantize()
    assert np.array_equal(shared[1], np.tile(x[0, :, :8], (1, 4, 1)))


def test_lists_of_rows():
    rows = rounded((5, 4))
    format = named("grouped<6, 5, f32>")
    parts = {"start": np.array([0, 2, 2, 5]), "order": np.array([4, 0, 0, -1, 7, 1])}
    got = packed(format, parts | prefixed("values", {"": rows}), (3, 4, 4)).dequantize()
    want = np.zeros((3, 4, 4))
    want[0, :2], want[2, 0] = rows[[4, 0]], rows[0]
    assert np.array_equal(got, want)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_every_key_is_found_within_its_probes(count):
    keys = np.random.default_rng(count).choice(5000, count, replace=False)
    key, row, probes = table_of(keys)
    assert len(key) >= 2 * count
    assert sorted(key[key >= 0]) == sorted(keys)
    for i, k in enumerate(keys):
        places = (hashed(np.array([k]), len(key))[0] + np.arange(probes)) % len(key)
        (at,) = places[key[places] == k]
        assert row[at] == i


def test_refused():
    for text, message in [
        ("paged<0, f16>", "pages of at least 1 row"),
        ("ragged<f16, 0>", "room for at least 1 row"),
        ("grouped<0, 1, f16>", "room and rows of at least 1"),
        ("hashed<6, 1, 1, f16>", "a capacity that is a power of two"),
        ("hashed<8, 1, f16>", "expected hashed<PLACES, PROBES, ROWS, FORMAT>"),
    ]:
        with pytest.raises(TileError, match=message):
            named(text)
    for text, shape, message in [
        ("paged<4, f16, 2>", (4, 4), r"expected \[B, ..., S, D\], not 2 dimensions"),
        ("paged<4, f16, 2>", (2, 8, 4), "expected at most 2 pages, not 4"),
        ("ragged<f16, 7>", (4,), r"expected \[B, S, ...\], not 1 dimensions"),
        ("ragged<f16, 7>", (2, 4, 4), "expected at most 7 rows, not 8"),
        ("grouped<4, 4, f16>", (2, 4, 4), "nothing rounds to grouped<4, 4, f16>"),
    ]:
        with pytest.raises(TileError, match=message):
            fit.encode(named(text), np.ones(shape), fit.Fit())


BAD = [  # format, shape, component, place, what is put there, what is said
    ("ragged<f32, 9>", (2, 5, 4), "start", 0, 2, "starts that begin with 0"),
    ("ragged<f32, 9>", (2, 5, 4), "start", 2, 10, "at most 9 stored, not 10"),
    ("ragged<f32, 9>", (2, 5, 4), "start", 2, 9, "at most 5 rows each, not 6"),
    ("grouped<9, 3, f32>", (2, 5, 4), "start", 1, -1, "starts that begin with 0 and never fall"),
    ("grouped<9, 3, f32>", (2, 5, 4), "start", 2, 9, "at most 5 rows each, not 6"),
    ("hashed<8, 2, 3, f32>", (2, 5, 4), "key", 3, 10, "keys below 10, not 10"),
    ("hashed<8, 2, 3, f32>", (2, 5, 4), "key", slice(None), 5, "every key once"),
    ("hashed<8, 2, 3, f32>", (2, 5, 4), "row", slice(None), 3, "rows from 0 to 2, not 3"),
]


@pytest.mark.parametrize(("text", "shape", "name", "at", "bad", "message"), BAD)
def test_bad_tables_are_rejected_before_a_launch(text, shape, name, at, bad, message):
    format = named(text)
    parts = {"start": np.array([0, 3, 5]), "order": np.zeros(9, np.int64)}
    if text.startswith("hashed"):
        parts = {"key": np.full(8, -1), "row": np.zeros(8, np.int64)}
        parts["key"][hashed(np.array([4]), 8)[0]] = 4
    values = format.components(shape)[-1]
    parts["values"] = np.ones(tuple(int(str(d)) for d in values.shape))
    parts = {c.name: parts[c.name] for c in format.components(shape)}
    packed(format, parts, shape)
    parts[name][at] = bad
    with pytest.raises(TileError, match=message):
        packed(format, parts, shape)


def test_a_key_beyond_its_probes_is_rejected():
    format = named("hashed<8, 1, 1, f32>")
    parts = {"key": np.full(8, -1), "row": np.zeros(8, np.int64), "values": np.ones((1, 4))}
    parts["key"][(hashed(np.array([4]), 8)[0] + 1) % 8] = 4
    with pytest.raises(TileError, match="keys within 1 places, not 2"):
        packed(format, parts, (2, 5, 4))
