"""Expressions of a kernel's syntax tree become ops."""

# What a name stands for while a kernel is walked can be anything: a tile, a number, a module.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import DType, boolean, i32
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Extent, Sym, names
from tilec.ir.ops import arith
from tilec.ir.types import Memory, Span
from tilec.lang import semantics
from tilec.lang.assigned import assigned
from tilec.lang.builtins import BUILTINS


@dataclass(frozen=True)
class Builtin:
    """A function of the language, as a name in a program means it."""

    name: str


@dataclass(frozen=True)
class Inline:
    """A function that is written out where it is called."""

    tree: ast.FunctionDef
    file: str
    lines: tuple[str, ...]
    lookup: Callable[[str], object]

    @property
    def doc(self) -> str | None:
        """What it says of itself."""
        return ast.get_docstring(self.tree)


Missing = object()
# Functions whose first argument, or arguments, name dimensions.
EXTENTS = ("zeros", "full", "arange", "size", "index", "extent", "reshape", "empty")


class Expressions:
    """Walks the expressions of one function: `scope` holds variables, `lookup` the names around."""

    def __init__(self, function: Inline, b: Builder, scope: dict[str, Any], taken: set[str],
                 caller: Loc | None = None) -> None:  # fmt: skip
        self.function, self.b, self.scope, self.taken, self.caller = (
            function,
            b,
            scope,
            taken,
            caller,
        )
        self.returned: Any = Missing

    def loc(self, node: ast.AST) -> Loc:
        """Where a node stands in the user's file."""
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self.function.lines[line - 1] if line <= len(self.function.lines) else ""
        end = getattr(node, "end_col_offset", column + 1)
        if getattr(node, "end_lineno", line) != line:
            end = len(text)
        return Loc(
            self.function.file, line, column, end, text, self.function.tree.name, self.caller
        )

    def fail(self, node: ast.AST, message: str, hint: str = "") -> TileError:
        """An error at a node."""
        return TileError(message, self.loc(node), hint)

    def at(self, node: ast.AST, act: Callable[[], Any]) -> Any:
        """Do something whose ops and errors belong to `node`."""
        before, self.b.loc = self.b.loc, self.loc(node)
        try:
            return act()
        except TileError as e:
            raise e.at(self.loc(node)) from None
        except (TypeError, ZeroDivisionError, OverflowError) as e:
            raise self.fail(node, str(e)) from None
        finally:
            self.b.loc = before

    def operand(self, node: ast.AST, x: Any) -> Any:
        """A value that arithmetic takes."""
        x = self.whole(node, x)
        if isinstance(x, (Value, bool, int, float, Sym)):
            return x
        hint = f"size({x}) is its extent" if isinstance(x, str) else ""
        raise self.fail(node, f"expected a tile or a number, not {semantics.shown(x)}", hint)

    def whole(self, node: ast.AST, x: Any) -> Any:
        """What stands where a tile is meant: in programs, a tensor's name stands for all of it."""
        return x

    def expr(self, node: ast.expr) -> Any:
        """The value of an expression."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None | EllipsisType()):
                return node.value
            case ast.Name(id=name):
                return self.name(node, name)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self.expr(i) for i in items)
            case ast.BinOp():
                return self.pair(node, type(node.op).__name__, node.left, node.right)
            case ast.Compare(ops=[op], comparators=[right]):
                return self.pair(node, type(op).__name__, node.left, right)
            case ast.UnaryOp():
                return self.unary(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Call():
                return self.call(node)
            case _:
                kind = type(node).__name__
                raise self.fail(
                    node, f"a kernel has no expression of the kind {kind}", _INSTEAD.get(kind, "")
                )

    def name(self, node: ast.AST, name: str) -> Any:
        """A variable, or a name from around the function."""
        if name in self.scope:
            return self.scope[name]
        found = self.at(node, lambda: self.function.lookup(name))
        if found is Missing:
            known = [*self.scope, *BUILTINS, "tiles"]
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{close[0]}`?" if close else ""
            if name in assigned(self.function.tree.body):
                hint = "it is set inside a loop or branch: set it before that too"
            raise self.fail(node, f"`{name}` is not defined", hint)
        return found

    def pair(self, node: ast.AST, name: str, left: ast.expr, right: ast.expr) -> Any:
        """A binary operator."""
        x, y = (self.operand(n, self.expr(n)) for n in (left, right))
        if isinstance(x, Sym) or isinstance(y, Sym):
            return self.at(node, lambda: semantics.of_extents(name, x, y))
        return self.at(node, lambda: semantics.binary(self.b, name, x, y))

    def unary(self, node: ast.UnaryOp) -> Any:
        """-x, ~x, not x."""
        x = self.operand(node, self.expr(node.operand))
        match node.op:
            case ast.USub():
                return self.at(node, lambda: self.b(arith.Neg(x))) if isinstance(x, Value) else -x
            case ast.Invert() if isinstance(x, Value):
                return self.at(node, lambda: self.b(arith.Not(x)))
            case ast.Invert():
                return self.at(node, lambda: ~int(semantics.literal(x, i32)))
            case ast.Not() if isinstance(x, Value):
                if semantics.tile_type(x, "not").dtype != boolean:
                    raise self.fail(node, f"not: expected bools, not {x.type}", "compare with == 0")
                return self.at(node, lambda: self.b(arith.Not(x)))
            case ast.Not():
                return not x
            case _:
                return x

    def keys(self, node: ast.expr) -> list[Any]:
        """The parts of a subscript."""
        items = node.elts if isinstance(node, ast.Tuple) else [node]
        out: list[Any] = []
        for item in items:
            if isinstance(item, ast.Slice):
                out.append(
                    slice(
                        *(
                            None if p is None else self.expr(p)
                            for p in (item.lower, item.upper, item.step)
                        )
                    )
                )
            else:
                out.append(self.expr(item))
        return out

    def subscript(self, node: ast.Subscript) -> Any:
        """x[...] of a tensor, a tile or a tuple."""
        return self.picked(node, self.expr(node.value), self.keys(node.slice))

    def picked(self, node: ast.Subscript, value: Any, keys: list[Any]) -> Any:
        """What an index picks from a value."""
        if isinstance(value, tuple) and len(keys) == 1 and isinstance(keys[0], int):
            if not -len(value) <= keys[0] < len(value):
                raise self.fail(node, f"there is no item {keys[0]} among {len(value)}")
            return value[keys[0]]
        if not isinstance(value, Value) or isinstance(value.type, Span):
            raise self.fail(node, "only tensors and tiles are indexed")
        read = semantics.load if isinstance(value.type, Memory) else semantics.part
        return self.at(node, lambda: read(self.b, value, keys))

    def attribute(self, node: ast.Attribute) -> Any:
        """x.T, m.index, or a name of a module."""
        value = self.expr(node.value)
        if node.attr not in ("dtype", "shape"):
            value = self.whole(node, value)
        if isinstance(value, Value):
            if node.attr == "to":
                return _Method(value)
            return self.at(node, lambda: semantics.attribute(self.b, value, node.attr))
        if isinstance(value, Mapping) and node.attr in value:
            return self.at(node, lambda: value[node.attr])
        raise self.fail(node, f"`{ast.unparse(node)}` is not defined")

    def call(self, node: ast.Call) -> Any:
        """A builtin, a method or an inlined function."""
        f = self.expr(node.func)
        args = [self.expr(a) for a in node.args]
        options = {k.arg: self.expr(k.value) for k in node.keywords if k.arg}
        match f:
            case Builtin(name=name) if name in BUILTINS:
                return self.builtin(node, name, args, options)
            case _Method(value=value):
                return self.builtin(node, "cast", [value, *args], options)
            case DType():
                return self.builtin(node, "cast", [*args, f], options)
            case Inline():
                return self.inline(node, f, args, options)
            case Builtin(name=name):
                raise self.fail(node, f"`{name}` stands only after `in` of a for loop")
            case _:
                return self.launch(node, f, args, options)

    def launch(self, node: ast.Call, f: Any, args: list[Any], options: dict[str, Any]) -> Any:
        """A call of what is no function: in programs it may be a kernel."""
        raise self.fail(node, f"`{ast.unparse(node.func)}` can't be called in a kernel",
                        "decorate a function with @tc.fn to inline it")  # fmt: skip

    def builtin(self, node: ast.Call, name: str, args: list[Any], options: dict[str, Any]) -> Any:
        """A call of a function of the language."""
        function = BUILTINS[name]
        args = [self.whole(node, a) for a in args]
        if name in EXTENTS:
            args = [self.extents(node, a) for a in args]
        try:
            inspect.signature(function).bind(self.b, *args, **options)
        except TypeError as e:
            takes = ", ".join(list(inspect.signature(function).parameters)[1:])
            raise self.fail(node, f"`{name}` takes ({takes}): {e}") from None
        return self.at(node, lambda: function(self.b, *args, **options))

    def extents(self, node: ast.AST, given: Any) -> Any:
        """An argument with what its names of dimensions stand for."""
        if isinstance(given, tuple):
            return tuple(self.extents(node, item) for item in given)
        return self.dimension(node, given) if isinstance(given, str) else given

    def dims(self) -> set[str]:
        """The dimensions that have a name here: those of the tensors, and the caller's."""
        if "%renamed" in self.scope:
            return set(self.scope["%renamed"])
        types = [v.type for v in self.scope.values() if isinstance(v, Value)]
        shapes = [t.shape for t in types if isinstance(t, Memory)]
        own = {name for shape in shapes for e in shape for name in names(e)}
        return own | self.scope.get("%dims", set())

    def dimension(self, node: ast.AST, name: str) -> Extent:
        """A dimension by its name, which must be one of a tensor's."""
        known = self.dims()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise self.fail(
                node,
                f"no tensor has a dimension {name!r}; there are {', '.join(sorted(known))}",
                f"did you mean {close[0]!r}?" if close else "",
            )
        return self.scope.get("%renamed", {}).get(name, Sym(name))

    def inline(self, node: ast.Call, f: Inline, args: list[Any], options: dict[str, Any]) -> Any:
        """The body of another function, written here."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Method:
    """`x.to`, waiting for its call."""

    value: Value


_INSTEAD = {
    "IfExp": "use where(condition, a, b)",
    "BoolOp": "use & and | on bools",
    "Lambda": "use a function with @tc.fn",
    "ListComp": "write the loop out",
    "Compare": "compare two at a time and join with &",
}
