"""Sparse tensors made of arrays that others hold: values are not copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir.bits import stored
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.errors import TileError
from tilec.ir.format import Component, Dense, Format
from tilec.ir.packing import Plain
from tilec.ir.sparse import NM, Blocks, Csr, Grouped, Hashed, Paged, Ragged, Sparse
from tilec.ir.sparse.indirect import table_of
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.tensor import PackedTensor, memory


def paged(pool: Any, table: Any) -> PackedTensor:
    """Sequences [B, ..., S, D] in pages: rows j * page and on of sequence b are pool[table[b, j]].

    `pool` [pages, ..., page, D] is a tensor or one packed in a plain layout, and is not copied;
    `table` [B, S / page] has whole numbers, of which those that are no page's stand for zeros, and
    is not copied if it is i32. Both may change between launches. Raises TileError for other shapes.
    """
    numbers = _numbers("paged: the table", table, 2)
    inner, size, held = _values("paged: the pool", pool)
    if len(size) < 3:
        raise TileError(f"paged: expected a pool [pages, ..., page, D], not {list(size)}")
    shape = (numbers.shape[0], *size[1:-2], numbers.shape[1] * size[-2], size[-1])
    return _tensor(Paged(inner, size[-2], size[0]), shape, {"table": numbers}, held)


def ragged(rows: Any, start: Any, longest: int | None = None) -> PackedTensor:
    """Sequences [B, longest, ...] one after the other: those of b are rows start[b] to start[b + 1]
    (what torch.nested calls jagged). `rows` is not copied; `start` has B + 1 whole numbers that
    begin with 0 and never fall. Raises TileError for other numbers and shapes."""
    numbers = _numbers("ragged: the starts", start, 1)
    inner, size, held = _values("ragged: the rows", rows)
    most = int(np.diff(numbers).max(initial=1)) if longest is None else longest
    shape = (len(numbers) - 1, most, *size[1:])
    return _tensor(Ragged(inner, max(1, size[0])), shape, {"start": numbers}, held)


def grouped(rows: Any, start: Any, order: Any, longest: int | None = None) -> PackedTensor:
    """Lists of rows [E, longest, ...]: entry s of list e is rows[order[start[e] + s]]. `rows` is
    not copied. Raises TileError for other numbers and shapes."""
    starts = _numbers("grouped: the starts", start, 1)
    entries = _numbers("grouped: the order", order, 1)
    inner, size, held = _values("grouped: the rows", rows)
    most = int(np.diff(starts).max(initial=1)) if longest is None else longest
    format = Grouped(inner, max(1, len(entries)), size[0])
    own = {"start": starts, "order": entries}
    return _tensor(format, (len(starts) - 1, most, *size[1:]), own, held)


def hashed(rows: Any, coordinates: Any, shape: tuple[int, ...]) -> PackedTensor:
    """Rows [N, C] at coordinates [N, dims] of a tensor [*shape, C] that is 0 elsewhere. `rows` is
    not copied. Raises TileError for coordinates outside, and where two are equal."""
    at = _numbers("hashed: the coordinates", coordinates, 2)
    inner, size, held = _values("hashed: the rows", rows)
    if at.shape != (size[0], len(shape)) or len(size) != 2:
        raise TileError(f"hashed: expected rows [N, C] and coordinates [N, {len(shape)}], not "
                        f"{list(size)} and {list(at.shape)}")  # fmt: skip
    if at.size and (at.min() < 0 or (at >= np.asarray(shape)).any()):
        bad = at[((at < 0) | (at >= np.asarray(shape))).any(1)][0]
        raise TileError(f"hashed: expected coordinates inside of {list(shape)}, not {bad.tolist()}")
    keys = np.asarray(np.ravel_multi_index(tuple(at.T.astype(np.int64)), shape))
    key, row, probes = table_of(keys)
    format = Hashed(inner, len(key), probes, size[0])
    return _tensor(format, (*shape, size[1]), {"key": key, "row": row}, held)


def sparse(tensor: Any) -> PackedTensor:
    """A sparse tensor of torch (CSR, BSR, COO, jagged) or scipy (CSR, BSR, COO).

    Values are not copied where the layout has them in order: CSR, BSR and jagged; numbers are not
    copied if they are i32. Raises TileError for other tensors, and for numbers out of order.
    """
    layout = str(getattr(tensor, "layout", getattr(tensor, "format", "")))
    match layout:
        case "torch.sparse_csr":
            parts = tensor.crow_indices(), tensor.col_indices(), tensor.values()
            return of_csr(*parts, tuple(tensor.shape))
        case "torch.sparse_bsr":
            parts = tensor.crow_indices(), tensor.col_indices(), tensor.values()
            return of_bsr(*parts, tuple(tensor.shape))
        case "csr" if hasattr(tensor, "indptr"):
            return of_csr(tensor.indptr, tensor.indices, tensor.data, tuple(tensor.shape))
        case "bsr" if hasattr(tensor, "indptr"):
            return of_bsr(tensor.indptr, tensor.indices, tensor.data, tuple(tensor.shape))
        case "coo" if hasattr(tensor, "tocsr"):
            return sparse(tensor.tocsr())
        case "torch.sparse_coo":
            return sparse(tensor.coalesce().to_sparse_csr())
        case "torch.jagged":
            return ragged(tensor.values(), tensor.offsets())
        case _:
            raise TileError(f"sparse: expected a sparse tensor of torch or scipy, not "
                            f"{type(tensor).__name__}{f' ({layout})' if layout else ''}",
                            hint="tc.sparsify stores a dense one")  # fmt: skip


def semi_structured(values: Any, index: Any) -> PackedTensor:
    """A 2:4 matrix [N, K] of values [N, K / 2], which are not copied, and the place in its four of
    each, [N, K / 2]. Raises TileError for places that do not rise."""
    inner, size, held = _values("semi_structured: the values", values)
    places = _numbers("semi_structured: the places", index, len(size))
    if places.shape != size:
        raise TileError(f"semi_structured: expected a place for each value, {list(size)}, not "
                        f"{list(places.shape)}")  # fmt: skip
    return _tensor(NM(inner, 2, 4), (*size[:-1], size[-1] * 2), {"index": places}, held)


def of_csr(start: Any, column: Any, values: Any, shape: tuple[int, ...]) -> PackedTensor:
    """A matrix in CSR: values and columns of row n are start[n] to start[n + 1]. Values are not
    copied. Raises TileError for numbers out of order or outside, and where nothing is stored."""
    inner, size, held = _values("sparse: the values", values)
    own = {"start": _numbers("sparse: the starts", start, 1),
           "column": _numbers("sparse: the columns", column, 1)}  # fmt: skip
    if not size[0]:
        raise TileError("sparse: the tensor stores nothing", hint="tc.sparsify stores zeros too")
    return _tensor(Csr(inner, size[0]), shape, own, held)


def of_bsr(start: Any, column: Any, values: Any, shape: tuple[int, ...]) -> PackedTensor:
    """A matrix in BSR: blocks values[i] of a row of blocks r are start[r] to start[r + 1]. Values
    are not copied. Raises TileError as `of_csr` does."""
    inner, size, held = _values("sparse: the values", values)
    own = {"start": _numbers("sparse: the starts", start, 1),
           "column": _numbers("sparse: the columns", column, 1)}  # fmt: skip
    if not size[0]:
        raise TileError("sparse: the tensor stores nothing", hint="tc.sparsify stores zeros too")
    count, rows, columns = size
    format = Blocks(inner, rows, columns, count)
    place = np.full(tuple(int(str(d)) for d in format.blocks(shape)), -1)
    row = np.repeat(np.arange(len(place)), np.diff(own["start"]))
    if len(row) != count or own["column"].min() < 0 or own["column"].max() >= place.shape[1]:
        raise TileError(f"sparse: {count} blocks, but starts and columns of {len(row)} in "
                        f"{place.shape[1]} columns of blocks")  # fmt: skip
    place[row, own["column"]] = np.arange(count)
    return _tensor(format, shape, own | {"place": place}, held)


def _numbers(what: str, given: Any, rank: int) -> Array:
    """Whole numbers as an array. Raises TileError for anything else."""
    held = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if held.dtype.kind not in "iu" or held.ndim != rank:
        raise TileError(f"{what}: expected whole numbers along {rank} dimensions, not "
                        f"{held.dtype}{list(held.shape)}")  # fmt: skip
    return held


def _values(what: str, given: Any) -> tuple[Format, tuple[int, ...], list[Array]]:
    """The format, shape and memory of a tensor that holds values."""
    if isinstance(given, PackedTensor):
        if not isinstance(given.layout, Plain):
            raise TileError(f"{what}: expected a plain layout, not {given}",
                            hint="quantize(..., layout=Plain())")  # fmt: skip
        return given.format, given.shape, given.arrays
    seen = describe(given)
    if not isinstance(seen, TensorArgument) or not seen.contiguous:
        raise TileError(f"{what}: expected a contiguous tensor, not {given!r}")
    return Dense(BY_NAME[seen.dtype]), tuple(seen.shape), [memory(given)]


def _tensor(format: Sparse, shape: tuple[int, ...], own: dict[str, Array], values: list[Array]
            ) -> PackedTensor:  # fmt: skip
    """The tensor, its numbers checked, with values where they are."""
    for c in format.places(shape):
        expected = tuple(int(str(d)) for d in c.shape)
        if own[c.name].shape != expected:
            raise TileError(f"{format}: `{c.name}` is {list(own[c.name].shape)}, expected "
                            f"{list(expected)}")  # fmt: skip
    format.check(own, shape)
    held = [_held(c, own[c.name]) for c in format.places(shape)]
    return PackedTensor(format, shape, Plain(), [*held, *values])


def _held(c: Component, numbers: Array) -> Array:
    """The numbers where they are, if they lie there as they should."""
    same = numbers.dtype == c.dtype.numpy and numbers.flags.c_contiguous
    return numbers if same else stored(c, numbers)


__all__ = ["grouped", "hashed", "of_bsr", "of_csr", "paged", "ragged", "semi_structured", "sparse"]
