"""Sparse operands: loops go over what is stored, and tiles of the rest are put together."""

from __future__ import annotations

from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import control, memory, shape
from tilec.ir.remark import Remark
from tilec.ir.sparse import VNM, Blocks, Channels, Coo, Csr, Sparse
from tilec.ir.types import Memory, Span, specialise
from tilec.passes import annihilation, indirect, stored
from tilec.passes.entries import by_entries
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.reader import Reader
from tilec.passes.sampling import looped
from tilec.passes.skipping import Skipping, Step, rows_of
from tilec.passes.specialise import attribute

SKIPPED = (Blocks, VNM, Channels, Csr)  # formats of which loops can go over what is stored


@register("sparsify")
def sparsify(func: Func, *, lanes: bool = False, plain: str = "") -> Func:
    """Replace each parameter of a sparse format by where its elements are and their values.

    A loop over its columns becomes one over those that are stored where that changes nothing else:
    a step in which they are all 0 leaves everything as it is. Elsewhere each load puts the elements
    of its tile together. A product with what is not stored is 0, also beside an infinity or a NaN;
    but for these and the order of sums every result is the same.

    With `lanes`, tensors lie in the default layouts of CPU code, but for those named in `plain`
    (joined by +): a tile of a stream of values and bits is an `expand` of them.

    Before: sums are taken apart (compose), tile sizes may be open. After: no format is sparse.
    """
    while lists := [p for p in func.params if isinstance(p.type, Memory)
                    and isinstance(p.type.format, Coo)]:  # fmt: skip
        func = by_entries(func, lists[0])
    func = looped(func)
    sparse = {p: p.type.format for p in func.params
              if isinstance(p.type, Memory) and isinstance(p.type.format, Sparse)}  # fmt: skip
    if not sparse:
        return func
    rows = plain.split("+")
    streams = {p for p in sparse if lanes and p.hint.partition(".")[0] not in rows
               and stored.streamed(p)}  # fmt: skip
    for op in func.walk():
        if isinstance(op, memory.Store) and op.mem in streams:
            what = f"`{op.mem.hint}` is written, but lies in the order of a stream"
            raise TileError(what, op.loc, hint="quantize(..., layout=Plain())")
    rewriting = _Sparsify(func, sparse, streams)
    body = rewriting.block(func.body, {})
    params = [v for p in func.params for v in (rewriting.mems[p].values() if p in sparse else [p])]
    return func.replaced(Block(tuple(params), body.ops), *rewriting.remarks)


class _Sparsify:
    """The rewriting of one function."""

    def __init__(self, func: Func, sparse: dict[Value, Sparse], streams: set[Value]) -> None:
        self.sparse, self.streams = sparse, streams
        self.mems = {p: stored.stream(format, p) if p in streams else stored.memories(format, p)
                     for p, format in sparse.items()}  # fmt: skip
        self.to: dict[Value, Value] = {}
        self.remarks: list[Remark] = []
        self.tiled: dict[Value, control.Grid] = {
            p: op for op in func.walk() if isinstance(op, control.Grid) for p in op.body.params
        }
        self.starts = {op.result: op for op in func.walk() if isinstance(op, shape.Start)}
        self.rows: dict[Value, int] = {}  # the tiles of a grid's spans that loops need
        self.skipped: dict[control.For, memory.Load | memory.Store] = {}
        self.writes: dict[Op, Step] = {}  # what stands for a store of such a loop
        self.steps: dict[Value, Step] = {}  # what stands for spans and tiles of a loop that skips
        for op in func.walk():
            if isinstance(op, control.For):
                self._choose(op)

    def _choose(self, op: control.For) -> None:
        """Whether a loop goes over what is stored of an operand."""
        span = op.body.params[0]
        stores = [o for o in op.body.ops if isinstance(o, memory.Store) and o.mem in self.sparse]
        if stores:
            self.skipped[op] = stores[0]
            self.rows[stores[0].indices[0]] = rows_of(self.sparse[stores[0].mem]) or 1
            return
        loads = [o for o in op.body.walk() if isinstance(o, memory.Load) and o.mem in self.sparse
                 and o.indices[-1] is span and isinstance(self.sparse[o.mem], SKIPPED)]  # fmt: skip
        for load in loads:
            problem = self._obstacle(op, load) or self._obstacle_of_rows(op, load)
            what = f"`{load.mem.hint}` ({self.sparse[load.mem]})"
            if problem:
                self._remark(load, f"{what}: the loop goes over all columns", problem)
                continue
            self.skipped[op] = load
            rows = rows_of(self.sparse[load.mem])
            if rows is not None:
                self.rows[load.indices[0]] = rows
            self._remark(load, f"{what}: the loop goes over what is stored")
            return

    def _obstacle(self, op: control.For, load: memory.Load) -> str:
        """Why a loop can't go over what is stored of an operand, or nothing."""
        same = _same(op, load)
        if op.stop is not None or op.first is not None:
            return "a loop over all columns"
        span = op.body.params[0]
        if any(isinstance(o, shape.Start) and o.span is span for o in op.body.walk()):
            return "a loop that does not ask where its tiles begin"
        culprit = annihilation.change(op, same)
        if culprit is not None:
            line = f" in `{culprit.loc.text.strip()}`" if culprit.loc else ""
            return f"a step that changes nothing where the operand is 0; {culprit.name}{line} does"
        return ""

    def _obstacle_of_rows(self, op: control.For, load: memory.Load) -> str:
        """Why rows are not read as what is stored of them lies, or nothing."""
        row, rows = load.indices[0], rows_of(self.sparse[load.mem])
        inside = any(row in o.results for o in op.body.walk()) and row not in self.starts
        if inside:
            return "rows that are known before the loop"
        if rows is None or (rows == 1 and not isinstance(row.type, Span) and not tile(row).rank):
            return ""
        if row not in self.tiled:
            return "rows that are a dimension of the grid"
        if self.rows.get(row, rows) != rows:
            return f"tiles of {rows} rows; another operand has tiles of {self.rows[row]}"
        grid = self.tiled[row]
        pinned = grid.tiles[grid.body.params.index(row)]
        return f"tiles of {rows} rows, not {pinned}" if pinned not in (None, rows) else ""

    def _remark(self, op: Op, message: str, missing: str = "") -> None:
        self.remarks.append(Remark("sparsify", message, op.loc, missing))

    # -- rewriting --

    def block(self, block: Block, sizes: dict[str, Extent]) -> Block:
        """A block without sparse operands; `sizes` are what sizes of spans have become."""
        params = tuple(self._param(p, sizes) for p in block.params)
        b = Builder()
        for op in block.ops:
            self._op(op, b, sizes)
        return Block(params, tuple(b.ops), tuple(map(self._index, block.results)))

    def _param(self, p: Value, sizes: dict[str, Extent]) -> Value:
        if sizes:
            self.to[p] = Value(specialise(p.type, sizes), p.hint)
        return self.to.get(p, p)

    def _op(self, op: Op, b: Builder, sizes: dict[str, Extent]) -> None:
        b.loc = op.loc
        match op:
            case control.For() if op in self.skipped:
                self._skip(op, b, sizes)
            case memory.Store() if op in self.writes:
                write = self.writes[op].write
                assert write is not None
                write(b, self._index(op.value))
            case memory.Load() if op.result in self.steps:
                size = attribute(tile(op.result).shape, sizes)
                self.to[op.result] = self.steps[op.result].read(b, size)
            case memory.Load() if op.mem in self.sparse:
                try:
                    self.to[op.result] = self._elements(op, b, sizes)
                except TileError as e:
                    raise TileError(f"`{op.mem.hint}`: {e.message}", op.loc, hint=e.hint) from None
            case shape.Coordinates() if not isinstance(self._index(op.span).type, Span):
                self.to[op.result] = self._index(op.span)
            case _:
                self._copied(op, b, sizes)

    def _index(self, v: Value) -> Value:
        return self.to.get(v, v)

    def _copied(self, op: Op, b: Builder, sizes: dict[str, Extent]) -> None:
        changed: dict[str, Any] = {n: attribute(v, sizes) for n, v in op.attributes.items()}
        if isinstance(op, control.Grid):
            changed["tiles"] = self._tiles(op)
        b.copy(op, self.to, lambda block: self.block(block, sizes), **changed)

    def _tiles(self, op: control.Grid) -> tuple[int | None, ...]:
        return tuple(self.rows.get(p, t) for p, t in zip(op.body.params, op.tiles, strict=True))

    def _elements(self, op: memory.Load, b: Builder, sizes: dict[str, Extent]) -> Value:
        """The elements of a tile, put together."""
        format = self.sparse[op.mem]
        indices = tuple(self.to.get(i, i) for i in op.indices)
        if isinstance(format, indirect.INDIRECT):
            assert isinstance(op.mem.type, Memory)
            return indirect.elements(format, op.mem.type, self.mems[op.mem], indices, b)
        size = attribute(tile(op.result).shape, sizes)
        if op.mem in self.streams and not isinstance(format, Csr):
            return stored.expanded(self.mems[op.mem], indices, b)
        return stored.elements(format, Reader(b, self.mems[op.mem], indices, size))

    def _skip(self, op: control.For, b: Builder, sizes: dict[str, Extent]) -> None:
        """The loop over what is stored."""
        load = self.skipped[op]

        def body(step: Step, inner: Builder, first: Value) -> Block:
            now = sizes | {str(op.size): step.size}
            self.to[op.body.params[0]] = step.columns
            self.steps |= dict.fromkeys(_same(op, load), step)
            self.writes |= {load: step} if isinstance(load, memory.Store) else {}
            carried = tuple(self._param(p, now) for p in op.body.params[1:])
            for o in op.body.ops:
                self._op(o, inner, now)
            results = tuple(map(self._index, op.body.results))
            return Block((first, *carried), tuple(inner.ops), results)

        row = self._index(load.indices[0])
        if (start := self.starts.get(load.indices[0])) is not None:
            row = b(shape.Start(self._index(start.span)))
        init = tuple(map(self._index, op.init))
        mems = self.mems[load.mem]
        runs = load.mem in self.streams
        new = Skipping(op, self.sparse[load.mem], mems, row, init, body, runs).write(b)
        self.to.update(zip(op.results, new.results, strict=True))


def _same(loop: control.For, load: memory.Load | memory.Store) -> set[Value]:
    """The tiles that a loop loads from a memory at the place of another access."""
    return {o.result for o in loop.body.walk() if isinstance(o, memory.Load)
            and o.mem is load.mem and o.indices == load.indices}  # fmt: skip
