"""Scans: along one axis, every element combined with all those before it."""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, boolean
from tilec.ir.errors import TileError
from tilec.ir.ops.arith import computed, tile
from tilec.ir.types import Type


class Scan(Op):
    """out[..., i, ...] = a[..., :i + 1, ...] combined along axis; a[..., i:, ...] if reverse"""

    a: Value
    axis: int
    reverse: bool = False

    def infer(self) -> Type:
        a = tile(self.name, self.a)
        if not 0 <= self.axis < a.rank:
            raise TileError(f"{self.name}: {a} has no axis {self.axis}")
        computed(self.name, a.dtype)
        if a.dtype == boolean:
            raise TileError(f"{self.name}: expected numbers, not {a.dtype}")
        return a

    @property
    def reduction(self) -> str:
        """The name of the reduction that a prefix has."""
        return self.name.removeprefix("cum")

    def evaluate(self, a: Array) -> Array:
        along = slice(None, None, -1 if self.reverse else None)
        turned = (slice(None),) * self.axis + (along,)
        return self.scanned(a[turned])[turned]

    def scanned(self, a: Array) -> Array:
        """The prefixes from the first element on."""
        raise NotImplementedError


class Cumsum(Scan, name="cumsum"):
    """out[i] = a[0] + ... + a[i] along axis, exact and then rounded once; a[i] + ... if reverse

    A back end adds in an order of its own: it stays within i * eps * sum |a| of this, eps that of
    the dtype in which it adds, and equals it where every partial sum is exact.
    """

    def scanned(self, a: Array) -> Array:
        return np.cumsum(a, self.axis)


class Cummax(Scan, name="cummax"):
    """out[i] = max(a[0], ..., a[i]) along axis; of a[i], ... if reverse

    NaN if any is NaN; of zeros any.
    """

    def scanned(self, a: Array) -> Array:
        return np.maximum.accumulate(a, self.axis)


class Cummin(Scan, name="cummin"):
    """out[i] = min(a[0], ..., a[i]) along axis; of a[i], ... if reverse

    NaN if any is NaN; of zeros any.
    """

    def scanned(self, a: Array) -> Array:
        return np.minimum.accumulate(a, self.axis)
