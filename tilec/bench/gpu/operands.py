"""Random operands of a case for emulation, and their values in doubles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from tilec.bench.gpu.case import Case, Dims
from tilec.ir.dtype import Array, DType, of_numpy
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.format import Dense, Format
from tilec.ir.sparse import Sparse
from tilec.lang.kernel import TensorSpec
from tilec.runtime.tensor import PackedTensor, packed

Given = Array | PackedTensor | float
FULLEST = 0.98  # of the room that a format leaves, as rows differ in what they store


def operands(case: Case, dims: Dims, seed: int = 0) -> dict[str, Given]:
    """The arguments in order, as they lie in memory; results are full of what is no number."""
    rng = np.random.default_rng(seed)
    special = case.given(dims, rng) if case.given is not None else {}
    tensors = {name: (format, shape) for name, format, shape in case.shapes(dims)}
    found: dict[str, Given] = {}
    for p in case.definition.signature.params:
        if not isinstance(p.spec, TensorSpec):
            found[p.name] = case.numbers[p.name]
        elif p.name in special:
            found[p.name] = special[p.name]
        elif p.name in case.results:
            found[p.name] = poisoned(*tensors[p.name])
        else:
            found[p.name] = operand(*tensors[p.name], rng, case.density)
    return found


def operand(format: Format, shape: tuple[int, ...], rng: np.random.Generator, density: float = 1.0
            ) -> Given:  # fmt: skip
    """Normal numbers in a format: an array as it lies in memory, or a packed tensor."""
    if isinstance(format, Dense):
        t = format.dtype
        if t.is_float:
            return t.to_storage(t.round(rng.standard_normal(shape)))
        return rng.integers(max(int(t.low), -100), min(int(t.high), 100) + 1, shape).astype(t.numpy)
    x = rng.standard_normal(shape)
    if isinstance(format, Sparse):
        free = roomless(format)
        pruned = format.pruned(x, density) if density < 1.0 else x
        free = free.fitted(pruned)
        return packed(free, encode(free, pruned, Fit(False)), shape)
    format = format.fitted(x)
    return packed(format, encode(format, x, Fit(False)), shape)


def roomless(format: Sparse) -> Sparse:
    """A format that stores as much as there is, where it has room for so many only."""
    from dataclasses import replace

    known = {f.name for f in fields(format)}
    return replace(format, room=None) if "room" in known else format  # type: ignore[call-arg]


def poisoned(format: Format, shape: tuple[int, ...]) -> Array:
    """Memory of a result that nothing has written. Raises TileError for one that is packed."""
    if not isinstance(format, Dense):
        raise TileError(f"a result can't be {format}")
    t = format.dtype.numpy
    return np.full(int(np.prod(shape)) * t.itemsize, 0xA5, np.uint8).view(t).reshape(shape)


def formats_of(case: Case, given: Mapping[str, Given]) -> dict[str, Format]:
    """The formats of operands that there are: a sparse one has room for what it stores."""
    found = dict(case.formats)
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            found[name] = x.format
    return found


def values(case: Case, given: Mapping[str, Given]) -> dict[str, Array]:
    """What operands stand for, in doubles; whole numbers stay whole."""
    found: dict[str, Array] = {}
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            found[name] = x.dequantize().astype(np.float64)
        elif isinstance(x, np.ndarray):
            found[name] = widened(case, name, x)
        else:
            found[name] = np.asarray(x, np.float64)
    return found


def widened(case: Case, name: str, x: Array) -> Array:
    """An array as it lies in memory, in doubles or whole numbers."""
    format = case.formats.get(name)
    t: DType = format.dtype if isinstance(format, Dense) else of_numpy(x.dtype)
    wide = t.from_storage(x)
    return np.asarray(wide).astype(np.float64) if t.is_float else np.asarray(wide)


def error(got: Array, want: Array) -> float:
    """The relative error by norm; infinite where a number is none."""
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return float("inf")
    size = float(np.linalg.norm(want[finite])) or 1.0
    return float(np.linalg.norm(got[finite] - want[finite])) / size
