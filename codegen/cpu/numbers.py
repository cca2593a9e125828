"""How the values of each dtype live in registers and in memory, and how they round.

Floats of at most 32 bits are computed as `float` and rounded to their dtype after every op;
integers of at most 32 bits live in `i32`, wrapped to their width; bool is `i1`. A code lives as
the float that it stands for.
"""

from __future__ import annotations

from functools import reduce

from tilec.codegen.cpu import codes, halves, rounding
from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.rounding import Spacing
from tilec.ir.choices import LINE
from tilec.ir.dtype import DType, Rounding, bf16, f32, f64, tf32

WORD = 16  # bytes of the least vector that is stored past the caches


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
    """Elements in memory as values; words that are no tf32 are rounded to one."""
    if t.kind == "bool":
        return f.compare("icmp ne", f.load("i8", lanes, at), constant("i8", 0, lanes))
    if t.kind == "code":
        return codes.decode(f, t, f.convert("zext", f.load("i8", lanes, at), "i32"))
    if not t.is_float:
        raw = f.load(f"i{8 * item(t)}", lanes, at)
        return f.convert("sext" if t.kind == "int" else "zext", raw, register(t))
    if t.bits >= 32:
        return round_float(f, t, f.load(register(t), lanes, at))
    wide = f.convert("zext", f.load(f"i{t.bits}", lanes, at), "i32")
    return widen(f, t, wide)


def store(f: Function, t: DType, v: V, at: V, past: bool = False) -> None:
    """Values that are of the dtype already, or words of it, to memory; with `past`, past the
    caches."""
    if t.kind == "bool":
        stored = f.convert("zext", v, "i8")
    elif t.kind == "code":
        stored = f.convert("trunc", codes.encode(f, t, v), "i8")
    elif not t.is_float:
        stored = f.convert("trunc", v, f"i{8 * item(t)}")
    elif t.bits >= 32 or v.type == f"i{t.bits}":
        stored = v
    else:
        stored = f.convert("trunc", narrow(f, t, v), f"i{t.bits}")
    if past and v.lanes * item(t) >= WORD:
        for i, part in enumerate(f.parts(stored, min(v.lanes, LINE // item(t)))):
            f.store_past(part, f.pointer(at, LINE * i), part.lanes * item(t))
    else:
        f.store(stored, at)


def from_bits(f: Function, t: DType, bits: V) -> V:
    """The value of an integer, code or narrow float whose bits are the low ones of an i32."""
    if t.is_integer:
        return wrap(f, t, bits)
    low = f.binary("and", bits, constant("i32", (1 << t.bits) - 1, bits.lanes))
    return codes.decode(f, t, low) if t.kind == "code" else widen(f, t, low)


def widen(f: Function, t: DType, bits: V) -> V:
    """The float that the low bits of an i32 stand for in a narrow float type."""
    n = bits.lanes
    if t == bf16:
        return f.convert("bitcast", f.binary("shl", bits, constant("i32", 16, n)), "float")
    if halves.fits(f, t.exponent, t.mantissa):
        return _by_halves(f, t, bits)
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


def _by_halves(f: Function, t: DType, bits: V) -> V:
    """The same by way of f16."""
    n, bias = bits.lanes, (1 << t.exponent - 1) - 1
    word = halves.word(f, bits, t.mantissa, t.bits - 1)
    value = halves.value(f, word, 2.0 ** (halves.BIAS - bias))
    if t.infinite:
        return value
    last = (1 << t.bits - 1) - 1 << halves.MANTISSA - t.mantissa
    body = f.binary("and", word, constant("i16", last, n))
    special = f.compare("icmp eq", body, constant("i16", last, n))
    return f.select(special, constant("float", float("nan"), n), value)


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
    f: Function, t: DType, v: V, mode: Rounding = "nearest", saturate: bool = False,
    random: V | None = None,
) -> V:  # fmt: skip
    """A float or double rounded to a float dtype; stochastic rounding takes random bits."""
    if t == f64:
        return f.convert("fpext", v, "double")
    if random is not None:
        return _by_chance(f, t, v, saturate, random)
    if v.type == "double":
        single = t == f32 and mode == "nearest"
        v = f.convert("fptrunc", v, "float") if single else rounding.odd(f, v, t != f32)
    if t == f32:
        return _saturated(f, t, v) if saturate else v
    if t in (tf32, bf16):
        v = _shortened(f, t, v, mode)
        return _saturated(f, t, v) if saturate else v
    return _round_small(f, t, v, mode, saturate)


def pairs_bf16(features: frozenset[str], lanes: int) -> bool:
    """Whether `bf16_words` has instructions."""
    return lanes == 16 and {"avx512bf16", "avx512dq"} <= features


def normal_bf16_words(f: Function, low: V, high: V) -> V:
    """Two vectors of floats as the words of the nearest bf16s, 0 where that is no normal number."""
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    return f.recast(f.call(name, "bfloat", 32, high, low), "i16", 32)


def bf16_words(f: Function, v: V) -> V:
    """Two or more vectors of floats as the words of the nearest bf16s: where there is one that is
    no normal number, without the instruction, which makes 0 of that."""
    kind = "llvm.x86.avx512.fpclass.ps.512"
    vectors, below_normal = f.parts(v, 16), V("i32", 1, "32")
    made = [normal_bf16_words(f, *two) for two in zip(vectors[::2], vectors[1::2], strict=True)]
    small = [f.call(kind, "i1", 16, part, below_normal) for part in vectors]
    any_small = reduce(lambda a, b: f.binary("or", a, b), small)

    def exactly() -> V:
        return f.convert("trunc", narrow(f, bf16, round_float(f, bf16, v)), "i16")

    return f.unless(any_small, f.joined(made), exactly)


def _spacing(t: DType) -> Spacing:
    return Spacing(2 - (1 << t.exponent - 1), t.mantissa)


def _shortened(f: Function, t: DType, v: V, mode: Rounding) -> V:
    """An f32 as the upper bits of one."""
    n, away = v.lanes, 23 - t.mantissa
    raw = f.convert("bitcast", v, "i32")
    if mode == "nearest":
        last = f.binary("lshr", raw, constant("i32", away, n))
        even = f.binary("and", last, constant("i32", 1, n))
        half = constant("i32", (1 << away - 1) - 1, n)
        raw = f.binary("add", raw, f.binary("add", even, half))
    kept = f.binary("and", raw, constant("i32", -(1 << away), n))
    quiet = f.binary("or", f.convert("bitcast", v, "i32"), constant("i32", 1 << 22, n))
    return f.convert("bitcast", f.select(f.compare("fcmp uno", v, v), quiet, kept), "float")


def _round_small(f: Function, t: DType, v: V, mode: Rounding, saturate: bool) -> V:
    n = v.lanes
    magnitude = f.intrinsic("fabs", v)
    capped = f.intrinsic("minnum", magnitude, constant("float", 2.0**20, n))
    y = rounding.snapped(f, _spacing(t), capped, mode)
    over = _over(t, "float", n, saturate)
    if mode == "toward_zero" and not saturate:
        finite = f.compare("fcmp one", magnitude, constant("float", float("inf"), n))
        over = f.select(finite, constant("float", t.high, n), over)
    y = f.select(f.compare("fcmp ogt", y, constant("float", t.high, n)), over, y)
    y = f.intrinsic("copysign", y, v)
    return f.select(f.compare("fcmp uno", v, v), v, y)


def _by_chance(f: Function, t: DType, v: V, saturate: bool, random: V) -> V:
    n, x = v.lanes, f.convert("fpext", v, "double")
    y = rounding.by_chance(f, _spacing(t), x, random)
    beyond = f.compare("fcmp ogt", f.intrinsic("fabs", y), constant("double", t.high, n))
    over = f.intrinsic("copysign", _over(t, "double", n, saturate), x)
    return f.convert("fptrunc", f.select(beyond, over, y), "float")


def _over(t: DType, kind: str, lanes: int, saturate: bool) -> V:
    """What stands for numbers that are too great."""
    most = t.high if saturate else float("inf") if t.infinite else float("nan")
    return constant(kind, most, lanes)


def _saturated(f: Function, t: DType, v: V) -> V:
    top = constant("float", t.high, v.lanes)
    beyond = f.compare("fcmp ogt", f.intrinsic("fabs", v), top)
    return f.select(beyond, f.intrinsic("copysign", top, v), v)


def extreme(f: Function, name: str, a: V, b: V) -> V:
    """The maximum ("max") or minimum of floats: NaN if either is, and of zeros any.

    The comparison and the first choice are one instruction, which gives its second operand where
    they do not compare.
    """
    better = f.compare("fcmp ogt" if name == "max" else "fcmp olt", b, a)
    return f.select(f.compare("fcmp uno", b, b), b, f.select(better, b, a))


def wrap(f: Function, t: DType, v: V) -> V:
    """An i32 (or i64) modulo the width of an integer dtype."""
    width = 64 if v.type == "i64" else 32
    if t.bits >= width:
        return v
    away = constant(v.type, width - t.bits, v.lanes)
    return f.binary("ashr" if t.kind == "int" else "lshr", f.binary("shl", v, away), away)
