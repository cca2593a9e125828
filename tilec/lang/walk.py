"""A kernel's syntax tree becomes IR. Both spellings arrive here as Python's `ast`."""

# What a name stands for while a kernel is walked can be anything: a tile, a number, a module.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from typing import Any

from tilec.ir.core import Block, Builder, Op, Value
from tilec.ir.dtype import boolean
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import control, memory
from tilec.ir.types import Memory, Span, Tile
from tilec.lang import semantics
from tilec.lang.assigned import assigned
from tilec.lang.expressions import Builtin, Expressions, Inline, Missing


class Walker(Expressions):
    """Walks the statements of one function."""

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
                self.write(target, memory.Store, tensor, keys, value)
            case _:
                raise self.fail(target, "this can't be assigned to")

    def write(
        self, node: ast.expr, cls: type[memory.Write], tensor: Value, keys: list[Any], value: Any
    ) -> None:
        """Into a tensor."""
        x = self.operand(node, value)
        self.at(node, lambda: semantics.write(self.b, cls, tensor, keys, x))

    def update(self, s: ast.AugAssign) -> None:
        """x += y; a product added to a sum is accumulated into it.

        Into a tensor, += and -= lose no addition: where places may coincide, in a tile or in the
        tasks of the grid, they are `accumulate`.
        """
        if isinstance(s.op, ast.Add | ast.Sub) and self.accumulated(s):
            return
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

    def accumulated(self, s: ast.AugAssign) -> bool:
        """Whether this added to a tensor at places that may coincide."""
        if not isinstance(s.target, ast.Subscript):
            return False
        tensor = self.expr(s.target.value)
        if not (isinstance(tensor, Value) and isinstance(tensor.type, Memory)):
            return False
        keys = self.keys(s.target.slice)
        if not semantics.coincide(self.scope.get("%grid", ()), keys):
            return False
        value = self.operand(s, self.expr(s.value))
        if isinstance(s.op, ast.Sub):  # of the tensor's dtype: a u8 has no negative
            none = self.at(s, partial(semantics.number, self.b, 0, tensor.type.dtype))
            value = self.at(s, lambda: semantics.binary(self.b, "Sub", none, value))
        self.write(s.target, memory.Accumulate, tensor, keys, value)
        return True

    # -- regions --

    def loop(self, s: ast.For) -> None:
        """Over tiles(...): the grid at the outermost level, else a loop in order; or over range."""
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
        if isinstance(d, int) and not isinstance(d, bool) and d >= 1:
            return d
        if not isinstance(d, str):
            raise self.fail(
                node, f"a dimension is a name or a whole number of at least 1, not {d!r}"
            )
        return self.dimension(node, d)

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
        for n in assigned(s.body):
            if n in self.scope and self.carries(n):
                raise self.fail(
                    s, f"`{n}` is set before the launch grid and again inside it",
                    "the grid's tiles run at the same time: start it inside, or loop with range",
                )  # fmt: skip
        params = tuple(Value(Span(d, z), n) for d, z, n in zip(dims, sizes, names, strict=True))
        inner = dict(zip(names, params, strict=True))
        scope = {**self.scope, **inner, "%depth": True, "%grid": params}
        ops = self.region(s.body, scope)[0]
        body = Block(params, tuple(ops))
        self.at(
            s.iter, lambda: self.b.add(control.Grid(tuple(dims), tuple(sizes), tuple(blocks), body))
        )

    def nested(self, s: ast.For, axes: list[tuple[str, Extent, Sym, int | None]], to: Any) -> None:
        """Sequential loops, one in the other, that carry the variables that the body assigns."""
        (name, dim, size, block), *rest = axes
        span = Value(Span(dim, size), name)
        stop = None if to is None else self.at(s.iter, lambda: semantics.number(self.b, to))

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

    def carried(
        self,
        s: ast.stmt,
        statements: list[ast.stmt],
        params: tuple[Value, ...],
        bound: dict[str, Any],
        build: Callable[[tuple[Value, ...], Block], Op],
        act: Callable[[Walker], None] | None = None,
    ) -> None:
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
        results = self.round(s, names, init, ops, after)
        body = Block((*params, *inner), tuple(ops), results)
        loop = self.at(s, lambda: self.b.add(build(init, body)))
        self.scope.update(zip(names, loop.results, strict=True))

    def round(
        self,
        s: ast.stmt,
        names: list[str],
        init: tuple[Value, ...],
        ops: list[Op],
        after: dict[str, Any],
    ) -> tuple[Value, ...]:
        """What a loop's body hands on, of the types that went in."""
        b = Builder(ops)
        out = tuple(self.at(s, lambda n=n: semantics.number(b, after[n])) for n in names)
        for name, old, new in zip(names, init, out, strict=True):
            if old.type != new.type:
                raise self.fail(
                    s,
                    f"`{name}` is {old.type} before the loop, but {new.type} after its body",
                    "a variable keeps its shape and dtype: start it with zeros(...) or cast it",
                )
        return out

    def carries(self, name: str) -> bool:
        """Whether a variable is a tile or a number, which loops carry."""
        v = self.scope[name]
        return isinstance(v, (bool, int, float)) or (
            isinstance(v, Value) and isinstance(v.type, Tile)
        )

    def region(
        self,
        statements: list[ast.stmt],
        scope: dict[str, Any],
        act: Callable[[Walker], None] | None = None,
    ) -> tuple[list[Op], dict[str, Any]]:
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
                results: tuple[Value, ...] = (inner.condition(s.test, inner.expr(s.test)),)
                ops = inner.b.ops
            else:
                ops, after = self.region(statements, scope)
                results = self.round(s, names, init, ops, after)
            blocks.append(Block(params, tuple(ops), results))
        loop = self.at(s, lambda: self.b.add(control.While(init, *blocks)))
        self.scope.update(zip(names, loop.results, strict=True))

    def condition(self, node: ast.expr, x: Any) -> Value:
        """A bool scalar."""
        value = self.at(node, lambda: semantics.number(self.b, x))
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
        condition = self.condition(s.test, known)
        sides = [self.region(part, {**self.scope, "%depth": True}) for part in (s.body, s.orelse)]
        both = [n for n in dict.fromkeys([*assigned(s.body), *assigned(s.orelse)])
                if all(n in scope for _, scope in sides)]  # fmt: skip
        blocks: list[Block] = []
        for ops, scope in sides:
            b = Builder(ops)
            results = tuple(
                self.at(s, lambda n=n, b=b, scope=scope: semantics.number(b, scope[n]))
                for n in both
            )
            blocks.append(Block((), tuple(ops), results))
        for n, a, c in zip(both, blocks[0].results, blocks[1].results, strict=True):
            if a.type != c.type:
                raise self.fail(s, f"`{n}` is {a.type} in one branch and {c.type} in the other")
        merged = self.at(s, lambda: self.b.add(control.If(condition, *blocks)))
        self.scope.update(zip(both, merged.results, strict=True))

    def inline(self, node: ast.Call, f: Inline, args: list[Any], options: dict[str, Any]) -> Any:
        """The body of another function, written here."""
        depth, place = 0, self.caller
        while place is not None:
            depth, place = depth + 1, place.caller
        if depth > 32:
            raise self.fail(node, f"`{f.tree.name}` calls itself; an inlined function can't")
        names = [a.arg for a in f.tree.args.args]
        last = f.tree.args.defaults
        defaults = type(self)(f, self.b, {}, self.taken, self.loc(node))
        for name, default in zip(names[len(names) - len(last) :], last, strict=True):
            if name not in names[: len(args)]:
                options.setdefault(name, defaults.expr(default))
        missing = [n for n in names[len(args) :] if n not in options]
        wrong = options.keys() - set(names[len(args) :])
        if len(args) > len(names) or missing or wrong:
            given = len(args) + len(options)
            takes = f"`{f.tree.name}` takes {len(names)} arguments ({', '.join(names)})"
            raise self.fail(node, f"{takes}, not {given}")
        around = {n: v for n, v in self.scope.items() if n.startswith("%")}
        given = {**dict(zip(names, args, strict=False)), **options}
        scope = {**around, "%dims": self.dims(), **given}
        inner = type(self)(f, self.b, scope, self.taken, self.loc(node))
        inner.body(f.tree.body)
        return None if inner.returned is Missing else inner.returned
