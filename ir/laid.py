"""Which threads hold what: the register layout of every value of a function that has been laid out.

A load is coalesced; `convert` says its own; an op on tiles keeps the layout of its operands, which
must agree; a reduction leaves its axis out. Views (constants, coordinates, broadcasts, transposed
and reshaped tiles) have no layout of their own: what they show is found by the layout in which they
are wanted.
"""

from __future__ import annotations

from math import gcd, prod

from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Digit, Digits
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import control, machine, memory, reduce, scan, shape
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.types import Tile

WIDEST = 128  # bits that a thread moves at once
VIEWS = (shape.Full, shape.Iota, shape.Coordinates, shape.Broadcast, shape.Transpose, shape.Reshape)
Layouts = dict[Value, RegisterLayout]


def coalesced(sizes: tuple[int, ...], bits: int, threads: int) -> RegisterLayout:
    """Neighbours along the last axis in a thread, up to 16 bytes; then threads; then again.

    Where there are fewer elements than threads, some threads hold the same.
    """
    total = prod(sizes)
    each = gcd(sizes[-1] if sizes else 1, max(1, WIDEST // bits))
    while each > 1 and total // each < threads:
        each //= 2
    digits: list[tuple[int, int, int]] = []  # axis, size, stride; fastest first
    pitch = [1] * len(sizes)
    for axis in reversed(range(len(sizes))):
        if sizes[axis] > 1:
            digits.append((axis, sizes[axis], pitch[axis]))
    low = _taken(digits, each)
    across = _taken(digits, threads)
    spread = tuple(Digit(n, axis, stride) for axis, n, stride in reversed(across))
    used = prod(n for _, n, _ in across)
    if threads % used:
        raise TileError(f"{list(sizes)} can't be spread over {threads} threads")
    copies: Digits = (Digit(threads // used),) if used < threads else ()
    rest = tuple(Digit(n, axis, stride) for axis, n, stride in (*reversed(digits), *reversed(low)))
    return RegisterLayout(sizes, (*copies, *spread), rest)


def pieces(sizes: tuple[int, ...], threads: int) -> RegisterLayout:
    """Which pieces of rows a thread copies: one after the other, as many as there are threads."""
    return coalesced(sizes, WIDEST, threads)


def _taken(digits: list[tuple[int, int, int]], count: int) -> list[tuple[int, int, int]]:
    """The fastest digits up to a count of elements, which are removed from the list."""
    out: list[tuple[int, int, int]] = []
    while digits and count > 1:
        axis, n, stride = digits.pop(0)
        part = gcd(n, count)
        if part == 1:
            digits.insert(0, (axis, n, stride))
            break
        out.append((axis, part, stride))
        if part < n:
            digits.insert(0, (axis, n // part, stride * part))
        count //= part
    return out


def seen(op: Op, wanted: RegisterLayout) -> RegisterLayout:
    """The layout in which a view's operand is wanted, where the view itself is wanted so."""
    operand = op.operands[0].type
    assert isinstance(operand, Tile)
    match op:
        case shape.Transpose():
            inverse = [op.order.index(i) for i in range(len(op.order))]
            return wanted.permute(*inverse)
        case shape.Reshape():
            return wanted.reshape(*sizes_of(operand))
        case shape.Broadcast():
            return _narrowed(wanted, sizes_of(operand))
        case _:
            raise TileError(f"{op.name} is no view of a tile", op.loc)


def _narrowed(wanted: RegisterLayout, sizes: tuple[int, ...]) -> RegisterLayout:
    """The layout of a tile that is stretched, and given axes, to one with the wanted layout."""
    skip = wanted.rank - len(sizes)
    kept = {a for a in range(wanted.rank) if a >= skip and sizes[a - skip] == wanted.shape[a]}

    def moved(d: Digit) -> Digit:
        if d.axis is None or d.axis not in kept:
            return Digit(d.size)
        return Digit(d.size, d.axis - skip, d.stride)

    locals_ = tuple(moved(d) for d in wanted.local_digits if d.axis in kept)
    return RegisterLayout(sizes, tuple(map(moved, wanted.thread_digits)), locals_)


def restricted(layout: RegisterLayout, axes: tuple[int, ...]) -> RegisterLayout:
    """The layout of a tile along some axes of another, as its threads need it."""

    def moved(d: Digit) -> Digit:
        if d.axis is None or d.axis not in axes:
            return Digit(d.size)
        return Digit(d.size, axes.index(d.axis), d.stride)

    sizes = tuple(layout.shape[a] for a in axes)
    locals_ = tuple(moved(d) for d in layout.local_digits if d.axis in axes)
    return RegisterLayout(sizes, tuple(map(moved, layout.thread_digits)), locals_)


def sizes_of(t: Tile) -> tuple[int, ...]:
    """The sizes of a tile whose axes are numbers."""
    known = tuple(d for d in t.shape if isinstance(d, int))
    if len(known) != t.rank:
        raise TileError(f"{t} has an axis that is no number", hint="run the pass `pad` first")
    return known


def by_element(op: Op) -> bool:
    """Whether every element of a result is made of those at its place, and of scalars."""
    return Trait.ELEMENTWISE in op.traits or isinstance(op, shape.RandomBits)


def layouts(func: Func, threads: int) -> Layouts:
    """The layout of every tile that is held. Raises TileError where operands of an op disagree."""
    return Laying(threads).function(func)


class Laying:
    """Walks a function in order; `of` is what has been found."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.of: Layouts = {}
        self.made: dict[Value, Op] = {}

    def function(self, func: Func) -> Layouts:
        """All layouts of a function."""
        self.block(func.body)
        return self.of

    def block(self, block: Block) -> None:
        """The layouts of a block's values."""
        for op in block.ops:
            self.op(op)

    def op(self, op: Op) -> None:
        """The layouts of what an op makes."""
        self.made.update(dict.fromkeys(op.results, op))
        try:
            self._op(op)
        except TileError as e:
            raise e.at(op.loc) from None

    def _op(self, op: Op) -> None:
        match op:
            case control.For() | control.Count() | control.While():
                self._loop(op)
            case control.If():
                self._branch(op)
            case memory.Load() | Expand() | machine.Shift():
                self._tile(op.result, self._loaded(op))
            case machine.Convert():
                self._tile(op.result, op.layout)
            case (reduce.Dot(acc=source) | SparseDot(acc=source) | machine.Settle(a=source)
                  | scan.Scan(a=source)):  # fmt: skip
                self._copied(source, op.result)
            case reduce.Reduction():
                found = self.of.get(op.a)
                if found is None:
                    raise TileError(f"{op.name} of a tile without a layout")
                self._tile(op.result, found.reduce(op.axis))
            case _ if by_element(op):
                self._elementwise(op)
            case _:
                for b in op.blocks:
                    self.block(b)

    def _loaded(self, op: Op) -> RegisterLayout:
        t = op.result.type
        assert isinstance(t, Tile)
        return coalesced(sizes_of(t), t.dtype.bits, self.threads)

    def _tile(self, v: Value, layout: RegisterLayout) -> None:
        assert isinstance(v.type, Tile)
        if v.type.shape:
            self.of[v] = layout

    def _copied(self, source: Value, to: Value) -> None:
        if source in self.of:
            self.of[to] = self.of[source]

    def _passed(self, to: tuple[Value, ...], source: tuple[Value, ...]) -> None:
        for a, b in zip(source, to, strict=True):
            self._copied(a, b)

    def _elementwise(self, op: Op) -> None:
        held = [self.of[v] for v in op.operands if v in self.of]
        if any(x != held[0] for x in held):
            raise TileError(f"{op.name}: its operands have the layouts "
                            f"{', '.join(map(str, dict.fromkeys(held)))}")  # fmt: skip
        if held:
            self._tile(op.result, held[0])

    def _loop(self, op: control.For | control.Count | control.While) -> None:
        first = 0 if isinstance(op, control.While) else 1
        self._passed(op.body.params[first:], op.init)
        if isinstance(op, control.While):
            self._passed(op.test.params, op.init)
            self.block(op.test)
        self.block(op.body)
        self._same(op, op.init, op.body.results)
        self._passed(op.results, op.init)

    def _branch(self, op: control.If) -> None:
        self.block(op.then)
        self.block(op.otherwise)
        self._same(op, op.then.results, op.otherwise.results)
        self._passed(op.results, op.then.results)

    def _same(self, op: Op, a: tuple[Value, ...], b: tuple[Value, ...]) -> None:
        for x, y in zip(a, b, strict=True):
            if self.of.get(x) != self.of.get(y):
                raise TileError(f"{op.name}: a value is {self.of.get(x)} on one way "
                                f"and {self.of.get(y)} on the other")  # fmt: skip
