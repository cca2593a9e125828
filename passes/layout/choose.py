"""Register layouts chosen in one walk, with conversions where an op wants another than there is.

Products bring the layouts of their instruction; an op on tiles takes that of an operand, of which
those that products and loops bring come first; what is loaded is coalesced.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.laid import VIEWS, by_element, coalesced, pieces, restricted, seen, sizes_of
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import control, machine, memory, reduce, scan, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.layout import cost
from tilec.passes.layout.multiply import Multiplying
from tilec.passes.layout.products import turned
from tilec.passes.layout.reads import Axes, read, reduced, split, uses
from tilec.passes.layout.rings import SWIZZLES, widest
from tilec.passes.layout.stores import row_of
from tilec.passes.layout.survey import survey
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

INSTRUCTIONS = ("mma", "wgmma")
PIECE = 128  # bits of a row that a thread copies at a time, where indices pick rows


@register("lay-out")
def lay_out(func: Func, *, threads: int = 128, instruction: str = "mma", swizzle: int = 0) -> Func:
    """Insert a `convert` wherever a tile is wanted in a layout that it does not have.

    Products are those of `instruction`: `mma`, or `wgmma` (sm_90a) where B lies in a ring in shared
    memory, and `mma` elsewhere. Rings get the widest swizzle up to `swizzle` bytes that suits their
    rows, with wgmma up to 128 bytes. wgmma adds up products of fp8 in fewer bits than f32 has
    (DeepSeek-V3, arXiv 2412.19437, section 3.3.2).

    Before: tiles have sizes (`pad`). After: `ir.laid.layouts` finds the layout of every value.
    """
    if instruction not in INSTRUCTIONS:
        names = " or ".join(INSTRUCTIONS)
        raise TileError(f"lay-out: instruction is {instruction!r}, expected {names}")
    if instruction == "wgmma":
        swizzle = swizzle or SWIZZLES[0]
    chooser = _Chooser(threads, instruction, swizzle)
    chooser.uses, chooser.axes, chooser.read = uses(func), reduced(func), read(func)
    chooser.split = split(func)
    laid = func.replaced(chooser.block(func.body), *chooser.remarks)
    return laid.replaced(laid.body, *survey(laid, threads).remarks)


class _Chooser(Multiplying):
    """The rewriting of one function; `laying` knows the layouts of what has been written."""

    def __init__(self, threads: int, instruction: str, swizzle: int) -> None:
        super().__init__(threads, instruction)
        self.swizzle = swizzle
        self.converted: list[dict[tuple[Value, RegisterLayout], Value]] = []
        self.axes: Axes = {}  # along which loads are reduced
        self.read: set[Value] = set()  # by ops that do not convert it

    # -- what a value is wanted as --

    def held(self, v: Value, b: Builder) -> Value:
        """The value in some layout."""
        t = tile(v)
        if not t.shape or self.layout(v) is not None:
            return v
        plain = coalesced(sizes_of(t), t.dtype.bits, self.threads)
        return self.wanted(v, turned(v, self.laying) or plain, b, True)

    def wanted(self, v: Value, layout: RegisterLayout, b: Builder, hold: bool = False) -> Value:
        """The value as it can be read in a layout; with `hold`, really held in it."""
        if not tile(v).shape or self.layout(v) == layout:
            return v
        for known in reversed(self.converted):
            found = known.get((v, layout))
            if found is not None and not (hold and self.layout(found) is None):
                return found
        pulled = self._pulled(v, layout, b)
        if pulled is not None:
            self.converted[-1][v, layout] = pulled
            return pulled
        if turned(v, self.laying) not in (None, layout):
            return self.wanted(self.held(v, b), layout, b, hold)
        source = v if self.layout(v) is not None else self._view(v, layout, b)
        if self.layout(v) is None and not hold:
            found = source
        else:
            found = self._add(machine.Convert(source, layout), b).result
        self.converted[-1][v, layout] = found
        return found

    def _pulled(self, v: Value, layout: RegisterLayout, b: Builder) -> Value | None:
        """What is read in one place, made in the layout from its loads on; None where it is not."""
        op = self.laying.made.get(v)
        if self.layout(v) is None or v not in self.once or not self._loaded(v):
            return None
        if isinstance(op, memory.Load):
            return self._add(machine.Convert(v, layout), b).result
        assert op is not None
        changed = {x: self.wanted(x, layout, b) for x in op.operands}
        return self._add(op.rebuilt(changed), b).result

    def _loaded(self, v: Value) -> bool:
        """Whether a value comes from loads and constants, each read in one place."""
        op = self.laying.made.get(v)
        if self.layout(v) is None:
            return not self._shows(v)
        if v not in self.once or op is None:
            return False
        plain = isinstance(op, memory.Load) and all(isinstance(i.type, Span) or not tile(i).shape
                                                    for i in op.indices)  # fmt: skip
        return plain or (by_element(op) and all(map(self._loaded, op.operands)))

    def _view(self, v: Value, layout: RegisterLayout, b: Builder) -> Value:
        """A value that is not held, with all that it shows in the layouts that that takes."""
        op = self.laying.made.get(v)
        if op is None:
            return v
        changed = dict[Value, Value]()
        if by_element(op):
            changed = {x: self.wanted(x, layout, b) for x in op.operands}
        elif isinstance(op, VIEWS) and op.operands and isinstance(op.operands[0].type, Tile):
            source = op.operands[0]
            changed = {source: self.wanted(source, seen(op, layout), b)}
        if all(x is y for x, y in changed.items()):
            return v
        return self._add(op.rebuilt(changed), b).result

    # -- ops --

    def block(self, block: Block) -> Block:
        """A block with conversions."""
        self.converted.append({})
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        self.converted.pop()
        return Block(block.params, tuple(b.ops), tuple(self._new(v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        match op:
            case control.For() | control.Count() | control.While():
                self._loop(op, b)
            case control.If():
                self._if(op, b)
            case control.Grid() | machine.Alone():
                self._copied(op, b, body=self.block(op.body))
            case memory.Load() | memory.Write() | machine.Copy():
                self._moved(op, b)
            case reduce.Dot() | SparseDot():
                self._product(op, b)
            case reduce.Reduction() | scan.Scan() | machine.Shift():
                self._copied(op, b, a=self.held(self._new(op.a), b))
            case machine.Convert() if self.layout(self._new(op.a)) is None:
                self.to[op.result] = self.wanted(self._new(op.a), op.layout, b, True)
            case machine.Shared():
                self._copied(op, b, swizzle=op.swizzle or widest(op, self.swizzle))
            case _ if by_element(op):
                self._elementwise(op, b)
            case _:
                self._copied(op, b)

    def _moved(self, op: memory.Load | memory.Write | machine.Copy, b: Builder) -> None:
        """What goes in or out of memory."""
        if isinstance(op, machine.Copy):
            self._piecewise(op, b)
            return
        self._access(op, b)
        self._reduced(op, b)

    def _elementwise(self, op: Op, b: Builder) -> None:
        operands = [self._new(v) for v in op.operands]
        best = self._best(operands, op)
        spread = self.uses[op.result] == 1 and all(map(self._spread, operands))
        read = op.result in self.read and not spread
        if best is None and read and any(self._shows(v) for v in operands):
            first = next(v for v in operands if tile(v).shape)
            best = self.layout(self.held(first, b))
        if best is None:
            self._copied(op, b)
            return
        to = {v: self.wanted(self._new(v), best, b) for v in op.operands}
        if not any(self.layout(x) is not None for x in to.values()):
            first = next(v for v in op.operands if tile(v).shape)
            to[first] = self.wanted(self._new(first), best, b, hold=True)
        self._became(op, self._add(op.rebuilt(to), b))

    def _spread(self, v: Value) -> bool:
        """Whether a value shows one of fewer elements: what is computed of such ones alone is made
        where it is wanted."""
        op = self.laying.made.get(v)
        return isinstance(op, shape.Full) or (isinstance(op, shape.Broadcast) and self._shows(v))

    def _best(self, operands: list[Value], op: Op) -> RegisterLayout | None:
        """The operand's layout that an op takes: the one that costs least, of equal ones the first
        that is no load's."""
        t = tile(op.result)
        plain = {coalesced(sizes_of(t), bits, self.threads) for bits in (8, 16, 32, 64)}
        found = dict.fromkeys(x for v in operands if (x := self.layout(v)) is not None)
        return min(found, key=lambda x: (self._price(operands, x), x in plain), default=None)

    def _price(self, operands: list[Value], layout: RegisterLayout) -> float:
        """The clocks that operands in other layouts cost."""
        held = [(v, x) for v in operands if (x := self.layout(v)) not in (None, layout)]
        return sum(
            cost.brought(x, layout, tile(v).dtype.bits, v in self.once and self._loaded(v))
            for v, x in held
        )  # fmt: skip

    def _reduced(self, op: Op, b: Builder) -> None:
        """A load that reductions read, in the layout in which both together cost least."""
        v = next(iter(op.results), None)
        if v is None or v not in self.axes:
            return
        t, new = tile(v), self.to[v]
        layout = cost.loaded(sizes_of(t), t.dtype.bits, self.threads, self.axes[v])
        if layout != self.layout(new):
            self.to[v] = self._add(machine.Convert(new, layout), b).result

    def _shows(self, v: Value) -> bool:
        """Whether a value that is not held shows one that is."""
        if self.layout(v) is not None:
            return True
        op = self.laying.made.get(v)
        inner = isinstance(op, VIEWS) or (op is not None and by_element(op))
        return op is not None and inner and any(
            isinstance(x.type, Tile) and self._shows(x) for x in op.operands
        )  # fmt: skip

    def _access(self, op: memory.Load | memory.Write, b: Builder) -> None:
        """Index tiles and masks as the threads that hold the elements need them."""
        if isinstance(op, memory.Write):
            value = self._stored(op, self.held(self._new(op.value), b), b)
            layout, t = self.layout(value), tile(value)
        else:
            value, t = None, tile(op.result)
            layout = coalesced(sizes_of(t), t.dtype.bits, self.threads) if t.shape else None
        indices, axis, joint = list[Value](), 0, None
        for i in map(self._new, op.indices):
            if isinstance(i.type, Span) or not tile(i).shape or layout is None:
                axis += isinstance(i.type, Span)
                indices.append(i)
                continue
            if joint is None:
                joint = tuple(range(axis, axis + tile(i).rank))
                axis += len(joint)
            indices.append(self.wanted(i, restricted(layout, joint), b))
        changed: dict[str, Any] = {"indices": tuple(indices)}
        if isinstance(op, memory.Write):
            changed["value"] = value
            if op.mask is not None and layout is not None:
                changed["mask"] = self.wanted(self._new(op.mask), layout, b)
        self._copied(op, b, **changed)

    def _piecewise(self, op: machine.Copy, b: Builder) -> None:
        """A copy; the threads that copy pieces hold the rows that a tile of indices picks."""
        if not any(isinstance(v.type, Tile) and v.type.shape for v in op.indices):
            self._copied(op, b)
            return
        assert isinstance(op.to.type, Memory)
        *outer, row = (int(str(d)) for d in op.to.type.shape[1:])
        layout = pieces((*outer, row * op.to.type.dtype.bits // PIECE), self.threads)
        at = accumulate(isinstance(i.type, Span) or bool(tile(i).shape) for i in op.indices)
        indices = tuple(
            self.wanted(v, restricted(layout, (axis - 1,)), b, True)
            if isinstance(v.type, Tile) and v.type.shape else v
            for v, axis in zip(map(self._new, op.indices), at, strict=True)
        )  # fmt: skip
        self._copied(op, b, indices=indices)

    def _stored(self, op: memory.Write, v: Value, b: Builder) -> Value:
        """What is stored, in the layout in which that costs least."""
        layout, row = self.layout(v), row_of(op)
        if layout is None or row is None:
            return v
        return self.wanted(v, cost.stored(layout, row.bits, row), b, True)

    # -- regions --

    def _loop(self, op: control.For | control.Count | control.While, b: Builder) -> None:
        first = 0 if isinstance(op, control.While) else 1
        init = [self._new(v) for v in op.init]
        found = self._probed(op, init, first)
        init = [v if x is None else self.wanted(v, x, b, True)
                for v, x in zip(init, found, strict=True)]  # fmt: skip
        regions = {"body": op.body} | ({"test": op.test} if isinstance(op, control.While) else {})
        changed: dict[str, Any] = {"init": tuple(init)}
        for name, block in regions.items():
            params = block.params[first if name == "body" else 0 :]
            self.laying.of |= {p: x for p, x in zip(params, found, strict=True) if x is not None}
            changed[name] = self._ended(block, found if name == "body" else [None])
        self._copied(op, b, **changed)

    def _ended(self, block: Block, ends: list[RegisterLayout | None]) -> Block:
        """A block whose results are in these layouts."""
        new = self.block(block)
        self.converted.append({})
        b = Builder(list(new.ops))
        results = [v if x is None else self.wanted(v, x, b, True)
                   for v, x in zip(new.results, ends, strict=True)]  # fmt: skip
        self.converted.pop()
        return Block(new.params, tuple(b.ops), tuple(results))

    def _probed(self, op: control.For | control.Count | control.While, init: list[Value],
                first: int) -> list[RegisterLayout | None]:  # fmt: skip
        """The layouts that carried tiles should have: what the body makes of them."""
        trial = _Chooser(self.threads, self.instruction, self.swizzle)
        trial.laying.of, trial.laying.made = dict(self.laying.of), dict(self.laying.made)
        trial.uses, trial.axes, trial.read = self.uses, self.axes, self.read
        trial.once, trial.split = set(self.once), self.split
        trial.to, trial.converted = dict(self.to), [dict(x) for x in self.converted]
        new = trial.block(op.body)
        out: list[RegisterLayout | None] = []
        for v, result in zip(init, new.results, strict=True):
            t = tile(v)
            found = trial.layout(result) or self.layout(v)
            if t.shape and found is None:
                found = coalesced(sizes_of(t), t.dtype.bits, self.threads)
            out.append(found if t.shape else None)
        return out

    def _if(self, op: control.If, b: Builder) -> None:
        then = self.block(op.then)
        ends: list[RegisterLayout | None] = []
        for v in then.results:
            t = tile(v)
            plain = coalesced(sizes_of(t), t.dtype.bits, self.threads) if t.shape else None
            ends.append(self.layout(v) or plain)
        blocks = {"then": self._ended(op.then, ends), "otherwise": self._ended(op.otherwise, ends)}
        self._copied(op, b, **blocks)
