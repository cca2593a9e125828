"""Rounding to a format: of a scaled one, the scale and zero of every block and nearest codes."""

from __future__ import annotations

from collections.abc import Iterator
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
    scale, zero = _best(format, blocks, valid, fit)
    parts: Parts = {}
    for (name, inner), ideal in zip(format.numbers().items(), (scale, zero), strict=False):
        parts |= prefixed(name, encode(inner, ideal, Fit(fit.search)))
    scale = format.number("scale", parts, x.shape)
    if format.zeros is not None:
        zero = format.number("zero", parts, x.shape)
    codes = rounded(format, blocks, scale, zero)[0]
    return {"codes": format.block.join(codes, x.shape)} | parts


def rounded(format: Scaled, x: Array, scale: Array, zero: Array) -> tuple[Array, Array]:
    """The nearest codes to x[..., elements] of blocks, and the values that they mean."""
    s, z = scale[..., None], zero[..., None]
    added: Array | float = z if format.zero in ADDED else 0.0
    offset: Array | float = z if format.zero in ("int", "float") else float(format.centre)
    codes = format.codes.round(_divide(x - added, s) + offset, saturate=True)
    return codes, (codes - offset) * s + added


def _best(format: Scaled, x: Array, valid: Array, fit: Fit) -> tuple[Array, Array]:
    """The scales and zeros of the candidates that are nearest to each block."""
    best: tuple[Array, Array] | None = None
    least = np.zeros(())
    for scale, zero in _candidates(format, x, fit):
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite scale is refused below
            error = (np.square(rounded(format, x, scale, zero)[1] - x) * valid).sum(-1)
        if best is None:
            best, least = (scale, zero), error
            continue
        better = error < least
        least = np.where(better, error, least)
        best = np.where(better, scale, best[0]), np.where(better, zero, best[1])
    assert best is not None
    _refuse_lost(format, x, best[0])
    few = format.codes.bits <= FEW and format.zeros is None
    return _refined(format, x, valid, best[0]) if fit.search and few else best


def _refined(format: Scaled, x: Array, valid: Array, scale: Array) -> tuple[Array, Array]:
    """The scale that is best for the codes of another, as often as that helps (least squares)."""
    none = scale * 0
    if _power_of_two(format.scale):
        return scale, none
    for _ in range(REFINEMENTS):
        codes, value = rounded(format, x, scale, none)
        centred = (codes - format.centre) * valid
        better = _store(format.scale, _divide((centred * x).sum(-1), np.square(centred).sum(-1)))
        error, new = (
            np.square(v - x) * valid for v in (value, rounded(format, x, better, none)[1])
        )
        scale = np.where((new.sum(-1) < error.sum(-1)) & (better != 0), better, scale)
    return scale, none


def _refuse_lost(format: Scaled, x: Array, scale: Array) -> None:
    lost = (scale == 0) & (x.max(-1) != x.min(-1)) | ~np.isfinite(scale)
    if lost.any():
        top = float(np.abs(x[lost]).max())
        raise TileError(f"{format}: the scale of a block whose largest element is {top:.3g} is "
                        f"out of the range of {format.scale}", hint="use scale=f32")  # fmt: skip


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


def _candidates(format: Scaled, x: Array, fit: Fit) -> Iterator[tuple[Array, Array]]:
    """Scales and zeros to try."""
    shrinks = SHRINKS if fit.search else SHRINKS[:1]
    low, high = format.codes.low - format.mid, format.codes.high - format.mid
    if format.zeros is None:
        for scale in _symmetric(format, x, fit, shrinks):
            yield scale, np.zeros_like(scale)
        return
    bottom, top = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)
    if format.zero in ADDED:
        bottom, top = x.min(-1), x.max(-1)
    centre, half = (bottom + top) / 2, (top - bottom) / 2
    for s in shrinks:
        scale = _store(format.scale, 2 * half * s / (high - low))
        yield scale, _zero_of(format, centre - half * s, scale)


def _symmetric(format: Scaled, x: Array, fit: Fit, shrinks: tuple[float, ...]) -> Iterator[Array]:
    """Scales of blocks without a zero of their own."""
    low, high = format.codes.low - format.centre, format.codes.high - format.centre
    if _power_of_two(format.scale):
        yield from _powers(format.codes, np.abs(x).max(-1), fit)
        return
    edge = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    if low >= 0:  # of one sign: the blocks' own, or the one of most of them
        spans = [np.maximum(x.max(-1), 0) / high, np.minimum(x.min(-1), 0) / high]
    else:
        spans = [np.abs(edge) / high] if high > 0 else []
        spans += [edge / low] if low != -high else []
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
