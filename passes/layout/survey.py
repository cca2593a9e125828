"""What the layouts of a function cost, and why: every conversion and every narrow access."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import gcd, prod

from tilec.ir.core import Func, Op, Value
from tilec.ir.dtype import DType
from tilec.ir.laid import layouts
from tilec.ir.layout.runs import LINE, Row, run
from tilec.ir.ops import control, machine, memory, packed, reduce, scan
from tilec.ir.ops.sparse import Expand
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.layout import cost
from tilec.passes.parts import tile


@dataclass
class Survey:
    """Of one function, each op counted once, however often its loop turns.

    `conversions` by their ways; bytes and wavefronts of shared memory that they take, and how many
    wavefronts there would be without conflicts; `accesses` to global memory by the bytes that one
    of a thread moves; `clocks` of a multiprocessor for a block, by `passes.layout.cost`.
    """

    conversions: Counter[str] = field(default_factory=Counter[str])
    bytes: int = 0
    wavefronts: int = 0
    ideal: int = 0
    accesses: Counter[int] = field(default_factory=Counter[int])
    clocks: float = 0.0
    remarks: list[Remark] = field(default_factory=list[Remark])


def survey(func: Func, threads: int) -> Survey:
    """The cost of a function that has been laid out, and what is to be said of it."""
    return _Surveyor(func, threads).found


@dataclass(frozen=True)
class _Place:
    """Where the tiles of a span begin, and whether all of them end inside."""

    multiple: int
    exact: bool


class _Surveyor:
    def __init__(self, func: Func, threads: int) -> None:
        self.threads, self.found = threads, Survey()
        self.layouts = dict(layouts(func, threads))
        self.made = {v: op for op in func.walk() for v in op.results}
        self.users: dict[Value, list[Op]] = {}
        self.places: dict[Value, _Place] = {}
        kept = {v for op in func.walk() for block in op.blocks for v in block.results}
        for op in func.walk():
            self._spans(op)
            for v in op.operands:
                self.users.setdefault(v, []).append(op)
        self.direct = {
            op.a: op.layout
            for op in func.walk()
            if isinstance(op, machine.Convert)
            and _by_spans(self.made.get(op.a))
            and len(self.users[op.a]) == 1
            and op.a not in kept
        }  # loads that are read as they are wanted
        self.layouts |= self.direct
        for op in func.walk():
            self._op(op)

    def _spans(self, op: Op) -> None:
        """Where spans begin."""
        match op:
            case control.Grid():
                for p, dim, t in zip(op.body.params, op.dims, op.tiles, strict=False):
                    self._tiled(p, dim, t)
            case control.For():
                self._tiled(op.body.params[0], op.dim, op.tile)
            case memory.Nth():
                self._tiled(op.result, op.dim, op.tile)
            case memory.Whole():
                (size, dim), start = _span(op.result), op.start or 0
                self.places[op.result] = _Place(start or size or 1, 0 < start + size <= dim)
            case packed.Groups():
                of = self.places[op.span]
                exact = of.exact and of.multiple % op.by == 0
                self.places[op.result] = _Place(max(of.multiple // op.by, 1), exact)
            case _:
                pass

    def _tiled(self, p: Value, dim: object, tiles: int | None) -> None:
        size, _ = _span(p)
        step = tiles or 1
        self.places[p] = _Place(step, size == step and isinstance(dim, int) and dim % step == 0)

    def _op(self, op: Op) -> None:
        match op:
            case machine.Convert():
                self._convert(op)
            case memory.Load() if not isinstance(self.made.get(op.mem), machine.Shared):
                self._access(op, op.result, "read")
            case memory.Store():
                self._access(op, op.value, "written")
            case machine.Copy():
                self._copy(op)
            case reduce.Reduction() | scan.Scan() if op.a in self.layouts:
                self.found.clocks += cost.reduction(self.layouts[op.a], op.axis)
            case _:
                pass

    # -- conversions --

    def _convert(self, op: machine.Convert) -> None:
        own = self.layouts.get(op.a)
        if own is None or op.a in self.direct:
            return
        t = tile(op.a)
        how = cost.conversion(own, op.layout, _bits(t.dtype))
        if how.way == "nothing":
            return
        self.found.conversions[how.way] += 1
        self.found.bytes += how.bytes
        self.found.wavefronts += how.wavefronts
        self.found.ideal += how.ideal
        self.found.clocks += how.clocks
        shared = how.way == "shared memory"
        missing = "a layout that both take" if shared else ""
        to = " and ".join(dict.fromkeys(f"`{u.name}`" for u in self.users.get(op.result, ())))
        self._say(op, f"{t} of {self._named(op.a)} gets to {to or 'the next turn'} {how}; "
                      f"about {how.clocks:.0f} clocks", missing)  # fmt: skip

    def _named(self, v: Value) -> str:
        """What a tile is called: the memory that it is loaded from, or what makes it."""
        op = self.made.get(v)
        if op is None:
            return "the turn before"
        return f"`{op.mem.hint if isinstance(op, memory.Load) and op.mem.hint else op.name}`"

    # -- memory --

    def _access(self, op: memory.Load | memory.Store, v: Value, how: str) -> None:
        layout = self.layouts.get(v)
        if layout is None or not isinstance(op.mem.type, Memory):
            return
        row, axis = self._row(op), _last_axis(op)
        found = run(layout, axis, row)
        if isinstance(op, memory.Store) and op.mask is not None:
            found = type(found)(1, "a store without a mask")
        size = found.elements * row.bits // 8
        self.found.accesses[size] += layout.locals // found.elements
        if axis == layout.rank - 1:
            self.found.clocks += cost.access(layout, row.bits, row)
        if size < LINE:
            amount = f"{size} byte{'s' * (size != 1)}" if size else f"{row.bits} bits"
            self._say(op, f"`{op.mem.hint}` is {how} {amount} of a thread at a time", found.limit)

    def _row(self, op: memory.Load | memory.Store) -> Row:
        assert isinstance(op.mem.type, Memory)
        shape = op.mem.type.shape
        width = shape[-1] if shape and isinstance(shape[-1], int) else None
        place = self.places.get(op.indices[-1], _Place(1, False)) if op.indices else _Place(1, True)
        return Row(_bits(op.mem.type.dtype), width, place.multiple, place.exact, len(shape) <= 1)

    def _copy(self, op: machine.Copy) -> None:
        """Copies into a ring, whose width the printer finds by the same three numbers."""
        assert isinstance(op.mem.type, Memory)
        bits, width = _bits(op.mem.type.dtype), op.mem.type.shape[-1]
        if bits < 8 or not isinstance(width, int):
            return
        (size, _), step = _span(op.indices[-1]), self.places[op.indices[-1]].multiple
        size = gcd(size * bits // 8, width * bits // 8, step * bits // 8, LINE)
        assert isinstance(op.to.type, Memory)
        sizes = [n for n in op.to.type.shape[1:] if isinstance(n, int)]
        self.found.accesses[size] += -(-prod(sizes) * bits // 8 // size // self.threads)
        if size < LINE:
            self._say(op, f"`{op.mem.hint}` is copied {size} bytes at a time",
                      f"rows, tiles and steps of a multiple of {LINE} bytes")  # fmt: skip

    def _say(self, op: Op, message: str, missing: str) -> None:
        remark = Remark("lay-out", message, op.loc, missing)
        if remark not in self.found.remarks:
            self.found.remarks.append(remark)


def _span(v: Value) -> tuple[int, int]:
    """Size and dimension of a span, 0 where they are no numbers."""
    assert isinstance(v.type, Span)
    size, dim = (x if isinstance(x, int) else 0 for x in (v.type.size, v.type.dim))
    return size, dim


def _by_spans(op: Op | None) -> bool:
    """Whether an op is a load that no tile of indices spreads over the threads."""
    return isinstance(op, Expand) or (
        isinstance(op, memory.Load)
        and not any(isinstance(i.type, Tile) and i.type.shape for i in op.indices)
    )


def _last_axis(op: memory.Load | memory.Store) -> int | None:
    """The tile's axis along the rows of memory; None where they are read by computed indices."""
    if not op.indices or not isinstance(op.indices[-1].type, Span):
        return None
    ranks = [1 if isinstance(i.type, Span) else 0 for i in op.indices]
    joint = [i.type.rank for i in op.indices if isinstance(i.type, Tile) and i.type.rank]
    return sum(ranks) - 1 + (joint[0] if joint else 0)


def _bits(t: DType) -> int:
    return 8 if t.kind == "bool" else t.bits
