"""What a machine with threads adds: which thread holds which element of a tile."""

from __future__ import annotations

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.arith import tile
from tilec.ir.types import Type


class Convert(Op, name="convert"):
    """out = a, held by the threads of a block as the layout says"""

    a: Value
    layout: RegisterLayout

    def infer(self) -> Type:
        a = tile("convert", self.a)
        known = tuple(d for d in a.shape if isinstance(d, int))
        if len(known) == a.rank and known != self.layout.shape:
            raise TileError(f"convert: {a} can't have the layout {self.layout} "
                            f"of {list(self.layout.shape)}")  # fmt: skip
        return a

    def evaluate(self, a: Array) -> Array:
        return a
