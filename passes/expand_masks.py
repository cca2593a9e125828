"""Tiles of bitmaps: the values at the ones of a mask, found by counting the ones before them."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.format import Dense
from tilec.ir.ops import memory
from tilec.ir.ops.sparse import Expand
from tilec.ir.remark import Remark
from tilec.ir.sparse.bitmap import Bitmap
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory, Span
from tilec.passes import stored
from tilec.passes.pipeline import register

WIDEST = 16  # bits of a value


@register("expand-masks")
def expand_masks(func: Func) -> Func:
    """Turn tiles of parameters of bitmap<...> into `expand` of their values, masks and starts.

    Before: formats are whole; tile sizes may be open. After: parameters that are only read by
    spans, and whose values are floats of up to 16 bits, are components; `sparsify` puts tiles of
    the others together element by element, and a remark says why.
    """
    expanding = _Expanding(func)
    if not expanding.mems:
        return func.replaced(func.body, *expanding.remarks)
    body = expanding.block(func.body)
    params = [v for p in func.params
              for v in (expanding.mems[p].values() if p in expanding.mems else [p])]  # fmt: skip
    return func.replaced(Block(tuple(params), body.ops, body.results), *expanding.remarks)


class _Expanding:
    """The rewriting of one function."""

    def __init__(self, func: Func) -> None:
        self.mems: dict[Value, dict[str, Value]] = {}
        self.to: dict[Value, Value] = {}
        self.remarks: list[Remark] = []
        for p in func.params:
            format = p.type.format if isinstance(p.type, Memory) else None
            if not isinstance(format, Bitmap):
                continue
            readers = [op for op in func.walk() if p in op.operands]
            missing = _missing(p, format, all(map(_by_spans, readers)))
            if missing:
                message = f"`{p.hint}` ({format}) is put together element by element"
                locs = dict.fromkeys(op.loc for op in readers)
                self.remarks += [Remark("expand-masks", message, loc, missing) for loc in locs]
            else:
                self.mems[p] = stored.memories(format, p)

    def block(self, block: Block) -> Block:
        """A block with `expand`."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            if isinstance(op, memory.Load) and op.mem in self.mems:
                mems, (rows, columns) = self.mems[op.mem], op.indices
                n, k = self.to.get(rows, rows), self.to.get(columns, columns)
                self.to[op.result] = b(Expand(mems[VALUES], mems["mask"], n, k, mems["start"]))
            else:
                b.copy(op, self.to, self.block)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))


def _by_spans(op: object) -> bool:
    return isinstance(op, memory.Load) and all(isinstance(i.type, Span) for i in op.indices)


def _missing(p: Value, format: Bitmap, spans: bool) -> str:
    """Why a bitmap is not expanded, or nothing."""
    assert isinstance(p.type, Memory)
    if format.room is None or not all(isinstance(d, int) for d in p.type.shape):
        return "numbers for its dimensions and its room"
    inner = format.inner
    if not isinstance(inner, Dense) or not inner.dtype.is_float or inner.dtype.bits > WIDEST:
        return f"values in f16, bf16 or fp8, not in {inner}"
    return "" if spans else "tiles of rows and columns"
