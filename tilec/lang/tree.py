"""A parse tree of `.tile` text as Python's `ast`, with the places of the text."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, TypeVar

from lark import Token, Tree
from lark.tree import Meta

Node = Tree[Token]
N = TypeVar("N", bound=ast.AST)

OPERATORS: dict[str, type[ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "%": ast.Mod, "@": ast.MatMult,
    "**": ast.Pow, "|": ast.BitOr, "^": ast.BitXor, "&": ast.BitAnd, "<<": ast.LShift,
    ">>": ast.RShift,
}  # fmt: skip
COMPARISONS: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq, "!=": ast.NotEq, "<=": ast.LtE, ">=": ast.GtE, "<": ast.Lt, ">": ast.Gt,
}  # fmt: skip
UNARY: dict[str, type[ast.unaryop]] = {"-": ast.USub, "+": ast.UAdd, "~": ast.Invert}
CONSTANTS = {"true": True, "false": False, "none": None}


def placed(node: N, at: Meta | Token) -> N:
    """The node, said to stand where `at` does."""
    position: dict[str, int] = {
        "lineno": at.line or 1,
        "col_offset": (at.column or 1) - 1,
        "end_lineno": at.end_line or 1,
        "end_col_offset": (at.end_column or 1) - 1,
    }
    for name, value in position.items():
        setattr(node, name, value)
    return node


class Syntax:
    """Turns parse trees into syntax trees: one method per rule that means something."""

    def function(self, node: Node) -> ast.FunctionDef:
        """A kernel or a function."""
        name, *params, body = node.children
        given = [p for p in params if isinstance(p, Tree)]
        args = [placed(ast.arg(str(p.children[0])), p.meta) for p in given]
        defaults = [self.expr(p.children[1]) for p in given
                    if p.data == "argument" and len(p.children) > 1]  # fmt: skip
        arguments = ast.arguments([], args, None, [], [], None, defaults)
        made = ast.FunctionDef(str(name), arguments, self.block(body), [])
        return placed(made, node.meta)

    def block(self, node: Node | Token) -> list[ast.stmt]:
        """The statements between braces."""
        assert isinstance(node, Tree)
        return [self.statement(c) for c in node.children if isinstance(c, Tree)]

    def statement(self, node: Node) -> ast.stmt:
        """One statement."""
        c = node.children
        match node.data:
            case "assign":
                made: ast.stmt = ast.Assign([self.target(c[0])], self.expr(c[1]))
            case "update":
                operator = OPERATORS[str(c[1])[:-1]]()
                place = self.target(c[0])
                assert isinstance(place, ast.Name | ast.Attribute | ast.Subscript)
                made = ast.AugAssign(place, operator, self.expr(c[2]))
            case "effect":
                made = ast.Expr(self.expr(c[0]))
            case "return":
                values = [self.expr(x) for x in c]
                several = placed(ast.Tuple(values), node.meta)
                made = ast.Return(values[0] if len(values) == 1 else several)
            case "for":
                made = ast.For(self.target(c[0]), self.expr(c[1]), self.block(c[2]), [])
            case "while":
                made = ast.While(self.expr(c[0]), self.block(c[1]), [])
            case "if":
                made = ast.If(self.expr(c[0]), self.block(c[1]), self.otherwise(c[2:]))
            case _:
                raise AssertionError(node.data)
        return placed(made, node.meta)

    def otherwise(self, rest: Sequence[Node | Token]) -> list[ast.stmt]:
        """The else branch, which may be another if."""
        if not rest:
            return []
        node = rest[0]
        assert isinstance(node, Tree)
        return [self.statement(node)] if node.data == "if" else self.block(node)

    def target(self, node: Node | Token) -> ast.expr:
        """What is assigned to: a place, or several."""
        assert isinstance(node, Tree)
        if node.data == "place":
            return self.expr(node.children[0])
        if node.data in ("target", "names"):
            items = [self.target(c) for c in node.children]
            return items[0] if len(items) == 1 else placed(ast.Tuple(items), node.meta)
        return self.expr(node)

    def expr(self, node: Node | Token) -> ast.expr:
        """One expression."""
        assert isinstance(node, Tree)
        return placed(getattr(self, f"expr_{node.data}")(node.children), node.meta)

    def expr_name(self, c: list[Any]) -> ast.expr:
        """A variable."""
        return ast.Name(str(c[0]))

    def expr_number(self, c: list[Any]) -> ast.expr:
        """A literal number: whole unless it has a point or an exponent."""
        text = str(c[0])
        if text[:2] in ("0x", "0X"):
            return ast.Constant(int(text, 16))
        return ast.Constant(int(text) if text.isdecimal() else float(text))

    def expr_string(self, c: list[Any]) -> ast.expr:
        """A word, such as the name of a rounding."""
        return ast.Constant(str(c[0])[1:-1])

    def expr_constant(self, c: list[Any]) -> ast.expr:
        """true, false or none."""
        return ast.Constant(CONSTANTS[str(c[0])])

    def expr_sum(self, c: list[Any]) -> ast.expr:
        """A binary operator."""
        return ast.BinOp(self.expr(c[0]), OPERATORS[str(c[1])](), self.expr(c[2]))

    expr_bits = expr_mask = expr_shift = expr_product = expr_power = expr_sum

    def expr_compare(self, c: list[Any]) -> ast.expr:
        """A comparison, or a chain of them."""
        signs: list[ast.cmpop] = [COMPARISONS[str(s)]() for s in c[1::2]]
        return ast.Compare(self.expr(c[0]), signs, [self.expr(x) for x in c[2::2]])

    def expr_or(self, c: list[Any]) -> ast.expr:
        """`a or b`."""
        return ast.BoolOp(ast.Or(), [self.expr(x) for x in c])

    def expr_and(self, c: list[Any]) -> ast.expr:
        """`a and b`."""
        return ast.BoolOp(ast.And(), [self.expr(x) for x in c])

    def expr_not(self, c: list[Any]) -> ast.expr:
        """`not a`."""
        return ast.UnaryOp(ast.Not(), self.expr(c[0]))

    def expr_unary(self, c: list[Any]) -> ast.expr:
        """`-a`, `+a`, `~a`."""
        return ast.UnaryOp(UNARY[str(c[0])](), self.expr(c[1]))

    def expr_tuple(self, c: list[Any]) -> ast.expr:
        """`(a, b)` or `[a, b]`."""
        return ast.Tuple([self.expr(x) for x in c])

    def expr_attribute(self, c: list[Any]) -> ast.expr:
        """`x.T`."""
        return ast.Attribute(self.expr(c[0]), str(c[1]))

    def expr_call(self, c: list[Any]) -> ast.expr:
        """`f(a, option=b)`."""
        called, *given = c
        options = [g for g in given if g.data == "option_value"]
        keywords = [
            placed(ast.keyword(str(g.children[0]), self.expr(g.children[1])), g.meta)
            for g in options
        ]
        args = [self.expr(g) for g in given if g.data != "option_value"]
        return ast.Call(self.expr(called), args, keywords)

    def expr_subscript(self, c: list[Any]) -> ast.expr:
        """`x[m, :]`."""
        tensor, *keys = c
        items = [self.key(k) for k in keys]
        key = items[0] if len(items) == 1 else placed(ast.Tuple(items), keys[0].meta)
        return ast.Subscript(self.expr(tensor), key)

    def key(self, node: Node) -> ast.expr:
        """One index: an expression or `a:b`."""
        inner = node.children[0]
        assert isinstance(inner, Tree)
        if inner.data == "rest":
            return placed(ast.Constant(...), inner.meta)
        return self.slice(inner) if inner.data == "slice" else self.expr(inner)

    def slice(self, node: Node) -> ast.expr:
        """`a:b`, either of which may be left out."""
        bounds: dict[bool, ast.expr] = {}
        seen_colon = False
        for c in node.children:
            if isinstance(c, Token):
                seen_colon = True
            else:
                bounds[seen_colon] = self.expr(c.children[0])
        return placed(ast.Slice(bounds.get(False), bounds.get(True)), node.meta)
