"""Values in another dtype."""

from __future__ import annotations

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType, Rounding, u32
from tilec.ir.errors import TileError
from tilec.ir.ops.arith import EACH, tile
from tilec.ir.types import Tile, Type


class Cast(Op, name="cast", traits=EACH):
    """out = a rounded to dtype; integers saturate if asked, else wrap modulo 2**bits

    stochastic, in float64 with r = random / 2**32: out = floor(a / step + r) * step for integers
    and floats, `step` being the distance of the values next to a; for codes out = the value above
    a where (a - below) / (above - below) + r >= 1, else the one below.
    """

    a: Value
    dtype: DType
    rounding: Rounding = "nearest"
    saturate: bool = False
    random: Value | None = None

    def infer(self) -> Type:
        a = tile("cast", self.a)
        if self.rounding not in ("nearest", "toward_zero", "stochastic"):
            raise TileError(
                f"cast: no rounding is called {self.rounding!r}; "
                "there are nearest, toward_zero, stochastic"
            )
        if (self.rounding == "stochastic") != (self.random is not None):
            raise TileError("cast: stochastic rounding, and no other, takes random bits")
        if self.random is not None and self.random.type != Tile(a.shape, u32):
            raise TileError(
                f"cast: expected random bits u32 of {a}'s shape, not {self.random.type}"
            )
        return Tile(a.shape, self.dtype)

    def evaluate(self, a: Array, random: Array | None = None) -> Array:
        fraction = None if random is None else random * 2.0**-32
        return self.dtype.round(a, self.rounding, self.saturate, fraction)


class Bitcast(Op, name="bitcast", traits=EACH):
    """out = the bits of a read as dtype, of the same width"""

    a: Value
    dtype: DType

    def infer(self) -> Type:
        a = tile("bitcast", self.a)
        if a.dtype.bits != self.dtype.bits or self.dtype.bits not in (8, 16, 32, 64):
            raise TileError(
                f"bitcast: {a.dtype} and {self.dtype} differ in width or are not whole bytes"
            )
        return Tile(a.shape, self.dtype)

    def evaluate(self, a: Array) -> Array:
        stored = tile("bitcast", self.a).dtype.to_storage(a).copy()  # contiguous, of any rank
        return self.dtype.from_storage(stored.view(self.dtype.numpy))
