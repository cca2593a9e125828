"""Products of two operands of codes, multiplied with their scales by the matrix unit itself."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.codes import CODES as TYPES
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import e4m3, f32
from tilec.ir.dynamic import Dynamic
from tilec.ir.extent import ceil_div, divides
from tilec.ir.format import Dense, Format
from tilec.ir.ops import arith, control, memory, packed, reduce, shape
from tilec.ir.ops.cast import Bitcast
from tilec.ir.ops.scaled import CODES, FP8, SCALES, ScaledDot
from tilec.ir.remark import Remark
from tilec.ir.scaled import Scaled
from tilec.ir.types import Memory, Span
from tilec.passes.parts import readers, tile
from tilec.passes.pipeline import register
from tilec.passes.rounded import Rounded
from tilec.passes.scaled import Along, Components, components, spread

E8M0 = TYPES["e8m0"]
TURN = (1, 0)
UNITS = {10: "sm_100", 12: "sm_120"}  # by the tens of a target: who multiplies by scales


@register("native-scales")
def native_scales(func: Func, *, target: str = "sm_100") -> Func:
    """Turn products of MX operands, or of NVFP4 ones, into `scaled_dot` of codes and scales.

    That is for e4m3, e5m2 and e2m1 with scales in e8m0 for groups of 32, and for e2m1 with scales
    in e4m3 for groups of 16, whose outer scale multiplies the sum. On sm_120 both operands have
    codes of as many bits: of others Triton makes products in bf16.

    Dynamic operands of 8 bits are rounded to codes and scales by a grid of their own.

    Before: formats are whole; tile sizes may be open. After: parameters that only such products
    read are components; those of other products stay, and a remark says why. A value is exact here
    that overflows f32 when it is decoded alone; otherwise a sum is the same, rounded elsewhere.
    """
    found = _Survey(func, target)
    if not found.plans:
        return func.replaced(func.body, *found.remarks)
    scaling = _Scaling(found)
    body = scaling.block(func.body)
    params: list[Value] = []
    for p in func.params:
        own = found.rounded.get(p)
        params += [own.dense] if own else found.parts[p].values() if p in found.parts else [p]
    params += [v for r in found.rounded.values() for v in r.components.values()]
    grids = [r.grid() for r in found.rounded.values()]
    return func.replaced(Block(tuple(params), (*grids, *body.ops), body.results), *found.remarks)


@dataclass(frozen=True)
class _Plan:
    """A product, the loads of its operands, and the loop over k."""

    dot: reduce.Dot
    loads: tuple[memory.Load, memory.Load]
    loop: control.For


class _Survey:
    """The products that the matrix unit can compute, and the components that they read."""

    def __init__(self, func: Func, target: str) -> None:
        self.target = target
        self.made = {v: op for op in func.walk() for v in op.results}
        self.loops = {op.body.params[0]: op for op in func.walk() if isinstance(op, control.For)}
        self.readers = readers(func)
        self.remarks: list[Remark] = []
        self.plans: dict[Op, _Plan] = {}
        for op in func.walk():
            if isinstance(op, reduce.Dot):
                self._product(op)
        while self._narrowed():
            pass
        mems = dict.fromkeys(x.mem for plan in self.plans.values() for x in plan.loads)
        self.rounded = {p: Rounded(p, f, True) for p in mems if (f := _dynamic(p)) is not None}
        self.parts = {
            p: self.rounded[p].components if p in self.rounded else components(p) for p in mems
        }

    def _product(self, op: reduce.Dot) -> None:
        """Plan a product, or say why codes that could take part in one are decoded."""
        turned = self.made.get(op.b)
        inner = turned.a if isinstance(turned, shape.Transpose) and turned.order == TURN else op.b
        loads = [self.made.get(op.a), self.made.get(inner)]
        read = [x for x in loads if isinstance(x, memory.Load) and _grouped(x.mem) is not None]
        if not read:
            return
        problem = "" if inner is not op.b else "k along the rows of both: write dot(x, w.T)"
        if not problem and len(read) < 2:
            problem = "codes with scales of groups in the other operand too"
        problem = problem or self._unfit(op, *read)
        if problem:
            self._remark(op, read, problem)
            return
        a, b = read
        self.plans[op] = _Plan(op, (a, b), self.loops[a.indices[-1]])
        named = " and ".join(_what(x) for x in read)
        message = f"{named} are multiplied with their scales as they lie"
        self.remarks.append(Remark("native-scales", message, op.loc))

    def _unfit(self, op: reduce.Dot, a: memory.Load, b: memory.Load) -> str:
        """Why a product of two operands in codes can't be one of the matrix unit, or nothing."""
        kinds = [_grouped(x.mem) for x in (a, b)]
        bits = {_bits(x.mem) for x in (a, b)}
        unit = UNITS.get(_tens(self.target))
        if unit is None:
            return f"a matrix unit that multiplies by scales, as of sm_100; {self.target} has none"
        if kinds[0] != kinds[1]:
            return "scales of one kind"
        if unit == "sm_120" and len(bits) > 1:
            return "codes of as many bits in both, on sm_120"
        if op.scale is not None or op.row_scale is not None:
            return "a product without scales of its own"
        return self._loop(a, b)

    def _loop(self, a: memory.Load, b: memory.Load) -> str:
        """Why the loop over k does not fit the groups, or nothing."""
        loop = self.loops.get(a.indices[-1])
        if loop is None or b.indices[-1] is not a.indices[-1]:
            return "a loop over k"
        if loop.stop is not None:
            return f"a loop over all of {loop.dim}"
        group = max(_step(x.mem) for x in (a, b))
        whole = isinstance(loop.dim, int) and loop.dim <= (loop.tile or 0)
        if loop.tile is not None and not whole and not divides(group, loop.tile):
            return f"a step of k that {group} divides; it is {loop.tile}"
        return ""

    def _narrowed(self) -> bool:
        """Drop a product whose operands have other readers too; whether there was one."""
        for op, plan in self.plans.items():
            for load in plan.loads:
                if self._shared(load.mem):
                    del self.plans[op]
                    self._remark(op, list(plan.loads), f"`{load.mem.hint}` to be read by such "
                                 "products only")  # fmt: skip
                    return True
        return False

    def _shared(self, mem: Value) -> bool:
        """Whether anything but planned products reads memory."""
        planned = {load for plan in self.plans.values() for load in plan.loads}
        ends: list[Op | Block] = []
        for load in self.readers[mem]:
            if load not in planned:
                return True
            assert isinstance(load, memory.Load)
            ends += self.readers[load.result]
        turned = [op for op in ends if isinstance(op, shape.Transpose)]
        last = [op for op in ends if op not in turned]
        last += [op for t in turned for op in self.readers[t.result]]
        return any(op not in self.plans for op in last)

    def _remark(self, op: Op, read: list[memory.Load], missing: str) -> None:
        self.remarks = [r for r in self.remarks if r.loc != op.loc or r.missing]
        named = " and ".join(_what(x) for x in read)
        verb = "are" if len(read) > 1 else "is"
        self.remarks.append(Remark("native-scales", f"{named} {verb} decoded", op.loc, missing))


def _tens(target: str) -> int:
    """10 of sm_100a and sm_103; 0 of what is no GPU."""
    number = target.removeprefix("sm_").rstrip("af")
    return int(number) // 10 if number.isdecimal() and target.startswith("sm_") else 0


def _what(load: memory.Load) -> str:
    assert isinstance(load.mem.type, Memory)
    return f"`{load.mem.hint}` ({load.mem.type.format})"


def _dynamic(mem: Value) -> Dynamic | None:
    """The format of memory that the kernel rounds."""
    format = mem.type.format if isinstance(mem.type, Memory) else None
    return format if isinstance(format, Dynamic) else None


def _scaled(mem: Value) -> Scaled | None:
    """The format of the codes of memory."""
    format = _dynamic(mem) or (mem.type.format if isinstance(mem.type, Memory) else None)
    inner = format.inner if isinstance(format, Dynamic) else format
    return inner if isinstance(inner, Scaled) else None


def _bits(mem: Value) -> int:
    """The bits of the codes of memory."""
    format = _scaled(mem)
    assert format is not None
    return format.codes.bits


def _grouped(mem: Value) -> str | None:
    """The dtype of the scales of memory whose codes a matrix unit multiplies with their scales."""
    format = _scaled(mem)
    if format is None or format.zero != "none":
        return None
    if _dynamic(mem) is not None and format.codes.name not in FP8:
        return None
    scale = format.scale.codes if isinstance(format.scale, Scaled) else format.scale.value
    small = format.codes.name in (CODES if scale != e4m3 else ("e2m1",))
    fits = small and SCALES.get(scale.name) == format.block.group
    return scale.name if fits and _plain(format.scale) else None


def _plain(scale: Format) -> bool:
    """Whether scales are numbers, or codes in e4m3 beside one f32 for all or each row."""
    if not isinstance(scale, Scaled):
        return isinstance(scale, Dense)
    outer = scale.block.columns is None and scale.block.rows in (1, None)
    return outer and scale.zero == "none" and scale.scale == Dense(f32)


def _step(mem: Value) -> int:
    """What divides every step of k: a group, and what an instruction takes."""
    return 64 if _bits(mem) == 4 else 32


class _Scaling:
    """The rewriting of one function."""

    def __init__(self, found: _Survey) -> None:
        self.found = found
        self.to: dict[Value, Value] = {}
        self.held: dict[Value, tuple[Value, Value]] = {}  # codes and scales by loaded values
        self.behind: dict[Value, _Plan] = {}  # by results of loops: what outer scales multiply
        for plan in found.plans.values():
            place = _carried(plan, found)
            if place is not None:
                self.behind[plan.loop.results[place]] = plan

    def block(self, block: Block) -> Block:
        """A block with the products of the plans."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        plan = self.found.plans.get(op)
        match op:
            case reduce.Dot() if plan is not None:
                self.to[op.result] = self._product(plan, b)
            case memory.Load() if op.mem in self.found.parts:
                self.held[op.result] = self._loaded(op, b)
            case shape.Transpose() if op.a in self.held:
                codes, scale = self.held[op.a]
                self.held[op.result] = b(shape.Transpose(codes, TURN)), scale
            case _:
                b.copy(op, self.to, self.block)
                for v in op.results:
                    if v in self.behind:
                        b.loc = self.behind[v].dot.loc
                        self.to[v] = self._by_outer(self.to[v], self.behind[v], b)

    def _loaded(self, op: memory.Load, b: Builder) -> tuple[Value, Value]:
        """The codes, and the scale of each group of them."""
        parts, (*rows, k) = self.found.parts[op.mem], (self.to.get(i, i) for i in op.indices)
        assert isinstance(k.type, Span)
        by = SCALES[_grouped(op.mem) or ""]
        groups = b(packed.Groups(k, by, ceil_div(k.type.size, by)))
        codes = b(memory.Load(parts["codes"], (*rows, k)))
        scale = b(memory.Load(_inner(parts), (*rows, groups)))
        if op.mem in self.found.rounded:  # where their bits are whole numbers
            scale = b(Bitcast(scale, E8M0))
        return codes, scale

    def _product(self, plan: _Plan, b: Builder) -> Value:
        """The product, and outer scales on it unless they wait behind the loop."""
        op = plan.dot
        acc = self.to.get(op.acc, op.acc)
        operands = (*self.held[op.a], *self.held[op.b])
        if plan in self.behind.values() or not any(map(self._outer, plan.loads)):
            return b(ScaledDot(*operands, acc))
        none = b(shape.Full(tile(acc).shape, 0.0, f32))
        product = self._by_outer(b(ScaledDot(*operands, none)), plan, b)
        return b(arith.Add(acc, product))

    def _outer(self, load: memory.Load) -> Value | None:
        """The memory of the scales of scales, if there is one."""
        return self.found.parts[load.mem].get("scale.scale")

    def _by_outer(self, v: Value, plan: _Plan, b: Builder) -> Value:
        """A sum of products times the outer scale of each operand that has one."""
        for axis, load in enumerate(plan.loads):
            mem = self._outer(load)
            if mem is None:
                continue
            assert isinstance(mem.type, Memory)
            rows = tuple(self.to.get(i, i) for i in load.indices[:-1]) if mem.type.shape else ()
            scale = Along(b(memory.Load(mem, rows)), (axis,) if rows else ())
            v = b(arith.Mul(v, spread(scale, (0, 1), tile(v).shape, b)))
        return v


def _inner(parts: Components) -> Value:
    """The memory of the scales of groups."""
    return parts["scale.codes"] if "scale.codes" in parts else parts["scale"]


def _carried(plan: _Plan, found: _Survey) -> int | None:
    """Which value its loop carries from zeros on by adding this product and nothing else; the
    product's rows and columns are the same in every step."""
    loop, op = plan.loop, plan.dot
    alone = found.readers[op.acc] == [op] and found.readers[op.result] == [loop.body]
    if not alone or op.acc not in loop.body.params or op not in loop.body.ops:
        return None
    place = loop.body.params.index(op.acc) - 1
    start = found.made.get(loop.init[place])
    zero = isinstance(start, shape.Full) and start.value == 0
    inside = {v for o in loop.body.ops for v in o.results}
    rows = {i for load in plan.loads for i in load.indices[:-1]}
    same = loop.body.results[place] is op.result and not rows & inside
    return place if zero and same else None
