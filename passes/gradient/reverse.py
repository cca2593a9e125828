"""The walk over a function's ops from the last to the first, which gathers gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tilec.ir.core import Op, Value
from tilec.ir.errors import Loc, TileError
from tilec.ir.ops import arith, memory
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.ops.shape import Reshape
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Tile
from tilec.passes.gradient import arith as arithmetic
from tilec.passes.gradient import cast, log_sums, logistic, reduce, scan, shape, top
from tilec.passes.gradient.memory import repeated, whole
from tilec.passes.gradient.rules import FLAT, RULES, Writer, smooth, width
from tilec.passes.gradient.shifts import unmoved
from tilec.passes.gradient.sums import summed

FAMILIES = (arithmetic, cast, reduce, scan, shape, top)  # importing them fills the table


def handles(cls: type[Op]) -> str:
    """Where the derivative of an op is, or why there is none."""
    if issubclass(cls, memory.Load | memory.Write):
        return "passes/gradient/reverse.py"
    if cls in FLAT:
        return "0"
    if cls in RULES:
        return f"passes/gradient/{RULES[cls].__module__.rpartition('.')[2]}.py"
    return "none: it is not of floats, or has no rule"


@dataclass(frozen=True)
class Part:
    """What a gradient gets at some places of a memory."""

    indices: tuple[Value, ...]
    value: Value
    loc: Loc | None


@dataclass
class Reverse:
    """Gradients by value, and of what memories and scalars hold that are `wanted`.

    `seeds` gives the memory with the gradient of what each result holds at the end.
    """

    ops: Sequence[Op]
    wanted: Set[Value]
    seeds: Mapping[Value, Value]
    w: Writer
    found: dict[Value, Value] = field(default_factory=dict[Value, Value])
    parts: dict[Value, list[Part]] = field(default_factory=dict[Value, list[Part]])
    remarks: list[Remark] = field(default_factory=list[Remark])

    def __post_init__(self) -> None:
        self.active = set(self.wanted)
        fixed = unmoved(self.ops, self.seeds.keys())
        self.closed: set[Value] = set()  # memories that a later store writes whole
        self.parted: set[Value] = set()  # memories that a later store writes in part
        for op in self.ops:
            if not self.active.isdisjoint(op.operands):
                self.active.update(v for v in op.results if _smooth(v) and v not in fixed)

    def run(self) -> None:
        """Every op, the last first. Raises TileError at one that has no derivative."""
        for op in reversed(self.ops):
            self.w.b.loc = op.loc
            if isinstance(op, memory.Write):
                self.write(op)
            elif op.results and not self.active.isdisjoint(op.operands):
                self.op(op)
        self.w.b.loc = None

    def op(self, op: Op) -> None:
        """What the operands of an op get."""
        d = self.found.get(op.result)
        if isinstance(op, Cast | Bitcast) and not smooth(op.dtype):
            self.flat(op)
        if d is None:
            return
        if isinstance(op, memory.Load):
            self.load(op, d)
            return
        for v, part in self.given(op, d):
            if part is not None:
                self.add(v, part)

    def given(self, op: Op, d: Value) -> list[tuple[Value, Value | None]]:
        """The gradients of an op's operands; or, where ops before it have none that is finite by
        themselves, of what those are made of."""
        w = self.w
        total = log_sums.log_sum_exp(op, w.made)
        if total is not None:
            return [log_sums.derivative(op, total, d, w)]
        exponent = logistic.exponent(op, w.made)
        if exponent is not None:
            return [*zip((op.operands[0], exponent), logistic.derivative(op, d, w), strict=True)]
        if type(op) not in RULES:
            raise TileError(f"gradient: `{op.name}` has no derivative", op.loc)
        if isinstance(op, FLAT):
            self.flat(op)
        try:
            return [*zip(op.operands, RULES[type(op)](op, d, w), strict=True)]
        except TileError as e:
            raise e.at(op.loc) from None

    def flat(self, op: Op) -> None:
        """Say that nothing goes on here."""
        name = f"a cast to {op.dtype}" if isinstance(op, Cast) else f"`{op.name}`"
        self.remarks.append(Remark("gradient", f"{name} has the derivative 0", op.loc))

    def add(self, v: Value, d: Value) -> None:
        """A value gets another part of its gradient, if it is asked for."""
        if v in self.active:
            t = v.type
            d = self.w.cast(d, width(t.dtype)) if isinstance(t, Tile) else d
            before = self.found.get(v)
            self.found[v] = d if before is None else self.w(arith.Add(before, d))

    def load(self, op: memory.Load, d: Value) -> None:
        """A memory's gradient is at the places that were read."""
        times = repeated(op, self.w.made)
        if whole(op.indices, self.w.made):
            self.add(op.mem, d)
        elif times is not None:
            self.add(op.mem, self.together(op.mem, *times, d))
        else:
            self.parts.setdefault(op.mem, []).append(Part(op.indices, d, op.loc))

    def together(self, mem: Value, axis: int, times: int, d: Value) -> Value:
        """The sum of what stands so many times in a row along an axis of a memory."""
        assert isinstance(mem.type, Memory)
        *lead, dim = mem.type.shape[: axis + 1]
        parts = (*lead, dim, times, *mem.type.shape[axis + 1 :])
        return summed(self.w(Reshape(d, parts)), axis + 1, self.w)

    def write(self, op: memory.Write) -> None:
        """A stored value's gradient is that of the result at its places, unless it is overwritten.

        Where places of one store coincide, each value counts.
        """
        seed = self.seeds.get(op.mem)
        if seed is None or op.mem in self.closed:
            return
        if op.mem in self.parted:
            raise TileError(f"gradient: `{op.mem.hint}` is written again, in part", op.loc)
        d = self.w.wide(self.w(memory.Load(seed, op.indices)))
        self.add(op.value, d if op.mask is None else self.w.chosen(op.mask, d))
        if isinstance(op, memory.Store):
            everything = op.mask is None and whole(op.indices, self.w.made)
            (self.closed if everything else self.parted).add(op.mem)


def _smooth(v: Value) -> bool:
    return isinstance(v.type, Tile) and smooth(v.type.dtype)
