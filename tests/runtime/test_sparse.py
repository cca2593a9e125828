"""Sparse tensors of torch, scipy and of arrays: values stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from lang.kernels import linear
from sparse_formats import pruned

import tilec as tc
from tilec.ir.packing import Plain

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor", "ignore:The PyTorch API of")


def multiplied(w: tc.PackedTensor) -> np.ndarray:
    """A product with it."""
    x = np.random.default_rng(0).standard_normal((3, w.shape[1])).astype(np.float32)
    y = np.full((3, w.shape[0]), np.nan, np.float32)
    linear(x, w, y)
    want = x.astype(float) @ w.dequantize().T.astype(float)
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    return w.dequantize()


@pytest.mark.parametrize("numbers", [torch.int32, torch.int64])
def test_torch_csr_and_bsr(numbers):
    dense = torch.tensor(pruned(64, 96)).float()
    for made in (dense.to_sparse_csr(), dense.to_sparse_bsr((16, 32))):
        cls = torch.sparse_csr_tensor if made.layout == torch.sparse_csr else (
            torch.sparse_bsr_tensor)  # fmt: skip
        starts, columns = made.crow_indices().to(numbers), made.col_indices().to(numbers)
        given = cls(starts, columns, made.values(), size=made.shape)
        w = tc.sparse(given)
        assert w.arrays[-1].ctypes.data == given.values().data_ptr()
        shared = w.arrays[1].ctypes.data == given.col_indices().data_ptr()
        assert shared == (numbers == torch.int32)
        assert np.array_equal(multiplied(w), dense.numpy())


def test_values_that_change_are_seen():
    given = torch.tensor(pruned(64, 96)).float().to_sparse_csr()
    w = tc.sparse(given)
    before = multiplied(w)
    given.values().mul_(2)
    assert np.array_equal(multiplied(w), 2 * before)


def test_other_sparse_tensors():
    dense = torch.tensor(pruned(64, 96)).float()
    assert np.array_equal(multiplied(tc.sparse(dense.to_sparse_coo())), dense.numpy())
    nested = torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(5, 4)], layout=torch.jagged)
    w = tc.sparse(nested)
    assert w.shape == (2, 5, 4)
    assert w.arrays[-1].ctypes.data == nested.values().data_ptr()
    assert np.array_equal(w.dequantize()[1], nested[1].numpy())
    assert (w.dequantize()[0, 3:] == 0).all()


def test_scipy():
    scipy = pytest.importorskip("scipy.sparse")
    dense = pruned(64, 96).astype(np.float32)
    for given in (scipy.csr_array(dense), scipy.bsr_array(dense, blocksize=(16, 16)),
                  scipy.coo_array(dense)):  # fmt: skip
        assert np.array_equal(multiplied(tc.sparse(given)), dense)


def test_two_of_four():
    from torch.sparse import _semi_structured_conversions as conversions

    rng = np.random.default_rng(0)
    groups = rng.standard_normal((32, 16, 4))
    np.put_along_axis(groups, rng.permuted(np.tile(np.arange(4), (32, 16, 1)), axis=-1)[..., :2],
                      0, -1)  # fmt: skip
    dense = torch.tensor(groups.reshape(32, 64)).half()
    values, _ = conversions.sparse_semi_structured_from_dense_cutlass(dense)
    places = np.argsort(groups == 0, axis=-1, kind="stable")[..., :2].reshape(32, 32)
    w = tc.semi_structured(values, places)
    assert w.arrays[-1].ctypes.data == values.data_ptr()
    assert np.array_equal(multiplied(w), dense.float().numpy())


def test_pages_lists_and_points():
    rng = np.random.default_rng(0)
    pool, table = rng.standard_normal((9, 2, 4, 8)).astype(np.float32), np.array([[3, 1], [8, -1]])
    w = tc.paged(pool, table.astype(np.int32))
    assert w.shape == (2, 2, 8, 8)
    assert w.arrays[-1] is pool
    assert np.array_equal(w.dequantize()[0, :, :4], pool[3])
    assert (w.dequantize()[1, :, 4:] == 0).all()
    coded = tc.paged(tc.quantize(pool, "int8<group=8>", layout=Plain()), table)
    assert np.allclose(coded.dequantize(), w.dequantize(), atol=0.03)
    rows = rng.standard_normal((7, 8)).astype(np.float32)
    assert np.array_equal(tc.ragged(rows, [0, 2, 7]).dequantize()[1], rows[2:])
    assert tc.ragged(rows, [0, 2, 7], longest=9).shape == (2, 9, 8)
    lists = tc.grouped(rows, [0, 1, 3], [6, 0, 0])
    assert np.array_equal(lists.dequantize(), [[rows[6], 0 * rows[0]], [rows[0], rows[0]]])
    at = np.array([[0, 0, 1], [2, 3, 4], [1, 1, 1]])
    grid = tc.hashed(rows[:3], at, (3, 4, 5)).dequantize()
    assert np.array_equal(grid[2, 3, 4], rows[1])
    assert np.count_nonzero(grid.any(-1)) == 3


def test_refused():
    rows = np.ones((4, 8), np.float32)
    for make, message in [
        (lambda: tc.sparse(rows), "expected a sparse tensor of torch or scipy, not ndarray"),
        (lambda: tc.paged(rows, np.zeros((1, 1), int)), r"expected a pool \[pages, ..., page, D\]"),
        (lambda: tc.paged(rows, rows), "the table: expected whole numbers along 2 dimensions"),
        (lambda: tc.paged(tc.quantize(rows, "int4<group=8>"), [[0]]), "expected a plain layout"),
        (lambda: tc.ragged(rows[:, ::2], [0, 1]), "expected a contiguous tensor"),
        (lambda: tc.ragged(rows, [0, 5]), "at most 4 stored, not 5"),
        (lambda: tc.ragged(rows, [1, 4]), "starts that begin with 0"),
        (lambda: tc.grouped(rows, [0, 3], [1, 2]), "at most 2 stored, not 3"),
        (lambda: tc.hashed(rows, np.zeros((4, 2), int), (3, 3)), "expected every key once"),
        (lambda: tc.hashed(rows, np.full((4, 2), 3), (3, 3)), r"coordinates inside of \[3, 3\]"),
        (lambda: tc.hashed(rows, np.zeros((3, 2), int), (3, 3)), r"expected rows \[N, C\]"),
        (lambda: tc.semi_structured(rows, np.zeros((4, 8), int)), "places that rise"),
        (lambda: tc.semi_structured(rows, np.zeros((4, 4), int)), "a place for each value"),
        (lambda: tc.sparse(torch.zeros(4, 4).to_sparse_csr()), "the tensor stores nothing"),
    ]:
        with pytest.raises(tc.TileError, match=message):
            make()
