"""A kernel's syntax tree becomes IR. Both spellings arrive here as Python's `ast`."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Op, Value
from tilec.ir.dtype import DType, boolean
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, control
from tilec.ir.types import Memory, Span, Tile
from tilec.lang import semantics
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


Missing = object()


class Walker:
    """Walks one function. `scope` holds its variables, `lookup` finds the names around it."""

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
            raise self.fail(node, _plain(e)) from None
        finally:
            self.b.loc = before

    # -- statements --

    def body(self, statements: list[ast.stmt]) -> None:
        """Statements in order."""
        for s in statements:
            if self.returned is not Missing:
                raise self.fail(s, "nothing may follow `return`")
            self.statement(s)

    def statement(self, s: ast.stmt) -> None:
        """One statement."""
        match s:
            case ast.Assign(targets=[target]):
                self.assign(target, self.expr(s.value))
            case ast.AugAssign():
                self.update(s)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Expr():
                self.expr(s.value)
            case ast.For(orelse=[]):
                self.loop(s)
            case ast.While(orelse=[]):
                self.repeat(s)
            case ast.If():
                self.branch(s)
            case ast.Return():
                self.returned = None if s.value is None else self.expr(s.value)
            case _:
                kind = type(s).__name__.lower()
                raise self.fail(s, f"a kernel has no `{kind}` statement",
                                "there are assignments, for, while, if and calls")  # fmt: skip

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a name, unpack, or store."""
        match target:
            case ast.Name(id=name):
                if isinstance(self.scope.get(name), Value) and isinstance(
                    self.scope[name].type, Memory
                ):
                    raise self.fail(
                        target, f"`{name}` is a tensor", f"write into it: {name}[...] = value"
                    )
                self.scope[name] = value
            case ast.Tuple(elts=names) if isinstance(value, tuple) and len(names) == len(value):
                for name, v in zip(names, value, strict=True):
                    self.assign(name, v)
            case ast.Subscript():
                tensor = self.expr(target.value)
                if not (isinstance(tensor, Value) and isinstance(tensor.type, Memory)):
                    raise self.fail(target, "only tensors are written by index; a tile is a value")
                keys = self.keys(target.slice)
                self.at(target, lambda: semantics.store(self.b, tensor, keys, value))
            case _:
                raise self.fail(target, "this can't be assigned to")

    def update(self, s: ast.AugAssign) -> None:
        """x += y; a product added to a sum is accumulated into it."""
        old = self.expr(s.target)
        match s.value:
            case ast.Call(keywords=[], args=[_, _] as args) if isinstance(
                s.op, ast.Add
            ) and self.expr(s.value.func) == Builtin("dot"):
                a, c = map(self.expr, args)
                value = self.at(
                    s.value,
                    lambda: semantics.dot(self.b, a, c, old if isinstance(old, Value) else None),
                )
                if not isinstance(old, Value):
                    value = self.at(s, lambda: semantics.binary(self.b, "Add", old, value))
            case _:
                y = self.expr(s.value)
                name = type(s.op).__name__
                value = self.at(
                    s,
                    lambda: semantics.binary(
                        self.b, name, self.operand(s, old), self.operand(s, y)
                    ),
                )
        self.assign(s.target, value)

    # -- regions --

    def loop(self, s: ast.For) -> None:
        """`for ... in tiles(...)`: the grid at the outermost level, else a sequential loop; or range."""
        match s.iter:
            case ast.Call(func=f, args=args, keywords=keywords):
                made = self.expr(f)
                options = {k.arg: self.expr(k.value) for k in keywords if k.arg}
                values = [self.expr(a) for a in args]
            case _:
                made, values, options = None, [], {}
        if made == Builtin("tiles"):
            self.tiles(s, values, options)
        elif made in (Builtin("range"), range) and not options:
            self.counted(s, values)
        else:
            raise self.fail(s.iter, "a loop runs over tiles(...) or range(...)")

    def tiles(self, s: ast.For, dims: list[Any], options: dict[str, Any]) -> None:
        """A loop over the tiles of dimensions."""
        targets = s.target.elts if isinstance(s.target, ast.Tuple) else [s.target]
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        if unknown := options.keys() - {"block", "to"}:
            raise self.fail(s.iter, f"tiles has no option {min(unknown)!r}; it has block and to")
        if len(names) != len(dims) or not dims or not len(targets) == len(names):
            raise self.fail(s.iter, f"{len(dims)} dimensions for {len(targets)} loop variables")
        extents = [self.extent(s.iter, d) for d in dims]
        block = options.get("block")
        blocks = list(block) if isinstance(block, (tuple, list)) else [block] * len(dims)
        if len(blocks) != len(dims) or any(
            t is not None and (not isinstance(t, int) or t < 1) for t in blocks
        ):
            raise self.fail(
                s.iter, f"block is {block}, expected {len(dims)} whole numbers of at least 1"
            )
        sizes = [self.fresh(n) for n in names]
        if self.outermost() and "to" not in options:
            self.grid(s, names, extents, sizes, blocks)
        else:
            self.nested(s, list(zip(names, extents, sizes, blocks, strict=True)), options.get("to"))

    def outermost(self) -> bool:
        """Whether a loop here is the launch grid: no loop around it, nothing carried into it."""
        return not self.scope.get("%depth")

    def extent(self, node: ast.AST, d: Any) -> Extent:
        """A dimension by name or number; a name must be one of a tensor's."""
        known = {e.text for v in self.scope.values() if isinstance(v, Value) and isinstance(v.type, Memory)
                 for e in v.type.shape if isinstance(e, Sym)}  # fmt: skip
        if isinstance(d, int) and not isinstance(d, bool) and d >= 1:
            return d
        if not isinstance(d, str):
            raise self.fail(
                node, f"a dimension is a name or a whole number of at least 1, not {d!r}"
            )
        if d not in known:
            close = difflib.get_close_matches(d, known, 1)
            raise self.fail(node, f"no tensor has a dimension {d!r}; there are {', '.join(sorted(known))}",
                            f"did you mean {close[0]!r}?" if close else "")  # fmt: skip
        return Sym(d)

    def fresh(self, name: str) -> Sym:
        """A size symbol that no other loop or dimension has."""
        known = self.taken
        label, i = name, 0
        while label in known:
            i += 1
            label = f"{name}_{i}"
        known.add(label)
        return Sym(label)

    def grid(
        self, s: ast.For, names: list[str], dims: list[Extent], sizes: list[Sym], blocks: list[Any]
    ) -> None:
        """The launch grid: its iterations share nothing but memory."""
        params = tuple(Value(Span(d, z), n) for d, z, n in zip(dims, sizes, names, strict=True))
        inner = dict(zip(names, params, strict=True))
        ops = self.region(s.body, {**self.scope, **inner, "%depth": True})[0]
        body = Block(params, tuple(ops))
        self.at(
            s.iter, lambda: self.b.add(control.Grid(tuple(dims), tuple(sizes), tuple(blocks), body))
        )

    def nested(self, s: ast.For, axes: list[tuple[str, Extent, Sym, int | None]], to: Any) -> None:
        """Sequential loops, one in the other, that carry the variables that the body assigns."""
        (name, dim, size, block), *rest = axes
        span = Value(Span(dim, size), name)
        stop = None if to is None else semantics.number(self.b, to)

        def build(init: tuple[Value, ...], body: Block) -> Op:
            return control.For(dim, size, block, init, body, stop)

        deeper = (lambda w: w.nested(s, rest, None)) if rest else None
        self.carried(s, s.body, (span,), {name: span}, build, deeper)

    def counted(self, s: ast.For, bounds: list[Any]) -> None:
        """for i in range(start, stop, step)."""
        if not isinstance(s.target, ast.Name) or not 1 <= len(bounds) <= 3:
            raise self.fail(s.iter, "range takes one to three whole numbers and gives one")
        start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        if step == 0:
            raise self.fail(s.iter, "the step of range is 0")
        low, high, by = self.at(
            s.iter, lambda: [semantics.number(self.b, x) for x in (start, stop, step)]
        )
        i = Value(low.type, s.target.id)

        def build(init: tuple[Value, ...], body: Block) -> Op:
            return control.Count(low, high, by, init, body)

        self.carried(s, s.body, (i,), {s.target.id: i}, build)

    def carried(self, s: ast.stmt, statements: list[ast.stmt], params: tuple[Value, ...], bound: dict[str, Any],
                build: Callable[[tuple[Value, ...], Block], Op],
                act: Callable[[Walker], None] | None = None) -> None:  # fmt: skip
        """A region whose assigned variables go round."""
        names = [
            n
            for n in assigned(statements)
            if n in self.scope and n not in bound and self.carries(n)
        ]
        init = tuple(self.at(s, lambda n=n: semantics.number(self.b, self.scope[n])) for n in names)
        inner = tuple(Value(v.type, n) for n, v in zip(names, init, strict=True))
        scope = {**self.scope, **bound, **dict(zip(names, inner, strict=True)), "%depth": True}
        ops, after = self.region(statements, scope, act)
        results = tuple(
            self.at(s, lambda n=n: semantics.number(Builder(ops), after[n])) for n in names
        )
        body = Block((*params, *inner), tuple(ops), results)
        loop = self.at(s, lambda: self.b.add(build(init, body)))
        self.scope.update(zip(names, loop.results, strict=True))

    def carries(self, name: str) -> bool:
        """Whether a variable is a tile or a number, which loops carry."""
        v = self.scope[name]
        return isinstance(v, (bool, int, float)) or (
            isinstance(v, Value) and isinstance(v.type, Tile)
        )

    def region(self, statements: list[ast.stmt], scope: dict[str, Any],
               act: Callable[[Walker], None] | None = None) -> tuple[list[Op], dict[str, Any]]:  # fmt: skip
        """The ops of statements that see `scope`, and the scope behind them."""
        b = Builder(loc=self.b.loc)
        inner = Walker(self.function, b, dict(scope), self.taken, self.caller)
        if act is None:
            inner.body(statements)
        else:
            act(inner)
        if inner.returned is not Missing:
            raise self.fail(statements[-1], "`return` stands inside a loop or branch")
        return b.ops, inner.scope

    def repeat(self, s: ast.While) -> None:
        """while condition: ..."""
        names = [n for n in assigned(s.body) if n in self.scope and self.carries(n)]
        init = tuple(self.at(s, lambda n=n: semantics.number(self.b, self.scope[n])) for n in names)
        blocks: list[Block] = []
        for statements in (None, s.body):
            params = tuple(Value(v.type, n) for n, v in zip(names, init, strict=True))
            scope = {**self.scope, **dict(zip(names, params, strict=True)), "%depth": True}
            if statements is None:
                inner = Walker(self.function, Builder(), scope, self.taken, self.caller)
                results: tuple[Value, ...] = (inner.condition(s.test),)
                ops = inner.b.ops
            else:
                ops, after = self.region(statements, scope)
                results = tuple(semantics.number(Builder(ops), after[n]) for n in names)
            blocks.append(Block(params, tuple(ops), results))
        loop = self.at(s, lambda: self.b.add(control.While(init, *blocks)))
        self.scope.update(zip(names, loop.results, strict=True))

    def condition(self, node: ast.expr) -> Value:
        """A bool scalar."""
        value = self.at(node, lambda: semantics.number(self.b, self.expr(node)))
        if value.type != Tile((), boolean):
            raise self.fail(node, f"expected a bool scalar as condition, not {value.type}",
                            "where(condition, a, b) chooses element by element")  # fmt: skip
        return value

    def branch(self, s: ast.If) -> None:
        """if: at compile time where the condition is a number, else both branches, merged."""
        known = self.expr(s.test)
        if isinstance(known, (bool, int, float)):
            self.body(s.body if known else s.orelse)
            return
        condition = self.condition(s.test)
        sides = [self.region(part, {**self.scope, "%depth": True}) for part in (s.body, s.orelse)]
        both = [n for n in dict.fromkeys([*assigned(s.body), *assigned(s.orelse)])
                if all(n in scope for _, scope in sides)]  # fmt: skip
        blocks = []
        for ops, scope in sides:
            results = tuple(
                self.at(s, lambda n=n: semantics.number(Builder(ops), scope[n])) for n in both
            )
            blocks.append(Block((), tuple(ops), results))
        for n, a, c in zip(both, blocks[0].results, blocks[1].results, strict=True):
            if a.type != c.type:
                raise self.fail(s, f"`{n}` is {a.type} in one branch and {c.type} in the other")
        merged = self.at(s, lambda: self.b.add(control.If(condition, *blocks)))
        self.scope.update(zip(both, merged.results, strict=True))

    # -- expressions --

    def operand(self, node: ast.AST, x: Any) -> Any:
        """A value that arithmetic takes."""
        if isinstance(x, (Value, bool, int, float)):
            return x
        raise self.fail(node, f"expected a tile or a number, not {x!r}")

    def expr(self, node: ast.expr) -> Any:
        """The value of an expression."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
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
        found = self.function.lookup(name)
        if found is Missing:
            known = [*self.scope, *BUILTINS, "tiles"]
            close = difflib.get_close_matches(name, known, 1)
            raise self.fail(
                node, f"`{name}` is not defined", f"did you mean `{close[0]}`?" if close else ""
            )
        return found

    def pair(self, node: ast.AST, name: str, left: ast.expr, right: ast.expr) -> Any:
        """A binary operator."""
        x, y = (self.operand(n, self.expr(n)) for n in (left, right))
        return self.at(node, lambda: semantics.binary(self.b, name, x, y))

    def unary(self, node: ast.UnaryOp) -> Any:
        """-x, ~x, not x."""
        x = self.operand(node, self.expr(node.operand))
        match node.op:
            case ast.USub():
                return self.at(node, lambda: self.b(arith.Neg(x))) if isinstance(x, Value) else -x
            case ast.Invert() | ast.Not() if isinstance(x, Value):
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
        value, keys = self.expr(node.value), self.keys(node.slice)
        if isinstance(value, tuple) and len(keys) == 1 and isinstance(keys[0], int):
            return self.at(node, lambda: value[keys[0]])
        if not isinstance(value, Value) or isinstance(value.type, Span):
            raise self.fail(node, "only tensors and tiles are indexed")
        read = semantics.load if isinstance(value.type, Memory) else semantics.part
        return self.at(node, lambda: read(self.b, value, keys))

    def attribute(self, node: ast.Attribute) -> Any:
        """x.T, m.index, or a name of a module."""
        value = self.expr(node.value)
        if isinstance(value, Value):
            if node.attr == "to":
                return _Method(value)
            return self.at(node, lambda: semantics.attribute(self.b, value, node.attr))
        if isinstance(value, Mapping) and node.attr in value:
            return value[node.attr]
        raise self.fail(node, f"`{ast.unparse(node)}` is not defined")

    def call(self, node: ast.Call) -> Any:
        """A builtin, a method or an inlined function."""
        f = self.expr(node.func)
        args = [self.expr(a) for a in node.args]
        options = {k.arg: self.expr(k.value) for k in node.keywords if k.arg}
        match f:
            case Builtin(name=name) if name in BUILTINS:
                return self.at(node, lambda: BUILTINS[name](self.b, *args, **options))
            case _Method(value=value):
                return self.at(node, lambda: BUILTINS["cast"](self.b, value, *args, **options))
            case DType():
                return self.at(node, lambda: BUILTINS["cast"](self.b, args[0], f))
            case Inline():
                return self.inline(node, f, args, options)
            case Builtin(name=name):
                raise self.fail(node, f"`{name}` stands only after `in` of a for loop")
            case _:
                raise self.fail(node, f"`{ast.unparse(node.func)}` can't be called in a kernel",
                                "decorate a function with @tc.fn to inline it")  # fmt: skip

    def inline(self, node: ast.Call, f: Inline, args: list[Any], options: dict[str, Any]) -> Any:
        """The body of another function, written here."""
        depth, place = 0, self.caller
        while place is not None:
            depth, place = depth + 1, place.caller
        if depth > 32:
            raise self.fail(node, f"`{f.tree.name}` calls itself; an inlined function can't")
        names = [a.arg for a in f.tree.args.args]
        missing = [n for n in names[len(args) :] if n not in options]
        if len(args) > len(names) or missing or options.keys() - set(names):
            raise self.fail(node, f"`{f.tree.name}` takes {', '.join(names)}")
        scope = {
            **dict(zip(names, args, strict=False)),
            **options,
            "%depth": self.scope.get("%depth"),
        }
        inner = Walker(f, self.b, scope, self.taken, self.loc(node))
        inner.body(f.tree.body)
        return None if inner.returned is Missing else inner.returned


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


def _plain(e: Exception) -> str:
    """Python's complaint about a call, without the builder that the user never wrote."""
    return (
        str(e).replace("() missing", ": missing").replace("positional arguments: 'b'", "arguments")
    )


def assigned(statements: list[ast.stmt]) -> list[str]:
    """The names that statements assign, in order, loop variables excluded."""
    return list(dict.fromkeys(_assigned(statements)))


def _assigned(statements: list[ast.stmt]) -> Iterator[str]:
    for s in statements:
        targets = (
            s.targets
            if isinstance(s, ast.Assign)
            else [s.target]
            if isinstance(s, ast.AugAssign)
            else []
        )
        for t in targets:
            yield from (
                n.id
                for n in ([t] if isinstance(t, ast.Name) else getattr(t, "elts", []))
                if isinstance(n, ast.Name)
            )
        for inner in ("body", "orelse"):
            yield from _assigned(getattr(s, inner, []))
