"""The largest elements of rows, of whole tensors: `fuse` makes loops of them."""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType, boolean, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops.arith import computed, tile
from tilec.ir.types import Tile, Type


class Ranking(Op):
    """out[..., i] = of the last axis of a what comes at place i, by size: the largest first

    NaN is above all, and of equal elements the first comes first.
    """

    a: Value
    count: Extent

    def infer(self) -> Type:
        a = tile(self.name, self.a)
        if not a.rank:
            raise TileError(f"{self.name}: {a} has no axis")
        computed(self.name, a.dtype)
        if a.dtype == boolean:
            raise TileError(f"{self.name}: expected numbers, not {a.dtype}")
        n = a.shape[-1]
        if isinstance(self.count, int) and isinstance(n, int) and not 0 < self.count <= n:
            raise TileError(f"{self.name}: {a} has no {self.count} elements along its last axis")
        return self.accept(Tile((*a.shape[:-1], self.count), a.dtype))

    def accept(self, out: Tile) -> Tile:
        """The result's type, from that of the elements."""
        return out

    def places(self, a: Array, count: int) -> Array:
        """The places of the largest."""
        unknown = np.isnan(a) if a.dtype.kind == "f" else np.zeros(a.shape, bool)
        known = np.where(unknown, 0, a)
        return np.lexsort((-known, ~unknown), axis=-1)[..., :count]

    def filled(self, found: Array, count: int, value: float | int) -> Array:
        """What was found, and a number in place of what is not there."""
        short = count - found.shape[-1]
        more = np.full((*found.shape[:-1], short), value, found.dtype)
        return np.concatenate([found, more], axis=-1) if short else found


class Top(Ranking, name="top"):
    """out[..., i] = the element of a's last axis that has i before it: larger ones, then the first

    NaN is above all; zeros are 0.0. Where a has fewer elements, the least of the dtype follows.
    """

    def evaluate(self, a: Array, count: int) -> Array:
        t = tile("top", self.a).dtype
        found = np.take_along_axis(a, self.places(a, count), -1)
        return self.filled(found + 0, count, lowest(t))


class Argtop(Ranking, name="argtop"):
    """out[..., i] = the place along a's last axis of top's element i; -1 where there is none"""

    def accept(self, out: Tile) -> Tile:
        return Tile(out.shape, i32)

    def evaluate(self, a: Array, count: int) -> Array:
        return self.filled(self.places(a, count), count, -1)


def lowest(t: DType) -> float | int:
    """What no number of a dtype is less than."""
    if t.is_integer:
        return int(t.low)
    return -np.inf if t.infinite else float(t.low)
