"""Products that go on while the next step of their loop begins.

A product of warp groups reads its operands in place and goes on until it settles. Here a step waits
for the one of the step before, which needs that nothing it reads is written meanwhile: its operands
are not in registers, and its rings have a slot more than the copies under way take.
"""

from __future__ import annotations

from collections import Counter

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.ops import control, machine, shape
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.passes.pipeline import register


@register("overlap")
def overlap(func: Func) -> Func:
    """Let the product of a loop's step end in the next step, and wait for the last one behind.

    Before: products are begun and settled (`lay-out{instruction=wgmma}`). After: the same.
    """
    overlapping = _Overlapping(func)
    return func.replaced(overlapping.block(func.body), *overlapping.remarks)


class _Overlapping:
    def __init__(self, func: Func) -> None:
        self.made = {v: op for op in func.walk() for v in op.results}
        self.uses: Counter[Value] = Counter()
        for op in func.walk():
            self.uses.update(op.operands)
            self.uses.update(v for block in op.blocks for v in block.results)
        self.to: dict[Value, Value] = {}
        self.late: set[Op] = set()  # what waits for the step before
        self.remarks: list[Remark] = []

    def block(self, block: Block) -> Block:
        """A block whose loops overlap their steps."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        late = self._late(op) if isinstance(op, control.For) else set[Value]()
        inner = {n: getattr(op, n) for n in op.fields("block")}
        new = op.rebuilt(self.to, **{n: v and self.block(v) for n, v in inner.items()})
        if op in self.late:
            new = machine.Settle(new.operands[0], 1)
        b.add(new)
        for old, v in zip(op.results, new.results, strict=True):
            self.to[old] = b(machine.Settle(v)) if old in late else v

    def _late(self, loop: control.For) -> set[Value]:
        """The results of a loop to which products are added that may end a step later."""
        found: set[Value] = set()
        carried = zip(loop.body.params[1:], loop.body.results, loop.results, strict=True)
        for param, end, result in carried:
            op = self.made.get(end)
            if not isinstance(op, machine.Settle) or op.pending:
                continue
            missing = self._obstacle(loop.body, op, param)
            if missing:
                self.remarks.append(Remark("overlap", "a product ends in its own step", op.loc,
                                           missing))  # fmt: skip
            else:
                self.late.add(op)
                found.add(result)
        return found

    def _obstacle(self, body: Block, op: machine.Settle, param: Value) -> str:
        """Why a product can't go on in the next step, or nothing."""
        dot = self.made.get(op.a)
        alone = all(self.uses[v] == 1 for v in (param, op.a, op.result))
        if isinstance(dot, SparseDot):
            return "operands that lie in rings; places of a sparse one are in registers"
        if not isinstance(dot, Dot) or dot.acc is not param or not alone:
            return "a sum that nothing else reads"
        rings = [self._ring(v) for v in (dot.a, dot.b)]
        waits = [o.pending for o in body.ops if isinstance(o, machine.Wait)]
        if None in rings:
            return "operands that lie in rings"
        slots = min(ring.sizes[0] for ring in rings if ring)
        if any(slots - 2 - pending < 1 for pending in waits) or _released(body):
            return "rings with a slot that is kept for a step"
        return ""

    def _ring(self, v: Value) -> machine.Shared | None:
        """The ring in which an operand lies."""
        op = self.made.get(v)
        while isinstance(op, shape.Transpose):
            op = self.made.get(op.a)
        ring = self.made.get(op.mem) if isinstance(op, machine.InPlace) else None
        return ring if isinstance(ring, machine.Shared) else None


def _released(body: Block) -> bool:
    """Whether a step says that nothing reads a slot any more in which its product reads."""
    read = {o.slot for o in body.walk() if isinstance(o, machine.InPlace)}
    return any(isinstance(o, machine.Arrive) and o.slot in read for o in body.walk())
