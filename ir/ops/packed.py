"""Words of several codes: what they hold, and the coordinates of what stands beside them.

The pass `interleave` makes these for machines that load words whole and decode them in registers.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.interleaved import WORD, Interleaved, places, stored
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
    """out = `size` groups of `by` coordinates, from the one in which the span starts, in row `row`
    of `rows` that have all groups each"""

    span: Value
    by: int
    size: Extent
    row: int = 0
    rows: int = 1

    def infer(self) -> Type:
        if not 0 <= self.row < self.rows:
            raise TileError(f"groups: expected one of {self.rows} rows, not {self.row}")
        if self.rows > 1 and not isinstance(self.pitch, int):
            raise TileError(f"groups: expected rows of a number of groups, not {self.pitch}")
        return Span(self.pitch * self.rows, self.size)

    @property
    def pitch(self) -> Extent:
        """How many groups there are."""
        return ceil_div(_span("groups", self.span).dim, self.by)

    def evaluate(self, span: range) -> range:
        first = self.row * int(str(self.pitch)) if self.row else 0
        return range(first + span.start // self.by, first - (-span.stop // self.by))


class Unpack(Op, name="unpack", traits=EACH):
    """out = code number `field` of the unit that words of one place make up (ir/interleaved.py)"""

    words: tuple[Value, ...]
    codes: DType
    field: int

    def infer(self) -> Type:
        order = Interleaved(self.codes, 1)
        tiles = [tile("unpack", v) for v in self.words]
        if self.codes.bits > 8 or len(tiles) != order.words:
            raise TileError(f"unpack: expected the {order.words} words of a unit of {self.codes}, "
                            f"not {len(tiles)}")  # fmt: skip
        if any(t != tiles[0] or t.dtype != WORD for t in tiles):
            raise TileError(f"unpack: expected words, not {', '.join(map(str, tiles))}")
        if not 0 <= self.field < order.fields:
            raise TileError(f"unpack: a unit has no {self.codes} number {self.field}")
        return Tile(tiles[0].shape, self.codes)

    def evaluate(self, *words: Array) -> Array:
        found = np.zeros(words[0].shape, np.int64)
        for b, place in enumerate(places(self.codes)[self.field]):
            word, at = divmod(place, WORD.bits)
            found |= (words[word].astype(np.int64) >> at & 1) << b
        code_of = np.arange(1 << self.codes.bits)
        code_of[list(stored(self.codes))[::-1]] = np.arange(len(code_of))[::-1]
        return from_raw(self.codes, code_of[found])


class Term(Op, name="term", traits=EACH):
    """out = term `index` of a sum of floats of a dtype, each what is nearest to the rest, for x"""

    a: Value
    dtype: DType
    index: int

    def infer(self) -> Type:
        a = tile("term", self.a)
        if not self.dtype.is_float or self.index < 0:
            raise TileError(f"term: expected a float and a number, not {self.dtype}, {self.index}")
        return Tile(a.shape, self.dtype)

    def evaluate(self, a: Array) -> Array:
        return rest(a, self.dtype, self.index)


def index_of(op: Op) -> int:
    """The number of the term that an op gives: a cast gives the first."""
    return op.index if isinstance(op, Term) else 0


def rest(x: Array, t: DType, index: int) -> Array:
    """What so many terms of a sum leave of numbers."""
    left = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):  # of infinity nothing that is a number
        for _ in range(index):
            left = left - t.round(left)
    return left


def _span(op: str, v: Value) -> Span:
    if not isinstance(v.type, Span):
        raise TileError(f"{op}: expected a span, not {v.type}")
    return v.type
