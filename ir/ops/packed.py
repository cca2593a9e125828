"""Words of several codes: what they hold, and the coordinates of what stands beside them.

The pass `interleave` makes these for machines that load words whole and decode them in registers.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.ops.arith import EACH, tile
from tilec.ir.types import Span, Tile, Type


class Part(Op, name="part"):
    """out = `size` coordinates of the span, from number `start` on"""

    span: Value
    start: int
    size: int

    def infer(self) -> Type:
        return Span(_span("part", self.span).dim, self.size)

    def evaluate(self, span: range) -> range:
        first = span.start + self.start
        return range(first, first + self.size)


class Groups(Op, name="groups"):
    """out = `size` groups of `by` coordinates, from the one in which the span starts"""

    span: Value
    by: int
    size: int

    def infer(self) -> Type:
        return Span(ceil_div(_span("groups", self.span).dim, self.by), self.size)

    def evaluate(self, span: range) -> range:
        first = span.start // self.by
        return range(first, first + self.size)


class Unpack(Op, name="unpack", traits=EACH):
    """out = number `field` of the codes that lie in each word from its lowest bits on"""

    words: Value
    codes: DType
    field: int

    def infer(self) -> Type:
        words = tile("unpack", self.words)
        if words.dtype.kind != "uint":
            raise TileError(f"unpack: expected words, not {words}")
        if not 0 <= self.field < words.dtype.bits // self.codes.bits:
            raise TileError(f"unpack: a {words.dtype} has no {self.codes} number {self.field}")
        return Tile(words.shape, self.codes)

    def evaluate(self, words: Array) -> Array:
        bits = words.astype(np.int64) >> self.field * self.codes.bits
        return from_raw(self.codes, bits & (1 << self.codes.bits) - 1)


def _span(op: str, v: Value) -> Span:
    if not isinstance(v.type, Span):
        raise TileError(f"{op}: expected a span, not {v.type}")
    return v.type
