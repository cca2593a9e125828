"""Expressions as a programmer lays them out: no needless parentheses, and lines that fit."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 96
MANY = 6  # parts that share lines
_BINARY: dict[type[ast.operator], tuple[int, str]] = {
    ast.BitOr: (1, "|"), ast.BitXor: (2, "^"), ast.BitAnd: (3, "&"), ast.LShift: (4, "<<"),
    ast.RShift: (4, ">>"), ast.Add: (5, "+"), ast.Sub: (5, "-"), ast.Mult: (6, "*"),
    ast.Div: (6, "/"), ast.FloorDiv: (6, "//"), ast.Mod: (6, "%"),
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.Invert: "~"}
_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_COMPARISON, _SIGN, _ATOM = 0, 7, 8


@dataclass(frozen=True)
class _Text:
    """An expression in pieces that a line break may part, and how tightly its loosest part binds.

    `head` and `tail` stand around the items of a call or a tuple; without items, `head` is all.
    """

    flat: str
    binds: int
    head: str = ""
    items: tuple[tuple[str, _Text], ...] = ()
    tail: str = ""


def wrapped(statement: str, indent: int) -> list[str]:
    """The lines of a statement of one line that stands `indent` columns deep."""
    lead, room = " " * indent, WIDTH - indent
    if statement.startswith("# "):
        first, *rest = textwrap.wrap(statement.removeprefix("# "), room - 6)
        return [f"{lead}# {first}", *(f"{lead}#     {line}" for line in rest)]
    if statement.startswith(("else", "pass", "def")):
        return [lead + statement]
    header = statement.endswith(":")
    (node,) = ast.parse(f"{statement} pass" if header else statement).body
    reader = _Reader(statement.encode())
    match node:
        case ast.Assign(targets=[target], value=value):
            left = reader.listed(target)
            right = reader.listed(value)
            several = isinstance(target, ast.Tuple)  # a comma after one name would change it
            if several and len(left) > room // 2 and len(f"{left} = {right}") > room:
                inside = [f"{lead}    {line}" for line in textwrap.wrap(f"{left},", room - 4)]
                return [f"{lead}(", *inside, *_broken(") = ", reader.text(value), "", indent)]
            if isinstance(value, ast.Tuple) and len(f"{left} = {right}") <= room:
                return [f"{lead}{left} = {right}"]
            return _broken(f"{left} = ", reader.text(value), "", indent)
        case ast.Expr(value=value):
            return _broken("", reader.text(value), "", indent)
        case ast.Return(value=ast.expr() as value):
            return _broken("return ", reader.text(value), "", indent)
        case ast.For(target=target, iter=value):
            return _broken(f"for {reader.listed(target)} in ", reader.text(value), ":", indent)
        case ast.While(test=value) | ast.If(test=value):
            word = statement.split(None, 1)[0]
            return _broken(f"{word} ", reader.text(value), ":", indent)
        case _:
            return [lead + statement]


def _broken(left: str, text: _Text, right: str, indent: int, inside: bool = False) -> list[str]:
    """One line if that fits, otherwise one for each part; `inside` brackets none are needed."""
    lead = " " * indent
    if len(lead + left + text.flat + right) <= WIDTH or not text.items:
        return [lead + left + text.flat + right]
    if not text.head:  # operators: each starts a line
        if inside:
            first, *rest = text.items
            lines = _broken(left + first[0], first[1], "" if rest else right, indent, True)
            for i, (mark, item) in enumerate(rest):
                lines += _broken(mark, item, right if i == len(rest) - 1 else "", indent, True)
            return lines
        return [f"{lead}{left}(", *_broken("", text, "", indent + 4, True), f"{lead}){right}"]
    comma = "" if len(text.items) == 1 else ","
    together = ", ".join(mark + item.flat for mark, item in text.items)
    lines = [f"{lead}{left}{text.head}"]
    if len(together) + indent + 4 <= WIDTH:
        lines.append(f"{lead}    {together}")
    elif len(text.items) > MANY:
        whole = ", ".join((mark + item.flat).replace(" ", "\0") for mark, item in text.items)
        filled = textwrap.wrap(f"{whole},", WIDTH - indent - 4, break_long_words=False)
        lines += [f"{lead}    {line}".replace("\0", " ") for line in filled]
    else:
        for mark, item in text.items:
            lines += _broken(mark, item, comma, indent + 4, True)
    return [*lines, f"{lead}{text.tail}{right}"]


@dataclass(frozen=True)
class _Reader:
    """Makes texts of the expressions of a statement."""

    source: bytes

    def text(self, node: ast.expr, least: int = 0) -> _Text:
        """An expression that stands where only what binds at least so tightly may stand bare."""
        found = self._text(node)
        if found.binds >= least:
            return found
        return _Text(f"({found.flat})", _ATOM, "(", (("", found),), ")")

    def listed(self, node: ast.expr) -> str:
        """An expression on one line; a tuple without parentheses."""
        if isinstance(node, ast.Tuple) and len(node.elts) > 1:
            return ", ".join(self.text(e).flat for e in node.elts)
        return self.text(node).flat

    def _text(self, node: ast.expr) -> _Text:
        match node:
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return self._binary(node)
            case ast.UnaryOp(op=op, operand=a) if type(op) in _UNARY:
                return _Text(_UNARY[type(op)] + self.text(a, _SIGN).flat, _SIGN)
            case ast.Compare(left=a, ops=[op], comparators=[b]) if type(op) in _COMPARED:
                left, right = (self.text(x, _COMPARISON + 1) for x in (a, b))
                mark = f"{_COMPARED[type(op)]} "
                return _Text(f"{left.flat} {mark}{right.flat}", _COMPARISON,
                             items=(("", left), (mark, right)))  # fmt: skip
            case ast.Call():
                return self._call(node)
            case ast.Attribute(value=value, attr=name):
                return _after(self.text(value, _ATOM), f".{name}")
            case ast.Subscript(value=value, slice=index):
                return _after(self.text(value, _ATOM), f"[{self._source(index)}]")
            case ast.Tuple(elts=elements):
                texts = [self.text(e) for e in elements]
                comma = "," if len(texts) == 1 else ""
                items = tuple(("", t) for t in texts) if len(texts) > 1 else ()
                return _Text(f"({', '.join(t.flat for t in texts)}{comma})", _ATOM, "(", items, ")")
            case ast.List(elts=elements):
                texts = [self.text(e) for e in elements]
                items = tuple(("", t) for t in texts)
                return _Text(f"[{', '.join(t.flat for t in texts)}]", _ATOM, "[", items, "]")
            case ast.Name() | ast.Constant():
                return _Text(self._source(node), _ATOM)
            case _:
                return _Text(self._source(node), -1)

    def _binary(self, node: ast.BinOp) -> _Text:
        """A chain of one rank is one list of items."""
        rank, mark = _BINARY[type(node.op)]
        left = self._operand(node, node.left, rank)
        right = self._operand(node, node.right, rank + 1)
        chain = left.items if not left.head and left.binds == rank else ()
        items = (*(chain or (("", left),)), (f"{mark} ", right))
        return _Text(f"{left.flat} {mark} {right.flat}", rank, items=items)

    def _operand(self, node: ast.BinOp, a: ast.expr, least: int) -> _Text:
        """Bits, shifts, quotients and remainders among others keep their parentheses."""
        text = self.text(a, least)
        if isinstance(a, ast.BinOp) and text.binds < _SIGN and _apart(node.op, a.op):
            return self.text(a, _ATOM)
        return text

    def _call(self, node: ast.Call) -> _Text:
        function = self.text(node.func, _ATOM)
        items = [("", self.text(a)) for a in node.args]
        items += [(f"{k.arg}=", self.text(k.value)) for k in node.keywords]
        inner = ", ".join(mark + item.flat for mark, item in items)
        if isinstance(node.func, ast.Attribute) and function.items:  # a method of what is long
            return _after(function, f"({inner})")
        return _Text(f"{function.flat}({inner})", _ATOM, f"{function.flat}(", tuple(items), ")")

    def _source(self, node: ast.expr) -> str:
        assert node.end_col_offset is not None
        return self.source[node.col_offset : node.end_col_offset].decode()


def _after(text: _Text, more: str) -> _Text:
    """What follows an atom: a method, an index."""
    return _Text(text.flat + more, _ATOM, text.head, text.items, text.tail + more)


def _apart(outer: ast.operator, inner: ast.operator) -> bool:
    """Whether a reader would have to know the rank of one operator beside the other."""
    bits = (ast.BitOr, ast.BitXor, ast.BitAnd, ast.LShift, ast.RShift)
    if isinstance(outer, bits):
        return type(inner) is not type(outer)
    whole = (ast.FloorDiv, ast.Mod)
    product = (*whole, ast.Mult, ast.Div)
    return isinstance(outer, product) and isinstance(inner, product) and (
        isinstance(outer, whole) or isinstance(inner, whole))  # fmt: skip


def signature(name: str, *groups: Iterable[str]) -> list[str]:
    """The first lines of a function; groups of parameters that don't fit start lines."""
    flat = f"def {name}({', '.join(p for group in groups for p in group)}):"
    if len(flat) <= WIDTH:
        return [flat]
    joined = [", ".join(group).replace(": ", ":\0").replace(" = ", "\0=\0") for group in groups]
    inside = [line for group in joined if group for line in textwrap.wrap(f"{group},", WIDTH - 4)]
    return [f"def {name}(", *(f"    {line}".replace("\0", " ") for line in inside), "):"]
