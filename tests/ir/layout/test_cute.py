"""Against CuTe: its headers, compiled for the host, print the layouts that ours must be.

For development only: put CUTLASS's include folder into CUTLASS_INCLUDE, or its Python package
(`pip install --no-deps nvidia-cutlass==4.2.0.0`, which brings the headers and pycute) on the path.
CuTe includes headers of CUDA, so the host compiler is called by nvcc, which knows where they are.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from layouts import compact_layouts, composable, memory_layouts

from tilec.ir.layout.algebra import (
    coalesce,
    complement,
    compose,
    left_inverse,
    logical_divide,
    logical_product,
    right_inverse,
)
from tilec.ir.layout.atoms import atom
from tilec.ir.layout.fragments import matrices, mma_metadata, wgmma_a, wgmma_c, wgmma_metadata
from tilec.ir.layout.memory import MemoryLayout, row_major
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.shared import (
    SWIZZLE_32B,
    SWIZZLE_64B,
    SWIZZLE_128B,
    SharedLayout,
    Swizzle,
)

pytestmark = pytest.mark.slow

# Our name and CuTe's operation.
MMA = {
    "mma.m16n8k8.f16": "SM80_16x8x8_F32F16F16F32_TN",
    "mma.m16n8k16.f16": "SM80_16x8x16_F16F16F16F16_TN",
    "mma.m16n8k8.bf16": "SM80_16x8x8_F32BF16BF16F32_TN",
    "mma.m16n8k16.bf16": "SM80_16x8x16_F32BF16BF16F32_TN",
    "mma.m16n8k4.tf32": "SM80_16x8x4_F32TF32TF32F32_TN",
    "mma.m16n8k8.tf32": "SM80_16x8x8_F32TF32TF32F32_TN",
    "mma.m8n8k16.i8": "SM80_8x8x16_S32S8S8S32_TN",
    "mma.m16n8k16.u8": "SM80_16x8x16_S32U8U8S32_TN",
    "mma.m16n8k32.i8": "SM80_16x8x32_S32S8U8S32_TN",
    "mma.m8n8k32.i4": "SM80_8x8x32_S32S4S4S32_TN",
    "mma.m16n8k32.u4": "SM80_16x8x32_S32U4U4S32_TN",
    "mma.m16n8k64.i4": "SM80_16x8x64_S32S4S4S32_TN",
    "mma.m8n8k128.u1": "SM80_8x8x128_S32U1U1S32_TN_ANDPOPC",
    "mma.m16n8k128.u1": "SM80_16x8x128_S32U1U1S32_TN_ANDPOPC",
    "mma.m16n8k256.u1": "SM80_16x8x256_S32U1U1S32_TN_ANDPOPC",
    "mma.xor.m16n8k256.u1": "SM80_16x8x256_S32U1U1S32_TN_XORPOPC",
    "mma.m16n8k32.e4m3": "SM89_16x8x32_F32E4M3E4M3F32_TN",
    "mma.m16n8k32.e5m2": "SM89_16x8x32_F16E5M2E4M3F16_TN",
}
# What CuTe 4.2 has wrong: strides nested deeper than the shape, and threads that overlap along k.
WRONG = {"mma.m16n8k128.u1.A", "mma.m16n8k32.u4.B"}
SPARSE_FP8 = "SM120::SPARSE::SM120_SPARSE_16x8x64_TN<float_e4m3_t, float_e4m3_t, float>"
COPIES = {
    **{f"SM75_U32x{n}_LDSM_N": (n, False) for n in (1, 2, 4)},
    **{f"SM75_U16x{2 * n}_LDSM_T": (n, True) for n in (1, 2, 4)},
    **{f"SM90_U32x{n}_STSM_N": (n, False) for n in (1, 2, 4)},
    **{f"SM90_U16x{2 * n}_STSM_T": (n, True) for n in (1, 2, 4)},
}
SWIZZLES = {"SW32": SWIZZLE_32B, "SW64": SWIZZLE_64B, "SW128": SWIZZLE_128B}
COLUMNS = range(8, 257, 8)
PRELUDE = """
#include <cute/tensor.hpp>
#include <cute/atom/copy_atom.hpp>
#include <cute/atom/mma_atom.hpp>
#include <cute/atom/mma_traits_sm120_sparse.hpp>
#include <cute/atom/mma_traits_sm90_gmma_sparse.hpp>
#include <cstdio>
using namespace cute;
template <class Layout> void show(char const* key, Layout layout) {
  std::printf("%s", key);
  for (int i = 0; i < size(layout); ++i) std::printf(" %d", int(layout(i)));
  std::puts("");
}
int main() {
"""


def include() -> Path | None:
    """Where CuTe's headers are."""
    if cutlass := os.environ.get("CUTLASS_INCLUDE"):
        return Path(cutlass)
    spec = importlib.util.find_spec("cutlass_library")
    return Path(spec.origin).parent / "source" / "include" if spec and spec.origin else None


def program() -> str:
    """Every layout that is compared, as one line of output each."""
    lines = [
        f'show("{ours}.{x}", MMA_Traits<{theirs}>::{x}Layout{{}});'
        for ours, theirs in {**MMA, "mma.sp.m16n8k64.e4m3": SPARSE_FP8}.items()
        for x in ("ABCE" if "sp" in ours else "ABC")
        if f"{ours}.{x}" not in WRONG
    ]
    lines += [f'show("C{n}", SM90::GMMA::CLayout_64xN<{n}>{{}});' for n in COLUMNS]
    lines += [f'show("A{k}", SM90::GMMA::ALayout_64x{k}{{}});' for k in (8, 16, 32)]
    lines += [f'show("E{k}", SM90::GMMA::ELayout_64x{k}{{}});' for k in (16, 32, 64)]
    for name in COPIES:
        side = "Src" if "STSM" in name else "Dst"
        lines.append(f'show("{name}", Copy_Traits<{name}>::{side}Layout{{}});')
    for name in SWIZZLES:
        lines.append(f'show("{name}", SM90::GMMA::Layout_K_{name}_Atom<uint8_t>{{}});')
    lines.append('show("swizzle", composition(Swizzle<2,1,3>{}, Layout<_256>{}));')
    lines.append('show("negative", composition(Swizzle<2,1,-3>{}, Layout<_256>{}));')
    return PRELUDE + "\n".join(lines) + "\n}\n"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    headers, nvcc = include(), shutil.which("nvcc")
    if headers is None or nvcc is None:
        pytest.skip("needs the headers of CuTe, and nvcc with those of CUDA")
    folder = tmp_path_factory.mktemp("cute")
    (folder / "layouts.cc").write_text(program())
    options = ["-std=c++17", "-w", "-cudart=none", f"-I{headers}"]
    command = [nvcc, *options, "layouts.cc", "-o", "layouts"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    output = subprocess.run([folder / "layouts"], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in output.splitlines())
    return {key: np.array(list(map(int, values))) for key, *values in rows}


def same(layout: RegisterLayout, theirs: np.ndarray, transposed: bool = False) -> bool:
    """Thread and value, the thread fastest, to column-major elements; a bijection on both sides."""
    table = layout.transpose().table() if transposed else layout.table()
    shape = layout.shape[::-1] if transposed else layout.shape
    ours = np.ravel_multi_index(table, shape, order="F").T.reshape(-1)
    assert sorted(set(theirs.tolist())) == list(range(np.prod(shape)))
    return ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", MMA)
def test_mma(printed: dict[str, np.ndarray], name: str):
    row = atom(name)
    assert row.b is not None
    assert same(row.c, printed[f"{name}.C"])
    if f"{name}.A" not in WRONG:
        assert same(row.a, printed[f"{name}.A"])
    if f"{name}.B" not in WRONG:
        assert same(row.b, printed[f"{name}.B"], transposed=True)  # CuTe's B is n x k


def wider(layout: RegisterLayout, factor: int) -> np.ndarray:
    """Each stored element as the `factor` logical ones of k that CuTe lays out in its place."""
    rows, columns = (c.T.reshape(-1, layout.threads)[:, None] for c in layout.table())
    columns = columns * factor + np.arange(factor)[:, None]
    return (rows + layout.shape[0] * columns).reshape(-1)


def test_sparse_mma(printed: dict[str, np.ndarray]):
    name = "mma.sp.m16n8k64.e4m3"
    row = atom(name)
    assert row.b is not None
    assert row.metadata is not None
    assert wider(row.a, 2).tolist() == printed[f"{name}.A"].tolist()
    assert same(row.b, printed[f"{name}.B"], transposed=True)
    assert same(row.c, printed[f"{name}.C"])
    assert wider(row.metadata, 2).tolist() == printed[f"{name}.E"].tolist()


def test_wgmma(printed: dict[str, np.ndarray]):
    for n in COLUMNS:
        assert same(wgmma_c(n), printed[f"C{n}"])
    for bits, k in ((32, 8), (16, 16), (8, 32)):
        assert same(wgmma_a(bits, k), printed[f"A{k}"])


@pytest.mark.parametrize(("bits", "k"), [(8, 64), (16, 32), (32, 16)])
def test_sparse_wgmma(printed: dict[str, np.ndarray], bits: int, k: int):
    """An index of 2 bits is of half a chunk: 2 elements, or one of 32 bits."""
    theirs = printed[f"E{k}"]
    assert wider(wgmma_metadata(bits, k), 1 if bits == 32 else 2).tolist() == theirs.tolist()
    own = np.unique(theirs.reshape(-1, 128)[:, :32])
    assert len(own) == 16 * k == mma_metadata(bits, k).shape[1] * 16 * (1 if bits == 32 else 2)


@pytest.mark.parametrize("name", COPIES)
def test_ldmatrix_and_stmatrix(printed: dict[str, np.ndarray], name: str):
    """CuTe counts bits: of the thread that has a row's address, then along the row."""
    layout = matrices(*COPIES[name])
    rows, columns = layout.table()
    bits = (rows * 128 + columns * 16)[..., None] + np.arange(16)
    assert bits.reshape(32, -1).T.reshape(-1).tolist() == printed[name].tolist()


@pytest.mark.parametrize("name", SWIZZLES)
def test_swizzled_rows(printed: dict[str, np.ndarray], name: str):
    """A K-major tile of 8 rows of 32, 64 or 128 bytes."""
    columns = len(printed[name]) // 8
    shared = SharedLayout(row_major(8, columns), 8, SWIZZLES[name])
    assert shared.address(np.arange(8 * columns)).tolist() == printed[name].tolist()


def test_swizzles(printed: dict[str, np.ndarray]):
    assert Swizzle(2, 1, 3)(np.arange(256)).tolist() == printed["swizzle"].tolist()
    assert Swizzle(2, 1, -3)(np.arange(256)).tolist() == printed["negative"].tolist()


class Pycute:
    """CUTLASS's own layout algebra in Python, as functions of our layouts to offsets."""

    def __init__(self) -> None:
        self.module = pytest.importorskip("pycute", reason="CUTLASS's pycute is not installed")

    def of(self, layout: MemoryLayout):
        return self.module.Layout(layout.shape, layout.stride)

    def offsets(self, name: str, *arguments: object) -> list[int]:
        theirs = getattr(self.module, name)(
            *(self.of(a) if isinstance(a, MemoryLayout) else a for a in arguments)
        )
        return [theirs(i) for i in range(self.module.size(theirs))]


@pytest.fixture(scope="module")
def pycute() -> Pycute:
    return Pycute()


@settings(max_examples=100, deadline=None)
@given(memory_layouts(), compact_layouts(gaps=True), composable(), *[compact_layouts()] * 2)
def test_algebra(pycute: Pycute, layout, gappy, pair, compact, other):
    a, b = pair
    assert layout.offsets().tolist() == pycute.offsets("coalesce", layout)
    assert coalesce(layout).offsets().tolist() == pycute.offsets("coalesce", layout)
    assert compose(a, b).offsets().tolist() == pycute.offsets("composition", a, b)
    size = 2 * max(n * d or 1 for n, d in gappy.modes)  # what it and its complement count through
    assert complement(gappy, size).offsets().tolist() == pycute.offsets("complement", gappy, size)
    assert left_inverse(gappy).offsets().tolist() == pycute.offsets("left_inverse", gappy)
    assert right_inverse(compact).offsets().tolist() == pycute.offsets("right_inverse", compact)
    product = logical_product(compact, other).offsets().tolist()
    assert product == pycute.offsets("logical_product", compact, other)
    whole = MemoryLayout(size, 3)
    divided = logical_divide(whole, gappy).offsets().tolist()
    assert divided == pycute.offsets("logical_divide", whole, gappy)
