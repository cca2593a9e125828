"""Scales of products of bytes behind the loop that adds these up: one multiply a result.

A product with scales ends in its step, in which every element of the sum is converted, multiplied
and added. A sum of whole numbers is exact in i32 as long as it is small enough, so that scales that
all steps have in common can wait, and products of warp groups may go on in the next step. Products
of fp8 are still added to a sum in f32 step by step: matrix units add them up in fewer bits than f32
has (DeepSeek-V3, arXiv 2412.19437, section 3.3.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, f32, i32
from tilec.ir.extent import ceil_div
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.reduce import Dot, whole_bytes
from tilec.ir.types import Tile
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.steady import steady

FP8, WIDER = (e4m3, e5m2), (f16, bf16, f32)
BYTE = 8  # bits of operands as they lie; codes of fewer leave factors to scales (`orders`)


@register("late-scales")
def late_scales(func: Func) -> Func:
    """Add up products of bytes, in i32 or f32, and multiply by their scales behind the loop.

    Before: tiles have sizes (`pad`), loads are not staged. After: the same. A sum of whole numbers
    is exact, and rounded to f32 once.
    """
    moving = _Moving(func)
    return func.replaced(moving.block(func.body)) if moving.of else func


class _Moving:
    def __init__(self, func: Func) -> None:
        self.made = {v: op for op in func.walk() for v in op.results}
        self.uses: Counter[Value] = Counter()
        self.written = {op.mem for op in func.walk() if isinstance(op, memory.Write)}
        for op in func.walk():
            self.uses.update(op.operands)
            self.uses.update(v for block in op.blocks for v in block.results)
        loops = [op for op in func.walk() if isinstance(op, control.For)]
        self.of = {op: found for op in loops if (found := dict(self._sums(op)))}
        self.to: dict[Value, Value] = {}
        self.params: dict[Value, Value] = {}  # those that become sums in i32

    def _sums(self, loop: control.For) -> Iterator[tuple[int, Dot]]:
        """What a loop carries that products alone are added to, by its number."""
        for i, (param, end) in enumerate(zip(loop.body.params[1:], loop.body.results, strict=True)):
            op = self.made.get(end)
            alone = isinstance(op, Dot) and op.acc is param and self.uses[param] == 1
            if alone and isinstance(op, Dot) and self.uses[end] == 1 and self._moves(op, loop):
                yield i, op

    def _moves(self, op: Dot, loop: control.For) -> bool:
        """Whether a product has scales that all steps have in common, and a sum that i32 holds."""
        scales = _scales(op)
        types = [self._lying(v) for v in (op.a, op.b)]
        plain = _exact(loop, op) if _whole(op) else all(t in FP8 for t in types)
        if not scales or not plain or tile(op.acc).dtype != f32 or None in types:
            return False
        return steady(scales, loop.body, self.written) is not None

    def _lying(self, v: Value) -> DType | None:
        """The dtype of an operand that is bytes as they lie in memory; fp8 that are cast to a wider
        dtype are the same numbers."""
        op = self.made.get(v)
        while isinstance(op, shape.Transpose) or (
            isinstance(op, Cast) and tile(op.a).dtype in FP8 and op.dtype in WIDER
        ):
            op = self.made.get(op.a)
        t = tile(op.result).dtype if isinstance(op, memory.Load) else None
        return t if t is not None and t.bits == BYTE else None

    def block(self, block: Block) -> Block:
        """A block whose loops multiply by scales behind them."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            if isinstance(op, Dot) and op.acc in self.params:
                self.to[op.result] = self._unscaled(op, self.params[op.acc], b)
            elif isinstance(op, control.For) and op in self.of:
                self._loop(op, self.of[op], b)
            else:
                b.copy(op, self.to, self.block)
        return Block(block.params, tuple(b.ops), tuple(map(self._new, block.results)))

    def _unscaled(self, op: Dot, total: Value, b: Builder) -> Value:
        """A product that is added to a sum."""
        left, right = self._new(op.a), self._new(op.b)
        if _whole(op):
            return b(Dot(left, right, total))
        zeros = b(shape.Full(tile(total).shape, 0.0, f32))
        return b(arith.Add(total, b(Dot(left, right, zeros))))

    def _new(self, v: Value) -> Value:
        return self.to.get(v, v)

    def _loop(self, op: control.For, sums: dict[int, Dot], b: Builder) -> None:
        init, params = list(map(self._new, op.init)), list(op.body.params)
        start = dict[int, Value]()
        for i in sums:
            t, param = Tile(tile(op.init[i]).shape, i32 if _whole(sums[i]) else f32), params[i + 1]
            start[i], init[i] = init[i], b(shape.Full(t.shape, 0, t.dtype))
            params[i + 1] = self.params[param] = Value(t, param.hint)
        inner = self.block(op.body)
        body = Block(tuple(params), inner.ops, inner.results)
        new = b.add(op.rebuilt(self.to, init=tuple(init), body=body))
        self.to.update(zip(op.results, new.results, strict=True))
        for i, dot in sums.items():
            made = dict(self.to)
            for one in steady(_scales(dot), op.body, self.written) or ():
                b.copy(one, made, lambda inner: inner)
            self.to[op.results[i]] = _scaled(new.results[i], dot, start[i], made, b)


def _scales(op: Dot) -> list[Value]:
    return [v for v in (op.scale, op.row_scale) if v is not None]


def _scaled(total: Value, dot: Dot, start: Value, made: dict[Value, Value], b: Builder) -> Value:
    """start + total * scales."""
    sizes = tile(dot.acc).shape
    out = b(Cast(total, f32)) if _whole(dot) else total
    for v, own in ((dot.row_scale, (sizes[0], 1)), (dot.scale, (1, sizes[1]))):
        if v is None:
            continue
        factor = b(shape.Broadcast(b(shape.Reshape(made.get(v, v), own)), sizes))
        last = v is dot.scale or dot.scale is None
        out = b(arith.Fma(out, factor, start)) if last else b(arith.Mul(out, factor))
    return out


def _whole(op: Dot) -> bool:
    return whole_bytes(tile(op.a).dtype, tile(op.b).dtype)


def _exact(loop: control.For, op: Dot) -> bool:
    """Whether no sum of a loop's products of whole numbers is beyond i32."""
    depth = tile(op.a).shape[1]
    if not isinstance(loop.dim, int) or not isinstance(depth, int):
        return False
    steps = ceil_div(loop.dim, loop.tile or 1)
    assert isinstance(steps, int)
    left, right = (max(abs(t.low), abs(t.high)) for t in (tile(op.a).dtype, tile(op.b).dtype))
    return steps * depth * left * right < i32.high
