"""Codes loaded in words: a step of a product is cut into parts, one for each code of a unit.

    dot(x[m, k], w[n, k].T)  ->  part 0 of x times code 0 of every unit, + part 1 times code 1, ...

A word is loaded and held once, and no decoded element changes places (ir/interleaved.py). Where a
step is too short for that, several are one, each with some of the parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.dtype import DType
from tilec.ir.extent import Extent, names
from tilec.ir.fields import FLOATS, decodings
from tilec.ir.format import Dense
from tilec.ir.interleaved import WORD, Interleaved
from tilec.ir.ops import arith, control, memory, packed, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

MOST = 16  # steps that are made one
_Found = tuple[reduce.Dot, dict[Value, DType], frozenset[Op]]  # a product, its codes, their readers


@register("interleave")
def interleave(func: Func, *, least: int = 16, depth: int = 0) -> Func:
    """Keep the codes that only products in loops read in interleaved words.

    Before: tiles have sizes, formats are lowered to plain memory. After: such parameters are
    memory of words; each product is several, of at least `least` k's. Steps that are too short
    for that, or shorter than `depth`, are made longer where K allows it. Codes are taken that
    ir/fields.py can decode, and those of 1, 2 and 4 bits that shifts and masks do.
    """
    found = _Survey(func, least, depth)
    params = tuple(found.words.get(p, p) for p in func.params)
    body = _Cutting(found).block(func.body)
    return Func(func.name, Block(params, body.ops, body.results),
                (*func.remarks, *found.remarks))  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """How a product is cut: its loop, the k's of a new step, and what its codes are."""

    loop: control.For
    step: int
    codes: dict[Value, DType]  # of each memory that it reads
    decoded: frozenset[Op]  # the loads of codes, and what is made of them along k

    @property
    def size(self) -> int:
        """How many k's each of the products has that there will be."""
        return self.step // _fields(self.codes)

    @property
    def parts(self) -> int:
        """How many products there will be for one."""
        assert self.loop.tile is not None
        return self.loop.tile // self.size


def _fields(codes: dict[Value, DType]) -> int:
    return Interleaved(next(iter(codes.values())), 1).fields


class _Survey:
    """The products that can be cut, and the words that their codes lie in then."""

    def __init__(self, func: Func, least: int, depth: int) -> None:
        self.least, self.depth = least, depth
        self.made = {v: op for op in func.walk() for v in op.results}
        self.readers: dict[Value, list[Op]] = defaultdict(list)
        self.remarks: list[Remark] = []
        self.plans: dict[Op, _Plan] = {}
        self.steps: dict[Op, int] = {}  # of loops
        self.words: dict[Value, Value] = {}
        for op in func.walk():
            for v in (*op.operands, *(v for b in op.blocks for v in b.results)):
                self.readers[v].append(op)
        for loop in func.walk():
            if isinstance(loop, control.For) and loop.tile:
                self._loop(loop)

    def _loop(self, loop: control.For) -> None:
        """Take the products of a loop that have codes, if all that they read along k can be cut."""
        found = list[_Found]()
        for dot in loop.body.ops:
            if isinstance(dot, reduce.Dot):
                ops = self._feeding(dot, loop)
                loads = [op for op in ops if isinstance(op, memory.Load) and self._codes(op, loop)]
                codes = {op.mem: tile(op.result).dtype for op in loads}
                problem = self._problem(loop, ops, loads) if codes else ""
                if problem:
                    self._stays(dot, next(iter(codes)), problem)
                elif codes:
                    found.append((dot, codes, frozenset(self._decoded(loads, ops))))
        found = self._alone(found)
        step = self._step(loop, [codes for _, codes, _ in found])
        found += [(dot, codes, frozenset()) for dot, codes in self._beside(loop, found)]
        for dot, codes, decoded in found:
            if not step:
                self._stays(dot, next(iter(codes)), self._steps(loop, codes))
                continue
            self.steps[loop] = step
            self.plans[dot] = _Plan(loop, step, codes, decoded)
            self.words |= {mem: _worded(mem, Interleaved(t, step)) for mem, t in codes.items()}

    def _alone(self, found: list[_Found]) -> list[_Found]:
        """Those whose codes nothing reads but these products."""
        while True:
            known = {op for dot, _, decoded in found for op in (dot, *decoded)}
            seen = [(one, v) for one in found
                    for v in (*one[1], *(v for op in one[2] for v in op.results))]  # fmt: skip
            dots = {one[0]: one for one, v in seen if not known.issuperset(self.readers[v])}
            if not dots:
                return found
            for dot, codes, _ in dots.values():
                self._stays(dot, next(iter(codes)), "products of one loop as its readers")
            found = [one for one in found if one[0] not in dots]

    def _beside(
        self, loop: control.For, found: list[_Found]
    ) -> Iterator[tuple[reduce.Dot, dict[Value, DType]]]:
        """Products without codes that read what one with codes reads, and are cut like that."""
        read = [(codes, set(self._loads(dot, loop))) for dot, codes, _ in found]
        for dot in loop.body.ops:
            if isinstance(dot, reduce.Dot) and all(dot is not other for other, _, _ in found):
                loads = set(self._loads(dot, loop))
                cut = not any(_obstacle(op, loop) for op in self._feeding(dot, loop))
                codes = next((c for c, known in read if loads and loads <= known), None)
                if codes is not None and cut:
                    yield dot, codes

    def _loads(self, dot: reduce.Dot, loop: control.For) -> list[Op]:
        """What a product reads from memory along a loop."""
        return [op for op in self._feeding(dot, loop) if isinstance(op, memory.Load)]

    def _stays(self, dot: reduce.Dot, mem: Value, problem: str) -> None:
        message = f"`{mem.hint}` stays as it is packed"
        self.remarks.append(Remark("interleave", message, dot.loc, problem))

    def _problem(self, loop: control.For, ops: list[Op], loads: list[memory.Load]) -> str:
        """Why a product can't be cut, or nothing."""
        problems = [*(_obstacle(op, loop) for op in ops), *map(self._unread, loads)]
        if loop.stop is not None:
            problems.append("a loop over all of k")
        if len({Interleaved(tile(op.result).dtype, 1).fields for op in loads}) > 1:
            problems.append("codes of one width in a product")
        return next((p for p in problems if p), "")

    def _codes(self, op: memory.Load, loop: control.For) -> bool:
        """Whether a load reads codes along the loop: numbers of less than a byte, or the bytes of
        a format, whose names have a dot, that become floats. Bytes of other tensors stay."""
        t = tile(op.result).dtype
        if t.kind == "bool" or t.bits > 8 or op.indices[-1] is not loop.body.params[0]:
            return False
        casts = (isinstance(o, Cast) and o.dtype in FLOATS for o in self.readers[op.result])
        return t.bits < 8 or ("." in op.mem.hint and all(casts))

    def _unread(self, op: memory.Load) -> str:
        """Why codes can't be decoded in words, or nothing."""
        t = tile(op.result).dtype
        if t.is_integer and t.bits in (1, 2, 4):
            return ""
        for reader in self.readers[op.result]:
            if not isinstance(reader, Cast | packed.Term):
                return f"a cast as the reader of {t}"
            if not decodings(t, reader.dtype, 0, packed.index_of(reader)):
                return f"a way from words of {t} to {reader.dtype}"
        return ""

    def _step(self, loop: control.For, codes: list[dict[Value, DType]]) -> int:
        """How many k's a step has, a multiple of what it had; 0 if there is no good number."""
        before, k = loop.tile or 1, loop.dim
        simple = loop.first is None and not any(_along(v, loop) for v in loop.init)
        simple = simple and not any(op.blocks or _says(op, loop) for op in loop.body.ops)
        steps = [before * i for i in range(1, MOST + 1 if simple else 2)
                 if isinstance(k, int) and k % (before * i) == 0]  # fmt: skip
        least = self.least * (2 if self._bytes(loop) else 1)
        good = [n for n in steps if all(_fits(n, before, _fields(c), least) for c in codes)]
        return next((n for n in good if n >= self.depth), good[-1] if good else 0)

    def _bytes(self, loop: control.For) -> bool:
        """Whether a loop has products of bytes, which are twice as deep."""
        dots = (op for op in loop.body.ops if isinstance(op, reduce.Dot))
        return any(tile(op.a).dtype.bits == tile(op.b).dtype.bits == 8 for op in dots)

    def _steps(self, loop: control.For, codes: dict[Value, DType]) -> str:
        """What steps would be needed."""
        wanted = self.least * _fields(codes) * (2 if self._bytes(loop) else 1)
        return f"a K of whole steps of {wanted}, of parts of a power of two that divide {loop.tile}"

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


def _fits(step: int, before: int, fields: int, least: int) -> bool:
    """Whether parts are whole, of sizes that Triton has, and not too small."""
    size = step // fields
    whole = step % fields == 0 and size.bit_count() == 1 and before % size == 0
    return whole and size >= least


def _worded(mem: Value, order: Interleaved) -> Value:
    """The memory of words that stands for one of codes."""
    assert isinstance(mem.type, Memory)
    *rows, k = mem.type.shape
    assert isinstance(k, int)
    return Value(Memory((*rows, order.columns(k)), Dense(WORD)), mem.hint)


def _along(v: Value, loop: control.For) -> bool:
    """Whether a value has an axis along the loop."""
    if isinstance(v.type, Span):
        return v is loop.body.params[0]
    return str(loop.size) in {n for d in tile(v).shape for n in _names(d)}


def _says(op: Op, loop: control.For) -> bool:
    """Whether an op says how many k's a step has, but for a shape."""
    said = (v for n, v in op.attributes.items() if n != "shape")
    return any(loop.size in (v if isinstance(v, tuple) else (v,)) for v in said)


def _names(d: Extent) -> set[str]:
    return set() if isinstance(d, int) else set(names(d))


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
        self.held: dict[Value, tuple[Value, ...]] = {}  # words that are loaded
        self.start = 0  # of the present one of the steps that become one

    def block(self, block: Block) -> Block:
        """A block whose products over codes are cut."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            if isinstance(op, control.For) and self.found.steps.get(op, op.tile) != op.tile:
                self._loop(op, self.found.steps[op], b)
            else:
                self._op(op, b)
        return Block(block.params, tuple(b.ops), self._now(block.results))

    def _now(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(self.to.get(v, v) for v in values)

    def _op(self, op: Op, b: Builder, **changed: Any) -> None:
        plan = self.found.plans.get(op)
        if plan is not None:
            assert isinstance(op, reduce.Dot)
            self.to[op.result] = self._product(op, plan, b)
        elif op not in self.gone:
            b.copy(op, self.to, self.block, **changed)

    def _loop(self, op: control.For, step: int, b: Builder) -> None:
        """A loop of longer steps: what a step did, for each part of the new one."""
        inner, before, (k, *carried) = Builder(), op.tile or 1, op.body.params
        for start in range(0, step, before):
            inner.loc = op.loc
            self.start, self.cut = start, {}
            self.to[k] = inner(packed.Part(k, start, before))
            for one in op.body.ops:
                inner.loc = one.loc
                self._op(one, inner, **_sized(one, op.size, before))
            self.to.update(zip(carried, self._now(op.body.results), strict=True))
        body = Block(op.body.params, tuple(inner.ops), self._now(op.body.results))
        self.start = 0
        for v in carried:
            del self.to[v]
        new = b.add(op.rebuilt(self.to, tile=step, body=body))
        self.to.update(zip(op.results, new.results, strict=True))

    def _product(self, op: reduce.Dot, plan: _Plan, b: Builder) -> Value:
        """The sum of the products of parts; scales once behind it, the last product and the sum
        rounded once."""
        t, acc = tile(op.acc), self.to.get(op.acc, op.acc)
        both = ((op.scale, (1, t.shape[1])), (op.row_scale, (t.shape[0], 1)))
        scales = [(v, own) for v, own in both if v is not None]
        inner = reduce.accumulator(tile(op.a).dtype, tile(op.b).dtype)
        total = b(shape.Full(t.shape, 0, inner)) if scales else acc
        for part in range(plan.parts):
            left, right = (self._part(v, plan, part, b) for v in (op.a, op.b))
            total = b(reduce.Dot(left, right, total))
        total = total if inner == t.dtype else b(Cast(total, t.dtype))
        factors = [b(shape.Broadcast(b(shape.Reshape(self.to.get(v, v), own)), t.shape))
                   for v, own in scales]  # fmt: skip
        for factor in factors[:-1]:
            total = b(arith.Mul(total, factor))
        return b(arith.Fma(total, factors[-1], acc)) if factors else total

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
            return b(packed.Part(k, self.start + part * size, size))
        op = self.found.made[v]
        if isinstance(op, memory.Load) and op.mem in plan.codes:
            order = Interleaved(plan.codes[op.mem], plan.step)
            if v not in self.held:
                self.held[v] = tuple(self._words(op, k, order, i, b) for i in range(order.words))
            return b(packed.Unpack(self.held[v], order.codes, self.start // size + part))
        changed = {x: self._part(x, plan, part, b) for x in op.operands
                   if not isinstance(x.type, Memory)}  # fmt: skip
        return b(op.rebuilt(self.to | changed, **_sized(op, plan.loop.size, size)))

    def _words(self, op: memory.Load, k: Value, order: Interleaved, i: int, b: Builder) -> Value:
        """Words number `i` of the units of a step."""
        rows = self._now(op.indices[:-1])
        size = order.step // order.fields
        groups = b(packed.Groups(k, order.fields, size, i, order.words))
        return b(memory.Load(self.found.words[op.mem], (*rows, groups)))


def _sized(op: Op, symbol: Extent, size: int) -> dict[str, Any]:
    """The shape that an op says, for other numbers of k's."""
    if "shape" not in op.attributes:
        return {}
    return {"shape": tuple(size if d == symbol else d for d in op.attributes["shape"])}
