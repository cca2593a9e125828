"""Comparisons (PTX ISA, `setp`, `set`, `testp`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilec.ptx.arithmetic import flush
from tilec.ptx.formats import UINT, Array
from tilec.ptx.operand import Pair
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import BITS, FLOATS, HALVES, INTEGERS, Type, types
from tilec.ptx.values import packed

COMPARED = BITS | INTEGERS | FLOATS | HALVES
Compare = Callable[[Any, Any], Any]
_ORDERED: dict[str, Compare] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal,
    "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_UNORDERED = {"equ": "eq", "neu": "ne", "ltu": "lt", "leu": "le", "gtu": "gt", "geu": "ge"}
ORDERS = (*_ORDERED, *_UNORDERED, "num", "nan")
LOGIC = ("and", "or", "xor")


def _either_nan(a: Any, b: Any) -> Any:
    return (a != a) | (b != b)


def _compared(order: str, a: Any, b: Any, t: Type) -> Any:
    """The comparison; a NaN makes an ordered one false and an unordered one true."""
    if t.kind != "float":
        return _ORDERED[order](a, b)
    nan = _either_nan(a, b)
    if order in ("nan", "num"):
        return nan if order == "nan" else ~nan
    if order in _UNORDERED:
        return _ORDERED[_UNORDERED[order]](a, b) | nan
    return _ORDERED[order](a, b) & ~nan


def _test(x: Step, t: Type) -> Any:
    """Operands 1 and 2 compared."""
    a, b = x.number(1, t), x.number(2, t)
    if "ftz" in x.i.modifiers and t.format is not None:
        a, b = flush(np.asarray(a), t.format), flush(np.asarray(b), t.format)
    return _compared(x.i.one_of(*ORDERS), a, b, t)


def _combined(x: Step, p: Any) -> Any:
    """The comparison combined with a predicate, where there is one."""
    match x.i.one_of(*LOGIC):
        case "and":
            return p & x.bits(3, 1)
        case "or":
            return p | x.bits(3, 1)
        case "xor":
            return p ^ x.bits(3, 1)
        case _:
            return p


@instruction("setp", [*ORDERS, *LOGIC, "ftz"], types=(COMPARED,), operands=(3, 4))
def setp(x: Step) -> None:
    """p = a < b and so on; the second result is of the opposite comparison, or of the other half.

    With a predicate c: p = (a < b) and c, q = not (a < b) and c.
    """
    t = x.i.types[0]
    test = _test(x, t)
    d = x.operand(0)
    if t.lanes > 1:
        first, second = (np.broadcast_to(test[:, k], x.t.count) for k in (0, 1))
    else:
        first, second = test, ~test
    p, q = _combined(x, first), _combined(x, second)  # before a result overwrites an operand
    if isinstance(d, Pair):
        d.first.put(x.t, p)
        d.second.put(x.t, q)
    else:
        d.put(x.t, p)


@instruction("set", [*ORDERS, *LOGIC, "ftz"], operands=(3, 4),
             types=(types("u32 s32 f32 f16 f16x2 bf16 bf16x2 u16 s16"), COMPARED))  # fmt: skip
def set_(x: Step) -> None:
    """d = all ones (integers) or 1.0 (floats) where the comparison holds, else 0."""
    to, t = x.i.types
    test = np.atleast_1d(_combined(x, _test(x, t)))
    code = _true(to if t.lanes == 1 or to.lanes > 1 else Type("", "uint", 16, 2))
    elements: Array = test * code
    x.put(packed(elements, t) if t.lanes > 1 else elements)


def _true(t: Type) -> Any:
    """What stands for true in a type."""
    if t.kind == "float":
        return {"f32": np.uint32(0x3F800000), "f16": np.uint16(0x3C00)}.get(
            t.name.removesuffix("x2"), np.uint16(0x3F80)
        )
    return UINT[t.bits](~np.uint64(0) & np.uint64((1 << t.bits) - 1))


@instruction("testp", "finite infinite number notanumber normal subnormal", types=(FLOATS,),
             operands=2)  # fmt: skip
def testp(x: Step) -> None:
    """The class of a float."""
    a = np.asarray(x.number(1))
    least = 2.0**-126 if x.i.types[0].bits == 32 else 2.0**-1022
    size = np.abs(a)
    tests: dict[str, Any] = {
        "finite": np.isfinite(a),
        "infinite": np.isinf(a),
        "number": ~np.isnan(a),
        "notanumber": np.isnan(a),
        "normal": np.isfinite(a) & (size >= least),
        "subnormal": (size > 0) & (size < least),
    }
    x.put(tests[x.i.one_of(*tests)])
