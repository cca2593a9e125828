"""Arithmetic on the bytes or halves of a word (PTX ISA, 'Video instructions'), of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.instructions.integer import clipped, parts
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import Type, types

WORDS = types("u32 s32")
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def _average(a: Array, b: Array) -> Array:
    """Rounded half away from zero."""
    return (a + b + ((a + b) >= 0)) >> 1


def _difference(a: Array, b: Array) -> Array:
    return np.abs(a - b)


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "vadd": np.add, "vsub": np.subtract, "vavrg": _average, "vabsdiff": _difference,
    "vmin": np.minimum, "vmax": np.maximum,
}  # fmt: skip
NAMES = " ".join(f"{n}{k}" for n in _OPERATIONS for k in (2, 4))


def _finish(x: Step, d: Array, width: int) -> None:
    """The parts as a word; `.add`: their sum plus c."""
    if "add" in x.i.modifiers:
        x.put((d.sum(axis=0) + x.row(3, 32)).astype(np.uint32))
        return
    shifts = np.arange(0, 32, width)[:, None]
    x.put(((d & ((1 << width) - 1)) << shifts).sum(axis=0).astype(np.uint32))


@instruction(NAMES, "sat add", types=(WORDS, WORDS, WORDS), operands=4)
def video(x: Step) -> None:
    """d = the operation on each part of a and b."""
    to, a_type, b_type = x.i.types
    width = 32 // int(x.i.name[-1])
    d = _OPERATIONS[x.i.name[:-1]](parts(x, 1, a_type, width), parts(x, 2, b_type, width))
    if "sat" in x.i.modifiers:
        d = clipped(d, Type("", to.kind, width))
    _finish(x, d, width)


@instruction("vset2 vset4", [*COMPARISONS, "add"], types=(WORDS, WORDS), operands=4)
def vset(x: Step) -> None:
    """d = 1 in each part where the comparison holds, else 0."""
    width = 32 // int(x.i.name[-1])
    compare = COMPARISONS[x.i.one_of(*COMPARISONS)]
    a, b = (parts(x, n, t, width) for n, t in zip((1, 2), x.i.types, strict=True))
    _finish(x, compare(a, b).astype(np.int64), width)
