"""Element-wise ops on vectors: each is computed in the registers' type and rounded to its dtype."""

from __future__ import annotations

from tilec.codegen.cpu import codes, numbers, rounding
from tilec.codegen.cpu.functions import FUNCTIONS
from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.core import Op
from tilec.ir.dtype import DType, bf16, f32, f64
from tilec.ir.errors import TileError
from tilec.ir.ops import arith
from tilec.ir.ops import cast as casts
from tilec.ir.types import Tile

FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
WHOLE = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
ORDER = {"eq": ("oeq", "eq"), "ne": ("une", "ne"), "lt": ("olt", "lt"), "le": ("ole", "le")}
ROUNDING = {"floor": "floor", "ceil": "ceil", "rint": "roundeven"}


def dtype(v: object) -> DType:
    """The dtype of a tile operand."""
    assert isinstance(v, Tile)
    return v.dtype


def emit(f: Function, op: Op, a: list[V]) -> V:
    """The value of an element-wise op for the values of its operands."""
    source, out = dtype(op.operands[0].type), dtype(op.result.type)
    match op:
        case casts.Cast():
            return cast(f, a[0], source, op, a[1] if len(a) > 1 else None)
        case casts.Bitcast():
            return _bitcast(f, a[0], source, out)
        case arith.Where():
            return f.select(a[0], a[1], a[2])
        case arith.Comparison():
            return _compare(f, op.name, source, a)
        case arith.Not():
            ones = constant(a[0].type, -1 if a[0].type != "i1" else 1, a[0].lanes)
            return _rounded(f, out, f.binary("xor", a[0], ones))
        case _:
            v = _float(f, op, a) if source.is_float else _whole(f, op, source, a)
            return _rounded(f, out, v)


def side_by_side(op: Op) -> bool:
    """Whether the code of an op is for any number of lanes: arithmetic of floats."""
    types = [dtype(v.type) for v in (*op.operands, op.result)]
    plain = op.name in (*FLOAT, "maximum", "minimum", "fma", "sqrt", "rsqrt", "abs", "neg", "exp",
                        "exp2", "cast")  # fmt: skip
    return plain and all(t in (f32, bf16) for t in types)


def rounds(op: Op, x: Lazy) -> Lazy | None:
    """The floats of which an op makes the nearest bf16s."""
    if not isinstance(op, casts.Cast) or op.dtype != bf16 or op.rounding != "nearest":
        return None
    return x if x.dtype == f32 and op.random is None and not op.saturate else None


def widens(op: Op) -> bool:
    """Whether an op makes floats of narrower ones, which registers have as floats already."""
    if not isinstance(op, casts.Cast) or op.random is not None:
        return False
    assert isinstance(op.a.type, Tile)
    return op.a.type.dtype in (bf16, f32) and op.dtype == f32


def words(w: Writer, op: Op, x: Lazy) -> Lazy | None:
    """A float rounded to bf16 as products read it, where one instruction does that: it makes 0 of
    what is too small for a normal number."""
    if not isinstance(op, casts.Cast) or op.dtype != bf16 or op.rounding != "nearest":
        return None
    single = x.dtype.is_float and x.dtype.bits <= 32 and not op.saturate
    if not single or "avx512bf16" not in w.features or w.lanes != 16:
        return None

    def at(index: Index, lanes: int) -> V:
        f, v = w.f, x.at(index, lanes)
        if lanes % 16:
            rounded = numbers.narrow(f, bf16, numbers.round_float(f, bf16, v))
            return f.convert("trunc", rounded, "i16")
        parts = [f.shuffle(v, v, range(i, i + 16)) if lanes > 16 else v
                 for i in range(0, lanes, 16)]  # fmt: skip
        made = [f.recast(f.call("llvm.x86.avx512bf16.cvtneps2bf16.512", "bfloat", 16, part),
                         "i16", 16) for part in parts]  # fmt: skip
        return made[0] if lanes == 16 else f.shuffle(made[0], made[1], range(lanes))

    return Lazy(x.shape, bf16, at, None, x.reads, x.beside)


def _rounded(f: Function, t: DType, v: V) -> V:
    if t.is_float:
        return numbers.round_float(f, t, v)
    return v if t.kind == "bool" else numbers.wrap(f, t, v)


def _compare(f: Function, name: str, t: DType, a: list[V]) -> V:
    ordered, plain = ORDER[name]
    if t.is_float:
        return f.compare(f"fcmp {ordered}", *a)
    sign = "" if plain in ("eq", "ne") else "s" if t.kind == "int" else "u"
    return f.compare(f"icmp {sign}{plain}", *a)


def _float(f: Function, op: Op, a: list[V]) -> V:
    if op.name in FLOAT:
        return f.binary(FLOAT[op.name], *a)
    if op.name in ROUNDING:
        return f.intrinsic(ROUNDING[op.name], a[0])
    match op.name:
        case "maximum" | "minimum":
            return numbers.extreme(f, op.name[:3], *a)
        case "fma" | "sqrt":
            return f.intrinsic(op.name, *a)
        case "abs":
            return f.intrinsic("fabs", a[0])
        case "neg":
            return f.negative(a[0])
        case "rsqrt":
            return f.binary("fdiv", constant(a[0].type, 1.0, a[0].lanes), f.intrinsic("sqrt", a[0]))
        case _ if op.name in FUNCTIONS:
            return FUNCTIONS[op.name](f, a[0])
        case _:
            raise TileError(f"cpu: no code for {op.name} of floats", op.loc)


def _whole(f: Function, op: Op, t: DType, a: list[V]) -> V:
    signed = t.kind == "int"
    n, kind = a[0].lanes, a[0].type
    if op.name in WHOLE:
        return f.binary(WHOLE[op.name], *a)
    match op.name:
        case "maximum" | "minimum":
            return f.intrinsic(f"{'s' if signed else 'u'}{op.name[:3]}", *a)
        case "neg":
            return f.binary("sub", constant(kind, 0, n), a[0])
        case "abs":
            return (
                f.intrinsic("smax", a[0], f.binary("sub", constant(kind, 0, n), a[0]))
                if signed
                else a[0]
            )
        case "popcount":
            return f.intrinsic("ctpop", a[0])
        case "floordiv" | "mod":
            return _divide(f, op.name, signed, a)
        case "shl" | "shr":
            return _shift(f, op.name, t, a)
        case _:
            raise TileError(f"cpu: no code for {op.name} of {t}", op.loc)


def _shift(f: Function, name: str, t: DType, a: list[V]) -> V:
    n, kind = a[0].lanes, a[0].type
    inside = f.compare("icmp ult", a[1], constant(kind, t.bits, n))
    by = f.select(inside, a[1], constant(kind, 0, n))
    if name == "shl":
        return f.select(inside, f.binary("shl", a[0], by), constant(kind, 0, n))
    far = constant(kind, (64 if kind == "i64" else 32) - 1, n)
    if t.kind == "int":
        return f.binary("ashr", a[0], f.select(inside, a[1], far))
    return f.select(inside, f.binary("lshr", a[0], by), constant(kind, 0, n))


def _divide(f: Function, name: str, signed: bool, a: list[V]) -> V:
    """Floor division; 0 where the divisor is 0, and no trap at the least number by -1."""
    n, kind = a[0].lanes, a[0].type
    zero, one = constant(kind, 0, n), constant(kind, 1, n)
    none = f.compare("icmp eq", a[1], zero)
    if not signed:
        by = f.select(none, one, a[1])
        return f.select(none, zero, f.binary("udiv" if name == "floordiv" else "urem", a[0], by))
    minus = f.compare("icmp eq", a[1], constant(kind, -1, n))
    by = f.select(f.binary("or", none, minus), one, a[1])
    q, r = f.binary("sdiv", a[0], by), f.binary("srem", a[0], by)
    mixed = f.compare("icmp slt", f.binary("xor", r, by), zero)
    off = f.binary("and", mixed, f.compare("icmp ne", r, zero))
    if name == "mod":
        return f.select(none, zero, f.select(off, f.binary("add", r, by), r))
    down = f.select(off, f.binary("sub", q, one), q)
    return f.select(none, zero, f.select(minus, f.binary("sub", zero, a[0]), down))


def _bitcast(f: Function, v: V, source: DType, out: DType) -> V:
    if source.kind == "code":
        v = codes.encode(f, source, v)
    elif source.is_float:
        wide = source.bits >= 32
        v = f.convert("bitcast", v, f"i{source.bits}") if wide else numbers.narrow(f, source, v)
    if out.is_float and out.bits >= 32:
        return numbers.round_float(f, out, f.convert("bitcast", v, numbers.register(out)))
    return numbers.wrap(f, out, v) if v.type == "i64" else numbers.from_bits(f, out, v)


def cast(f: Function, v: V, source: DType, op: casts.Cast, random: V | None) -> V:
    """A value of one dtype as another."""
    out = op.dtype
    whole = source.is_integer or source.kind == "bool"
    if out.kind == "bool":
        return f.compare("icmp ne" if whole else "fcmp une", v, constant(v.type, 0, v.lanes))
    if whole and out.is_integer:
        return _resize(f, v, source, out, op.saturate)
    if whole:
        v = _real(f, v, source, out)
    if out.is_integer:
        return _to_whole(f, v, out, op, random)
    plain = random is None and not op.saturate
    if plain and out.is_float and out.bits <= 32 and out.holds(source):
        return v
    if out.is_float:
        return numbers.round_float(f, out, v, op.rounding, op.saturate, random)
    if random is not None:
        return codes.by_chance(f, out, v, op.saturate, random)
    return codes.rounded(f, out, v, op.rounding, op.saturate)


def _real(f: Function, v: V, source: DType, out: DType) -> V:
    """A whole number as a float or double that rounds as it does: of more than 53 bits it keeps 42
    and whether there are more."""
    n = v.lanes
    if source.kind != "int":
        return f.convert("uitofp", v, "float" if source.bits < 24 else "double")
    if v.type == "i64" and out != f64:
        ends = f.compare("icmp ne", f.binary("and", v, constant("i64", 2047, n)),
                         constant("i64", 0, n))  # fmt: skip
        more = f.select(ends, constant("i64", 2048, n), constant("i64", 0, n))
        kept = f.binary("or", f.binary("and", v, constant("i64", -2048, n)), more)
        high = f.binary("ashr", v, constant("i64", 53, n))
        short = f.compare("icmp ult", f.binary("add", high, constant("i64", 1, n)),
                          constant("i64", 2, n))  # fmt: skip
        v = f.select(short, v, kept)
    return f.convert("sitofp", v, "float" if source.bits < 24 else "double")


def _resize(f: Function, v: V, source: DType, out: DType, saturate: bool) -> V:
    wide = f.convert("sext" if source.kind == "int" else "zext", v, "i64") if v.type != "i64" else v
    if saturate:
        low, high = (constant("i64", int(b), v.lanes) for b in (out.low, out.high))
        wide = f.intrinsic("smin", f.intrinsic("smax", wide, low), high)
    kept = f.convert("trunc", wide, numbers.register(out))
    return numbers.wrap(f, out, kept)


def _to_whole(f: Function, v: V, out: DType, op: casts.Cast, random: V | None) -> V:
    n = v.lanes
    near = f.convert("fpext", v, "double")
    if random is not None:
        near = f.binary("fadd", near, rounding.chance(f, random))
    ways = {"nearest": "roundeven", "toward_zero": "trunc", "stochastic": "floor"}
    near = f.intrinsic(ways[op.rounding], near)
    zero = constant("double", 0.0, n)
    near = f.select(f.compare("fcmp ord", v, v), near, zero)
    if op.saturate:
        low, high = constant("double", out.low, n), constant("double", out.high, n)
        near = f.intrinsic("minnum", f.intrinsic("maxnum", near, low), high)
    small = f.compare("fcmp olt", f.intrinsic("fabs", near), constant("double", 2.0**63, n))
    whole = f.convert("fptosi", f.select(small, near, zero), "i64")
    most = constant("i64", (1 << 63) - 1 if op.saturate else 0, n)
    negative = f.compare("fcmp olt", near, zero)
    far = f.select(negative, constant("i64", -(1 << 63), n), most)
    whole = f.select(small, whole, far)
    return numbers.wrap(f, out, f.convert("trunc", whole, numbers.register(out)))
