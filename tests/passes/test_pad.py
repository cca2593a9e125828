"""Tiles of fixed sizes: parts of tiles that end anywhere, in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import Array, f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import arith, control, machine, memory, reduce, shape
from tilec.ir.types import Memory, Span
from tilec.passes import parse_pipeline, run


@tc.kernel
def turned(x: tc.Tensor["M", 6], y: tc.Tensor["M", 6]):
    """Halves of 3 that change places, as rotary embeddings do with larger ones."""
    for m in tc.tiles("M", block=4):
        t = x[m, :]
        y[m, :] = tc.join([-t[:, 3:], t[:, :3]], axis=1)


@tc.kernel
def parts(x: tc.Tensor["M", 6], y: tc.Tensor["M", 7]):
    """Three parts, of which two begin within the padding of those before them."""
    for m in tc.tiles("M", block=4):
        t = x[m, :]
        y[m, :] = tc.join([t[:, 1:2], t[:, :5], t[:, 5:]], axis=1)


@tc.kernel
def below(x: tc.Tensor["M", 6], y: tc.Tensor["M", 6]):
    """Sums without the first row of each tile, of which the last one is shorter."""
    for m in tc.tiles("M", block=4):
        t = x[m, :]
        rest = tc.sum(t[1:, :], axis=0)
        twice = tc.sum(tc.join([t, t[1:, :], t], axis=0), axis=0)
        y[m, :] = t * 0.0 + rest + 100.0 * twice


@tc.kernel
def counted(x: tc.Tensor["M", 6], y: tc.Tensor["M", 6]):
    """How many rows a tile has, of which the last one is shorter, and where it ends."""
    for m in tc.tiles("M", block=4):
        y[m, :] = x[m, :] * tc.size(m) + m.stop


@tc.kernel
def causal(x: tc.Tensor["M", "M"], y: tc.Tensor["M", "M"], z: tc.Tensor["M", "M"]):
    """The columns of x up to that of the last row."""
    for m in tc.tiles("M", block=16):
        acc = tc.zeros((m, "M"), tc.f32)
        for k in tc.tiles("M", to=1 + (m.start + tc.size(m) - 1), block=16):
            acc += tc.dot(x[m, k], y[k, :])
        z[m, :] = acc


@tc.kernel
def strictly(x: tc.Tensor["M", "M"], y: tc.Tensor["M", "M"], z: tc.Tensor["M", "M"]):
    """The columns of x before that of the last row."""
    for m in tc.tiles("M", block=16):
        acc = tc.zeros((m, "M"), tc.f32)
        for k in tc.tiles("M", to=m.start + tc.size(m) - 1, block=16):
            acc += tc.dot(x[m, k], y[k, :])
        z[m, :] = acc


def padded(kernel: Kernel, rows: int) -> tuple[Func, Func]:
    """The kernel with numbers for its dimensions, and with tiles of fixed sizes."""
    func = run(parse_pipeline(f"specialise{{M={rows}}},tile"), kernel.ir(x=tc.f32, y=tc.f32))
    return func, run(parse_pipeline("pad"), func)


def result(func: Func, x: Array) -> Array:
    y = next(p for p in func.params if p.hint == "y")
    out = np.full([int(str(n)) for n in y.type.shape], np.nan)  # type: ignore[union-attr]
    interpret(func, {"x": x, "y": out}, {})
    return out


@pytest.mark.parametrize("rows", [1, 4, 5, 7, 8])
@pytest.mark.parametrize("kernel", [turned, parts, below], ids=["turned", "parts", "below"])
def test_parts_end_anywhere(kernel, rows):
    func, after = padded(kernel, rows)
    assert any(isinstance(op, machine.Shift) for op in after.walk())
    assert not any(isinstance(op, shape.Slice | shape.Join) for op in after.walk())
    x = np.random.default_rng(rows).integers(-9, 10, (rows, 6)).astype(float)
    np.testing.assert_array_equal(result(after, x), result(func, x))


@pytest.mark.parametrize("rows", [1, 4, 5, 7, 8])
def test_how_many_rows_are_left(rows):
    _, after = padded(counted, rows)
    x = np.random.default_rng(rows).integers(-9, 10, (rows, 6)).astype(float)
    start = np.arange(rows)[:, None] // 4 * 4
    stop = np.minimum(start + 4, rows)
    np.testing.assert_array_equal(result(after, x), x * (stop - start) + stop)


def test_a_part_of_as_many_places_is_the_tile():
    """5 of 6 columns are 8 places again: only two parts and the three places are moved."""
    _, after = padded(parts, 8)
    assert sum(isinstance(op, machine.Shift) for op in after.walk()) == 5


def test_a_part_of_a_dimension_without_a_number():
    x, b = Value(Memory((Sym("K"),), Dense(f32)), "x"), Builder()
    whole = b(memory.Load(x, (b(memory.Whole(Sym("K"))),)))
    rest = b(reduce.Sum(b(shape.Slice(whole, 0, 1, Sym("K"))), 0))
    b.add(memory.Store(x, (b(shape.Full((), 0, i32)),), rest))
    with pytest.raises(TileError, match="all of the dimension K, which is no number"):
        run(parse_pipeline("pad"), Func("k", Block((x,), tuple(b.ops))))


def test_what_is_refused():
    """A share of a tile that is no sum of multiples, where the last tile is shorter."""
    size, x = Sym("m"), Value(Memory((7,), Dense(f32)), "x")
    span, b = Value(Span(7, size)), Builder()
    half = b(shape.Slice(b(memory.Load(x, (span,))), 0, 0, size // 2))
    b.add(memory.Store(x, (b(shape.Start(span)),), b(reduce.Sum(half, 0))))
    func = Func(
        "k", Block((x,), (control.Grid((7,), (size,), (4,), Block((span,), tuple(b.ops))),))
    )
    with pytest.raises(TileError, match="pad: an axis of floor\\(m/2\\) elements ends within"):
        run(parse_pipeline("pad"), func)


@pytest.mark.parametrize(("kernel", "rows", "whole"), [
    (causal, 64, True), (causal, 24, False), (strictly, 64, False),
], ids=["whole", "shorter", "strictly"])  # fmt: skip
def test_ends_of_loops_that_are_multiples_of_tiles_need_no_masks(kernel, rows, whole):
    """Nothing is left out behind the last row of a tile, if no tile is shorter."""
    steps = f"specialise{{M={rows}}},canonicalize,tile,pad"
    after = run(parse_pipeline(steps), kernel.ir(x=tc.f32, y=tc.f32, z=tc.f32))
    (dot,) = [op for op in after.walk() if isinstance(op, reduce.Dot)]
    made = {v: op for op in after.walk() for v in op.results}
    assert any(isinstance(made[v], arith.Where) for v in (dot.a, dot.b)) != whole
    rng = np.random.default_rng(rows)
    x, y = rng.integers(-4, 5, (2, rows, rows)).astype(np.float64)
    given = {"x": x, "y": y, "z": np.full((rows, rows), np.nan)}
    interpret(after, given, {})
    ends = np.minimum(np.arange(rows) // 16 * 16 + 16, rows) - (kernel is strictly)
    seen = np.arange(rows) < ends[:, None]
    assert np.array_equal(given["z"], np.where(seen, x, 0) @ y)
