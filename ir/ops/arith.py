"""Element-wise arithmetic, comparison, mathematical functions and selection."""

from __future__ import annotations

import math

import numpy as np

from tilec.ir import fused
from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, DType, boolean
from tilec.ir.errors import TileError
from tilec.ir.types import Tile, Type

EACH = Trait.ELEMENTWISE


def tile(op: str, value: Value) -> Tile:
    """The type of an operand that has to be a tile."""
    if not isinstance(value.type, Tile):
        raise TileError(f"{op}: expected a tile or a scalar, not {value.type}")
    return value.type


def number(op: str, value: Value) -> Tile:
    """The type of an operand that has to be a tile of numbers."""
    t = tile(op, value)
    if t.dtype == boolean:
        raise TileError(f"{op}: expected numbers, not {t}")
    computed(op, t.dtype)
    return t


def computed(op: str, t: DType) -> None:
    """Refuse codes: they are loaded, stored and cast, and computed with in another type."""
    if t.kind == "code":
        raise TileError(f"{op}: expected numbers, not codes of {t}", hint="cast them to f32 first")


class Binary(Op):
    """out = a . b, both of one shape and dtype"""

    a: Value
    b: Value

    def infer(self) -> Type:
        a, b = tile(self.name, self.a), tile(self.name, self.b)
        if a != b:
            raise TileError(f"{self.name}: operands differ: {a} and {b}")
        return self.accept(a)

    def accept(self, a: Tile) -> Tile:
        """The result's type for operands of type `a`."""
        number(self.name, self.a)
        return a


class Integral(Binary):
    """out = a . b on integers or bools"""

    def accept(self, a: Tile) -> Tile:
        if a.dtype.is_float:
            raise TileError(f"{self.name}: expected integers, not {a}")
        computed(self.name, a.dtype)
        return a


class Comparison(Binary):
    """out = a . b as bool"""

    def accept(self, a: Tile) -> Tile:
        computed(self.name, a.dtype)
        return Tile(a.shape, boolean)


class Add(Binary, name="add", traits=EACH | Trait.COMMUTATIVE):
    """out = a + b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a + b


class Sub(Binary, name="sub", traits=EACH):
    """out = a - b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a - b


class Mul(Binary, name="mul", traits=EACH | Trait.COMMUTATIVE):
    """out = a * b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a * b


class Div(Binary, name="div", traits=EACH):
    """out = a / b of floats"""

    def accept(self, a: Tile) -> Tile:
        if not a.dtype.is_float:
            raise TileError(f"div: expected floats, not {a}", hint="integers divide with //")
        return a

    def evaluate(self, a: Array, b: Array) -> Array:
        return a / b


class FloorDiv(Integral, name="floordiv", traits=EACH):
    """out = floor(a / b) of integers; 0 where b is 0"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.where(b == 0, 0, a // np.where(b == 0, 1, b))


class Mod(Integral, name="mod", traits=EACH):
    """out = a - b * floor(a / b) of integers; 0 where b is 0"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.where(b == 0, 0, a % np.where(b == 0, 1, b))


class Maximum(Binary, name="maximum", traits=EACH):  # of 0.0 and -0.0, order picks
    """out = a if a > b else b; NaN if either is NaN"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


class Minimum(Binary, name="minimum", traits=EACH):  # of 0.0 and -0.0, order picks
    """out = a if a < b else b; NaN if either is NaN"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


class And(Integral, name="and", traits=EACH | Trait.COMMUTATIVE):
    """out = a & b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a & b


class Or(Integral, name="or", traits=EACH | Trait.COMMUTATIVE):
    """out = a | b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a | b


class Xor(Integral, name="xor", traits=EACH | Trait.COMMUTATIVE):
    """out = a ^ b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a ^ b


class Shl(Integral, name="shl", traits=EACH):
    """out = a * 2**b; 0 where b is not in [0, bits)"""

    def evaluate(self, a: Array, b: Array) -> Array:
        inside = (b >= 0) & (b < tile("shl", self.a).dtype.bits)
        return np.where(inside, a << np.where(inside, b, 0), 0)


class Shr(Integral, name="shr", traits=EACH):
    """out = floor(a / 2**b); the sign where b is not in [0, bits)"""

    def evaluate(self, a: Array, b: Array) -> Array:
        inside = (b >= 0) & (b < tile("shr", self.a).dtype.bits)
        return a >> np.where(inside, b, 63)


class Eq(Comparison, name="eq", traits=EACH | Trait.COMMUTATIVE):
    """out = a == b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a == b


class Ne(Comparison, name="ne", traits=EACH | Trait.COMMUTATIVE):
    """out = a != b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a != b


class Lt(Comparison, name="lt", traits=EACH):
    """out = a < b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a < b


class Le(Comparison, name="le", traits=EACH):
    """out = a <= b"""

    def evaluate(self, a: Array, b: Array) -> Array:
        return a <= b


class Fma(Op, name="fma", traits=EACH):
    """out = a * b + c, rounded once"""

    a: Value
    b: Value
    c: Value

    def infer(self) -> Type:
        a, b, c = (tile("fma", v) for v in (self.a, self.b, self.c))
        if not a.dtype.is_float or a != b or a != c:
            raise TileError(f"fma: expected three equal tiles of floats, not {a}, {b}, {c}")
        return a

    def evaluate(self, a: Array, b: Array, c: Array) -> Array:
        if tile("fma", self.a).dtype.bits == 64:
            return np.vectorize(fused.in_doubles, otypes=[np.float64])(a, b, c)
        return fused.odd_sum(a * b, c)


class Unary(Op):
    """out = f(a) of floats"""

    a: Value

    def infer(self) -> Type:
        a = tile(self.name, self.a)
        if not a.dtype.is_float:
            raise TileError(
                f"{self.name}: expected floats, not {a}", hint="cast to a float type first"
            )
        return a


class Neg(Unary, name="neg", traits=EACH):
    """out = -a"""

    def infer(self) -> Type:
        return number("neg", self.a)

    def evaluate(self, a: Array) -> Array:
        return -a


class Abs(Unary, name="abs", traits=EACH):
    """out = |a|"""

    def infer(self) -> Type:
        return number("abs", self.a)

    def evaluate(self, a: Array) -> Array:
        return np.abs(a)


class Not(Op, name="not", traits=EACH):
    """out = ~a of integers or bools"""

    a: Value

    def infer(self) -> Type:
        a = tile("not", self.a)
        if a.dtype.is_float:
            raise TileError(f"not: expected integers or bools, not {a}")
        computed("not", a.dtype)
        return a

    def evaluate(self, a: Array) -> Array:
        return ~a


class Popcount(Unary, name="popcount", traits=EACH):
    """out = the number of ones among the 32 bits of a"""

    def infer(self) -> Type:
        a = tile("popcount", self.a)
        if not a.dtype.is_integer or a.dtype.bits != 32:
            raise TileError(f"popcount: expected i32 or u32, not {a}")
        return a

    def evaluate(self, a: Array) -> Array:
        bits = np.asarray(a).astype(np.int64)[..., None] >> np.arange(32) & 1
        return bits.sum(-1)


class Exp(Unary, name="exp", traits=EACH):
    """out = e**a"""

    def evaluate(self, a: Array) -> Array:
        return np.exp(a)


class Exp2(Unary, name="exp2", traits=EACH):
    """out = 2**a"""

    def evaluate(self, a: Array) -> Array:
        return np.exp2(a)


class Log(Unary, name="log", traits=EACH):
    """out = ln a"""

    def evaluate(self, a: Array) -> Array:
        return np.log(a)


class Log2(Unary, name="log2", traits=EACH):
    """out = log2 a"""

    def evaluate(self, a: Array) -> Array:
        return np.log2(a)


class Sqrt(Unary, name="sqrt", traits=EACH):
    """out = a**(1/2)"""

    def evaluate(self, a: Array) -> Array:
        return np.sqrt(a)


class Rsqrt(Unary, name="rsqrt", traits=EACH):
    """out = a**(-1/2)"""

    def evaluate(self, a: Array) -> Array:
        return 1.0 / np.sqrt(a)


class Sin(Unary, name="sin", traits=EACH):
    """out = sin a"""

    def evaluate(self, a: Array) -> Array:
        return np.sin(a)


class Cos(Unary, name="cos", traits=EACH):
    """out = cos a"""

    def evaluate(self, a: Array) -> Array:
        return np.cos(a)


class Tanh(Unary, name="tanh", traits=EACH):
    """out = tanh a"""

    def evaluate(self, a: Array) -> Array:
        return np.tanh(a)


class Erf(Unary, name="erf", traits=EACH):
    """out = erf a"""

    def evaluate(self, a: Array) -> Array:
        return np.vectorize(math.erf, otypes=[np.float64])(a)


class Floor(Unary, name="floor", traits=EACH):
    """out = the greatest whole number <= a"""

    def evaluate(self, a: Array) -> Array:
        return np.floor(a)


class Ceil(Unary, name="ceil", traits=EACH):
    """out = the least whole number >= a"""

    def evaluate(self, a: Array) -> Array:
        return np.ceil(a)


class Rint(Unary, name="rint", traits=EACH):
    """out = the nearest whole number, ties to even"""

    def evaluate(self, a: Array) -> Array:
        return np.rint(a)


class Where(Op, name="where", traits=EACH):
    """out = a where condition else b"""

    condition: Value
    a: Value
    b: Value

    def infer(self) -> Type:
        c, a, b = (tile("where", v) for v in (self.condition, self.a, self.b))
        if c != Tile(a.shape, boolean) or a != b:
            raise TileError(f"where: expected a bool tile and two equal tiles, not {c}, {a}, {b}")
        return a

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)
