"""How warp groups share a product, and which operands they read where these lie."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

from tilec.cuda import Schedule, cuda_func
from tilec.ir.core import Builder, Func, Op, Value
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, f32, i8, i16, integer, u8
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.laid import layouts
from tilec.ir.ops import arith, machine, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import memory as memory_type
from tilec.passes import Step
from tilec.passes.layout.warpgroups import beside, group_tiling

i4, u4 = integer(4, True), integer(4, False)


@pytest.mark.parametrize(
    ("sizes", "threads", "n", "groups"),
    [
        ((64, 256, 64), 128, 256, (1, 1)),
        ((128, 256, 64), 256, 256, (2, 1)),  # along m first
        ((64, 256, 64), 256, 128, (1, 2)),
        ((128, 320, 64), 128, 160, (1, 1)),  # the widest that divides
        ((192, 24, 64), 384, 24, (3, 1)),
        ((128, 64, 64), 512, 32, (2, 2)),
    ],
)
def test_groups_share_a_product(
    sizes: tuple[int, int, int], threads: int, n: int, groups: tuple[int, int]
) -> None:
    found = group_tiling(sizes, f16, f16, threads)
    assert found is not None
    assert found.atom.name == f"wgmma.m64n{n}k16.f16"
    m, columns, k = sizes
    assert (found.a.shape, found.c.shape) == ((m, k), (m, columns))
    assert found.a.threads == found.c.threads == threads
    assert found.a.copies == groups[1]
    assert found.c.copies == 1
    first = [found.c.element(128 * g, 0) for g in range(threads // 128)]
    high, wide = m // groups[0], columns // groups[1]
    assert [(int(i), int(j)) for i, j in first] == [
        (high * r, wide * c) for r in range(groups[0]) for c in range(groups[1])
    ]


@pytest.mark.parametrize(
    ("sizes", "t", "threads"),
    [((32, 64, 64), f16, 128), ((64, 4, 64), f16, 128), ((64, 64, 8), f16, 128),
     ((64, 64, 16), i8, 128), ((64, 64, 64), f32, 128), ((64, 64, 64), f16, 96)],
)  # fmt: skip
def test_what_no_instruction_fits(sizes: tuple[int, int, int], t: DType, threads: int) -> None:
    assert group_tiling(sizes, t, t, threads) is None


def value(
    t: DType, less: int | None = None, of: DType | None = None
) -> tuple[Value, dict[Value, Op]]:
    """Elements of `t`: loaded, or cast from `of`, or that less a number."""
    b = Builder()
    mem = Value(memory_type(of or t, 64, 64), "x")
    v = b(memory.Load(mem, (b(memory.Whole(64)), b(memory.Whole(64)))))
    v = v if of is None else b(Cast(v, t))
    v = v if less is None else b(arith.Sub(v, b(shape.Full((64, 64), less, t))))
    return v, {r: op for op in b.ops for r in op.results}


@pytest.mark.parametrize(
    ("a", "less", "of", "b", "found"),
    [
        (f16, None, None, f16, f16),
        (bf16, None, None, f16, None),
        (e4m3, None, None, bf16, bf16),
        (e5m2, None, None, e4m3, e5m2),
        (i8, None, None, u8, i8),
        (i4, None, None, i8, i8),
        (u4, None, None, i8, u8),
        (i16, None, None, i8, None),
        (bf16, None, i4, e4m3, e4m3),  # -8 to 7
        (bf16, 8, u4, e4m3, e4m3),
        (bf16, None, e5m2, e4m3, e5m2),
        (bf16, None, e5m2, bf16, bf16),
        (bf16, 20, u4, e4m3, None),  # -20 to -5: e4m3 has no -19
        (bf16, None, i8, e4m3, None),
        (bf16, None, None, e4m3, None),
        (f32, None, None, f16, None),
    ],
)
def test_dtypes_of_a(
    a: DType, less: int | None, of: DType | None, b: DType, found: DType | None
) -> None:
    v, made = value(a, less, of)
    assert beside(v, b, made) == found


def laid(**options: object) -> Func:
    """A product of 128 x 64 x 128 a step by two groups."""
    schedule = Schedule(threads=256, instruction="wgmma", tiles={"m": 128, "n": 64, "k": 128},
                        **options)  # pyright: ignore[reportArgumentType]  # fmt: skip
    types = {"x": f16, "w": f16, "y": f32}
    return cuda_func(kernels.linear.definition, {"M": 128, "N": 64, "K": 256}, types, schedule)


def test_operands_stay_where_they_are() -> None:
    """Neither is in registers; both rings have the widest swizzle."""
    func = laid()
    of = layouts(func, 256)
    (dot,) = (op for op in func.walk() if isinstance(op, reduce.Dot))
    assert dot.a not in of
    assert dot.b not in of
    rings = [op for op in func.walk() if isinstance(op, machine.Shared)]
    assert [op.swizzle for op in rings] == [128, 128]
    assert not any(isinstance(op, memory.Load) for op in func.walk())
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, (n, 256)).astype(float) for n in (128, 64))
    y = np.full((128, 64), np.nan)
    interpret(func, {"x": x, "w": w, "y": y}, {})
    assert np.array_equal(y, x @ w.T)


def test_an_instruction_that_there_is_not() -> None:
    with pytest.raises(TileError, match="instruction is 'wmma', expected mma or wgmma"):
        Step("lay-out", {"instruction": "wmma"})(laid())
