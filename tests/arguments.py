"""What the parameters of a random program hold before it runs."""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.types import Memory, Tile


def data(t: DType, shape_: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Values of a dtype: mostly small numbers, a few special ones, not all of them zero."""
    x = rng.integers(-4, 5, shape_) * 0.75
    special = [0.0, -0.0, 1e-3, t.high, t.low]
    if t.is_float:
        special += [np.nan, np.inf, -np.inf, 1e-7, 1 / 3]
    x = np.asarray(np.where(rng.random(shape_) < 0.15, rng.choice(special, shape_), x))
    out = t.round(x if t.is_float else np.trunc(np.clip(x, t.low, t.high)))
    return np.asarray(out if np.any(out) else t.round(np.ones(shape_)))


def arguments(func: Func, dims: dict[str, int], rng: np.random.Generator) -> dict[str, Array]:
    """What the parameters of a program hold: places in `index`, poison in outputs `y...`."""
    found: dict[str, Array] = {}
    for p in func.params:
        if isinstance(p.type, Tile):
            found[p.hint] = data(p.type.dtype, (), rng)
            continue
        assert isinstance(p.type, Memory)
        extents = tuple(d if isinstance(d, int) else dims[str(d)] for d in p.type.shape)
        if p.hint == "index":
            found[p.hint] = rng.permutation(np.arange(-2, extents[0] + 3))[: extents[0]]
        elif p.hint.startswith("y"):
            found[p.hint] = p.type.dtype.round(np.full(extents, p.type.dtype.high))
        else:
            found[p.hint] = data(p.type.dtype, extents, rng)
    return found
