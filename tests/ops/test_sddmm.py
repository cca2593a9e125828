"""`linear` whose result is sparse: only what is stored of it is computed (SDDMM)."""

from __future__ import annotations

import emulated
import numpy as np
import pytest
from sparse_formats import pruned

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.ops import control
from tilec.ir.packing import Plain
from tilec.ops.linear import linear
from tilec.passes import parse_pipeline, run
from tilec.triton import triton_source

TEXTS = ["csr<f32>", "block<16, 16, f32>", "block<16, 24, f32>"]
M, N, K = 67, 90, 40


@tc.kernel
def two_results(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"], z: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n]
        z[m, n] = x[m, n]


def sample(text: str) -> tuple[Array, Array, tc.PackedTensor, Array, Array]:
    """Operands, a result with ones where it is stored, which places these are, and the result."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((n, K)).astype(np.float32) for n in (M, N))
    y = tc.quantize(pruned(M, N) != 0, text, layout=Plain())
    blocks = [int(s) for s in text.split("<")[1].split(",")[:2]] if "block" in text else [1, 1]
    whole = np.zeros([-(-n // b) * b for n, b in zip((M, N), blocks, strict=True)])
    whole[:M, :N] = y.dequantize()
    cut = whole.reshape(whole.shape[0] // blocks[0], blocks[0], -1, blocks[1]).any((1, 3))
    stored = np.kron(cut, np.ones(blocks))[:M, :N] > 0
    return x, w, y, stored, np.where(stored, x.astype(float) @ w.T.astype(float), 0)


def close(got: Array, want: Array) -> bool:
    """Within what f32 loses."""
    return bool(np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want))


@pytest.mark.parametrize("text", TEXTS)
def test_on_this_processor(text):
    x, w, y, stored, want = sample(text)
    y.arrays[-1].view(np.float32)[...] = np.nan
    linear(x, w, y)
    assert close(y.dequantize(), want)
    types = {"x": tc.f32, "w": tc.f32, "y": y.format}
    func = run(parse_pipeline(f"specialise{{M={M} N={N} K={K}}},sparsify"), linear.ir(**types))
    (grid,) = func.body.ops
    assert isinstance(grid, control.Grid)
    assert len(grid.dims) == 1
    assert sum(isinstance(op, control.Count) for op in func.walk()) == 1
    assert 0.1 < stored.mean() < 0.7


def parts_of(y: tc.PackedTensor, dot: str) -> dict[str, Array]:
    """The components of a result by parameter, its values poisoned."""
    found = {c.name: np.ascontiguousarray(c.dtype.to_storage(y.parts()[c.name]))
             for c in y.format.components(y.shape)}  # fmt: skip
    found["values"] = np.full_like(found["values"], np.nan)
    return {f"y{dot}{n}": a for n, a in found.items()}


def result_of(y: tc.PackedTensor, values: Array) -> Array:
    """The dense result."""
    return y.format.values(y.parts() | {"values": values.astype(float)}, y.shape)


@pytest.mark.parametrize("text", TEXTS)
def test_cuda(text):
    x, w, y, _, want = sample(text)
    types, dims = {"x": tc.f32, "w": tc.f32, "y": y.format}, {"M": M, "N": N, "K": K}
    given = parts_of(y, ".")
    emulated.run(emulated.program_of(linear, types, dims), {"x": x, "w": w, **given})
    assert close(result_of(y, given["y.values"]), want)


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_triton(text):
    pytest.importorskip("triton")
    from triton_ptx import executed

    x, w, y, _, want = sample(text)
    types, dims = {"x": tc.f32, "w": tc.f32, "y": y.format}, {"M": M, "N": N, "K": K}
    given = parts_of(y, "_")
    source = triton_source(linear.definition, dims, types)
    assert executed(source, {"x": x, "w": w, **given}).clean
    assert close(result_of(y, given["y_values"]), want)


def test_refused():
    x, w, y, _, _ = sample("csr<f32>")
    stream = tc.quantize(y.dequantize(), "csr<f32>")
    with pytest.raises(TileError, match="`y` is written, but lies in the order of a stream"):
        linear(x, w, stream)
    func = two_results.ir(x=tc.f32, y=y.format, z=tc.f32)
    with pytest.raises(TileError, match="`y` is stored sparsely: expected a grid that writes no"):
        run(parse_pipeline(f"specialise{{M={M} N={N}}},sparsify"), func)
    coded = tc.quantize(y.dequantize(), "csr<int8<group=8>>", layout=Plain())
    with pytest.raises(TileError, match="only dense tensors are written"):
        linear(x, w, coded)
