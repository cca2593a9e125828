"""Codes in C++: which format of include/numbers/codes.cuh a table is, or the table as a format.

A formula is taken where it gives all that the table says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from textwrap import wrap

import numpy as np

from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.table import Table

WIDTH = 96  # of a line of numbers
NONE = "numbers::NONE"  # no code


def definition(t: DType) -> list[str]:
    """What says what a code is, before a kernel: it ends with `using <name> = Code<...>;`."""
    found = minifloat(t)
    return [f"using {t.name} = Code<{found}>;"] if found else _printed(t)


def number(x: float) -> str:
    """An f32 as C++."""
    if math.isfinite(x):
        return f"{np.float32(x)!s}f"
    return f"f32_of_bits({np.float32(x).view(np.uint32):#x})"


@lru_cache(maxsize=256)
def minifloat(t: DType) -> str | None:
    """The format of a float with a sign, None where the table is no such float's."""
    table, e, m = _table(t), t.exponent, t.mantissa
    if not e or t.bits != 1 + e + m:
        return None
    sign = 1 << e + m
    top = int(np.isfinite(table.values[:sign]).sum()) - 1
    least, exponent = math.frexp(float(table.values[1]))
    bias, nan = 2 - m - exponent, _of_nan(t)
    over = top + 1 if table.infinite else top if table.nan is None else nan
    bits = (np.arange(sign + 1) << 23 - m).astype(np.uint32)
    raised = np.ldexp(bits.view(np.float32).astype(np.float64), 127 - bias)
    above = 0.0 if over == top else float(raised[top + 1])
    raised[top + 1 :] = math.nan
    raised[over] = math.inf if table.infinite else raised[over]
    values = np.concatenate([raised[:sign], -raised[:sign]])
    values[nan] = math.nan if nan == sign else values[nan]
    if least != 0.5 or above != _above(table) or not _same(values, table.values):
        return None
    return f"numbers::Minifloat<{e}, {m}, {bias}, {top}, {over}, {nan}>"


def _printed(t: DType) -> list[str]:
    """A format that says what the table says."""
    table, struct = _table(t), f"{t.name}_table"
    text, values = _value(t)
    order, places = _order(t)
    special = table.infinite or table.nan is not None
    flags = {"special": special, "positive": table.low > 0, "spaced": False}
    flag = ", ".join(f"{name} = {str(value).lower()}" for name, value in flags.items())
    negative = _code(table, -0.0) if table.negative_zero else NONE
    plus, minus = (_code(table, x) if table.infinite else NONE for x in (math.inf, -math.inf))
    return [
        *values,
        *places,
        f"struct {struct} {{",
        f"  static constexpr u32 bits = {t.bits}, points = {len(_ascending(table))};",
        f"  static constexpr u32 zero = {_of_zero(t)}, nan = {_of_nan(t)};",
        f"  static constexpr u32 minus_zero = {negative};",
        f"  static constexpr u32 plus_infinity = {plus}, minus_infinity = {minus};",
        f"  static constexpr bool {flag};",
        f"  TILEC_DEVICE f32 value(u32 code) {{ return {text}; }}",
        f"  TILEC_DEVICE u32 order(u32 i) {{ return {order}; }}",
        f"  TILEC_DEVICE f64 above() {{ return {_above(table)!r}; }}",
        "};",
        f"using {t.name} = Code<{struct}>;",
    ]


def _value(t: DType) -> tuple[str, list[str]]:
    """What a `code` stands for, and the array that this may need."""
    values, codes = _table(t).values, np.arange(1 << t.bits)
    sign = 1 << t.bits - 1
    for flipped, text in ((0, "code"), (sign, f"(code ^ {sign})")):
        line = values[codes ^ flipped]
        step, first = (float(x) for x in (line[1] - line[0], line[0]))
        if _same(codes * step + first, line):
            return f"fma_f32(f32({text}), {number(step)}, {number(first)})", []
    if _same(np.copysign(codes % sign, sign - 0.5 - codes), values):
        top = f"f32_of_bits(code << {32 - t.bits})"
        return f"numbers::with_sign(f32(code & {sign - 1}), {top})", []
    if t.bits == 8 and _same(np.append(np.ldexp(1.0, codes[:-1] - 127), math.nan), values):
        return "numbers::power_of_two(code)", []
    name = f"{t.name}_values"
    return f"{name}[code]", _array("f32", name, [number(float(x)) for x in values])


def _order(t: DType) -> tuple[str, list[str]]:
    """The code of finite value `i` in ascending order, and the array that this may need."""
    order, sign = _ascending(_table(t)), 1 << t.bits - 1
    i, top = np.arange(len(order)), len(order) // 2
    for text, found in (
        ("i", i),
        (f"i ^ {sign}", i ^ sign),
        (f"i < {top} ? {sign + top} - i : i - {top}", np.where(i < top, sign + top - i, i - top)),
    ):
        if np.array_equal(order, found):
            return text, []
    name = f"{t.name}_order"
    return f"{name}[i]", _array("u8", name, [str(c) for c in order])


def _array(kind: str, name: str, items: Sequence[str]) -> list[str]:
    body = wrap(", ".join(items) + "};", WIDTH)
    return [f"TILEC_TABLE {kind} {name}[{len(items)}] = {{", *(f"    {line}" for line in body)]


def _table(t: DType) -> Table:
    if t.table is None:
        raise TileError(f"cuda: {t} is no code")
    return t.table


def _ascending(table: Table) -> Array:
    """The codes of the finite values in their order, of equal ones the first."""
    finite = np.flatnonzero(np.isfinite(table.values))
    _, first = np.unique(table.values[finite] + 0.0, return_index=True)
    return finite[first]


def _code(table: Table, x: float) -> int:
    return int(table.codes(np.array([x]))[0])


def _of_nan(t: DType) -> int:
    """The code of what NaN becomes: of 0, or the nearest to it, where there is no NaN."""
    table = _table(t)
    return _of_zero(t) if table.nan is None else _code(table, math.nan)


def _of_zero(t: DType) -> int:
    """The code of 0, or of the nearest to it."""
    return _code(_table(t), float(t.round(np.zeros(()))))


def _above(table: Table) -> float:
    """What would follow the greatest value: the least number that no chance makes a finite one; 0
    where there is none."""
    ends = np.array([table.high, np.finfo(np.float64).max])
    low, high = (int(k) for k in ends.view(np.int64))
    if _stays_finite(table, high):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _stays_finite(table, middle) else (low, middle)
    return float(np.int64(high).view(np.float64))


def _stays_finite(table: Table, key: int) -> bool:
    x = np.array([key], np.int64).view(np.float64)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(table.round(x, "stochastic", False, np.zeros(1)))[0])


def _same(a: Array, b: Array) -> bool:
    """Whether numbers are equal, with their signs, and NaN where NaN."""
    there = ~np.isnan(b)
    signs = np.array_equal(np.signbit(a[there]), np.signbit(b[there]))
    return signs and np.array_equal(a, b, equal_nan=True)
