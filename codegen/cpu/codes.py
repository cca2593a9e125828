"""Codes: the floats that they stand for, how floats are rounded to those, and their bits.

A value is rounded by arithmetic where that gives what the table does at every step of it, else by
comparing it with the steps. Both are found by asking the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tilec.codegen.cpu import halves, rounding, steps
from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.recipes import Affine, Shifted, recipe_of
from tilec.codegen.cpu.rounding import Spacing
from tilec.codegen.cpu.steps import Steps
from tilec.ir.dtype import Array, DType, Rounding, f32
from tilec.ir.table import Table

FEW = 4  # steps that are compared with sooner than arithmetic is tried


def _table(t: DType) -> Table:
    assert t.table is not None
    return t.table


def decode(f: Function, t: DType, code: V) -> V:
    """The float that a code in an i32, without other bits, stands for."""
    n, recipe = code.lanes, recipe_of(t)
    if recipe is None:
        return _looked_up(f, f"table.{t}", _table(t).values.tolist(), code)
    if isinstance(recipe, Affine):
        value = f.convert("uitofp", code, "float")
        for op, by, idle in (("fmul", recipe.scale, 1.0), ("fadd", recipe.offset, 0.0)):
            value = value if by == idle else f.binary(op, value, constant("float", by, n))
        return value
    value = _shifted(f, recipe, code)
    for raw, right in recipe.patches:
        hit = f.compare("icmp eq", code, constant("i32", raw, n))
        value = f.select(hit, constant("float", right, n), value)
    return value


def _looked_up(f: Function, name: str, values: Sequence[float], index: V) -> V:
    """The floats at an i32's places in a constant table."""
    entries = ", ".join(f"float {constant('float', v).text}" for v in values)
    kind = f"[{len(values)} x float]"
    f.declared.add(f"@{name} = private unnamed_addr constant {kind} [{entries}]")
    found = constant("float", 0.0, index.lanes)
    for i in range(index.lanes):
        lane = f.convert("zext", f.lane(index, i), "i64")
        value = f.load(
            "float", 1, f.op("ptr", 1, f"getelementptr float, ptr @{name}, i64 {lane.text}"), 4
        )
        found = value if index.lanes == 1 else f.insert(found, value, i)
    return found


def _shifted(f: Function, recipe: Shifted, code: V) -> V:
    """A code's bits as those of a float, times a power of two."""
    n, mantissa = code.lanes, 23 - recipe.left
    if recipe.exponents < halves.EXPONENT and halves.fits(f, recipe.exponents, mantissa):
        word = halves.word(f, code, mantissa, recipe.sign)
        return halves.value(f, word, recipe.scale * 2.0 ** (halves.BIAS - 127))
    body = f.binary("shl", code, constant("i32", recipe.left, n))
    if recipe.sign is not None:
        body = f.binary("and", body, constant("i32", 0x7FFFFFFF >> 8 - recipe.exponents, n))
    value = f.convert("bitcast", body, "float")
    if recipe.scale != 1.0:
        value = f.binary("fmul", value, constant("float", recipe.scale, n))
    if recipe.sign is not None:
        sign = f.binary("shl", code, constant("i32", 31 - recipe.sign, n))
        sign = f.binary("and", sign, constant("i32", -(1 << 31), n))
        both = f.binary("or", f.convert("bitcast", value, "i32"), sign)
        value = f.convert("bitcast", both, "float")
    return value


def encode(f: Function, t: DType, v: V) -> V:
    """The code, in an i32, of a float that is a value of the table; of NaN the first there is."""
    n, recipe, table = v.lanes, recipe_of(t), _table(t)
    if isinstance(recipe, Shifted):
        code = _shifted_back(f, recipe, v)
    else:
        values = np.unique(table.values[~np.isnan(table.values)] + 0.0)
        every = table.codes(values).tolist()
        (number,) = steps.emit(f, f"codes.{t}", values[1:].tolist(), [every], v)
        code = f.convert("fptoui", number, "i32")
        if table.negative_zero:
            bits = f.convert("bitcast", v, "i32")
            minus = f.compare("icmp eq", bits, constant("i32", -(1 << 31), n))
            code = f.select(minus, constant("i32", _code_of(t, -0.0), n), code)
    if table.nan is None:
        return code
    nan = constant("i32", _code_of(t, table.nan), n)
    return f.select(f.compare("fcmp uno", v, v), nan, code)


def _code_of(t: DType, value: float) -> int:
    return int(_table(t).codes(np.array([value]))[0])


def _shifted_back(f: Function, recipe: Shifted, v: V) -> V:
    """The inverse of the arithmetic of `decode`."""
    n = v.lanes
    magnitude = v if recipe.sign is None else f.intrinsic("fabs", v)
    if recipe.scale != 1.0:
        magnitude = f.binary("fmul", magnitude, constant("float", 1 / recipe.scale, n))
    bits = f.convert("bitcast", magnitude, "i32")
    code = f.binary("lshr", bits, constant("i32", recipe.left, n))
    if recipe.sign is not None:
        sign = f.binary("lshr", f.convert("bitcast", v, "i32"), constant("i32", 31, n))
        sign = f.binary("shl", sign, constant("i32", recipe.sign, n))
        code = f.binary("or", code, sign)
    for raw, right in recipe.patches:
        hit = f.compare("fcmp oeq", v, constant("float", right, n))
        code = f.select(hit, constant("i32", raw, n), code)
    return code


def rounded(f: Function, t: DType, v: V, mode: Rounding, saturate: bool) -> V:
    """The value of a type for a float or double, rounded to nearest-even or toward zero."""
    way = way_to(t, mode, saturate, v.type)
    if isinstance(way, Spacing):
        v = rounding.odd(f, v) if v.type == "double" else v
        y = _spaced(f, t, way, v, mode, saturate)
    else:
        name = f"steps.{t}.{mode}.{saturate}.{v.type}"
        (y,) = steps.emit(f, name, way.edges, [way.results], v)
        if _table(t).negative_zero:
            y = _signed_zero(f, y, f.convert("fptrunc", v, "float"))
    return _without_nan(f, t, v, y)


def _spaced(f: Function, t: DType, s: Spacing, v: V, mode: Rounding, saturate: bool) -> V:
    n, table = v.lanes, _table(t)
    under, over, infinite = _beyond(t, mode, saturate)
    magnitude = f.intrinsic("fabs", v)
    capped = f.intrinsic("minnum", magnitude, constant("float", 4 * t.high, n))
    y = f.intrinsic("copysign", rounding.snapped(f, s, capped, mode), v)
    for sign, most, result in (("ogt", table.high, over), ("olt", table.low, under)):
        beyond = f.compare(f"fcmp {sign}", y, constant("float", most, n))
        y = f.select(beyond, constant("float", result, n), y)
    if over == t.high != infinite:  # only infinity is too great
        far = f.compare("fcmp oeq", magnitude, constant("float", float("inf"), n))
        y = f.select(far, f.intrinsic("copysign", constant("float", infinite, n), v), y)
    return y if table.negative_zero else f.binary("fadd", y, constant("float", 0.0, n))


def _signed_zero(f: Function, y: V, x: V) -> V:
    """y, its zeros with the sign of x."""
    zero = constant(y.type, 0.0, y.lanes)
    return f.select(f.compare("fcmp oeq", y, zero), f.intrinsic("copysign", zero, x), y)


def _without_nan(f: Function, t: DType, x: V, y: V) -> V:
    """y where x is a number, else what NaN becomes."""
    nan = constant(y.type, _of_nan(t), y.lanes)
    return f.select(f.compare("fcmp uno", x, x), nan, y)


def by_chance(f: Function, t: DType, v: V, saturate: bool, random: V) -> V:
    """The value of a type for a float or double: one of its neighbours, as random bits say."""
    n, table, points = v.lanes, _table(t), _points(t, saturate)
    name = f"points.{t}.{saturate}.{v.type}"
    low, high = steps.emit(f, name, points[1:-1], [points[:-1], points[1:]], v, "double")
    x = f.convert("fpext", v, "double")
    part = f.binary("fdiv", f.binary("fsub", x, low), f.binary("fsub", high, low))
    far = f.binary("fadd", part, rounding.chance(f, random))
    up = f.binary("and", f.compare("fcmp oge", far, constant("double", 1.0, n)),
                  f.compare("fcmp ogt", x, low))  # fmt: skip
    y = f.select(up, high, low)
    y = _signed_zero(f, y, x) if table.negative_zero else y
    nan = constant("double", _of_nan(t), n)
    if not saturate and (table.infinite or table.nan is not None):
        infinity = constant("double", float("inf"), n)
        out = f.intrinsic("copysign", infinity, x) if table.infinite else nan
        y = f.select(f.compare("fcmp ogt", f.intrinsic("fabs", y),
                               constant("double", table.high, n)), out, y)  # fmt: skip
        y = f.select(f.compare("fcmp oeq", f.intrinsic("fabs", x), infinity), out, y)
    if table.low > 0:
        y = f.select(f.compare("fcmp olt", x, constant("double", 0.0, n)), nan, y)
    return _without_nan(f, t, v, f.convert("fptrunc", y, "float"))


@lru_cache(maxsize=512)
def way_to(t: DType, mode: Rounding, saturate: bool, kind: str) -> Steps | Spacing:
    """How floats of a kind are rounded to a type: many values by arithmetic, if that is right."""
    single = _steps(t, mode, saturate, "float")
    if len(single.edges) > FEW:
        least = min(v for v in _table(t).values.tolist() if 0 < v < float("inf"))
        fraction, e = np.frexp(least)
        for digits in range(8) if fraction == 0.5 else ():
            s = Spacing(int(e) - 1 + digits, digits)
            if _does(t, s, single, mode, saturate):
                return s
    return single if kind == "float" else _steps(t, mode, saturate, kind)


def _does(t: DType, s: Spacing, want: Steps, mode: Rounding, saturate: bool) -> bool:
    """Whether arithmetic gives the result of every step, where it begins and where it ends."""
    table, edges = _table(t), np.array(want.edges, np.float32)
    with np.errstate(over="ignore"):  # infinity may be an edge
        x = np.concatenate([edges, np.nextafter(edges, np.float32(-np.inf))]).astype(np.float64)
    expected = np.array([*want.results[1:], *want.results[:-1]])
    y = np.copysign(s.round(np.minimum(np.abs(x), 4 * t.high), mode), x)
    under, over, infinite = _beyond(t, mode, saturate)
    y = np.where(y > table.high, over, np.where(y < table.low, under, y))
    if over == t.high != infinite:
        y = np.where(np.isinf(x), np.copysign(infinite, x), y)
    return np.array_equal(y, expected, equal_nan=True)


def _beyond(t: DType, mode: Rounding, saturate: bool) -> tuple[float, float, float]:
    """What the least and the greatest f32 become, and infinity."""
    ends = np.array([f32.low, f32.high, np.inf])
    under, over, infinite = t.round(ends, mode, saturate).tolist()
    return under, over, infinite


@lru_cache(maxsize=512)
def _steps(t: DType, mode: Rounding, saturate: bool, kind: str) -> Steps:
    tiny = 2.0**-149
    samples = [-tiny, 0.0, tiny, *_finite(t)]
    return steps.bisected(lambda x: _table(t).round(x, mode, saturate, None), samples, kind)


@lru_cache(maxsize=256)
def _points(t: DType, saturate: bool) -> tuple[float, ...]:
    """The finite values, and where overflow is not finite those that would come next.

    With even chances numbers go to the nearer neighbour, so that the last step begins in the middle
    between the greatest value and what would follow it.
    """

    def even(x: Array) -> Array:
        return _table(t).round(x, "stochastic", saturate, np.full(x.shape, 0.5))

    finite = _finite(t)
    middles = steps.bisected(even, finite, "float")
    if middles.results[-1] == finite[-1]:
        return tuple(finite)
    above = 2 * middles.edges[-1] - finite[-1]
    return (*([] if finite[0] >= 0 else [-above]), *finite, above)


def _of_nan(t: DType) -> float:
    """What NaN becomes: 0 where there is no NaN, or what is nearest to it."""
    nan = _table(t).nan
    return float(t.round(np.zeros(()))) if nan is None else nan


def _finite(t: DType) -> list[float]:
    values = _table(t).values
    return np.unique(values[np.isfinite(values)] + 0.0).tolist()
