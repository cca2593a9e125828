"""Products of decoded f32 as products of 16-bit floats, which matrix units multiply.

A format that is decoded element by element gives f32, for which there is no exact instruction. What
a code is times a scale has few bits, though: it is one 16-bit float, or the sum of two or three.
"""

from __future__ import annotations

from tilec.ir.core import Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import DType, bf16, f16, f32
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Shape
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.possible import Possible

MOST = 3  # floats that a number is the sum of
TURN = (1, 0)


@register("narrow-products")
def narrow_products(func: Func) -> Func:
    """Multiply decoded f32 as f16, as bf16, or as sums of bf16; what is the same along k waits.

    A factor of an operand that all k's of a step have in common becomes the product's scale. What
    is left is cast to the other operand's dtype where every number that it may be is exact there.
    Else both operands are sums of bf16 that are equal to them, at most three, with a product for
    each pair of which the result is not below 2^-24 of the whole.

    Before: formats are lowered; tile sizes may be open. After: the same. Sums are rounded
    elsewhere; what is not finite may be NaN. Products stay as they are that matrix units have, and
    those without codes of at most 8 bits or with any other f32.
    """
    narrowing = _Narrowing()
    body = rebuild(func.body, {}, narrowing.change)
    return func.replaced(body, *narrowing.remarks)


class _Narrowing:
    """The rewriting of one function; `change` is the rule for `rebuild`."""

    def __init__(self) -> None:
        self.made: dict[Value, Op] = {}
        self.possible = Possible(self.made)
        self.remarks: list[Remark] = []

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Replace products of decoded f32."""
        self.made.update(dict.fromkeys(op.results, op))
        if not isinstance(op, reduce.Dot) or not self._decoded(op):
            return False
        found = self._by_one(op, b) or self._by_terms(op, b)
        if found is not None:
            to[op.result] = found
        return found is not None

    def _decoded(self, op: reduce.Dot) -> bool:
        """Whether a product has an operand in f32 that comes from codes, and none that is more."""
        wide = [v for v in (op.a, op.b) if tile(v).dtype == f32]
        plain = tile(op.a).rank == 2 and tile(op.acc).dtype == f32
        codes = [self.possible.decoded(v) for v in wide]
        few = (c or self.possible.bits(v) <= f16.bits for c, v in zip(codes, wide, strict=True))
        return plain and any(codes) and all(few)

    def _by_one(self, op: reduce.Dot, b: Builder) -> Value | None:
        """One product: each operand is exact in a 16-bit float, but for a scale of its own."""
        bare, scale = self._along(op.b, b) if op.scale is None else (op.b, None)
        t = self._common(op.a, bare)
        if t is None:
            return None
        scaled = "" if scale is None else ", a factor of its rows on the accumulator"
        self._remark(op, f"a product of {tile(op.a).dtype} and {tile(op.b).dtype} is one of {t}"
                         + scaled)  # fmt: skip
        left, right = (self._cast(v, t, b) for v in (op.a, bare))
        return self._kept(b, reduce.Dot(left, right, op.acc, scale or op.scale, op.row_scale))

    def _common(self, a: Value, b: Value) -> DType | None:
        """The 16-bit float in which all numbers that operands may be are exact."""
        held = [tile(v).dtype for v in (a, b)]
        for t in (f16, bf16):
            fits = (own == t or self.possible.exact(v, t)
                    for own, v in zip(held, (a, b), strict=True))  # fmt: skip
            if all(fits):
                return t
        return None

    def _along(self, v: Value, b: Builder) -> tuple[Value, Value | None]:
        """A second operand without the factor that all its k's have in common, and that factor."""
        inner = self._turned(v)
        turned = inner is not None
        op = self.made.get(v if inner is None else inner)
        if not isinstance(op, arith.Mul):
            return v, None
        for one, other in ((op.a, op.b), (op.b, op.a)):
            scale = self._vector(other, 0 if turned else 1, b)
            if scale is not None:
                return (self._kept(b, shape.Transpose(one, TURN)) if turned else one), scale
        return v, None

    def _vector(self, v: Value, axis: int, b: Builder) -> Value | None:
        """The numbers along an axis of a matrix that is the same along the other one."""
        op, whole = self.made.get(v), tile(v).shape
        if isinstance(op, shape.Full):
            return self._kept(b, shape.Full((whole[axis],), op.value, op.dtype))
        if not isinstance(op, shape.Broadcast):
            return None
        own = tile(op.a).shape
        padded: Shape = (*(1,) * (2 - len(own)), *own)
        if padded[1 - axis] != 1 or whole[1 - axis] == 1:
            return None
        size = padded[axis]
        flat = op.a if len(own) == 1 else self._kept(b, shape.Reshape(op.a, (size,)))
        return flat if size == whole[axis] else self._kept(
            b, shape.Broadcast(flat, (whole[axis],)))  # fmt: skip

    def _by_terms(self, op: reduce.Dot, b: Builder) -> Value | None:
        """A sum of products of bf16."""
        width = bf16.mantissa + 1
        counts = [-(-self.possible.bits(v) // width) for v in (op.a, op.b)]
        if max(counts) > MOST or (counts[0] - 1) + (counts[1] - 1) > MOST:
            return None
        self._remark(op, f"a product of {tile(op.a).dtype} and {tile(op.b).dtype} is a sum of "
                         f"those of {counts[0]} and {counts[1]} bf16")  # fmt: skip
        left, right = (self._terms(v, n, b) for v, n in zip((op.a, op.b), counts, strict=True))
        scaled = op.scale is not None or op.row_scale is not None
        total = self._kept(b, shape.Full(tile(op.acc).shape, 0.0, f32)) if scaled else op.acc
        for i in reversed(range(counts[0])):
            for j in reversed(range(min(counts[1], MOST - i))):
                total = self._kept(b, reduce.Dot(left[i], right[j], total))
        return self._scaled(op, total, b) if scaled else total

    def _terms(self, v: Value, count: int, b: Builder) -> list[Value]:
        """Bf16 that add up to an operand, the greatest first."""
        inner = self._turned(v)
        if inner is not None:
            return [self._kept(b, shape.Transpose(x, TURN)) for x in self._terms(inner, count, b)]
        found = [self._cast(v, bf16, b)]
        rest = self._cast(v, f32, b) if count > 1 else v
        while len(found) < count:
            taken = self._cast(found[-1], f32, b)
            rest = self._kept(b, arith.Sub(rest, taken))
            found.append(self._cast(rest, bf16, b))
        return found

    def _scaled(self, op: reduce.Dot, total: Value, b: Builder) -> Value:
        """acc + total * the scales of a product."""
        whole, factors = tile(total).shape, list[Value]()
        for scale, own in ((op.row_scale, (whole[0], 1)), (op.scale, (1, whole[1]))):
            if scale is not None:
                column = self._kept(b, shape.Reshape(scale, own))
                factors.append(self._kept(b, shape.Broadcast(column, whole)))
        for factor in factors[:-1]:
            total = self._kept(b, arith.Mul(total, factor))
        return self._kept(b, arith.Fma(total, factors[-1], op.acc))

    def _cast(self, v: Value, t: DType, b: Builder) -> Value:
        """A value in another dtype; of what is transposed, before that."""
        if tile(v).dtype == t:
            return v
        inner = self._turned(v)
        if inner is not None:
            return self._kept(b, shape.Transpose(self._cast(inner, t, b), TURN))
        return self._kept(b, Cast(v, t))

    def _turned(self, v: Value) -> Value | None:
        """The matrix that a value is the transpose of, if it is one."""
        op = self.made.get(v)
        return op.a if isinstance(op, shape.Transpose) and op.order == TURN else None

    def _kept(self, b: Builder, op: Op) -> Value:
        """Write an op, whose value may be asked about."""
        self.made.update(dict.fromkeys(op.results, op))
        return b(op)

    def _remark(self, op: Op, message: str) -> None:
        self.remarks.append(Remark("narrow-products", message, op.loc))
