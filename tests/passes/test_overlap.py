"""Products that end a step later: where they may, what is said where not, and the same results."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import poisoned
from lang import kernels

import tilec as tc
from tilec.cuda import Schedule, cuda_func
from tilec.ir.core import Func
from tilec.ir.interpret import interpret
from tilec.ir.ops import control, machine
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.passes import Step

DIMS = {"M": 64, "N": 64, "K": 256}


def laid(x: tc.DType = tc.bf16, w: tc.DType = tc.bf16, **choices: object) -> Func:
    """A product of warp groups, 64 x 64 x 64 a step."""
    schedule = Schedule(instruction="wgmma", tiles={"m": 64, "n": 64, "k": 64},
                        **choices)  # pyright: ignore[reportArgumentType]  # fmt: skip
    return cuda_func(kernels.linear.definition, DIMS, {"x": x, "w": w, "y": tc.f32}, schedule)


def settles(func: Func) -> list[tuple[bool, int]]:
    """Whether each wait for products is in a loop, and how many it leaves under way."""
    inside = {op for o in func.walk() if isinstance(o, control.For) for op in o.body.walk()}
    return [(op in inside, op.pending) for op in func.walk() if isinstance(op, machine.Settle)]


def result(func: Func) -> np.ndarray:
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, (64, 256)).astype(float) for _ in range(2))
    y = poisoned((64, 64), tc.f32).astype(float)
    interpret(func, {"x": x, "w": w, "y": y}, {})
    assert np.array_equal(y, x @ w.T)
    return y


def test_the_last_step_is_waited_for_behind_the_loop() -> None:
    func = laid(stages=4, overlap=1)
    assert settles(func) == [(True, 1), (False, 0)]
    assert settles(laid(stages=4)) == [(True, 0)]
    assert np.array_equal(result(func), result(laid(stages=4)))


def test_twice_is_once() -> None:
    func = laid(stages=4, overlap=1)
    assert show(Step("overlap")(func)) == show(func)


def test_it_is_text() -> None:
    """What warp groups do, written and read again."""
    text = show(laid(stages=4, overlap=1))
    assert show(parse(text)) == text


@pytest.mark.parametrize(
    ("choices", "missing"),
    [
        ({"stages": 3}, "a slot that is kept"),
        ({"stages": 4, "copies": "bulk"}, "a slot that is kept"),
        ({"stages": 4, "x": tc.e4m3, "overlap": 1}, "operands that lie in rings"),
    ],
)
def test_what_is_missing_is_said(choices: dict[str, object], missing: str) -> None:
    func = Step("overlap")(laid(**choices))  # pyright: ignore[reportArgumentType]
    assert all(pending == 0 for _, pending in settles(func))
    assert any(missing in r.missing for r in func.remarks if r.origin == "overlap")
    result(func)


def test_too_few_slots() -> None:
    with pytest.raises(tc.TileError, match="of 2 slots 1 can't be kept"):
        laid(stages=2, overlap=1)
