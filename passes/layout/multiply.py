"""Products in the layouts of their instruction: of warps on fragments, of warp groups in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.laid import Laying, restricted, sizes_of
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import machine, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.passes.layout.products import Tiling, common, sparse_tiling, tiling
from tilec.passes.layout.warpgroups import TURN, Lying, plan
from tilec.passes.parts import tile

Product = reduce.Dot | SparseDot


class Multiplying(ABC):
    """What has been written of a function, and how products are written next."""

    def __init__(self, threads: int, instruction: str) -> None:
        self.threads = threads
        self.instruction = instruction
        self.laying = Laying(threads)
        self.to: dict[Value, Value] = {}
        self.remarks: list[Remark] = []
        self.uses: Counter[Value] = Counter()
        self.split: set[Value] = set()  # what only terms are taken of
        self.once: set[Value] = set()  # new values that are read in one place, or split

    @abstractmethod
    def held(self, v: Value, b: Builder) -> Value:
        """The value in some layout."""

    @abstractmethod
    def wanted(self, v: Value, layout: RegisterLayout, b: Builder, hold: bool = False) -> Value:
        """The value as it can be read in a layout; with `hold`, really held in it."""

    def layout(self, v: Value) -> RegisterLayout | None:
        """The layout that a new value has, if it is held."""
        return self.laying.of.get(v)

    def _new(self, v: Value) -> Value:
        return self.to.get(v, v)

    def _add(self, op: Op, b: Builder) -> Op:
        b.add(op)
        self.laying.op(op)
        return op

    def _copied(self, op: Op, b: Builder, /, **changed: Any) -> None:
        self._became(op, self._add(op.rebuilt(self.to, **changed), b))

    def _became(self, op: Op, new: Op) -> None:
        self.to.update(zip(op.results, new.results, strict=True))
        self.once |= {n for o, n in zip(op.results, new.results, strict=True)
                      if self.uses[o] == 1 or o in self.split}  # fmt: skip

    def _product(self, op: Product, b: Builder) -> None:
        """Write a product."""
        if self.instruction == "wgmma" and self._grouped(op, b):
            return
        first = _first(op)
        a, w, acc = (self._new(v) for v in (getattr(op, first), op.b, op.acc))
        t = common(tile(a).dtype, tile(w).dtype)
        found = None if t is None else self._tiling(op, a, w, t)
        if found is None or t is None:
            self._without(op, a, w, acc, b)
            return
        a, w = (self._typed(self.wanted(v, x, b, True), t, b)
                for v, x in ((a, found.a), (w, found.b)))  # fmt: skip
        beside = self._beside(op, found.c, found.metadata, b)
        self._copied(op, b, b=w, acc=self.wanted(acc, found.c, b, True), **{first: a}, **beside)

    def _tiling(self, op: Product, a: Value, w: Value, t: DType) -> Tiling | None:
        (m, _), (k, n) = sizes_of(tile(a)), sizes_of(tile(w))
        how = sparse_tiling if isinstance(op, SparseDot) else tiling
        return how((m, n, k), t, self.threads)

    def _without(self, op: Product, a: Value, w: Value, acc: Value, b: Builder) -> None:
        """Write a product that no instruction does; a sparse one there is not."""
        (m, _), (k, n) = sizes_of(tile(a)), sizes_of(tile(w))
        kinds = f"{tile(a).dtype} and {tile(w).dtype}, {m} x {n} x {k}"
        message = f"a product of {kinds} has no matrix instruction"
        missing = "operands in f16, bf16, fp8 or i8"
        if isinstance(op, SparseDot):
            raise TileError(f"lay-out: {message}", op.loc, hint=missing)
        self.remarks.append(Remark("lay-out", message, op.loc, missing))
        a, w, acc = (self.held(v, b) for v in (a, w, acc))
        layout = self.layout(acc)
        assert layout is not None
        self._copied(op, b, a=a, b=w, acc=acc, **self._beside(op, layout, None, b))

    def _beside(self, op: Product, layout: RegisterLayout, places: RegisterLayout | None,
                b: Builder) -> dict[str, Value]:  # fmt: skip
        """The scales of a product as its accumulator's layout needs them, and the places of a
        sparse operand."""
        scales = [("row_scale", op.row_scale, 0)]
        if isinstance(op, reduce.Dot):
            scales.append(("scale", op.scale, 1))
        found = {name: self.wanted(self._new(v), restricted(layout, (axis,)), b)
                 for name, v, axis in scales if v is not None}  # fmt: skip
        if isinstance(op, SparseDot) and places is not None:
            found["index"] = self.wanted(self._new(op.index), places, b, True)
        return found

    def _grouped(self, op: Product, b: Builder) -> bool:
        """Write a product of warp groups; False, with a remark, where they can't do it."""
        first, kind = _first(op), "wgmma.sp" if isinstance(op, SparseDot) else "wgmma"
        a, w, acc = (self._new(v) for v in (getattr(op, first), op.b, op.acc))
        found = plan(a, w, self.laying.made, self.threads, kind)
        if isinstance(found, str):
            self.remarks.append(Remark("lay-out", "a product is not wgmma's", op.loc, found))
            return False
        if found.a is not None:
            a = self._in_place(found.a, b)
        else:
            a = self.wanted(self._cast(found.source, found.dtype, b), found.tiling.a, b, True)
        w, layout = self._in_place(found.b, b), found.tiling.c
        acc = self.wanted(acc, layout, b, True)
        beside = self._beside(op, layout, found.tiling.metadata, b)
        new = self._add(op.rebuilt(self.to, b=w, acc=acc, **{first: a}, **beside), b)
        scaled = any("scale" in name for name in beside)
        self._became(op, new if scaled else self._add(machine.Settle(new.result), b))
        return True

    def _in_place(self, found: Lying, b: Builder) -> Value:
        v = self._add(machine.InPlace(found.ring.result, found.slot), b).result
        return self._add(shape.Transpose(v, TURN), b).result if found.turned else v

    def _typed(self, v: Value, t: DType, b: Builder) -> Value:
        if {tile(v).dtype.bits, t.bits} == {8} and t.is_integer:
            return v
        return self._cast(v, t, b)

    def _cast(self, v: Value, t: DType, b: Builder) -> Value:
        if tile(v).dtype == t:
            return v
        new = self._add(Cast(v, t), b).result
        if v in self.once:
            self.once.add(new)
        return new


def _first(op: Product) -> str:
    """The name of a product's first operand."""
    return "values" if isinstance(op, SparseDot) else "a"
