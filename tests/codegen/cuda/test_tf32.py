"""Words of which the last 13 bits are not 0, and results that have to be rounded to tf32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import poisoned, program_of, run, run_func
from lang import kernels

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import Array, DType, f32, i32, tf32
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory
from tilec.passes import parse_pipeline
from tilec.passes import run as passes

PASSES = parse_pipeline("pad,stage-loads,lay-out,canonicalize")


def dense(t: DType, *sizes: int) -> Memory:
    return Memory(sizes, Dense(t))


def words(*sizes: int) -> Array:
    """Any bits, but those of NaN and infinity."""
    raw = np.random.default_rng(sizes).integers(0, 1 << 32, sizes, np.uint32)
    with np.errstate(invalid="ignore"):
        x = raw.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(x), x, 1 / 3)


def results(params: dict[str, Memory], given: dict[str, Array],
            write: Callable[[Builder, dict[str, Value]], None]) -> tuple[Array, Array]:  # fmt: skip
    """What the kernel and the interpreter leave in `y`."""
    values, b = {n: Value(t, n) for n, t in params.items()}, Builder()
    write(b, values)
    grid = control.Grid((), (), (), Block((), tuple(b.ops)))
    func = Func("k", Block(tuple(values.values()), (grid,)))
    known = tuple(int(str(n)) for n in params["y"].shape)
    got, want = ({**given, "y": np.full(known, 9.0)} for _ in range(2))
    interpret(func, want, {})
    run_func(passes(PASSES, func), got)
    return got["y"], want["y"]


def test_loads_round():
    """Tiles, rows by index and single elements; equal to the interpreter, and no low bits."""
    n = 64

    def write(b: Builder, p: dict[str, Value]) -> None:
        whole = b(memory.Whole(n))
        tile = b(memory.Load(p["x"], (whole, whole)))
        rows = b(memory.Load(p["x"], (b(memory.Load(p["i"], (whole,))), whole)))
        one = b(memory.Load(p["x"], tuple(b(shape.Full((), at, i32)) for at in (3, 5))))
        both = b(arith.Maximum(tile, b(arith.Minimum(rows, b(shape.Broadcast(one, (n, n)))))))
        b.add(memory.Store(p["y"], (whole, whole), b(Cast(both, f32))))

    params = {"x": dense(tf32, n, n), "i": dense(i32, n), "y": dense(f32, n, n)}
    given = {"x": words(n, n), "i": np.random.default_rng(0).permutation(n)}
    got, want = results(params, given, write)
    np.testing.assert_array_equal(got, want)
    assert not np.any(got.astype(np.float32).view(np.uint32) & 0x1FFF)
    assert set(got.ravel()) <= set(tf32.round(given["x"]).ravel())


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("shape_", [(16, 64, 256), (5, 67, 300)])
def test_operands_of_products_round(shape_, stages):
    """Whole numbers with bits that rounding takes away: exact, through rings and without them."""
    m, n, k = shape_
    rng = np.random.default_rng(k)
    x, w = (rng.integers(-4, 5, size) * (1 + 2.0**-20) for size in ((m, k), (n, k)))
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.tf32, "w": tc.tf32, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k}, Schedule(stages=stages))
    run(program, {"x": x.astype(np.float32), "w": w.astype(np.float32), "y": y})
    assert np.array_equal(y, np.rint(x) @ np.rint(w).T)


@pytest.mark.parametrize("op", [reduce.Sum, reduce.Max, reduce.Min])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_reductions_round_once(op, axis):
    """Sums that have more bits than tf32 has, but not than f32: equal to the interpreter."""
    n, k = 37, 70
    sizes = [(k, n)[axis]] if axis is not None else [1]

    def write(b: Builder, p: dict[str, Value]) -> None:
        rows, columns, line = (b(memory.Whole(d)) for d in (n, k, sizes[0]))
        out = b(op(b(memory.Load(p["x"], (rows, columns))), axis or 0))
        out = b(shape.Broadcast(b(op(out, 0)), (1,))) if axis is None else out
        b.add(memory.Store(p["y"], (line,), b(Cast(out, f32))))

    x = np.random.default_rng(1).integers(-1023, 1024, (n, k)) / 8
    given = {"x": x * (1 + 2.0**-20)}
    got, want = results({"x": dense(tf32, n, k), "y": dense(f32, *sizes)}, given, write)
    np.testing.assert_array_equal(got, want)
    assert not np.any(got.astype(np.float32).view(np.uint32) & 0x1FFF)
