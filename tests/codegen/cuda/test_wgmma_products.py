"""Products of warp groups in printed kernels: exact under emulation, and as machine code."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels
from products import upright
from warpgroups import judge, schedule, whole

import tilec as tc
from tilec.cuda import Program, Schedule
from tilec.sass.budget import Budget


@tc.kernel
def both_columns(x: tc.Tensor["K", "M"], w: tc.Tensor["K", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[k, m].T, w[k, n])
        y[m, n] = acc


def exact(types: tuple[str, str], dims: tuple[int, int, int], chosen: Schedule, **tiles: int
          ) -> Program:  # fmt: skip
    """x[m, k] w[n, k] of whole numbers; every check on."""
    (m, n, k), (t, u) = dims, (getattr(tc, name) for name in types)
    rng = np.random.default_rng(m)
    x, w = whole(rng, t, m, k), whole(rng, u, n, k)
    out = tc.f32 if t.is_float else tc.i32
    program = program_of(kernels.linear, {"x": t, "w": u, "y": out},
                         dict(zip("MNK", dims, strict=True)), chosen, **tiles)  # fmt: skip
    assert "wgmma<" in program.source.text
    assert " mma<" not in program.source.text
    y = poisoned((m, n), out)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
    return program


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("columns", [128, 256])
@pytest.mark.parametrize("t", [pytest.param("f16", marks=pytest.mark.slow), "bf16"])
def test_dense(t: str, columns: int, overlap: int) -> None:
    """128 x 128 x 64 and 128 x 256 x 64, by two groups of 64 rows; with `overlap` a step's product
    ends in the next one."""
    program = exact((t, t), (256, 512, 1024), schedule(256, stages=4, overlap=overlap),
                    m=128, n=columns, k=64)  # fmt: skip
    assert ("wgmma_wait<1>" in program.source.text) == bool(overlap)
    judge(program, Budget(registers=255, loop={f"HGMMA.64x{columns}x16": (4, 4)}, lacks=("HMMA",),
                          widths={"ldgsts": 16}))  # fmt: skip


@pytest.mark.parametrize(
    ("threads", "tiles"),
    [
        (128, (128, 256, 64)),  # several rows of instructions
        (256, (64, 128, 64)),  # groups side by side
        (512, (128, 128, 128)),  # both; rows of two panels
        (128, (64, 32, 32)),  # a swizzle of 64 bytes
        (128, (64, 8, 16)),  # and of 32
        (256, (256, 32, 64)),
    ],
)
def test_every_way_to_share(threads: int, tiles: tuple[int, int, int]) -> None:
    m, n, k = tiles
    exact(("bf16", "bf16"), (2 * m, 2 * n, 5 * k), schedule(threads), m=m, n=n, k=k)


@pytest.mark.parametrize("types", [("f16", "f16"), ("e4m3", "e4m3"), ("u8", "i8")])
@pytest.mark.parametrize("swap", ["never", "always"])
def test_edges(types: tuple[str, str], swap: str) -> None:
    """Tiles that are not whole, along each dimension."""
    exact(types, (70, 72, 200), schedule(swap=swap), m=64, n=64, k=64)


@pytest.mark.parametrize("types", [("e4m3", "e4m3"), ("e5m2", "e4m3"), ("i8", "i8"), ("u8", "u8"),
                                   ("u8", "i8")])  # fmt: skip
def test_bytes(types: tuple[str, str]) -> None:
    program = exact(types, (64, 128, 512), schedule(), m=64, n=64, k=128)
    names = {"e4m3": "QGMMA", "e5m2": "QGMMA", "i8": "IGMMA", "u8": "IGMMA"}
    judge(program, Budget(has={f"{names[types[0]]}.64x64x32": 4}, lacks=("HMMA", "IMMA")))


@pytest.mark.parametrize("types", [("e4m3", "bf16"), ("e4m3", "f16"), ("e5m2", "bf16")])
def test_fp8_beside_halves(types: tuple[str, str]) -> None:
    """The fp8 operand is cast in registers, as A."""
    program = exact(types, (64, 128, 256), schedule(), m=64, n=64, k=64)
    judge(program, Budget(has={"HGMMA.RS": 4}, lacks=("HMMA",)))


@pytest.mark.parametrize("tiles", [(64, 64, 64), (128, 128, 32), (64, 96, 16)])
@pytest.mark.parametrize("kernel", [upright, both_columns])
def test_rows_along_m_and_n(kernel: tc.Kernel, tiles: tuple[int, int, int]) -> None:
    """Operands that are not transposed where they lie: MN-major."""
    m, n, k = tiles
    rng = np.random.default_rng(n)
    shapes = ((192, 192) if kernel is upright else (192, 2 * m)), (192, 2 * n)
    x = whole(rng, tc.bf16, *((2 * m, 192) if kernel is upright else shapes[0]))
    w = whole(rng, tc.bf16, *shapes[1])
    types = {"x": tc.bf16, "w": tc.bf16, "y": tc.f32}
    program = program_of(kernel, types, {"M": 2 * m, "N": 2 * n, "K": 192}, schedule(),
                         m=m, n=n, k=k)  # fmt: skip
    assert "wgmma<" in program.source.text
    y = poisoned((2 * m, 2 * n), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    left = x.astype(float) if kernel is upright else x.astype(float).T
    assert np.array_equal(y, left @ w.astype(float))
    judge(program, Budget(has={"HGMMA": k // 16}, lacks=("HMMA",)))


@pytest.mark.parametrize("swap", ["never", "always"])
@pytest.mark.parametrize(
    ("weights", "x", "instruction"),
    [
        ("e4m3<group=128>", "e4m3<channel>", "QGMMA.64x64x32.F32.E4M3.E4M3"),
        ("e5m2<channel>", "e4m3<channel>", "QGMMA.64x64x32"),
        ("int8<group=128>", "int8<channel>", "IGMMA.64x64x32.S8.S8"),
    ],
)
def test_bytes_with_scales(weights: str, x: str, instruction: str, swap: str) -> None:
    """Codes of both operands are multiplied where they lie, and scales are on the sums."""
    dims = {"M": 64, "N": 128, "K": 1024}
    rng = np.random.default_rng(0)
    w, given = (tc.quantize(rng.standard_normal((dims[d], dims["K"])), text, search=False)
                for d, text in (("N", weights), ("M", x)))  # fmt: skip
    types = {"x": given.format, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, dims, schedule(swap=swap), m=64, n=64, k=128)
    y = poisoned((64, 128), tc.f32)
    run(program, {"x": given, "w": w, "y": y})
    want = given.dequantize().astype(float) @ w.dequantize().astype(float).T
    assert far(y, want) < 5e-7
    judge(program, Budget(loop={instruction: (4, 4), f"{instruction[:5]}.RS": (0, 0)},
                          lacks=("HMMA", "IMMA", "F2FP"), widths={"ldgsts": 16}))  # fmt: skip


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("specialise", [0, 1, 4])
def test_whole_tiles_copied_by_the_bulk_unit(specialise: int, overlap: int) -> None:
    chosen = schedule(256, stages=4, copies="bulk", specialise=specialise, overlap=overlap)
    program = exact(("bf16", "bf16"), (256, 256, 1024), chosen, m=128, n=128, k=64)
    assert ("wgmma_wait<1>" in program.source.text) == bool(overlap)
    judge(program, Budget(loop={"HGMMA.64x128x16": (4, 4)}, lacks=("HMMA", "LDGSTS")))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_choices_at_random(part: int) -> None:
    """Types, sizes that tiles do not divide, tiles, and everything that a schedule chooses."""
    rng = np.random.default_rng(part)
    kinds = [("bf16", "bf16"), ("f16", "f16"), ("e4m3", "e5m2"), ("i8", "u8"), ("e5m2", "f16")]

    def any_of(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    for _ in range(8):
        types, copies = any_of(*kinds), any_of("pieces", "bulk")
        turned = types[0] == types[1] and any_of(True, False)
        chosen = schedule(
            any_of(128, 256), stages=any_of(3, 4), overlap=any_of(0, 1), copies=copies,
            specialise=any_of(0, 1, 4) if copies == "bulk" else 0, persist=any_of(0, 0, 3),
            split=any_of(1, 1, 2), swap="always" if turned else "never",
        )  # fmt: skip
        dims = (
            int(rng.integers(1, 300)),
            8 * int(rng.integers(1, 40)),
            16 * int(rng.integers(4, 40)),
        )
        exact(types, dims, chosen, m=any_of(64, 128), n=any_of(64, 128), k=any_of(32, 64))


@pytest.mark.parametrize(("types", "tiles", "missing"), [
    (("f16", "f16"), (32, 64, 64), "64 rows"),
    (("bf16", "e4m3"), (64, 64, 64), "exact beside e4m3; it is bf16"),
    (("bf16", "e4m3"), (64, 64, 16), "a ring of shared memory"),
])  # fmt: skip
def test_other_products_are_those_of_warps(types, tiles, missing) -> None:
    """Said in a remark, and right all the same."""
    (m, n, k), (t, u) = tiles, (getattr(tc, name) for name in types)
    rng = np.random.default_rng(k)
    x, w = whole(rng, t, 64, 128), whole(rng, u, 64, 128)
    program = program_of(kernels.linear, {"x": t, "w": u, "y": tc.f32},
                         {"M": 64, "N": 64, "K": 128}, schedule(), m=m, n=n, k=k)  # fmt: skip
    assert "wgmma<" not in program.source.text
    assert [r for r in program.func.remarks if missing in r.missing]
    y = poisoned((64, 64), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
