"""Extents of dimensions: an int, or a symbolic expression over positive integers (sympy's algebra).

Names and numbers, which is what nearly every program has, never load sympy.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import CodeType
from typing import Any, cast

from tilec.ir.errors import TileError

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9.]*")


@dataclass(frozen=True)
class Sym:
    """A symbolic extent in canonical text, such as `M` or `2*K + 1`."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_name(self) -> bool:
        """Whether this is one name, not an expression."""
        return _NAME.fullmatch(self.text) is not None

    def __add__(self, other: Extent) -> Extent:
        return self if other == 0 else extent(f"({self}) + ({other})")

    def __sub__(self, other: Extent) -> Extent:
        return self if other == 0 else extent(f"({self}) - ({other})")

    def __rsub__(self, other: int) -> Extent:
        return extent(f"({other}) - ({self})")

    def __mul__(self, other: Extent) -> Extent:
        return self if other == 1 else extent(f"({self}) * ({other})")

    def __floordiv__(self, other: Extent) -> Extent:
        return self if other == 1 else extent(f"floor(({self}) / ({other}))")

    __radd__ = __add__
    __rmul__ = __mul__


Extent = int | Sym


@lru_cache(maxsize=4096)
def extent(text: str) -> Extent:
    """The extent that `text` means, simplified; equal expressions give equal extents."""
    text = text.strip()
    if text.isdecimal():
        return int(text)
    if _NAME.fullmatch(text):
        return Sym(text)
    value = _expression(text)
    return int(value) if value.is_Integer else Sym(str(value))


def names(value: Extent) -> frozenset[str]:
    """The symbols that an extent is made of."""
    return (
        frozenset() if isinstance(value, int) else frozenset(_NAME.findall(value.text)) - _FUNCTIONS
    )


def mentioned(attribute: Any) -> frozenset[str]:
    """The symbols in an op's attribute: an extent, anything else, or a tuple of those."""
    if isinstance(attribute, tuple):
        inner = map(mentioned, cast(tuple[Any, ...], attribute))
        return frozenset[str]().union(*inner)
    return names(attribute) if isinstance(attribute, Sym) else frozenset()


def substitute(value: Extent, known: Mapping[str, Extent]) -> Extent:
    """`value` with symbols replaced; a plain name or number stays clear of sympy."""
    if isinstance(value, int):
        return value
    if value.is_name:
        return known.get(value.text, value)
    if not names(value) & known.keys():
        return value
    return extent(_NAME.sub(lambda m: f"({known.get(m[0], m[0])})", value.text))


def linear(value: Extent) -> tuple[int, dict[str, int]] | None:
    """The constant and the factor of each symbol in a sum of multiples; None for anything else."""
    if isinstance(value, int):
        return value, {}
    if value.is_name:
        return 0, {value.text: 1}
    terms = _expression(value.text).expand().as_coefficients_dict()
    if any(not (t.is_Symbol or t == 1) or not c.is_Integer for t, c in terms.items()):
        return None
    return int(terms.pop(1, 0)), {str(t): int(c) for t, c in terms.items()}


def number(value: Extent, known: Mapping[str, int]) -> int:
    """What an extent is for these numbers. Raises TileError where one is missing."""
    if isinstance(value, int):
        return value
    missing = names(value) - known.keys()
    if missing:
        raise TileError(f"no number for the dimension {', '.join(sorted(missing))}")
    exact = {n: Fraction(known[n]) for n in names(value)}
    functions = {"floor": math.floor, "ceiling": math.ceil, "Min": min, "Max": max}
    return int(eval(_code(value.text), {"__builtins__": {}}, exact | functions))


@lru_cache(maxsize=4096)
def _code(text: str) -> CodeType:
    """An extent's text, which is an expression of Python too, compiled."""
    return compile(text, "<extent>", "eval")


def ceil_div(a: Extent, b: Extent) -> Extent:
    """ceil(a / b)."""
    return (
        -(-a // b)
        if isinstance(a, int) and isinstance(b, int)
        else extent(f"ceiling(({a}) / ({b}))")
    )


def divides(divisor: Extent, value: Extent) -> bool:
    """Whether `value` is a multiple of `divisor` for every value of the symbols."""
    if isinstance(divisor, int) and isinstance(value, int):
        return value % divisor == 0
    if divisor == 1 or divisor == value:
        return True
    if isinstance(value, Sym) and value.is_name:
        return False
    return bool((_expression(str(value)) / _expression(str(divisor))).simplify().is_integer)


_FUNCTIONS = frozenset({"floor", "ceiling", "Min", "Max"})


def _expression(text: str) -> Any:
    sympy: Any = importlib.import_module("sympy")  # heavy, and most programs never come here
    symbols = {n: sympy.Symbol(n, integer=True, positive=True) for n in _NAME.findall(text)}
    functions = {n: getattr(sympy, n) for n in _FUNCTIONS}
    try:
        return sympy.simplify(sympy.sympify(text, locals=symbols | functions))
    except (sympy.SympifyError, TypeError, AttributeError) as e:
        raise TileError(f"not an extent: {text!r}") from e
