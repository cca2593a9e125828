"""Local rewrites: rules per op class, and the one driver that applies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tilec.ir.core import Builder, Func, Op, Value, rebuild
from tilec.ir.ops.shape import Full

Scalar = int | float | bool


@dataclass
class Context:
    """What a rule may ask about values, and where it writes new ops."""

    builder: Builder
    made: dict[Value, Op]

    def __call__(self, op: Op) -> Value:
        """Write an op with one result."""
        self.made.update(dict.fromkeys(op.results, op))
        return self.builder(op)

    def constant(self, v: Value) -> Scalar | None:
        """The number that every element of `v` is, if that is known."""
        op = self.made.get(v)
        return number(op) if isinstance(op, Full) else None


def number(op: Full) -> Scalar:
    """The value of a constant, rounded to its dtype."""
    return op.dtype.round(op.evaluate(())).item()


Result = Value | tuple[Value, ...] | None
Rule = Callable[[Any, Context], Result]  # the op is of the class that the rule is for


@dataclass
class Rules:
    """Rules by op class. A rule returns the values that stand for the op's results, or None."""

    of: dict[type[Op], list[Rule]] = field(default_factory=dict[type[Op], list[Rule]])

    def pattern(self, *classes: type[Op]) -> Callable[[Rule], Rule]:
        """Register a rule for ops of these classes."""

        def add(rule: Rule) -> Rule:
            for cls in classes:
                self.of.setdefault(cls, []).append(rule)
            return rule

        return add


def sweep(func: Func, rules: Rules) -> Func:
    """Offer every op, inside out, to the rules for its class; the first that applies wins."""
    made: dict[Value, Op] = {}

    def change(op: Op, to: dict[Value, Value], builder: Builder) -> bool:
        context = Context(builder, made)
        for rule in rules.of.get(type(op), ()):
            found = rule(op, context)
            if found is not None:
                values = found if isinstance(found, tuple) else (found,)
                to.update(zip(op.results, values, strict=True))
                return True
        made.update(dict.fromkeys(op.results, op))
        return False

    return func.replaced(rebuild(func.body, {}, change))
