"""Dynamic operands in the IR: a grid that rounds dense elements to codes and scales."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Op, Value
from tilec.ir.dtype import f32, i32, u8
from tilec.ir.dynamic import Dynamic
from tilec.ir.extent import Extent, Sym
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.types import Memory, Span
from tilec.passes.parts import as_f32, tile

ELEMENTS = 4096  # of a task that rounds whole rows, at least


class Rounded:
    """What stands for a dynamic parameter: its dense elements, and codes and scales made of them.

    Codes and scales are memory of the kernel's own. Scales that are powers of two are kept as these
    or, with `exponents`, as bytes with the bits of e8m0.
    """

    def __init__(self, p: Value, format: Dynamic, exponents: bool = False) -> None:
        assert isinstance(p.type, Memory)
        self.format, self.dims, self.hint = format, p.type.shape, p.hint
        self.exponents, kept = exponents, u8 if exponents else format.kept
        blocks = format.inner.block.shape(self.dims)
        self.dense = Value(Memory(self.dims, Dense(format.dtype)), f"{p.hint}.dense")
        self.components = {
            "codes": Value(Memory(self.dims, Dense(format.stored)), f"{p.hint}.codes"),
            "scale": Value(Memory(blocks, Dense(kept)), f"{p.hint}.scale"),
        }

    def grid(self) -> Op:
        """The grid that fills codes and scales, one block of some rows at a time."""
        group = self.format.inner.block.columns
        *rows, depth = self.dims
        sizes = [Sym(f"r{i}_{self.hint}") for i in range(len(rows))]
        spans = [Value(Span(n, s)) for n, s in zip(rows, sizes, strict=True)]
        tiles: list[int | None] = [1] * len(rows)
        if rows:
            tiles[-1] = self._height(rows[-1], depth if group is None else group)
        b = Builder()
        if group is None:
            self._block(b, spans, b(memory.Whole(depth)), [])
            return control.Grid(tuple(rows), tuple(sizes), tuple(tiles),
                                Block(tuple(spans), tuple(b.ops)))  # fmt: skip
        k = Value(Span(depth, Sym(f"k_{self.hint}")))
        number = b(arith.FloorDiv(b(shape.Start(k)), b(shape.Full((), group, i32))))
        self._block(b, spans, k, [number])
        return control.Grid(self.dims, (*sizes, k.type.size), (*tiles, group),  # type: ignore[union-attr]
                            Block((*spans, k), tuple(b.ops)))  # fmt: skip

    def _height(self, rows: Extent, width: Extent) -> int:
        if not (isinstance(rows, int) and isinstance(width, int)):
            return 1
        return max(1, min(rows, ELEMENTS // max(width, 1)))

    def _block(self, b: Builder, rows: list[Value], k: Value, number: list[Value]) -> None:
        """Codes and scale of one block of some rows."""
        f, codes = self.format, self.format.inner.codes
        x = as_f32(b, b(memory.Load(self.dense, (*rows, k))))
        outer = tile(x).shape[:-1]
        most = b(reduce.Max(b(arith.Abs(x)), len(outer)))
        scale = b(arith.Div(most, b(shape.Full(outer, float(codes.high), f32))))
        if f.exponents:
            exponent = self._exponent(scale, b)
            scale = b(Bitcast(b(arith.Shl(exponent, b(shape.Full(outer, 23, i32)))), f32))
            kept = b(Cast(exponent, u8)) if self.exponents else scale
        else:
            kept = scale if f.scale == f32 else b(Cast(scale, f.scale))
            scale = as_f32(b, kept)
        wide = b(shape.Broadcast(b(shape.Reshape(scale, (*outer, 1))), tile(x).shape))
        none = b(shape.Full(tile(x).shape, 0.0, f32))
        ratio = b(arith.Where(b(arith.Lt(none, wide)), b(arith.Div(x, wide)), none))
        code = b(Cast(ratio, codes, saturate=True))
        code = code if codes == f.stored else b(Cast(code, f.stored))
        b.add(memory.Store(self.components["codes"], (*rows, k), code))
        b.add(memory.Store(self.components["scale"], (*rows, *number), kept))

    def _exponent(self, scale: Value, b: Builder) -> Value:
        """The bits of the exponent of a scale that is rounded up to a power of two; 255, which is
        infinity to f32 and NaN to e8m0, of what is not finite."""
        outer, bits = tile(scale).shape, b(Bitcast(scale, i32))

        def number(n: int) -> Value:
            return b(shape.Full(outer, n, i32))

        rest = b(arith.Ne(b(arith.And(bits, number((1 << 23) - 1))), number(0)))
        up = b(arith.Add(b(arith.Shr(bits, number(23))), b(Cast(rest, i32))))
        up = b(arith.Minimum(b(arith.Maximum(up, number(1))), number(254)))
        finite = b(arith.Lt(bits, number(255 << 23)))
        return b(arith.Where(finite, up, number(255)))
