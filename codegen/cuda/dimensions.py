"""Extents as C++: numbers, dimensions that a launch gives, and what is computed of these."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from tilec.ir.errors import TileError
from tilec.ir.extent import Extent

_INFIX: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_FUNCTIONS = {"Min": "min_s32", "Max": "max_s32"}


def written(e: Extent, names: Mapping[str, str]) -> str:
    """An extent whose dimensions are u32 under these names. Raises TileError for other ones."""
    if isinstance(e, int):
        return str(e)
    return _written(ast.parse(e.text, mode="eval").body, names, e)


def _written(node: ast.expr, names: Mapping[str, str], whole: Extent) -> str:
    match node:
        case ast.Constant(value=int(n)):
            return str(n)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _INFIX:
            a, b = (_written(x, names, whole) for x in (left, right))
            return f"({a} {_INFIX[type(op)]} {b})"
        case ast.Call(func=ast.Name(id="floor" | "ceiling" as name), args=[ast.BinOp() as inside]):
            if isinstance(inside.op, ast.Div):
                a, b = (_written(x, names, whole) for x in (inside.left, inside.right))
                return f"({a} / {b})" if name == "floor" else f"(({a} + {b} - 1) / {b})"
        case ast.Call(func=ast.Name(id="Min" | "Max" as name), args=[left, right]):
            a, b = (f"s32({_written(x, names, whole)})" for x in (left, right))
            return f"u32({_FUNCTIONS[name]}({a}, {b}))"
        case _:
            pass
    raise TileError(f"cuda: no code for the extent {whole}", hint="a number for its dimensions")
