"""Tables of at most 256 values, by code: rounding to them, and codes of values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEW = 32  # values: to count the edges below a number is as fast as to search for it


class Table:
    """What each code stands for, every value an f32; a NaN remembers its code in its payload.

    `above` is the value that would follow the greatest one, for types in which overflow is not
    finite: what is nearer to it than to the greatest becomes infinite, or NaN.
    """

    def __init__(self, values: Sequence[float], above: float | None = None) -> None:
        self.values = np.array(values, np.float64)
        nans = np.flatnonzero(np.isnan(self.values))
        self.values.view(np.int64)[nans] = 0x7FF8 << 48 | nans
        finite = np.flatnonzero(np.isfinite(self.values))
        self._sorted, first = np.unique(self.values[finite] + 0.0, return_index=True)
        self._odd = (finite[first] & 1).astype(bool)
        self.low, self.high = float(self._sorted[0]), float(self._sorted[-1])
        self.infinite = bool(np.isinf(self.values).any())
        self.nan = float(self.values[nans[0]]) if nans.size else None
        self.negative_zero = bool((np.signbit(self.values) & (self.values == 0)).any())
        self._above = above
        self._keys, self._codes = np.unique(self.values.view(np.int64), return_index=True)

    def round(self, x: Array, mode: str, saturate: bool, random: Array | None) -> Array:
        """The nearest values, ties to the even code; what is neither finite nor in the table
        becomes the greatest value, NaN becomes 0, and so does what no unsigned type can hold.

        Toward zero a finite number stays finite; between the least values of a table that has no 0
        it is rounded to the nearest.
        """
        points, odd = self._sorted, self._odd
        if self._above is not None and not saturate and mode != "toward_zero":
            least = [] if self.low >= 0 else [-self._above]
            points = np.concatenate([least, points, [self._above]])
            odd = np.concatenate([~odd[:1] if least else odd[:0], odd, ~odd[-1:]])
        at = np.clip(np.searchsorted(points, x, "right") - 1, 0, len(points) - 2)
        low, high = points[at], points[at + 1]
        up = self._upward(x, low, high, odd[at], mode, random)
        y = np.where(up & (x > low), high, low)
        if self.negative_zero:
            y = np.where((y == 0) & np.signbit(x), -0.0, y)
        return self._special(x, y, saturate)

    def to_nearest(self, x: Array) -> None:
        """Make finite numbers the nearest values, in place, as `round` does, but for the sign of
        zeros."""
        if len(self._edges) < FEW:
            at = np.zeros(x.shape, np.uint8)
            for edge in self._edges:
                at += x >= edge
        else:
            at = np.searchsorted(self._edges, x, "right")
        np.take(self._sorted, at, out=x, mode="clip")

    @cached_property
    def _edges(self) -> Array:
        """The least numbers that round to each value but the first."""
        middle = (self._sorted[:-1] + self._sorted[1:]) / 2
        return np.where(self._odd[:-1], middle, np.nextafter(middle, np.inf))

    @staticmethod
    def _upward(
        x: Array, low: Array, high: Array, odd: Array, mode: str, random: Array | None
    ) -> Array:
        if mode == "stochastic" and random is not None:
            with np.errstate(invalid="ignore"):
                return (x - low) / (high - low) + random >= 1.0
        middle = (low + high) / 2
        nearer = (x > middle) | (x == middle) & odd
        if mode == "toward_zero":
            return np.where((low < 0) & (high > 0), nearer, (x < 0) | (x >= high))
        return nearer

    def _special(self, x: Array, y: Array, saturate: bool) -> Array:
        nan = 0.0 if self.nan is None else self.nan
        if not saturate and (self.infinite or self.nan is not None):
            beyond = np.isinf(x) | (np.abs(y) > self.high)
            y = np.where(beyond, np.copysign(np.inf, x) if self.infinite else nan, y)
        if self.low > 0:  # a type of scales: without sign and zero
            y = np.where(x < 0, nan, y)
        return np.where(np.isnan(x), nan, y)

    def codes(self, x: Array) -> Array:
        """The codes, in bytes, of values that are in the table."""
        keys = np.ascontiguousarray(x, np.float64)
        keys = keys if self.negative_zero else keys + 0.0
        if self.nan is not None:
            foreign = np.isnan(keys) & ~np.isin(keys.view(np.int64), self._keys)
            keys = np.where(foreign, self.nan, keys)
        at = np.searchsorted(self._keys, keys.view(np.int64)).clip(max=len(self._keys) - 1)
        return self._codes[at].astype(np.uint8).reshape(np.shape(x))
