"""Codes loaded in words: a step of a product is cut into parts, one for each code of a word.

    dot(x[m, k], w[n, k].T)  ->  part 0 of x times code 0 of every word, + part 1 times code 1, ...

A word is loaded and held once, and no decoded element changes places (ir/interleaved.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.extent import Extent, names
from tilec.ir.format import Dense
from tilec.ir.interleaved import WORD, Interleaved
from tilec.ir.ops import arith, control, memory, packed, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile
from tilec.passes.pipeline import register


@register("interleave")
def interleave(func: Func, *, least: int = 16) -> Func:
    """Keep the codes that only products in loops read in interleaved words.

    Before: tiles have sizes, formats are lowered to plain memory. After: such parameters are
    memory of words; each product is several, of at least `least` k's. Codes of 1, 2 or 4 bits
    are taken whose rows are whole steps of their loop.
    """
    found = _Survey(func, least)
    params = tuple(found.words.get(p, p) for p in func.params)
    body = _Cutting(found).block(func.body)
    return Func(func.name, Block(params, body.ops, body.results),
                (*func.remarks, *found.remarks))  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """How a product is cut: its loop, and the words of each memory of codes that it reads."""

    loop: control.For
    orders: dict[Value, Interleaved]
    decoded: frozenset[Op]  # the loads of codes, and what is made of them along k

    @property
    def parts(self) -> int:
        """How many products there will be."""
        return next(iter(self.orders.values())).fields

    @property
    def size(self) -> int:
        """How many k's each of them has."""
        assert self.loop.tile is not None
        return self.loop.tile // self.parts


class _Survey:
    """The products that can be cut, and the words that their codes lie in then."""

    def __init__(self, func: Func, least: int) -> None:
        self.least = least
        self.made = {v: op for op in func.walk() for v in op.results}
        self.readers: dict[Value, list[Op]] = defaultdict(list)
        self.remarks: list[Remark] = []
        self.plans: dict[Op, _Plan] = {}
        self.words: dict[Value, Value] = {}
        for op in func.walk():
            for v in (*op.operands, *(v for b in op.blocks for v in b.results)):
                self.readers[v].append(op)
        for loop in func.walk():
            if isinstance(loop, control.For) and loop.tile and loop.stop is None:
                for op in loop.body.ops:
                    if isinstance(op, reduce.Dot):
                        self._product(op, loop)

    def _product(self, dot: reduce.Dot, loop: control.For) -> None:
        """Take a product, if it has codes and all that it reads along k can be cut."""
        ops = self._feeding(dot, loop)
        codes = [op for op in ops if isinstance(op, memory.Load) and _codes(op, loop)]
        if not codes:
            return
        orders = {op.mem: Interleaved(tile(op.result).dtype, loop.tile or 1) for op in codes}
        decoded = self._decoded(codes, ops)
        problem = next(filter(None, (_obstacle(op, loop) for op in ops)), "")
        problem = problem or _unfit(orders, loop, self.least)
        seen = [v for op in decoded for v in op.results] + list(orders)
        if any(op not in decoded and op is not dot for v in seen for op in self.readers[v]):
            problem = problem or "one product as its reader"
        if problem:
            self.remarks.append(Remark("interleave", f"`{codes[0].mem.hint}` stays as it is packed",
                                       dot.loc, problem))  # fmt: skip
            return
        self.plans[dot] = _Plan(loop, orders, frozenset(decoded))
        self.words |= {mem: _worded(mem, order) for mem, order in orders.items()}

    def _feeding(self, dot: reduce.Dot, loop: control.For) -> list[Op]:
        """What makes a product's operands along k."""
        ops, wanted = list[Op](), [dot.b, dot.a]
        while wanted:
            v = wanted.pop()
            op = self.made.get(v)
            if op is not None and op not in ops and _along(v, loop):
                ops.append(op)
                wanted += [x for x in op.operands if not isinstance(x.type, Memory)]
        return ops

    def _decoded(self, codes: list[memory.Load], ops: list[Op]) -> set[Op]:
        """The loads of codes and, of these ops, what reads their results."""
        found, wanted = set[Op](codes), list[Op](codes)
        while wanted:
            op = wanted.pop()
            new = [o for v in op.results for o in self.readers[v] if o in ops and o not in found]
            found |= set(new)
            wanted += new
        return found


def _worded(mem: Value, order: Interleaved) -> Value:
    """The memory of words that stands for one of codes."""
    assert isinstance(mem.type, Memory)
    *rows, k = mem.type.shape
    assert isinstance(k, int)
    return Value(Memory((*rows, k // order.fields), Dense(WORD)), mem.hint)


def _unfit(orders: dict[Value, Interleaved], loop: control.For, least: int) -> str:
    """Why codes can't be words, or nothing."""
    step, k = loop.tile or 1, loop.dim
    if not isinstance(k, int) or not all(Interleaved.fits(o.codes, step, k)
                                         for o in orders.values()):  # fmt: skip
        return f"codes of 1, 2 or 4 bits, and a K of whole steps of {step}"
    fields = {o.fields for o in orders.values()}
    if len(fields) > 1:
        return "codes of one width in a product"
    return "" if step >= least * min(fields) else f"steps of {least * min(fields)} along k"


def _along(v: Value, loop: control.For) -> bool:
    """Whether a value has an axis along the loop."""
    if isinstance(v.type, Span):
        return v is loop.body.params[0]
    return str(loop.size) in {n for d in tile(v).shape for n in _names(d)}


def _names(d: Extent) -> set[str]:
    return set() if isinstance(d, int) else set(names(d))


def _codes(op: memory.Load, loop: control.For) -> bool:
    """Whether a load reads codes of at most a byte along the loop."""
    t = tile(op.result).dtype
    codes = t.bits < 8 and (t.is_integer or t.kind == "code")
    return codes and op.indices[-1] is loop.body.params[0]


def _obstacle(op: Op, loop: control.For) -> str:
    """Why an op can't be cut along a loop, or nothing."""
    cut = (memory.Load, shape.Transpose, shape.Broadcast, shape.Full, shape.Reshape,
           shape.Coordinates)  # fmt: skip
    if Trait.ELEMENTWISE not in op.traits and not isinstance(op, cut):
        return f"no {op.name} along k"
    mixed = any(str(loop.size) in _names(d) and str(d) != str(loop.size)
                for d in tile(op.result).shape)  # fmt: skip
    return f"a {op.name} that keeps k an axis of its own" if mixed else ""


class _Cutting:
    """The rewriting of one function."""

    def __init__(self, found: _Survey) -> None:
        self.found = found
        self.gone = {op for plan in found.plans.values() for op in plan.decoded}
        self.to: dict[Value, Value] = {}
        self.cut: dict[tuple[Value, int, int], Value] = {}
        self.held: dict[Value, Value] = {}  # words that are loaded

    def block(self, block: Block) -> Block:
        """A block whose products over codes are cut."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            plan = self.found.plans.get(op)
            if plan is not None:
                assert isinstance(op, reduce.Dot)
                self.to[op.result] = self._product(op, plan, b)
            elif op not in self.gone:
                b.copy(op, self.to, self.block)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _product(self, op: reduce.Dot, plan: _Plan, b: Builder) -> Value:
        """The sum of the products of parts; scales once behind it."""
        t, acc = tile(op.acc), self.to.get(op.acc, op.acc)
        both = ((op.scale, (1, t.shape[1])), (op.row_scale, (t.shape[0], 1)))
        scales = [(v, own) for v, own in both if v is not None]
        inner = reduce.accumulator(tile(op.a).dtype, tile(op.b).dtype)
        total = b(shape.Full(t.shape, 0, inner)) if scales else acc
        for part in range(plan.parts):
            left, right = (self._part(v, plan, part, b) for v in (op.a, op.b))
            total = b(reduce.Dot(left, right, total))
        total = total if inner == t.dtype else b(Cast(total, t.dtype))
        for v, own in scales:
            factor = b(shape.Reshape(self.to.get(v, v), own))
            total = b(arith.Mul(total, b(shape.Broadcast(factor, t.shape))))
        return b(arith.Add(acc, total)) if scales else total

    def _part(self, v: Value, plan: _Plan, part: int, b: Builder) -> Value:
        """One part of a value along a loop."""
        if not _along(v, plan.loop):
            return self.to.get(v, v)
        key = (v, plan.parts, part)
        if key not in self.cut:
            self.cut[key] = self._made(v, plan, part, b)
        return self.cut[key]

    def _made(self, v: Value, plan: _Plan, part: int, b: Builder) -> Value:
        k, size = plan.loop.body.params[0], plan.size
        if v is k:
            return b(packed.Part(k, part * size, size))
        op = self.found.made[v]
        if isinstance(op, memory.Load) and op.mem in plan.orders:
            if v not in self.held:
                rows = tuple(self.to.get(i, i) for i in op.indices[:-1])
                words = (*rows, b(packed.Groups(k, plan.parts, size)))
                self.held[v] = b(memory.Load(self.found.words[op.mem], words))
            return b(packed.Unpack(self.held[v], plan.orders[op.mem].codes, part))
        changed = {x: self._part(x, plan, part, b) for x in op.operands
                   if not isinstance(x.type, Memory)}  # fmt: skip
        own: dict[str, Any] = {}
        if "shape" in op.attributes:
            own["shape"] = tuple(size if d == plan.loop.size else d for d in op.attributes["shape"])
        return b(op.rebuilt(self.to | changed, **own))
