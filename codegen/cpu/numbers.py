"""How the values of each dtype live in registers and in memory, and how they round.

Floats of at most 32 bits are computed as `float` and rounded to their dtype after every op;
integers of at most 32 bits live in `i32`, wrapped to their width; bool is `i1`. A code lives as
the float that it stands for.
"""

from __future__ import annotations

from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.recipes import Affine, recipe_of
from tilec.ir.dtype import DType, Rounding, bf16, f32, f64
from tilec.ir.errors import TileError


def register(t: DType) -> str:
    """The LLVM type in which a value of this dtype is computed."""
    if t.is_float or t.kind == "code":
        return "double" if t.bits == 64 else "float"
    return "i1" if t.kind == "bool" else "i64" if t.bits == 64 else "i32"


def item(t: DType) -> int:
    """Bytes of an element in memory, where it has whole bytes."""
    return t.numpy.itemsize


def scratch(t: DType) -> int:
    """Bytes of an element in a scratch buffer."""
    return {"double": 8, "i64": 8, "i1": 1}.get(register(t), 4)


def load(f: Function, t: DType, at: V, lanes: int) -> V:
    """Elements in memory as values."""
    if t.kind == "bool":
        return f.compare("icmp ne", f.load("i8", lanes, at), constant("i8", 0, lanes))
    if t.kind == "code":
        return decode(f, t, f.convert("zext", f.load("i8", lanes, at), "i32"))
    if not t.is_float:
        raw = f.load(f"i{8 * item(t)}", lanes, at)
        return f.convert("sext" if t.kind == "int" else "zext", raw, register(t))
    if t.bits >= 32:
        return f.load(register(t), lanes, at)
    wide = f.convert("zext", f.load(f"i{t.bits}", lanes, at), "i32")
    return widen(f, t, wide)


def store(f: Function, t: DType, v: V, at: V) -> None:
    """Values that are of the dtype already, to memory."""
    if t.kind == "bool":
        f.store(f.convert("zext", v, "i8"), at)
    elif t.kind == "code":
        raise TileError(f"cpu: no code for stores of {t}")
    elif not t.is_float:
        f.store(f.convert("trunc", v, f"i{8 * item(t)}"), at)
    elif t.bits >= 32:
        f.store(v, at)
    else:
        f.store(f.convert("trunc", narrow(f, t, v), f"i{t.bits}"), at)


def from_bits(f: Function, t: DType, bits: V) -> V:
    """The value of an integer, code or narrow float whose bits are the low ones of an i32."""
    if t.is_integer:
        return wrap(f, t, bits)
    low = f.binary("and", bits, constant("i32", (1 << t.bits) - 1, bits.lanes))
    return decode(f, t, low) if t.kind == "code" else widen(f, t, low)


def decode(f: Function, t: DType, code: V) -> V:
    """The float that a code in an i32, without other bits, stands for."""
    n, recipe = code.lanes, recipe_of(t)
    if recipe is None:
        assert t.table is not None
        return f.lookup(f"table.{t}", t.table.values.tolist(), code)
    if isinstance(recipe, Affine):
        value = f.convert("uitofp", code, "float")
        for op, by, idle in (("fmul", recipe.scale, 1.0), ("fadd", recipe.offset, 0.0)):
            value = value if by == idle else f.binary(op, value, constant("float", by, n))
        return value
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
    for raw, right in recipe.patches:
        hit = f.compare("icmp eq", code, constant("i32", raw, n))
        value = f.select(hit, constant("float", right, n), value)
    return value


def widen(f: Function, t: DType, bits: V) -> V:
    """The float that the low bits of an i32 stand for in a narrow float type."""
    n = bits.lanes
    if t == bf16:
        return f.convert("bitcast", f.binary("shl", bits, constant("i32", 16, n)), "float")
    shift, bias = 23 - t.mantissa, (1 << t.exponent - 1) - 1
    body = f.binary("and", bits, constant("i32", (1 << t.bits - 1) - 1, n))
    raised = f.convert("bitcast", f.binary("shl", body, constant("i32", shift, n)), "float")
    value = f.binary("fmul", raised, constant("float", 2.0 ** (127 - bias), n))
    first = ((1 << t.exponent) - 1 << t.mantissa) if t.infinite else (1 << t.bits - 1) - 1
    special = f.compare("icmp uge", body, constant("i32", first, n))
    over = f.binary(
        "or", f.binary("shl", body, constant("i32", shift, n)), constant("i32", 0x7F800000, n)
    )
    value = f.select(special, f.convert("bitcast", over, "float"), value)
    sign = f.binary(
        "shl",
        f.binary("and", bits, constant("i32", 1 << t.bits - 1, n)),
        constant("i32", 32 - t.bits, n),
    )
    return f.convert("bitcast", f.binary("or", f.convert("bitcast", value, "i32"), sign), "float")


def narrow(f: Function, t: DType, v: V) -> V:
    """The bits, in an i32, of a float that is a value of a narrow float type."""
    n = v.lanes
    raw = f.convert("bitcast", v, "i32")
    if t == bf16:
        return f.binary("lshr", raw, constant("i32", 16, n))
    shift, bias = 23 - t.mantissa, (1 << t.exponent - 1) - 1
    magnitude = f.intrinsic("fabs", v)
    lowered = f.binary("fmul", magnitude, constant("float", 2.0 ** (bias - 127), n))
    body = f.binary("lshr", f.convert("bitcast", lowered, "i32"), constant("i32", shift, n))
    top = (1 << t.exponent) - 1 << t.mantissa
    infinity = f.compare("fcmp oeq", magnitude, constant("float", float("inf"), n))
    body = f.select(infinity, constant("i32", top, n), body)
    nan = f.compare("fcmp uno", v, v)
    body = f.select(
        nan,
        constant(
            "i32", (1 << t.bits - 1) - 1 if not t.infinite else top + (1 << t.mantissa - 1), n
        ),
        body,
    )
    sign = f.binary(
        "lshr",
        f.binary("and", raw, constant("i32", -(1 << 31), n)),
        constant("i32", 32 - t.bits, n),
    )
    return f.binary("or", body, sign)


def round_float(
    f: Function, t: DType, v: V, mode: Rounding = "nearest", saturate: bool = False
) -> V:
    """A float or double rounded to a float dtype (nearest-even or toward zero)."""
    if t == f64:
        return f.convert("fpext", v, "double")
    if v.type == "double":
        v = (
            f.convert("fptrunc", v, "float")
            if t == f32 and mode == "nearest"
            else _odd(f, v, t, mode)
        )
    n = v.lanes
    if t == f32:
        return _saturated(f, t, v) if saturate else v
    if t == bf16:
        raw = f.convert("bitcast", v, "i32")
        if mode == "nearest":
            even = f.binary(
                "and", f.binary("lshr", raw, constant("i32", 16, n)), constant("i32", 1, n)
            )
            up = f.binary("add", raw, f.binary("add", even, constant("i32", 0x7FFF, n)))
        else:
            up = raw
        kept = f.binary("and", up, constant("i32", -65536, n))
        nan = f.compare("fcmp uno", v, v)
        quiet = constant("i32", 0x7FC00000, n)
        v = f.convert("bitcast", f.select(nan, quiet, kept), "float")
        return _saturated(f, t, v) if saturate else v
    return _round_small(f, t, v, mode, saturate)


def _odd(f: Function, v: V, t: DType, mode: Rounding) -> V:
    """double -> float with the last bit set where inexact: rounding again is then harmless."""
    n = v.lanes
    near = f.convert("fptrunc", v, "float")
    back = f.convert("fpext", near, "double")
    bits = f.convert("bitcast", near, "i32")
    above = f.compare("fcmp ogt", f.intrinsic("fabs", back), f.intrinsic("fabs", v))
    down = f.select(above, f.binary("sub", bits, constant("i32", 1, n)), bits)  # toward zero
    exact = f.compare("fcmp oeq", back, v)
    last = constant("i32", 0 if t == f32 and mode == "toward_zero" else 1, n)
    odd = f.convert("bitcast", f.binary("or", down, last), "float")
    nan = f.compare("fcmp uno", v, v)
    infinite = f.compare("fcmp oeq", f.intrinsic("fabs", v), constant("double", float("inf"), n))
    plain = f.binary("or", f.binary("or", exact, nan), infinite)
    return f.select(plain, near, odd)


def _round_small(f: Function, t: DType, v: V, mode: Rounding, saturate: bool) -> V:
    """By adding and taking away a power of two whose last place is the unit of the result."""
    n = v.lanes
    magnitude = f.intrinsic("fabs", v)
    capped = f.intrinsic("minnum", magnitude, constant("float", 2.0**20, n))
    field = f.binary("and", f.convert("bitcast", capped, "i32"), constant("i32", 0x7F800000, n))
    least = 2 - (1 << t.exponent - 1) + 127 << 23
    field = f.intrinsic("smax", field, constant("i32", least, n))
    unit = f.binary("add", field, constant("i32", (23 - t.mantissa) << 23, n))
    big = f.convert("bitcast", unit, "float")
    y = f.binary("fsub", f.binary("fadd", capped, big), big)
    if mode == "toward_zero":
        step = f.convert(
            "bitcast", f.binary("sub", field, constant("i32", t.mantissa << 23, n)), "float"
        )
        y = f.select(f.compare("fcmp ogt", y, capped), f.binary("fsub", y, step), y)
    beyond = f.compare("fcmp ogt", y, constant("float", t.high, n))
    if saturate:
        y = f.select(beyond, constant("float", t.high, n), y)
    else:
        over = constant("float", float("inf") if t.infinite else float("nan"), n)
        if mode == "toward_zero":
            finite = f.compare("fcmp one", magnitude, constant("float", float("inf"), n))
            over = f.select(finite, constant("float", t.high, n), over)
        y = f.select(beyond, over, y)
    y = f.intrinsic("copysign", y, v)
    return f.select(f.compare("fcmp uno", v, v), v, y)


def _saturated(f: Function, t: DType, v: V) -> V:
    top = constant("float", t.high, v.lanes)
    beyond = f.compare("fcmp ogt", f.intrinsic("fabs", v), top)
    return f.select(beyond, f.intrinsic("copysign", top, v), v)


def wrap(f: Function, t: DType, v: V) -> V:
    """An i32 (or i64) modulo the width of an integer dtype."""
    width = 64 if v.type == "i64" else 32
    if t.bits >= width:
        return v
    away = constant(v.type, width - t.bits, v.lanes)
    return f.binary("ashr" if t.kind == "int" else "lshr", f.binary("shl", v, away), away)
