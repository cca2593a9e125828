"""Random components of scaled formats, and format texts known to be scaled."""

from __future__ import annotations

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array, DType
from tilec.ir.named import named
from tilec.ir.published import PUBLISHED
from tilec.ir.scaled import ZEROS, Scaled

PUBLISHED_SCALED = sorted(name for name in PUBLISHED if isinstance(named(name), Scaled))


def scaled(text: str) -> Scaled:
    """The scaled format that a text names."""
    format = named(text)
    assert isinstance(format, Scaled)
    return format


def zeros_of(name: str) -> list[str]:
    """The kinds of zero that a format may have."""
    return [z for z in ZEROS if not (z == "mid" and name.startswith("int"))]


def codes(t: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random codes, all of the type's but NaN and infinities."""
    every = from_raw(t, np.arange(1 << t.bits))
    return rng.choice(every[np.isfinite(every)], shape)


def random_parts(format: Scaled, shape: tuple[int, ...], exact: bool = False) -> dict[str, Array]:
    """Random components; with `exact`, powers of two as scales and small whole numbers as zeros."""
    rng = np.random.default_rng([*shape, format.codes.bits])
    parts: dict[str, Array] = {}
    for c in format.components(shape):
        size = tuple(int(str(d)) for d in c.shape)
        if c.dtype.bits <= 8:
            parts[c.name] = codes(c.dtype, size, rng)
        elif not exact:
            parts[c.name] = c.dtype.round(rng.standard_normal(size))
        elif c.name.startswith("zero"):
            parts[c.name] = rng.integers(-3, 4, size).astype(float)
        else:
            parts[c.name] = np.ldexp(1.0, rng.integers(-2, 3, size))
    return parts
