"""Expressions over parameters, `bm * bn <= 64 * warps`: parsed into a checked tree, never evaluated
by Python. A column of values per name goes in, a column of results comes out.

Numbers are doubles, exact to 2^53. A comparison with a number that is undefined (x % 0) is false.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError

Column = NDArray[Any]
Columns = Mapping[str, Column]
LONGEST = 1000  # characters

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide, ast.Mod: np.mod, ast.Pow: np.power,
}  # fmt: skip
_ORDERED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
}  # fmt: skip
_EQUAL: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}  # fmt: skip
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {  # name: least arguments, meaning
    "min": (2, lambda *a: reduce(np.minimum, a)),
    "max": (2, lambda *a: reduce(np.maximum, a)),
    "abs": (1, np.abs),
    "ceil": (1, np.ceil),
    "log2": (1, np.log2),
}
RESERVED = frozenset({"true", "false", *_FUNCTIONS})


@dataclass(frozen=True)
class Node:
    """A part of an expression: is it text (a category) or a number, and its meaning."""

    text: bool
    column: Callable[[Columns], Any]


@dataclass(frozen=True)
class Expression:
    """A checked expression, the names that it reads, and what it says."""

    source: str
    names: frozenset[str]
    root: Node

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Where it is true, for columns of one length."""
        rows = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            found = np.asarray(self.root.column(columns))
        return np.broadcast_to(_truth(found), rows)

    def value(self, columns: Columns) -> NDArray[np.float64]:
        """Its number for every row."""
        rows = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            found = np.asarray(self.root.column(columns), np.float64)
        return np.broadcast_to(found, rows)


def parsed(source: str, categories: Mapping[str, bool]) -> Expression:
    """An expression over the names in `categories`, which says which of them are categories.

    It has numbers, true and false, 'words', names, + - * / // % **, comparisons (also chained), in
    (...), and, or, not, x if c else y, min, max, abs, ceil and log2. Raises TileError for more.
    """
    if len(source) > LONGEST:
        raise TileError(f"an expression has {len(source)} characters, at most {LONGEST} are read")
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        names = frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)) - RESERVED
        root = _Reader(source, categories).node(tree)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as e:
        raise TileError(f"the expression {source!r} can't be read ({e})") from None
    if root.text:
        raise TileError(f"the expression {source!r} is a word, expected a condition")
    return Expression(source, names, root)


def _truth(column: Any) -> Any:
    """Not zero, and not undefined."""
    found = np.asarray(column, np.float64)
    return (found != 0) & ~np.isnan(found)


@dataclass(frozen=True)
class _Reader:
    source: str
    categories: Mapping[str, bool]

    def error(self, what: str) -> TileError:
        return TileError(f"the expression {self.source!r}: {what}")

    def node(self, tree: ast.expr) -> Node:
        match tree:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return self.constant(value)
            case ast.Name(id="true" | "false" as word):
                return self.constant(word == "true")
            case ast.Name(id=name):
                return self.name(name)
            case ast.BoolOp(op=op, values=values):
                parts = [self.number(v).column for v in values]
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return Node(False, lambda c: reduce(join, [_truth(p(c)) for p in parts]))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b, f = self.number(left), self.number(right), _ARITHMETIC[type(op)]
                return Node(False, lambda c: f(a.column(c), b.column(c)))
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, self.number(operand))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                return self.chain(left, ops, rights)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                t, a, b = self.number(test), self.number(body), self.number(orelse)
                return Node(False, lambda c: _either(t.column(c), a.column(c), b.column(c)))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                return self.call(name, args)
            case _:
                raise self.error(f"{type(tree).__name__} has no meaning here")

    def constant(self, value: bool | int | float | str) -> Node:
        if isinstance(value, str):
            return Node(True, lambda c: value)
        number = float(value)  # OverflowError is no ValueError
        return Node(False, lambda c: number)

    def name(self, name: str) -> Node:
        if name not in self.categories:
            raise TileError(f"the expression {self.source!r}: {name} is no parameter",
                            hint=", ".join(self.categories))  # fmt: skip
        if self.categories[name]:
            return Node(True, lambda c: c[name])
        return Node(False, lambda c: c[name].astype(np.float64))

    def number(self, tree: ast.expr) -> Node:
        node = self.node(tree)
        if node.text:
            raise self.error("a category can only be compared, by ==, != and in")
        return node

    def unary(self, op: ast.unaryop, a: Node) -> Node:
        match op:
            case ast.Not():
                return Node(False, lambda c: ~_truth(a.column(c)))
            case ast.USub():
                return Node(False, lambda c: np.negative(a.column(c)))
            case ast.UAdd():
                return a
            case _:
                raise self.error("~ has no meaning here")

    def call(self, name: str, trees: list[ast.expr]) -> Node:
        least, f = _FUNCTIONS[name]
        if len(trees) < least or (least == 1 and len(trees) > 1):
            raise self.error(f"{name} takes {'one number' if least == 1 else 'two or more'}")
        args = [self.number(t) for t in trees]
        return Node(False, lambda c: f(*(a.column(c) for a in args)))

    def chain(self, left: ast.expr, ops: list[ast.cmpop], rights: list[ast.expr]) -> Node:
        links: list[Node] = []
        for op, right in zip(ops, rights, strict=True):
            links.append(self.link(left, op, right))
            left = right
        return Node(False, lambda c: reduce(np.logical_and, [n.column(c) for n in links]))

    def link(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Node:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
                raise self.error("in is followed by (value, value, ...)")
            links = [self.link(left, ast.Eq(), e) for e in right.elts]
            negated = isinstance(op, ast.NotIn)
            return Node(
                False, lambda c: negated ^ reduce(np.logical_or, [n.column(c) for n in links])
            )
        a, b = self.node(left), self.node(right)
        if a.text != b.text:
            raise self.error("a category is compared with a number")
        if type(op) in _EQUAL and a.text:
            f = _EQUAL[type(op)]
            return Node(False, lambda c: f(a.column(c), b.column(c)))
        if a.text or type(op) not in _ORDERED | _EQUAL:
            raise self.error(f"{type(op).__name__} has no meaning here")
        g = (_ORDERED | _EQUAL)[type(op)]
        return Node(False, lambda c: _defined(g, a.column(c), b.column(c)))


def _defined(f: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    return f(a, b) & ~np.isnan(a) & ~np.isnan(b)


def _either(test: Any, a: Any, b: Any) -> Any:
    return np.choose(_truth(test), [b, a])
