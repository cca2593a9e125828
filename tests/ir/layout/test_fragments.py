"""Fragments: the formulas of the PTX ISA, lane by lane, for every atom; metadata against torch."""

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.layout.atoms import BITS, Atom, atoms
from tilec.ir.layout.fragments import (
    chunk,
    matrices,
    matrix_rows,
    mma_a,
    mma_b,
    mma_c,
    mma_metadata,
    wgmma_a,
    wgmma_c,
)
from tilec.ir.layout.register import RegisterLayout, local

WARP = [a for a in atoms().values() if a.instruction.startswith("mma")]
WARPGROUP = [a for a in atoms().values() if a.instruction.startswith("wgmma")]


def registers(layout: RegisterLayout, each: int) -> zip:
    """(lane, register, element of the register, coordinates) of everything held."""
    lane, number = np.divmod(np.arange(layout.threads * layout.locals), layout.locals)
    return zip(lane, number // each, number % each, *layout.element(lane, number), strict=True)


@pytest.mark.parametrize("atom", WARP, ids=lambda a: a.name)
def test_fragments_of_a_warp(atom: Atom):
    each = 32 // BITS[atom.a_type]
    stored = atom.k // 2 if atom.sparse else atom.k
    assert atom.b is not None
    assert (atom.a.shape, atom.b.shape, atom.c.shape) == (
        (atom.m, stored), (atom.k, 8), (atom.m, 8)
    )  # fmt: skip
    for lane, i, h, row, k in registers(atom.a, each):
        g, t = divmod(lane, 4)
        high = i % 2 if atom.m == 16 else 0
        assert (row, k) == (g + 8 * high, t * each + h + (i // (atom.m // 8)) * 4 * each)
    for lane, i, h, k, n in registers(atom.b, each):
        assert (k, n) == (lane % 4 * each + h + i * 4 * each, lane // 4)
    for lane, i, _, row, n in registers(atom.c, 1):
        assert (row, n) == (lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2)


def test_fragments_of_a_warpgroup():
    for n in range(8, 257, 8):
        layout = wgmma_c(n)
        assert (layout.shape, layout.threads, layout.locals) == ((64, n), 128, n // 2)
        for t, i, _, row, column in registers(layout, 1):
            assert row == t // 32 * 16 + t % 32 // 4 + 8 * (i // 2 % 2)
            assert column == i // 4 * 8 + 2 * (t % 4) + i % 2
    for bits in (32, 16, 8, 1):
        each, k = 32 // bits, 256 // bits
        assert wgmma_a(bits, k).shape == (64, k)
        for t, i, h, row, column in registers(wgmma_a(bits, k), each):
            assert row == t // 32 * 16 + t % 32 // 4 + 8 * (i % 2)
            assert column == t % 4 * each + h + i // 2 * 4 * each


@pytest.mark.parametrize("atom", WARPGROUP, ids=lambda a: a.name)
def test_operands_of_a_warpgroup(atom: Atom):
    stored = atom.k // 2 if atom.sparse else atom.k
    assert atom.a == wgmma_a(BITS[atom.a_type], stored)
    assert atom.a.bits_per_thread(BITS[atom.a_type]) == 4 * 32
    assert atom.c == wgmma_c(atom.n)
    assert atom.b is None
    if atom.metadata:
        warp = mma_metadata(BITS[atom.a_type], atom.k)
        assert atom.metadata.shape == (64, warp.shape[1])
        for row in range(4):
            lanes = slice(32 * row, 32 * row + 32)
            rows, columns = (c[lanes] for c in atom.metadata.table())
            assert (rows == warp.table()[0] + 16 * row).all()
            assert (columns == warp.table()[1]).all()


SPARSE = sorted({(BITS[a.a_type], a.k) for a in WARP if a.sparse})


@pytest.mark.parametrize(("bits", "k"), SPARSE)
def test_metadata(bits: int, k: int):
    """Lane and first bit of every chunk, for every value of the sparsity selector."""
    layout, chunks = mma_metadata(bits, k), k // chunk(bits)
    assert (layout.shape, layout.threads, layout.bits_per_thread(2)) == ((16, 2 * chunks), 32, 32)
    assert layout.copies == {4: 4, 8: 2, 16: 1}[chunks]
    for row in range(16):
        for c in range(chunks):
            for selector in range(layout.copies):
                threads, number = layout.holders(row, np.array([2 * c, 2 * c + 1]))
                if bits >= 16:
                    lane = row % 8 * 4 + selector * (chunks // 4) + c // 4
                    bit = row // 8 * 16 + c % 4 * 4
                else:
                    lane = row % 8 * 4 + 2 * selector + row // 8 + 2 * (c // 8)
                    bit = c % 8 * 4
                assert threads[:, selector].tolist() == [lane, lane]
                assert (2 * number).tolist() == [bit, bit + 2]


@pytest.mark.parametrize(
    ("name", "bits", "k"), [("float16", 16, 32), ("bfloat16", 16, 32), ("float32", 32, 16),
                            ("int8", 8, 64)]
)  # fmt: skip
def test_metadata_of_torch_decodes_to_the_dense_matrix(name: str, bits: int, k: int):
    """Torch orders metadata for CUTLASS's kernels, which read it by these instructions."""
    torch = pytest.importorskip("torch")
    conversions = pytest.importorskip("torch.sparse._semi_structured_conversions")
    rng = np.random.default_rng(bits + k)
    m, columns, width = 64, 4 * k, chunk(bits)
    dense = np.zeros((m, columns // width, width))
    for place in np.ndindex(*dense.shape[:2]):
        kept = rng.choice(width, width // 2, replace=False)
        dense[place][kept] = rng.integers(1, 100, width // 2)
    dense = dense.reshape(m, columns)
    tensor = torch.tensor(dense).to(getattr(torch, name))
    values, metadata = conversions.sparse_semi_structured_from_dense_cutlass(tensor)
    words = metadata.flatten().view(torch.int32).numpy().view(np.uint32).astype(np.int64)
    layout = mma_metadata(bits, k)
    # A word for each lane: of 16 rows, or with two selectors of 32, for each step of k.
    rows = 16 * layout.copies
    words = words.reshape(columns // k, m // rows, 32)
    threads, number = layout.holders(*np.indices(layout.shape))
    found, stored = np.zeros_like(dense), values.float().numpy()
    for step, block in np.ndindex(columns // k, m // 16):
        lanes = threads[..., block % layout.copies]
        indices = words[step, block // layout.copies][lanes] >> 2 * number & 3
        own = slice(16 * block, 16 * block + 16)
        part = stored[own, k // 2 * step : k // 2 * (step + 1)]
        _decode(found[own, k * step : k * (step + 1)], indices, part)
    assert (found == tensor.float().numpy()).all()


def _decode(tile: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
    """Put stored values where the indices say; an index is of half a tf32."""
    width = 2 * tile.shape[1] // indices.shape[1]
    for (row, column), value in np.ndenumerate(values):
        if width == 2:
            tile[row, 2 * column + indices[row, 2 * column] // 2] = value
        else:
            tile[row, column // 2 * 4 + indices[row, column]] = value


@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix(count: int):
    for lane, i, h, row, column in registers(matrices(count), 2):
        assert (row, column) == (8 * i + lane // 4, lane % 4 * 2 + h)
    for lane, i, h, row, column in registers(matrices(count, transposed=True), 2):
        assert (row, column) == (8 * i + lane % 4 * 2 + h, lane // 4)
    rows = matrix_rows(count)
    assert (rows.threads, rows.shape) == (32, (8 * count,))
    assert rows.element(np.arange(8 * count), 0)[0].tolist() == list(range(8 * count))


def test_ldmatrix_gives_operands():
    """Which matrix a register is: the quotient by one matrix."""
    one, other = matrices(1), matrices(1, transposed=True)
    assert mma_a(16, 16, 16) / one == local(1, 2).local(2, 1)
    assert mma_b(16, 16) / other == local(2, 1)
    assert mma_b(16, 16).transpose() / one == local(1, 2)
    assert mma_c(16) / one == local(2, 1)
    with pytest.raises(TileError):
        assert mma_a(8, 16, 32) / one


@pytest.mark.parametrize("make", [matrices, matrix_rows])
def test_how_many_matrices(make):
    with pytest.raises(TileError, match="move 1, 2 or 4 matrices, not 3"):
        make(3)
