"""Products of 2:4 operands, of which the matrix unit multiplies what is stored as it lies."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import DType, bf16, f16
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.format import Dense, Format
from tilec.ir.ops import control, memory, packed, reduce, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.ir.scaled import Scaled
from tilec.ir.sparse.nm import NM
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory, Span
from tilec.passes import stored
from tilec.passes.layout.products import common
from tilec.passes.parts import readers, tile
from tilec.passes.pipeline import register
from tilec.passes.swap_operands import TURN, swapped
from tilec.passes.whole import exact
from tilec.passes.whole import values as codes

HALF = 2  # columns of the matrix for one that is stored
FOUR = 4  # columns of which two are stored
UNITS = ("mma.sp", "none")  # what multiplies


@register("native-sparse")
def native_sparse(func: Func, *, unit: str = "mma.sp") -> Func:
    """Turn products of operands of nm<2, 4> into `sparse_dot` of their values and places.

    The sparse operand becomes the first one: a product of which it is the second is computed
    transposed. Before: formats are whole; tile sizes may be open. After: parameters that only such
    products read are components; those of other products stay, and a remark says why. A product
    with what is not stored is 0, also beside an infinity or a NaN. With `unit=none`, for a machine
    or a language that has no such product, remarks alone say so.
    """
    if unit not in UNITS:
        raise TileError(f"native-sparse: unit is {unit!r}, expected {' or '.join(UNITS)}")
    found = _Survey(func, unit)
    if not found.loads:
        return func.replaced(func.body, *found.remarks)
    turned = swapped(func, found.second)
    rewriting = _Rewriting(turned, {x.mem for x in found.loads.values()})
    body = rewriting.block(turned.body)
    params = [v for p in func.params
              for v in (rewriting.mems[p].values() if p in rewriting.mems else [p])]  # fmt: skip
    return func.replaced(Block(tuple(params), body.ops, body.results), *found.remarks)


class _Survey:
    """The products that the matrix unit can compute: `loads` of their sparse operands, and those
    of which it is the `second`."""

    def __init__(self, func: Func, unit: str) -> None:
        self.unit = unit
        self.made = {v: op for op in func.walk() for v in op.results}
        self.loops = {op.body.params[0]: op for op in func.walk() if isinstance(op, control.For)}
        self.readers = readers(func)
        self.remarks: list[Remark] = []
        self.loads: dict[reduce.Dot, memory.Load] = {}
        self.second: set[reduce.Dot] = set()
        for op in func.walk():
            if isinstance(op, reduce.Dot):
                self._product(op)
        while self._narrowed():
            pass
        self.second &= self.loads.keys()
        for op, load in self.loads.items():
            self.remarks.append(Remark("native-sparse", f"{_what(load)} is multiplied as it is "
                                       "stored", op.loc))  # fmt: skip

    def _product(self, op: reduce.Dot) -> None:
        """Plan a product, or say why a 2:4 operand is put together."""
        turned = self.made.get(op.b)
        inner = turned.a if isinstance(turned, shape.Transpose) and turned.order == TURN else None
        first, second, other = (self._sparse(v) for v in (op.a, inner, op.b))
        load = first or second
        if load is None:
            if other is not None:
                self._remark(op, other, "k along the rows of both: write dot(x, w.T)")
            return
        beside = op.b if first is not None else op.a
        problem = self._unfit(op, load, beside)
        if problem:
            self._remark(op, load, problem)
            return
        self.loads[op] = load
        if first is None:
            self.second.add(op)

    def _sparse(self, v: Value | None) -> memory.Load | None:
        """The load of a 2:4 operand, if a value is one."""
        op = None if v is None else self.made.get(v)
        format = op.mem.type.format if isinstance(op, memory.Load) and isinstance(
            op.mem.type, Memory) else None  # fmt: skip
        two = isinstance(format, NM) and (format.n, format.m) == (HALF, FOUR)
        return op if isinstance(op, memory.Load) and two else None

    def _unfit(self, op: reduce.Dot, load: memory.Load, beside: Value) -> str:
        """Why a product can't be one of the matrix unit, or nothing."""
        assert isinstance(load.mem.type, Memory)
        format = load.mem.type.format
        assert isinstance(format, NM)
        if self.unit == "none":
            return "a back end that has products of 2:4 operands (cuda)"
        problem = _unknown(format.inner, tile(beside).dtype)
        if problem:
            return problem
        if op.scale is not None or op.row_scale is not None:
            return "a product without scales of its own"
        if len(load.indices) != 2 or not all(isinstance(i.type, Span) for i in load.indices):
            return "a matrix that is read by spans"
        return self._loop(load)

    def _loop(self, load: memory.Load) -> str:
        """Why the loop over k does not fit, or nothing."""
        loop = self.loops.get(load.indices[-1])
        if loop is None:
            return "a loop over k"
        if loop.stop is not None:
            return f"a loop over all of {loop.dim}"
        if not isinstance(loop.dim, int):
            return f"a number for {loop.dim}"
        if (loop.tile or 0) % FOUR:
            return f"a step of k that {FOUR} divides; it is {loop.tile}"
        return ""

    def _narrowed(self) -> bool:
        """Drop a product whose operand has other readers too; whether there was one."""
        for op, load in self.loads.items():
            if self._shared(load.mem):
                del self.loads[op]
                self._remark(op, load, f"`{load.mem.hint}` to be read by such products only")
                return True
        return False

    def _shared(self, mem: Value) -> bool:
        """Whether anything but planned products reads memory."""
        planned = set(self.loads.values())
        ends: list[Op | Block] = []
        for load in self.readers[mem]:
            if load not in planned:
                return True
            assert isinstance(load, memory.Load)
            ends += self.readers[load.result]
        turned = [op for op in ends if isinstance(op, shape.Transpose)]
        last = [op for op in ends if op not in turned]
        last += [op for t in turned for op in self.readers[t.result]]
        return any(op not in self.loads for op in last)

    def _remark(self, op: Op, load: memory.Load, missing: str) -> None:
        message = f"{_what(load)} is put together element by element"
        self.remarks.append(Remark("native-sparse", message, op.loc, missing))


def _what(load: memory.Load) -> str:
    assert isinstance(load.mem.type, Memory)
    return f"`{load.mem.hint}` ({load.mem.type.format})"


def _unknown(inner: Format, beside: DType) -> str:
    """Why no instruction multiplies values of a format by elements of a dtype, or nothing."""
    if isinstance(inner, Scaled):
        if inner.zero not in ("none", "mid"):
            return "codes without zero points"
        fits = beside in (f16, bf16) and exact(codes(inner), beside)
        return "" if fits else f"codes that are exact beside {beside}; they are {inner.codes}"
    if not isinstance(inner, Dense):
        return f"values as they are or with scales, not {inner}"
    if common(inner.dtype, beside) is None:
        return f"operands in f16, bf16, fp8 or 8-bit integers, not {inner.dtype} beside {beside}"
    return ""


class _Rewriting:
    """Products by what is stored of memories, whose loads are first operands."""

    def __init__(self, func: Func, mems: set[Value]) -> None:
        self.made = {v: op for op in func.walk() for v in op.results}
        self.mems: dict[Value, dict[str, Value]] = {}
        for p in func.params:
            if p in mems and isinstance(p.type, Memory) and isinstance(p.type.format, NM):
                self.mems[p] = stored.memories(p.type.format, p)
        self.to: dict[Value, Value] = {}

    def block(self, block: Block) -> Block:
        """A block with `sparse_dot`."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            load = self._load(op.a) if isinstance(op, reduce.Dot | shape.Transpose) else None
            if isinstance(op, reduce.Dot) and load is not None:
                self.to[op.result] = self._product(op, load, b)
            elif load is None and not self._gone(op):
                b.copy(op, self.to, self.block)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _load(self, v: Value) -> memory.Load | None:
        op = self.made.get(v)
        return op if isinstance(op, memory.Load) and self._gone(op) else None

    def _gone(self, op: Op) -> bool:
        return isinstance(op, memory.Load) and op.mem in self.mems

    def _product(self, op: reduce.Dot, load: memory.Load, b: Builder) -> Value:
        rows, k = (self.to.get(i, i) for i in load.indices)
        assert isinstance(k.type, Span)
        half = b(packed.Groups(k, HALF, ceil_div(k.type.size, HALF)))
        mems = self.mems[load.mem]
        values, index = (b(memory.Load(mems[name], (rows, half))) for name in (VALUES, "index"))
        other, acc = (self.to.get(v, v) for v in (op.b, op.acc))
        return b(SparseDot(values, index, other, acc))
