"""Products of warp groups by `wgmma`: B lies in shared memory, and A there or in registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType, bf16, e4m3, e5m2, f16, f32, i8, u8
from tilec.ir.laid import sizes_of
from tilec.ir.layout.atoms import Atom, atoms
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.ops import arith, machine, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile
from tilec.passes.layout.products import metadata
from tilec.passes.parts import tile

GROUP, ROWS = 128, 64  # threads of a warp group, and rows of its instruction
TURN = (1, 0)
BYTES, FP8, HALVES = (i8, u8), (e4m3, e5m2), (f16, bf16)
Made = Mapping[Value, Op]


@dataclass(frozen=True)
class GroupTiling:
    """How the groups share a product; `a` is for an A in registers."""

    atom: Atom
    a: RegisterLayout
    c: RegisterLayout
    metadata: RegisterLayout | None = None  # of a sparse A


@dataclass(frozen=True)
class Lying:
    """An operand in a slot of a ring, `turned` if it is the transpose of what lies there."""

    ring: machine.Shared
    slot: Value
    turned: bool


@dataclass(frozen=True)
class Plan:
    """A product by wgmma: `source` are A's elements, and `dtype` is what they become; `a` is None
    for registers."""

    tiling: GroupTiling
    source: Value
    dtype: DType
    a: Lying | None
    b: Lying


def plan(a: Value, b: Value, made: Made, threads: int, instruction: str = "wgmma") -> Plan | str:
    """How warp groups multiply a by b, or what is missing for it; by `wgmma.sp` a is what is stored
    of a sparse operand."""
    (m, _), (k, n) = (sizes_of(tile(v)) for v in (a, b))
    right = lying(b, made)
    if right is None:
        return "a second operand that lies in a ring of shared memory as it is"
    if right.ring.dtype not in (*HALVES, *FP8, *BYTES):
        return f"operands of 8 or 16 bits; the second one is {right.ring.dtype}"
    dtype = beside(a, right.ring.dtype, made)
    if dtype is None:
        return f"a first operand that is exact beside {right.ring.dtype}; it is {tile(a).dtype}"
    found = group_tiling((m, n, k), dtype, right.ring.dtype, threads, instruction)
    if found is None:
        return f"{ROWS} rows and 8 columns for each {GROUP} threads, and 32 bytes along k"
    if not readable(right, right.turned, found.atom.n):
        return "a second operand with rows along k"
    left = lying(a, made)
    if left is not None and (left.ring.dtype != dtype or not readable(left, not left.turned, ROWS)):
        left = None
    source = bare(a, made)
    return Plan(found, source if tile(source).dtype == dtype else a, dtype, left, right)


def group_tiling(sizes: tuple[int, int, int], a: DType, b: DType, threads: int,
                 instruction: str = "wgmma") -> GroupTiling | None:  # fmt: skip
    """The tiling of an m x n x k product: groups along m first, then along n. None where no
    instruction fits."""
    m, n, k = sizes
    groups, high = threads // GROUP, m // ROWS
    if not groups or threads % GROUP or m % ROWS:
        return None
    rows = gcd(groups, high)
    columns = groups // rows
    wide = n // columns
    fits = [x for x in _instructions(instruction) if x.a_type == str(a) and str(b) in x.b_types
            and n % (columns * x.n) == k % x.k == 0]  # fmt: skip
    if not fits:
        return None
    atom = max(fits, key=lambda x: x.n)
    left, deep = spatial(rows, 1) * replicated(columns), k // atom.k
    return GroupTiling(
        atom,
        left * local(high // rows, deep) * atom.a,
        spatial(rows, columns) * local(high // rows, wide // atom.n) * atom.c,
        left * local(high // rows, 1) * metadata(atom, deep) if atom.sparse else None,
    )


@cache
def _instructions(instruction: str) -> tuple[Atom, ...]:
    return tuple(x for x in atoms().values() if x.instruction == instruction)


def lying(v: Value, made: Made) -> Lying | None:
    """Where an operand lies in shared memory, if it is a whole slot as it was copied; fp8 that are
    cast to a wider dtype are the same numbers."""
    op, turned = made.get(bare(v, made)), False
    while isinstance(op, shape.Transpose):
        op, turned = made.get(bare(op.a, made)), not turned
    ring = made.get(op.mem) if isinstance(op, memory.Load) else None
    if not isinstance(op, memory.Load) or not isinstance(ring, machine.Shared) or not ring.swizzle:
        return None
    whole = tile(op.result).shape == ring.sizes[1:] and isinstance(op.indices[0].type, Tile)
    return Lying(ring, op.indices[0], turned) if whole else None


def bare(v: Value, made: Made) -> Value:
    """A value without a cast that changes none of its elements: of fp8 to a wider dtype."""
    op = made.get(v)
    wider = isinstance(op, Cast) and tile(op.a).dtype in FP8 and op.dtype in (*HALVES, f32)
    return op.a if isinstance(op, Cast) and wider else v


def readable(found: Lying, along_k: bool, span: int) -> bool:
    """Whether wgmma reads an operand so: rows along k, or of 16-bit elements rows along m or n,
    then with runs as wide as the swizzle in each `span` of it that an instruction takes."""
    if along_k:
        return True
    t = found.ring.dtype
    return t.bits == 16 and span * t.bits % (8 * found.ring.swizzle) == 0


def beside(v: Value, b: DType, made: Made) -> DType | None:
    """The dtype in which A's values are multiplied by elements of `b` exactly, if there is one."""
    t = tile(bare(v, made) if b in FP8 else v).dtype
    families = [f for f in (BYTES, FP8) if b in f]
    if t == b or any(t in f for f in families):
        return t
    if b in HALVES:
        return b if t in FP8 else None
    if b in BYTES and t.is_integer and t.bits < 8:
        return i8 if t.kind == "int" else u8
    found = _values(v, made) if b in FP8 else None
    exact = found is not None and np.array_equal(e4m3.round(found), found)
    return e4m3 if exact else None


def _values(v: Value, made: Made) -> Array | None:
    """All that elements may be, where they come from few bits."""
    op, t = made.get(v), tile(v).dtype
    if t.table is not None:
        return t.table.values
    if t.is_integer and t.bits <= 8:
        return np.arange(float(t.low), float(t.high) + 1)
    match op:
        case Cast() | machine.Convert() | shape.Transpose():
            found = _values(op.operands[0], made)
            return found if found is None or not isinstance(op, Cast) else t.round(found)
        case arith.Sub():
            less, found = made.get(op.b), _values(op.a, made)
            if isinstance(less, shape.Full) and found is not None:
                return t.round(found - less.value)
            return None
        case _:
            return None
