"""Programs: functions over whole tensors, and the kernels that they call, as one function of IR.

The name of a tensor stands for all of it. What a program computes are ops outside of any grid, on
tiles as large as the tensors; a kernel that it calls is written out as a grid among them, with the
dimensions that its arguments have. There is one straight line of both, in the order of the text.
"""

# What a name stands for while a program is walked can be anything: a tile, a number, a kernel.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import DType, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, names, substitute
from tilec.ir.format import Dense, Format
from tilec.ir.ops import memory
from tilec.ir.types import Memory, Shape, Tile, show_shape
from tilec.lang import semantics, tensors
from tilec.lang.expressions import Inline, Missing
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec, place
from tilec.lang.walk import Walker


@dataclass(frozen=True)
class Empty:
    """`empty(...)`, waiting for its name."""

    shape: Shape
    dtype: DType


@dataclass
class Tensors:
    """The tensors of a program while it is walked: what is written and what has been read.

    `loaded` has the tile of each that was read since it was last written, `seen` those that were
    read at all, and `own` the memory that the program makes.
    """

    params: tuple[Value, ...]
    body: Inline
    loaded: dict[Value, Value] = field(default_factory=dict[Value, Value])
    seen: set[Value] = field(default_factory=set[Value])
    own: list[Value] = field(default_factory=list[Value])

    def made(self, name: str, shape: Shape, dtype: DType) -> Value:
        """Memory of the program's own; passes know it by its name, `x.name`, where `x` is a tensor
        that has no component of that name."""
        first = next((p for p in self.params if isinstance(p.type, Memory)), None)
        if first is None or not isinstance(first.type, Memory):
            raise TileError("a program without tensors has no memory of its own")
        taken = {c.name for c in first.type.format.components(first.type.shape)}
        taken |= {mem.hint.partition(".")[2] for mem in self.own}
        label, i = name, 0
        while label in taken:
            i += 1
            label = f"{name}{i}"
        self.own.append(Value(Memory(shape, Dense(dtype)), f"{first.hint}.{label}"))
        return self.own[-1]


class Composer(Walker):
    """Walks the statements of a program, and of functions that it calls."""

    @property
    def state(self) -> Tensors:
        """The tensors of the whole program."""
        return self.scope["%tensors"]

    def whole(self, node: ast.AST, x: Any) -> Any:
        """All of a tensor where its name stands for its values."""
        if isinstance(x, tuple):
            return tuple(self.whole(node, item) for item in x)
        if isinstance(x, Empty):
            raise self.fail(node, "empty(...) has no values", "give it a name: h = empty(...)")
        if not (isinstance(x, Value) and isinstance(x.type, Memory)):
            return x
        known = self.state
        known.seen.add(x)
        if x not in known.loaded:
            known.loaded[x] = self.at(node, lambda: tensors.whole(self.b, x))
        return known.loaded[x]

    # -- expressions --

    def pair(self, node: ast.AST, name: str, left: ast.expr, right: ast.expr) -> Any:
        """A binary operator; `@` is the product."""
        if name != "MatMult":
            return super().pair(node, name, left, right)
        x, y = (self.operand(n, self.expr(n)) for n in (left, right))
        return self.at(node, lambda: tensors.product(self.b, x, y))

    def picked(self, node: ast.Subscript, value: Any, keys: list[Any]) -> Any:
        """A part of a tensor or tile, or rows that a tile of whole numbers names."""
        if not isinstance(value, Value) or not isinstance(value.type, Memory | Tile):
            return super().picked(node, value, keys)
        rank = len(value.type.shape)
        keys = self.at(node, lambda: tensors.expanded(self.whole(node, tuple(keys)), rank))
        if isinstance(value.type, Memory) and any(isinstance(k, Value) for k in keys):
            self.state.seen.add(value)
            return self.at(node, lambda: semantics.load(self.b, value, keys))
        tile = self.whole(node, value)
        return self.at(node, lambda: semantics.part(self.b, tile, keys))

    def builtin(self, node: ast.Call, name: str, args: list[Any], options: dict[str, Any]) -> Any:
        """A call of a function of the language."""
        options = {n: self.whole(node, v) for n, v in options.items()}
        if name != "empty":
            return super().builtin(node, name, args, options)
        *dims, dtype = args if args and isinstance(args[-1], DType) else [*args, f32]
        shape = tuple(self.extents(node, d) for d in dims)
        for d in shape:
            if not isinstance(d, Sym) and (type(d) is not int or d < 1):
                raise self.fail(node, f"empty: {semantics.shown(d)} is no dimension",
                                'empty("M", "N", f16)')  # fmt: skip
        return Empty(shape, dtype)

    # -- statements --

    def statement(self, s: ast.stmt) -> None:
        """One statement; what is returned are values."""
        if isinstance(s, ast.While):
            raise self.fail(s, "a program has no `while`", "put the loop into a kernel")
        super().statement(s)
        if isinstance(s, ast.Return):
            self.returned = self.whole(s, self.returned)

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a name, or write a tensor."""
        if not isinstance(target, ast.Name):
            super().assign(target, value)
            return
        old = self.scope.get(target.id)
        if isinstance(value, Empty):
            name, shape = target.id, value.shape
            self.scope[name] = self.at(target, lambda: self.state.made(name, shape, value.dtype))
        elif self.stores() and isinstance(old, Value) and isinstance(old.type, Memory):
            if old in self.state.seen and old in self.state.params:
                raise self.fail(
                    target, f"`{target.id}` is a tensor that was read, and this would change it",
                    f"{target.id}[...] = value does that; else use another name",
                )  # fmt: skip
            self.write(target, memory.Store, old, [...], value)
        else:
            self.scope[target.id] = self.whole(target, value)

    def stores(self) -> bool:
        """Whether the names of tensors are the program's, not those of a function."""
        return self.function is self.state.body

    def update(self, s: ast.AugAssign) -> None:
        """x += y: another value of a name, or of a tensor's elements."""
        if isinstance(s.op, ast.Add | ast.Sub) and self.accumulated(s):
            return
        x, y = (self.operand(n, self.expr(n)) for n in (s.target, s.value))
        name = type(s.op).__name__
        value = self.at(s, lambda: semantics.binary(self.b, name, x, y))
        old = self.scope.get(s.target.id) if isinstance(s.target, ast.Name) else None
        if self.stores() and isinstance(old, Value) and isinstance(old.type, Memory):
            self.write(s.target, memory.Store, old, [...], value)
        else:
            self.assign(s.target, value)

    def write(
        self, node: ast.expr, cls: type[memory.Write], tensor: Value, keys: list[Any], value: Any
    ) -> None:
        """Into a tensor: all of it, rows, or a part between whole numbers."""
        dims = tensor.type.shape if isinstance(tensor.type, Memory) else ()
        found = self.at(node, lambda: tensors.expanded(self.whole(node, tuple(keys)), len(dims)))
        found = self.at(node, lambda: tensors.bounded(self.b, found, dims))
        super().write(node, cls, tensor, found, value)
        self.state.loaded.pop(tensor, None)

    def grid(
        self, s: ast.For, names: list[str], dims: list[Extent], sizes: list[Sym], blocks: list[Any]
    ) -> None:
        """A grid of the program's own: inside it, tensors are indexed as in kernels."""
        first = len(self.b.ops)
        super().grid(s, names, dims, sizes, blocks)
        self.written(first)

    def written(self, first: int) -> list[Value]:
        """The tensors that ops from a place on write, which are not what was read of them now."""
        ops = (x for outer in self.b.ops[first:] for x in _walk(outer))
        found = [op.mem for op in ops if isinstance(op, memory.Write)]
        for mem in found:
            self.state.loaded.pop(mem, None)
        return found

    def nested(self, s: ast.For, axes: list[tuple[str, Extent, Sym, int | None]], to: Any) -> None:
        """A loop in order, which only kernels have."""
        raise self.fail(s.iter, "a program has no loop in order", "put it into a kernel")

    def counted(self, s: ast.For, bounds: list[Any]) -> None:
        """for i in range(...) of numbers: the statements again and again."""
        if not isinstance(s.target, ast.Name) or not all(type(x) is int for x in bounds):
            raise self.fail(s.iter, "a program's range takes whole numbers that are known",
                            "put the loop into a kernel")  # fmt: skip
        for i in self.at(s.iter, lambda: range(*bounds)):
            self.scope[s.target.id] = i
            self.body(s.body)

    def branch(self, s: ast.If) -> None:
        """if: decided when the program is compiled."""
        known = self.expr(s.test)
        if not isinstance(known, (bool, int, float)):
            raise self.fail(s.test, "a program's `if` is decided when it is compiled",
                            "where(condition, a, b) chooses element by element")  # fmt: skip
        self.body(s.body if known else s.orelse)

    # -- calls of kernels and programs --

    def launch(self, node: ast.Call, f: Any, args: list[Any], options: dict[str, Any]) -> Any:
        """A kernel or program, written here with this program's tensors and dimensions."""
        if not isinstance(f, Definition):
            return super().launch(node, f, args, options)
        around = self.scope.get("%around", (self.function.tree,))
        if any(tree is f.function.tree for tree in around):
            raise self.fail(node, f"`{f.signature.name}` calls itself; a program can't")
        made = len(self.state.own)
        given = self.arguments(node, f, args, options)
        renamed = self.dimensions(node, f, given)
        scope = {n: v for n, v in self.scope.items() if n.startswith("%")} | given
        scope |= {"%renamed": renamed, "%around": (*around, f.function.tree)}
        first = len(self.b.ops)
        if isinstance(f, ProgramDefinition):
            scope["%tensors"] = replace(self.state, body=f.function)
            inner: Walker = Composer(f.function, self.b, scope, self.taken, self.loc(node))
        else:
            inner = Walker(f.function, self.b, scope, self.taken, self.loc(node))
        inner.body(f.function.tree.body)
        wrong = set(self.written(first)).intersection(self.state.own[made:])
        for name, v in given.items():
            if v in wrong:
                raise self.fail(node, f"{f.signature.name} writes `{name}`, which is given a value",
                                'h = empty("M", "N", f16) is a tensor to write')  # fmt: skip
        return None if inner.returned is Missing else inner.returned

    def arguments(self, node: ast.Call, f: Definition, args: list[Any], options: dict[str, Any]
                  ) -> dict[str, Any]:  # fmt: skip
        """What each parameter of a kernel is given: tensors, and numbers of its dtypes."""
        params = f.signature.params
        order = [p.name for p in params]
        given = dict(zip(order, args, strict=False))
        if len(args) > len(order) or given.keys() & options.keys() or (
            {*given, *options} != set(order)
        ):  # fmt: skip
            count = len(args) + len(options)
            raise self.fail(node, f"`{f.signature.name}` takes {len(order)} arguments "
                                  f"({', '.join(order)}), not {count}")  # fmt: skip
        given |= options
        return {p.name: self.argument(node, f.signature.name, p, given[p.name]) for p in params}

    def argument(self, node: ast.Call, kernel: str, p: Parameter, x: Any) -> Value:
        """A tensor, or memory that takes a value first; or a number."""
        if isinstance(p.spec, DType):
            dtype = p.spec
            value = self.operand(node, x)
            value = self.at(node, lambda: semantics.number(self.b, value, dtype))
            return self.at(node, lambda: semantics.to_dtype(self.b, value, dtype))
        if isinstance(x, Empty):
            self.whole(node, x)
        if not isinstance(x, Value) or not isinstance(x.type, Memory | Tile):
            raise self.fail(node, f"{kernel}: `{p.name}` is {semantics.shown(x)}, not a tensor")
        if isinstance(x.type, Tile):
            t, value = x.type, x
            mem = self.at(node, lambda: self.state.made(p.name, t.shape, t.dtype))
            self.at(node, lambda: tensors.kept(self.b, mem, value))
            return mem
        self.state.seen.add(x)
        return x

    def dimensions(self, node: ast.Call, f: Definition, given: Mapping[str, Any]
                   ) -> dict[str, Extent]:  # fmt: skip
        """What each dimension of a kernel is here. Raises TileError where it would be two."""
        known: dict[str, tuple[Extent, str]] = {}
        later: list[tuple[str, Extent, Extent]] = []
        for p in f.signature.params:
            if not isinstance(p.spec, TensorSpec):
                continue
            found: Memory = given[p.name].type
            expected = p.spec
            if expected.format is not None and expected.format != found.format:
                raise self.fail(node, f"{f.signature.name}: `{p.name}` is {found.format}, "
                                      f"expected {expected.format}")  # fmt: skip
            if len(found.shape) != len(expected.dims):
                raise self.fail(node, f"{f.signature.name}: `{p.name}` is {show_shape(found.shape)}"
                                      f", expected {show_shape(expected.dims)}")  # fmt: skip
            for dim, here in zip(expected.dims, found.shape, strict=True):
                if isinstance(dim, Sym) and dim.is_name:
                    have, other = known.setdefault(dim.text, (here, p.name))
                    if have != here:
                        raise self.fail(
                            node, f"{f.signature.name}: dimension {dim} of `{p.name}` is {here}, "
                                  f"but `{other}` has {dim} = {have}",
                        )  # fmt: skip
                else:
                    later.append((p.name, dim, here))
        renamed = {n: e for n, (e, _) in known.items()}
        for name, dim, here in later:
            if (expected := substitute(dim, renamed)) != here:
                raise self.fail(node, f"{f.signature.name}: a dimension of `{name}` is {here}, "
                                      f"expected {expected}")  # fmt: skip
        return renamed


def _walk(op: Op) -> Sequence[Op]:
    return [op, *(inner for block in op.blocks for inner in block.walk())]


@dataclass(frozen=True)
class ProgramDefinition(Definition):
    """A program's syntax tree and signature."""

    def ir(self, types: Mapping[str, Format | DType] | None = None) -> Func:
        """The program as IR. Behind its parameters stand those for what it returns, `result` or
        `result0`, `result1`, ..., and then its own memory."""
        given = types or {}
        params = tuple(
            Value(self._type(p, given.get(p.name)), p.name) for p in self.signature.params
        )
        b, known = Builder(), Tensors(params, self.function)
        taken = {n for p in params if isinstance(p.type, Memory)
                 for e in p.type.shape for n in names(e)}  # fmt: skip
        scope: dict[str, Any] = {p.hint: p for p in params}
        composer = Composer(self.function, b, {**scope, "%tensors": known}, taken)
        composer.body(self.function.tree.body)
        results = self._results(composer)
        return Func(self.signature.name, Block((*params, *results, *known.own), tuple(b.ops)))

    def called(self, types: Mapping[str, Format | DType]) -> Definition:
        """The program as it is called: it writes what it returns to parameters behind its own."""
        known = self.signature.params
        more = [p for p in self.ir(types).params[len(known) :] if "." not in p.hint]
        loc = place(self.function.file, self.function.lines, self.function.tree)
        specs = [(p.hint, TensorSpec(p.type.shape, p.type.format)) for p in more
                 if isinstance(p.type, Memory)]  # fmt: skip
        params = (*known, *(Parameter(name, s, loc) for name, s in specs))
        return Called(Signature(self.signature.name, params), self.function, self)

    def _results(self, composer: Composer) -> tuple[Value, ...]:
        """Store what is returned into parameters that the caller makes."""
        found = composer.returned
        if found is Missing or found is None:
            return ()
        last = composer.function.tree.body[-1]
        values = found if isinstance(found, tuple) else (found,)
        taken = {p.name for p in self.signature.params}
        made: list[Value] = []
        for i, v in enumerate(values):
            value = composer.at(last, lambda v=v: semantics.number(composer.b, v))
            t = composer.at(last, lambda v=value: semantics.tile_type(v, "return"))
            hint = f"result{i}" if len(values) > 1 else "result"
            while hint in taken:
                hint += "_"
            mem = Value(Memory(t.shape, Dense(t.dtype)), hint)
            composer.at(last, lambda m=mem, v=value: tensors.kept(composer.b, m, v))
            made.append(mem)
        return tuple(made)


@dataclass(frozen=True)
class Called(Definition):
    """A program whose results are parameters."""

    program: ProgramDefinition

    def ir(self, types: Mapping[str, Format | DType] | None = None) -> Func:
        """The program as IR. Raises TileError where a result is of another format."""
        own = {p.name for p in self.program.signature.params}
        for p in self.signature.params:
            if p.name not in own:
                self._type(p, (types or {}).get(p.name))
        return self.program.ir({n: t for n, t in (types or {}).items() if n in own})


__all__ = ["Called", "Composer", "ProgramDefinition"]
