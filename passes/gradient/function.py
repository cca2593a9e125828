"""The pass `gradient`: which function computes gradients, of what it takes and gives."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.ops import memory, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Tile
from tilec.passes.canonicalize import canonicalize
from tilec.passes.gradient.memory import WHOLE, by_kernels, straight, whole
from tilec.passes.gradient.reverse import Reverse
from tilec.passes.gradient.rules import Writer, smooth, width
from tilec.passes.pipeline import register

PREFIX = "d_"


@register("gradient")
def gradient(
    func: Func, *, by: str = "", of: str = "", keep: str = "", rounded: bool = False
) -> Func:
    """The function that computes the gradients of inputs from those of results: names as `x+w`.

    It takes what `func` takes, `d_y` for each result in `of` (all of them unless said) and the
    results in `keep`, as `func` left them; it stores `d_x` for each input in `by`, of x's shape and
    dtype (a scalar's is a vector of 1). What it needs of `func` it computes again, but for what is
    kept; that stands for the value before it was rounded to the result's dtype, too. Inputs behind
    a comma in `by` have ops of their own, which compute that again: attention's `q,k+v` are a loop
    over keys and one over queries, and no matrix of weights lies in memory. Gradients are in f32,
    those of f64 in f64, and round to their dtype at the end; `rounded` rounds one before a product
    with 16-bit floats to their dtype. Nothing asked for, nothing done.

    Before: expressions of whole tensors, outside of grids. Max and min pass the gradient to the
    first element that attains them; equal operands of maximum and minimum get half of it; casts
    between floats pass it on; floor, ceil, rint and casts to integers give 0, with a remark.
    Raises TileError at an op that has no derivative.
    """
    if not by:
        return func
    groups = [_names(group) for group in by.split(",")]
    return _Gradient(func, _names(of), groups, _names(keep), rounded).func()


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(text.split("+"))) if text else []


class _Gradient:
    """The parameters of the new function, and its body."""

    def __init__(self, func: Func, of: list[str], by: list[list[str]], keep: list[str],
                 rounded: bool) -> None:  # fmt: skip
        self.source, self.rounded = func, rounded
        self.ops = straight(canonicalize(func))  # equal values are one: the rules look for some
        self.made = {v: op for op in self.ops for v in op.results}
        written = list(dict.fromkeys(op.mem for op in func.walk() if isinstance(op, memory.Write)))
        self.results = {p.hint: p for p in func.params if p in written and "." not in p.hint}
        self.inputs = {p.hint: p for p in func.params if p not in written}
        self.of = [_one(self.results, n, "result") for n in of] or list(self.results.values())
        self.by = [[_one(self.inputs, n, "input") for n in group] for group in by]
        self.keep = [_one(self.results, n, "result") for n in keep]
        for p, op in by_kernels(func).items():
            if p in self.of:
                raise TileError(f"gradient: `{p.hint}` is stored by a kernel", op.loc, WHOLE)
        self.seeds = {p: Value(p.type, PREFIX + p.hint) for p in self.of}
        self.outputs = {p: Value(_memory(p), PREFIX + p.hint) for group in self.by for p in group}
        self.sums: list[Value] = []

    def func(self) -> Func:
        """The whole function."""
        bodies = [self.ops_for(group) for group in self.by]
        params = (*self.inputs.values(), *self.keep, *self.seeds.values(),
                  *self.outputs.values(), *self.sums)  # fmt: skip
        names = [p.hint for p in params]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise TileError(f"gradient: a parameter is called `{twice}` already")
        ops: list[Op] = []
        remarks = self.source.remarks
        for body, said in bodies:
            whole = Func(f"{PREFIX}{self.source.name}", Block(params, body), remarks)
            part = canonicalize(whole.replaced(whole.body, *said))
            ops, remarks = [*ops, *part.body.ops], part.remarks
        return Func(f"{PREFIX}{self.source.name}", Block(params, tuple(ops)), remarks)

    def ops_for(self, group: list[Value]) -> tuple[tuple[Op, ...], list[Remark]]:
        """The ops that compute the gradients of a group of inputs, and what is to be said."""
        b = Builder()
        writer = Writer(b, self.made, self.rounded)
        reverse = Reverse(self.ops, frozenset(group), self.seeds, writer)
        reverse.run()
        self.stores(group, reverse)
        forward = [op for op in self.ops if not isinstance(op, memory.Write)]
        unreached = [p for p in group if p not in reverse.found and p not in reverse.parts]
        none = [Remark("gradient", f"the gradient of `{p.hint}` is 0: no result depends on it")
                for p in unreached]  # fmt: skip
        return self.kept([*forward, *b.ops]), [*reversed(reverse.remarks), *none]

    def stores(self, group: list[Value], reverse: Reverse) -> None:
        """Write the gradients of inputs. Parts that may coincide are added up in memory: all of it
        is filled first, and read last."""
        w = reverse.w
        totals = {p: reverse.found.get(p) or self.zero(p, w) for p in group}
        parts = {p: reverse.parts[p] for p in group if p in reverse.parts}
        places = {p: self.added(p) for p in parts}
        for p, place in places.items():
            w.b.add(memory.Store(place, _all(place, w.b), totals[p]))
        for p, place in places.items():
            for part in parts[p]:
                w.b.loc = part.loc
                w.b.add(memory.Accumulate(place, part.indices, part.value))
            w.b.loc = None
        for p in (p for p in group if p not in places):
            self.store(p, totals[p], w)
        for p, place in places.items():
            if place is not self.outputs[p]:
                self.store(p, w(memory.Load(place, _all(place, w.b))), w)

    def zero(self, p: Value, w: Writer) -> Value:
        """No gradient."""
        to = self.outputs[p].type
        assert isinstance(to, Memory)
        dims = to.shape if isinstance(p.type, Memory) else ()
        return w(shape.Full(dims, 0.0, width(to.dtype)))

    def store(self, p: Value, total: Value, w: Writer) -> None:
        """Write an input's gradient in its dtype."""
        to = self.outputs[p]
        assert isinstance(to.type, Memory)
        scalar = () if isinstance(p.type, Memory) else (w(shape.Full((), 0, i32)),)
        w.b.add(memory.Store(to, scalar or _all(to, w.b), w.cast(total, to.type.dtype)))

    def added(self, p: Value) -> Value:
        """Memory in which parts are added up: the gradient's, or the function's own if wider."""
        to = self.outputs[p]
        assert isinstance(to.type, Memory)
        if to.type.dtype == (wide := width(to.type.dtype)):
            return to
        self.sums.append(Value(Memory(to.type.shape, Dense(wide)), f"{to.hint}.sums"))
        return self.sums[-1]

    def kept(self, ops: Sequence[Op]) -> tuple[Op, ...]:
        """The ops, with loads of the results that are kept in place of their values."""
        b, to = Builder(), dict[Value, Value]()
        for p in self.keep:
            stores = [op for op in self.ops if isinstance(op, memory.Write) and op.mem is p]
            if len(stores) != 1 or not whole(stores[0].indices, self.made) or stores[0].mask:
                raise TileError(f"gradient: `{p.hint}` can't be kept: it is not stored once, whole")
            value = to[stores[0].value] = b(memory.Load(p, _all(p, b)))
            rounded = self.made.get(stores[0].value)
            if isinstance(rounded, Cast) and smooth(rounded.dtype):
                to[rounded.a] = b(Cast(value, tile("cast", rounded.a).dtype))
        for op in ops:
            new = b.add(op.rebuilt(to))
            for v, other in zip(op.results, new.results, strict=True):
                to.setdefault(v, other)  # what is kept stays
        return tuple(b.ops)


def _all(mem: Value, b: Builder) -> tuple[Value, ...]:
    assert isinstance(mem.type, Memory)
    return tuple(b(memory.Whole(d)) for d in mem.type.shape)


def _one(known: dict[str, Value], name: str, kind: str) -> Value:
    """A parameter by its name."""
    if name not in known:
        raise TileError(f"gradient: no {kind} is called {name!r}; "
                        f"there are {', '.join(known) or 'none'}")  # fmt: skip
    return known[name]


def _memory(p: Value) -> Memory:
    """Where the gradient of an input is stored."""
    t = p.type
    if isinstance(t, Memory) and not isinstance(t.format, Dense):
        raise TileError(f"gradient: `{p.hint}` is {t.format}, only dense tensors have gradients")
    if not isinstance(t, Memory | Tile) or not smooth(t.dtype):
        raise TileError(f"gradient: `{p.hint}` is {t}, only floats have gradients")
    dims = t.shape if isinstance(t, Memory) else (1,)
    return Memory(dims, Dense(t.dtype if t.dtype.is_float else width(t.dtype)))
