"""A conformance case: a function with data, on which every back end has to agree.

An op becomes a case as a kernel that loads its operands whole and stores its result whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import FLOATS, INTEGERS, Array, DType, boolean, i8, u8
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.ops import cast as casts
from tilec.ir.ops import memory
from tilec.ir.types import Memory, Tile

BYTES = tuple(t for t in (*FLOATS, *INTEGERS, boolean) if t.bits >= 8 or t is boolean)
ROWS, COLUMNS = 5, 37  # odd, and more than one vector


@dataclass(frozen=True)
class Case:
    """A function and what its parameters hold, in carriers; `out` is written."""

    name: str
    func: Func
    inputs: dict[str, Array]
    out: DType
    shape: tuple[int, ...]
    ulps: float = 0.0  # how far a back end may be from the exact result, in units of the last place
    start: Array | None = None  # what `out` holds before, where the function reads that

    def filled(self, out: Array, stored: bool = False) -> Array:
        """Poison, or in its place what the case starts from: in carriers, or as it is `stored`."""
        if self.start is not None:
            out[...] = self.out.to_storage(self.start) if stored else self.start
        return out


def values(t: DType, shape_: tuple[int, ...], seed: int) -> Array:
    """Varied values of a dtype, special ones among them."""
    rng = np.random.default_rng(seed)
    if t is boolean:
        return rng.integers(0, 2, shape_).astype(bool)
    if t.is_integer:
        low, high = int(t.low), int(t.high)
        wide = rng.integers(max(low, -(2**62)), min(high, 2**62), shape_, endpoint=True)
        small = rng.integers(max(low, -5), min(high, 5), shape_)
        return t.round(np.where(rng.random(shape_) < 0.5, wide, small))
    scale = 10.0 ** rng.integers(-3, 3, shape_)
    x = rng.standard_normal(shape_) * scale
    special = np.array(
        [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, t.high, t.low, 0.5, 2.5, 1e-40]
    )
    x = np.where(rng.random(shape_) < 0.2, rng.choice(special, shape_), x)
    return t.round(x)


def kernel(
    name: str, inputs: list[Value], out: Tile, body: Callable[[Builder, list[Value]], Value]
) -> Func:
    """Loads every input whole, applies `body(builder, tiles)`, stores the result whole.

    Integers of less than a byte are stored as bytes.
    """
    stored = stored_as(out.dtype)
    y = Value(Memory(out.shape, Dense(stored)), "out")
    b = Builder()

    def indices(m: Value) -> tuple[Value, ...]:
        assert isinstance(m.type, Memory)
        return tuple(b(memory.Whole(d)) for d in m.type.shape)

    result = body(b, [b(memory.Load(m, indices(m))) for m in inputs])
    if stored != out.dtype:
        result = b(casts.Cast(result, stored))
    b.add(memory.Store(y, indices(y), result))
    return Func(name, Block((*inputs, y), tuple(b.ops)))


def inputs_of(types: list[DType], shape_: tuple[int, ...]) -> list[Value]:
    return [Value(Memory(shape_, Dense(t)), f"x{i}") for i, t in enumerate(types)]


ULPS = {
    "exp": 1,
    "exp2": 1,
    "log": 1,
    "log2": 1,
    "sin": 2,
    "cos": 2,
    "tanh": 1,
    "erf": 1,
    "rsqrt": 1.5,
}


def case_of(
    cls: type[Op], types: list[DType], shape_: tuple[int, ...], **attributes: object
) -> Case | None:
    made: list[Op] = []

    def body(b: Builder, tiles: list[Value]) -> Value:
        made.append(cls(*tiles, **attributes))
        return b(made[-1])

    inputs = inputs_of(types, shape_)
    try:
        op = cls(*(Value(Tile(shape_, t)) for t in types), **attributes)
    except TileError:
        return None  # the op says itself which dtypes it takes
    out = op.result.type
    assert isinstance(out, Tile)
    label = "-".join([cls.name, *map(str, types), *map(str, attributes.values())])
    data = {
        v.hint: values(t, shape_, i) for i, (v, t) in enumerate(zip(inputs, types, strict=True))
    }
    ulps = ULPS.get(cls.name, 0.0) * (8 if types[0].bits == 64 else 1) if types[0].is_float else 0.0
    func = kernel("k", inputs, out, body)
    return Case(label, func, data, out.dtype, tuple(map(int, map(str, out.shape))), ulps)


def stored_as(t: DType) -> DType:
    """The dtype of memory that holds elements of a dtype, each a number of bytes."""
    if not t.is_integer or t.bits >= 8:
        return t
    return i8 if t.kind == "int" else u8
