"""The table of derivatives by op class, and what a rule writes with.

A rule says how the gradient of an op's result becomes those of its operands. Gradients are in f32,
those of f64 in f64, whatever the dtype of the value; a rule reads values in that width too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import DType, f32, f64
from tilec.ir.ops import arith, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Shape


@dataclass(frozen=True)
class Writer:
    """Writes the ops of gradients.

    `made` has the ops of the function by result, `written` the new ones. `rounded`: a product reads
    a gradient in 16 bits, if that is what the other operand has.
    """

    b: Builder
    made: Mapping[Value, Op]
    rounded: bool = False
    written: dict[Value, Op] = field(default_factory=dict[Value, Op])

    def __call__(self, op: Op) -> Value:
        """Write an op with one result."""
        self.written[op.result] = op
        return self.b(op)

    def maker(self, v: Value) -> Op | None:
        """The op that gives a value, of the function or of its gradients."""
        return self.written.get(v) or self.made.get(v)

    def cast(self, v: Value, dtype: DType) -> Value:
        """A tile in another dtype."""
        return v if tile("gradient", v).dtype == dtype else self(Cast(v, dtype))

    def wide(self, v: Value) -> Value:
        """A value in the dtype that its gradient has."""
        return self.cast(v, width(tile("gradient", v).dtype))

    def constant(self, x: float, like: Value) -> Value:
        """A number everywhere, of a value's shape and dtype."""
        t = tile("gradient", like)
        return self(shape.Full(t.shape, x, t.dtype))

    def times(self, a: Value, b: Value | float) -> Value:
        """a * b."""
        return self(arith.Mul(a, b if isinstance(b, Value) else self.constant(b, a)))

    def chosen(self, condition: Value, d: Value) -> Value:
        """A gradient where a condition holds, else 0."""
        return self(arith.Where(condition, d, self.constant(0.0, d)))

    def stretched(self, v: Value, axis: int, to: Shape) -> Value:
        """A tile without an axis repeated along it."""
        one = (*to[:axis], 1, *to[axis + 1 :])
        return self(shape.Broadcast(self(shape.Reshape(v, one)), to))


Given = tuple[Value | None, ...]  # the gradient of each operand; None: it gets none
Rule = Callable[[Any, Value, Writer], Given]  # the op, the gradient of its result

RULES: dict[type[Op], Rule] = {}
FLAT = (arith.Floor, arith.Ceil, arith.Rint)  # derivative 0 wherever there is one


def derivative(*classes: type[Op]) -> Callable[[Rule], Rule]:
    """Register the rule of these ops."""

    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, rule))
        return rule

    return add


def width(t: DType) -> DType:
    """The dtype of gradients of values of a dtype."""
    return f64 if t == f64 else f32


def smooth(t: DType) -> bool:
    """Whether values of a dtype have gradients: floats, and codes that stand for such."""
    return t.is_float or t.kind == "code"
