"""What a function leaves for its gradients: the few numbers that take a pass over many to find.

Of softmax it is the logarithm of the sum, from which the weights are computed again without a
maximum and without a sum (Dao, "FlashAttention-2", 2023); of a norm the sum of squares.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.format import Dense
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.ir.types import Memory, Shape
from tilec.passes.canonicalize import canonicalize
from tilec.passes.gradient.log_sums import base, shifted, stretched
from tilec.passes.gradient.memory import straight

REDUCTIONS = (reduce.Sum, reduce.Max, reduce.Min)


@dataclass(frozen=True)
class Saved:
    """A function with more results, of these names: as it runs, and as its gradients take it.

    The second has exp(s - log(sum(exp(s)))) for the weights exp(s - m) / sum(exp(s - m)).
    """

    forward: Func
    source: Func
    names: tuple[str, ...]


def saved(func: Func) -> Saved:
    """A function with results for those of its reductions that are smaller than a parameter.

    They have some axes of a parameter, not all. Before: as for `gradient`.
    """
    func = canonicalize(func)
    b = _Writer()
    for op in straight(func):
        b.add(op)
    shapes = [p.type.shape for p in func.params if isinstance(p.type, Memory)]
    small = [v for v in b.found if any(_part(tile("saved", v).shape, s) for s in shapes)]
    taken = {p.hint for p in func.params}
    names = [n for i in range(len(small) + len(taken)) if (n := f"saved{i}") not in taken]
    more = [Value(Memory(tile("saved", v).shape, Dense(tile("saved", v).dtype)), n)
            for v, n in zip(small, names, strict=False)]  # fmt: skip
    for v, mem in zip(small, more, strict=True):
        b.stored(v, mem)
    own = [p for p in func.params if "." in p.hint]
    params = (*(p for p in func.params if p not in own), *more, *own)
    forward, source = (Func(func.name, Block(params, ops), func.remarks)
                       for ops in (tuple(b.ops), b.replaced()))  # fmt: skip
    return Saved(canonicalize(forward), canonicalize(source), tuple(p.hint for p in more))


@dataclass
class _Writer(Builder):
    """Writes a function, with the logarithms of the sums of softmax before its weights.

    `found` are these and the reductions, `instead` what the weights are by the logarithms.
    """

    made: dict[Value, Op] = field(default_factory=dict[Value, Op])
    found: list[Value] = field(default_factory=list[Value])
    instead: dict[Value, Value] = field(default_factory=dict[Value, Value])

    def add(self, op: Op) -> Op:
        """An op of the function, or one of a logarithm."""
        self.made.update(dict.fromkeys(op.results, op))
        if isinstance(op, REDUCTIONS):
            self.found.append(op.result)
        if isinstance(op, arith.Div) and (total := self.total(op)) is not None:
            self.loc = op.loc
            self.logarithm(op, total)
            self.loc = None
        return super().add(op)

    def total(self, op: arith.Div) -> reduce.Sum | None:
        """The sum of the exponentials that are divided, if it is what they are divided by."""
        spread = self.made.get(op.b)
        if not isinstance(spread, shape.Broadcast):
            return None
        total = self.made.get(base(spread.a, self.made))
        if not isinstance(total, reduce.Sum) or total.a is not op.a:
            return None
        less, one = shifted(total, None, self.made), tile("saved", spread.a).shape
        spreads = less is not None and one == tile("saved", self.made[less.b].operands[0]).shape
        return total if spreads else None

    def logarithm(self, op: arith.Div, total: reduce.Sum) -> None:
        """m + log(sum(exp(s - m))), and exp(s - that)."""
        less = shifted(total, None, self.made)
        assert less is not None
        spread = self.made[less.b]
        assert isinstance(spread, shape.Broadcast)
        m = self(shape.Reshape(spread.a, tile("saved", total.result).shape))
        out = self(arith.Add(m, self(arith.Log(total.result))))
        self.found.append(out)
        self.instead[op.result] = self(
            arith.Exp(self(arith.Sub(less.a, stretched(out, total, self))))
        )

    def stored(self, v: Value, mem: Value) -> None:
        """Store a value to all of a memory."""
        self.add(memory.Store(mem, tuple(self(memory.Whole(n)) for n in tile("saved", v).shape), v))

    def replaced(self) -> tuple[Op, ...]:
        """The ops with the weights by the logarithms."""
        b, to = Builder(), dict[Value, Value]()
        for op in self.ops:
            if op.results and op.results[0] in self.instead:
                to[op.result] = to[self.instead[op.result]]
                continue
            new = b.add(op.rebuilt(to))
            to.update(zip(op.results, new.results, strict=True))
        return tuple(b.ops)


def _part(some: Shape, of: Shape) -> bool:
    """Whether extents are some of others, and not all."""
    return Counter(some) < Counter(n for n in of if n != 1)
