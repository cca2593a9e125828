"""Rounding to a format: of a scaled one, the scale and zero of every block and nearest codes.

Many scales are tried for each block, so that is done for as many blocks at a time as a cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

import numpy as np

from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format, prefixed
from tilec.ir.scaled import ADDED, Parts, Scaled

Rule = Literal["range", "floor", "ceil", "rceil", "even"]
RULES = ("range", "floor", "ceil", "rceil", "even")
REFINEMENTS = 3  # of a scale by least squares
FEW = 3  # bits of codes for which that is worth its time
CHUNK = 1 << 22  # elements of the blocks that candidates are made for at a time
PIECE = 1 << 16  # elements that are rounded at a time
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)  # of the range of a block, tried in a search


@dataclass(frozen=True)
class Fit:
    """How scales are chosen: with `search`, also narrower ranges are tried, and the one with the
    least squared error is kept.

    `rule` is how a power of two is made of the largest element of a block, with emax the exponent
    of the greatest code: floor 2**(floor(log2 amax) - emax) is OCP MX's own, ceil rounds log2 up,
    rceil is 2**ceil(log2(amax / greatest)) (cuBLAS), even first rounds amax to the mantissa of the
    codes. `range` is floor for scales that are powers of two (with `search`, or rceil where that is
    closer), and for all others the scale that makes the largest element the greatest code.
    """

    search: bool = False
    rule: Rule = "range"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise TileError(f"no rule for scales is called {self.rule!r}; "
                            f"there are {', '.join(RULES)}")  # fmt: skip


@singledispatch
def encode(format: Format, x: Array, fit: Fit) -> Parts:
    """The components of x[..., K]. Raises TileError for elements and blocks that have no code."""
    raise TileError(f"nothing rounds to {format}")


def checked(format: Format, x: Array) -> Array:
    """The tensor as doubles. Raises TileError where an element is not finite."""
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        raise TileError(f"{format}: the tensor has elements that are not finite")
    return x


@encode.register
def _(format: Dense, x: Array, fit: Fit) -> Parts:
    return {"": format.dtype.round(checked(format, x), saturate=True)}


@encode.register
def _(format: Scaled, x: Array, fit: Fit) -> Parts:
    x = checked(format, x)
    blocks, valid = format.block.split(x)
    count, size = math.prod(blocks.shape[:-1]), blocks.shape[-1]
    rows = np.ascontiguousarray(blocks).reshape(count, size)
    best = _best(format, rows, None if valid.all() else valid.reshape(count, size), fit)
    scale, zero = (a.reshape(blocks.shape[:-1]) for a in best)
    parts: Parts = {}
    for (name, inner), ideal in zip(format.numbers().items(), (scale, zero), strict=False):
        parts |= prefixed(name, encode(inner, ideal, Fit(fit.search)))
    scale = format.number("scale", parts, x.shape)
    if format.zeros is not None:
        zero = format.number("zero", parts, x.shape)
    codes = np.empty(rows.shape, format.codes.carrier)
    for piece in _pieces(rows, PIECE):
        own = (a.reshape(-1)[piece] for a in (scale, zero))
        codes[piece] = _codes(format, rows[piece], *own)
    return {"codes": format.block.join(codes.reshape(blocks.shape), x.shape)} | parts


def _pieces(x: Array, elements: int) -> Iterator[slice]:
    """Rows of x that have about so many elements together."""
    step = max(1, elements // max(1, x.shape[1]))
    return (slice(i, i + step) for i in range(0, len(x), step))


def rounded(format: Scaled, x: Array, scale: Array, zero: Array) -> tuple[Array, Array]:
    """The nearest codes to x[..., elements] of blocks, and the values that they mean."""
    s, z = scale[..., None], zero[..., None]
    added: Array | float = z if format.zero in ADDED else 0.0
    offset: Array | float = z if format.zero in ("int", "float") else float(format.centre)
    codes = format.codes.round(_divide(x - added, s) + offset, saturate=True)
    return codes, (codes - offset) * s + added


@dataclass(frozen=True)
class _Ends:
    """The least and the greatest element of each block, and the largest by magnitude."""

    low: Array
    high: Array
    edge: Array

    @staticmethod
    def of(x: Array) -> _Ends:
        """Those of x[blocks, elements]."""
        ends = _Ends(*(np.empty(len(x)) for _ in range(3)))
        for piece in _pieces(x, PIECE):
            part = x[piece]
            ends.low[piece], ends.high[piece] = part.min(-1), part.max(-1)
            at = np.abs(part).argmax(-1)
            ends.edge[piece] = np.take_along_axis(part, at[:, None], -1)[:, 0]
        return ends


def _best(format: Scaled, x: Array, valid: Array | None, fit: Fit) -> tuple[Array, Array]:
    """The scales and zeros of the candidates that are nearest to each block of x[blocks, elements],
    of which those that are not `valid` count for nothing."""
    scale, zero, lost = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), bool)
    for part in _pieces(x, CHUNK):
        ends = _Ends.of(x[part])
        within = None if valid is None else valid[part]
        scale[part], zero[part] = _nearest(format, x[part], within, _candidates(format, ends, fit))
        lost[part] = (scale[part] == 0) & (ends.high != ends.low) | ~np.isfinite(scale[part])
    if lost.any():
        top = float(np.abs(x[lost]).max())
        raise TileError(f"{format}: the scale of a block whose largest element is {top:.3g} is "
                        f"out of the range of {format.scale}", hint="use scale=f32")  # fmt: skip
    few = format.codes.bits <= FEW and format.zeros is None
    if not (fit.search and few) or _power_of_two(format.scale):
        return scale, zero
    for piece in _pieces(x, PIECE):
        within = True if valid is None else valid[piece]
        scale[piece] = _refined(format, x[piece], within, scale[piece])
    return scale, zero


def _nearest(format: Scaled, x: Array, valid: Array | None, tried: Iterable[tuple[Array, Array]]
             ) -> tuple[Array, Array]:  # fmt: skip
    """Of scales and zeros, those of least squared error, the first of equals."""
    candidates = list(tried)
    errors: Array = np.empty((len(candidates), len(x)))
    for piece in _pieces(x, PIECE):
        within = None if valid is None else valid[piece]
        room = np.empty(x[piece].shape)
        for i, (scale, zero) in enumerate(candidates):
            errors[i, piece] = _error(format, x[piece], within, scale[piece], zero[piece], room)
    (scale, zero), least = candidates[0], np.asarray(errors[0])
    for i, (other, its) in enumerate(candidates[1:], 1):
        error = np.asarray(errors[i])
        better = error < least
        least = np.where(better, error, least)
        scale, zero = np.where(better, other, scale), np.where(better, its, zero)
    return scale, zero


def _error(format: Scaled, x: Array, valid: Array | None, scale: Array, zero: Array, room: Array
           ) -> Array:  # fmt: skip
    """The squared error of x[blocks, elements] in nearest codes, as `rounded` has them: what takes
    the time."""
    if not _plain(format, scale, zero):
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite scale is refused later
            value = rounded(format, x, scale, zero)[1]
            return (np.square(value - x) * (1 if valid is None else valid)).sum(-1)
    for columns in (slice(i, i + PIECE) for i in range(0, x.shape[1], PIECE)):
        _distances(format, x[:, columns], scale, zero, room[:, columns])
    np.square(room, out=room)
    if valid is not None:
        np.multiply(room, valid, out=room)
    return room.sum(-1)


def _codes(format: Scaled, x: Array, scale: Array, zero: Array) -> Array:
    """The nearest codes to x[blocks, elements], as `rounded` has them."""
    if not (format.codes.is_integer and _plain(format, scale, zero)):
        return rounded(format, x, scale, zero)[0]
    room = np.empty(x.shape)
    _coded(format, x, scale, zero, room)
    return room


def _plain(format: Scaled, scale: Array, zero: Array) -> bool:
    """Whether codes are whole numbers or in a table, and all numbers on the way are finite."""
    known = format.codes.is_integer or format.codes.table is not None
    return bool(known and np.isfinite(scale).all() and np.isfinite(zero).all())


def _coded(format: Scaled, x: Array, scale: Array, zero: Array, room: Array) -> None:
    """The nearest codes to x[blocks, elements], in the memory of `room`: as `rounded` has them,
    operation by operation, but for the sign of zeros."""
    none, z, codes = scale == 0, zero[:, None], format.codes
    shifted = np.subtract(x, z, out=room) if format.zero in ADDED else x
    with np.errstate(over="ignore"):
        np.divide(shifted, np.where(none, 1.0, scale)[:, None], out=room)
    if none.any():
        room[none] = 0
    _offset(np.add, format, z, room)
    if codes.table is None:
        np.clip(np.rint(room, out=room), codes.low, codes.high, out=room)
    else:
        codes.table.to_nearest(room)


def _offset(act: np.ufunc, format: Scaled, z: Array, room: Array) -> None:
    """Add what codes have beyond whole multiples of the scale, or take it away."""
    if format.zero in ("int", "float"):
        act(room, z, out=room)
    elif format.centre:
        act(room, float(format.centre), out=room)


def _distances(format: Scaled, x: Array, scale: Array, zero: Array, room: Array) -> None:
    """What is between x[blocks, elements] and the values of its nearest codes, to `room`."""
    z = zero[:, None]
    _coded(format, x, scale, zero, room)
    _offset(np.subtract, format, z, room)
    room *= scale[:, None]
    if format.zero in ADDED:
        room += z
    room -= x


def _refined(format: Scaled, x: Array, valid: Array | bool, scale: Array) -> Array:
    """The scale that is best for the codes of another, as often as that helps (least squares)."""
    none = scale * 0
    for _ in range(REFINEMENTS):
        codes, value = rounded(format, x, scale, none)
        centred = (codes - format.centre) * valid
        better = _store(format.scale, _divide((centred * x).sum(-1), np.square(centred).sum(-1)))
        error, new = (
            np.square(v - x) * valid for v in (value, rounded(format, x, better, none)[1])
        )
        scale = np.where((new.sum(-1) < error.sum(-1)) & (better != 0), better, scale)
    return scale


def _store(format: Format, x: Array) -> Array:
    """A scale or zero as it will be stored, where that does not depend on its neighbours."""
    return format.dtype.round(x) if isinstance(format, Dense) else x


def _signed(format: Format) -> bool:
    """Whether a scale may be negative."""
    if isinstance(format, Scaled):
        return format.zeros is not None or format.codes.low < format.centre
    return not isinstance(format, Dense) or format.dtype.low < 0


def _power_of_two(format: Format) -> bool:
    return isinstance(format, Dense) and format.dtype.name == "e8m0"


def _candidates(format: Scaled, ends: _Ends, fit: Fit) -> Iterator[tuple[Array, Array]]:
    """Scales and zeros to try."""
    shrinks = SHRINKS if fit.search else SHRINKS[:1]
    low, high = format.codes.low - format.mid, format.codes.high - format.mid
    if format.zeros is None:
        for scale in _symmetric(format, ends, fit, shrinks):
            yield scale, np.zeros_like(scale)
        return
    bottom, top = np.minimum(ends.low, 0), np.maximum(ends.high, 0)
    if format.zero in ADDED:
        bottom, top = ends.low, ends.high
    centre, half = (bottom + top) / 2, (top - bottom) / 2
    for s in shrinks:
        scale = _store(format.scale, 2 * half * s / (high - low))
        yield scale, _zero_of(format, centre - half * s, scale)


def _symmetric(format: Scaled, ends: _Ends, fit: Fit, shrinks: tuple[float, ...]
               ) -> Iterator[Array]:  # fmt: skip
    """Scales of blocks without a zero of their own."""
    low, high = format.codes.low - format.centre, format.codes.high - format.centre
    if _power_of_two(format.scale):
        yield from _powers(format.codes, np.abs(ends.edge), fit)
        return
    if low >= 0:  # of one sign: the blocks' own, or the one of most of them
        spans = [np.maximum(ends.high, 0) / high, np.minimum(ends.low, 0) / high]
    else:
        spans = [np.abs(ends.edge) / high] if high > 0 else []
        spans += [ends.edge / low] if low != -high else []
    if not _signed(format.scale):
        spans = [spans[0], *(np.where(span < 0, spans[0], span) for span in spans[1:])]
    for s in shrinks:
        for span in spans:
            yield _store(format.scale, span * s)


def _powers(codes: DType, most: Array, fit: Fit) -> Iterator[Array]:
    """Powers of two by the rule, within those that e8m0 has."""
    rules = ["floor"] if fit.rule == "range" else [fit.rule]
    if fit.rule == "range" and fit.search:
        rules.append("rceil")
    emax = _floor(np.asarray(codes.high, np.float64))
    for rule in rules:
        match rule:
            case "floor":
                power = _floor(most) - emax
            case "ceil":
                power = _ceil(most) - emax
            case "rceil":
                power = _ceil(most / codes.high)
            case _:
                digits = codes.mantissa if codes.kind in ("float", "code") else codes.bits - 2
                last = np.ldexp(0.5, _floor(most) - digits)  # half a unit of the last place
                power = _floor(most + last) - emax
        yield np.ldexp(1.0, np.where(most > 0, power, -127).clip(-127, 127).astype(int))


def _floor(x: Array) -> Array:
    """floor(log2(x)), exactly."""
    return np.frexp(x)[1] - 1


def _ceil(x: Array) -> Array:
    """ceil(log2(x)), exactly."""
    mantissa, exponent = np.frexp(x)
    return np.where(mantissa == 0.5, exponent - 1, exponent)


def _zero_of(format: Scaled, bottom: Array, scale: Array) -> Array:
    """The zero for which the least code means about `bottom`."""
    low = float(format.codes.low)
    assert format.zeros is not None
    if format.zero in ADDED:
        return _store(format.zeros, bottom - (low - format.centre) * scale)
    zero = low - _divide(bottom, scale)
    if format.zero == "int":
        stored = format.zeros.dtype if isinstance(format.zeros, Dense) else format.codes
        return stored.round(zero, saturate=True)
    return _store(format.zeros, zero)


def _divide(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)
