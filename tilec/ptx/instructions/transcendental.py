"""Functions that the ISA gives as approximations: here the result is correctly rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilec.ptx.arithmetic import wide
from tilec.ptx.formats import Array, encode
from tilec.ptx.instructions.floating import format_of, read, write
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import FLOATS, HALVES, types

SINGLE = types("f32")


def _apply(x: Step, f: Callable[[Array], Any]) -> None:
    t = x.i.types[0]
    write(x, encode(np.asarray(f(wide(read(x, 1)))), format_of(t)))


@instruction("ex2", "approx ftz", types=(SINGLE | HALVES,), operands=2)
def ex2(x: Step) -> None:
    """d = 2 ** a."""
    _apply(x, np.exp2)


@instruction("lg2", "approx ftz", types=(SINGLE,), operands=2)
def lg2(x: Step) -> None:
    """d = the logarithm of a to base 2."""
    _apply(x, np.log2)


@instruction("sin", "approx ftz", types=(SINGLE,), operands=2)
def sin(x: Step) -> None:
    """d = sin(a)."""
    _apply(x, np.sin)


@instruction("cos", "approx ftz", types=(SINGLE,), operands=2)
def cos(x: Step) -> None:
    """d = cos(a)."""
    _apply(x, np.cos)


@instruction("tanh", "approx ftz", types=(SINGLE | HALVES,), operands=2)
def tanh(x: Step) -> None:
    """d = tanh(a)."""
    _apply(x, np.tanh)


@instruction("rsqrt", "approx ftz", types=(FLOATS,), operands=2)
def rsqrt(x: Step) -> None:
    """d = 1 / sqrt(a)."""
    _apply(x, lambda a: 1.0 / np.sqrt(a))
