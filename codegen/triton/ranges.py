"""Between which numbers a whole number of a kernel lies, as far as its making shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from tilec.ir.core import Op, Value
from tilec.ir.extent import divides
from tilec.ir.ops import arith, control, shape
from tilec.ir.types import Span

Range = tuple[float, float]  # the least and the greatest, which may be infinite
ALL: Range = (-inf, inf)
LARGEST = (1 << 31) - 1


@dataclass(frozen=True)
class Ranges:
    """The ranges of values, by the ops that made them, in arithmetic that does not wrap; `masks`
    are those of spans that reach beyond their dimension."""

    made: Mapping[Value, Op]
    masks: Mapping[Value, str]

    def __getitem__(self, v: Value) -> Range:
        """The range of a value or, of a tile, of all its elements."""
        op = self.made.get(v)
        match op:
            case shape.Full() if op.dtype.is_integer:
                return op.value, op.value
            case shape.Start() | shape.Coordinates():
                assert isinstance(op.span.type, Span)
                dim, size = op.span.type.dim, op.span.type.size
                padded = isinstance(op, shape.Coordinates) and self.masks.get(op.span)
                past = size - 1 if padded and isinstance(size, int) else 0
                return 0, dim - 1 + past if isinstance(dim, int) else inf
            case shape.Size():
                return (op.dim, op.dim) if isinstance(op.dim, int) else (0, inf)
            case shape.Broadcast() | shape.Reshape() | shape.Transpose():
                return self[op.a]
            case arith.Where():
                return _union(self[op.a], self[op.b])
            case arith.Binary():
                found = _binary(op, self[op.a], self[op.b])
                return ALL if found[1] < inf and found[1] > LARGEST else found
            case _:
                return ALL


def whole_steps(op: control.For, made: Mapping[Value, Op]) -> bool:
    """Whether no step of a loop goes beyond where that stops, but for the end of the dimension."""
    by = made.get(op.stop) if op.stop is not None else None
    steps = made.get(by.b) if isinstance(by, arith.Mul) else None
    whole = isinstance(steps, shape.Full) and divides(op.tile or 1, int(steps.value))
    return op.stop is None or whole


def _union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])


def _binary(op: arith.Binary, a: Range, b: Range) -> Range:
    match op:
        case arith.Add():
            return a[0] + b[0], a[1] + b[1]
        case arith.Sub():
            return a[0] - b[1], a[1] - b[0]
        case arith.Minimum():
            return min(a[0], b[0]), min(a[1], b[1])
        case arith.Maximum():
            return max(a[0], b[0]), max(a[1], b[1])
        case arith.Mul() if a[0] >= 0 and b[0] >= 0 and max(a[1], b[1]) < inf:
            return a[0] * b[0], a[1] * b[1]
        case arith.FloorDiv() if a[0] >= 0 and b[0] >= 1:
            return 0 if b[1] == inf else a[0] // b[1], inf if a[1] == inf else a[1] // b[0]
        case arith.Mod() if a[0] >= 0 and b[0] >= 1:
            return 0, min(a[1], b[1] - 1)
        case _:
            return ALL
