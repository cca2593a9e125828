"""What numbers are multiples of: never more than they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.ops import arith, shape
from tilec.ir.types import Span
from tilec.passes.multiples import multiple

STEPS = (16, 24, 64)
Sum = tuple[str, object, object]


def wrapped(n: int) -> int:
    return int(np.array(n, dtype=object).item() + (1 << 31)) % (1 << 32) - (1 << 31)


def written(tree: object, spans: list[Value], b: Builder) -> Value:
    """A sum in the IR."""
    match tree:
        case int():
            return b(shape.Full((), tree, i32))
        case ("start", int(n), _):
            return b(shape.Start(spans[n]))
        case (str(op), left, right):
            ops = {"add": arith.Add, "sub": arith.Sub, "mul": arith.Mul, "least": arith.Minimum}
            return b(ops[op](written(left, spans, b), written(right, spans, b)))
        case _:
            raise AssertionError(tree)


def value(tree: object, starts: list[int]) -> int:
    """What it is, in 32 bits."""
    match tree:
        case int():
            return tree
        case ("start", int(n), _):
            return starts[n]
        case (str(op), left, right):
            x, y = value(left, starts), value(right, starts)
            found = {"add": x + y, "sub": x - y, "mul": x * y, "least": min(x, y)}
            return wrapped(found[op])
        case _:
            raise AssertionError(tree)


LEAVES = st.integers(-70, 70) | st.tuples(st.just("start"), st.integers(0, 2), st.none())
TREES = st.recursive(
    LEAVES, lambda t: st.tuples(st.sampled_from(["add", "sub", "mul", "least"]), t, t), max_leaves=8
)


@given(tree=TREES, turns=st.lists(st.integers(0, 1 << 20), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_number_is_a_multiple(tree: object, turns: list[int]):
    spans = [Value(Span(1 << 30, n)) for n in STEPS]
    b = Builder()
    v = written(tree, spans, b)
    made: dict[Value, Op] = {r: op for op in b.ops for r in op.results}
    found = multiple(v, made, dict(zip(spans, STEPS, strict=True)))
    starts = [n * step for n, step in zip(turns, STEPS, strict=True)]
    assert value(tree, starts) % found == 0


def test_the_end_of_a_tile():
    """1 + (start + 64 - 1) is one, and 2 + (start + 64 - 1) is none."""
    span, b = Value(Span(4096, 64)), Builder()
    end = ("add", ("start", 0, None), 64)
    for first, want in ((1, 64), (2, 1)):
        v = written(("add", first, ("sub", end, 1)), [span], b)
        made = {r: op for op in b.ops for r in op.results}
        assert multiple(v, made, {span: 64}) == want
