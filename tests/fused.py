"""Programs before and after `fuse`: the same results on numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilec.ir.core import Func, Op
from tilec.ir.dtype import Array
from tilec.ir.extent import number
from tilec.ir.interpret import interpret
from tilec.ir.ops import control
from tilec.ir.types import Memory
from tilec.ir.verify import verify
from tilec.lang.text import parse
from tilec.passes.canonicalize import canonicalize
from tilec.passes.fuse import fuse
from tilec.passes.specialise import specialise


def program(text: str, **dims: int) -> Func:
    """The last function of a text, with numbers for some dimensions."""
    return specialise(list(parse(text).values())[-1].ir(), **dims)


def random(func: Func, dims: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Varied numbers for every parameter that is the user's; whole numbers are from 0 to 3."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for p in func.params:
        if "." in p.hint:
            continue
        if not isinstance(p.type, Memory):
            found[p.hint] = np.asarray(0.37)
            continue
        extents = tuple(number(d, dims) for d in p.type.shape)
        x = rng.integers(0, 4, extents) if p.type.dtype.is_integer else rng.standard_normal(extents)
        found[p.hint] = p.type.dtype.round(x)
    return found


def tiles(func: Func, size: int) -> dict[str, int]:
    """Every open tile size, a number that divides nothing."""
    found: dict[str, int] = {}
    for op in func.walk():
        match op:
            case control.Grid():
                found |= {
                    f"{s}.tile": size for s, t in zip(op.sizes, op.tiles, strict=True) if not t
                }
            case control.For(tile=None):
                found[f"{op.size}.tile"] = size
            case _:
                pass
    return found


def ran(func: Func, given: Mapping[str, Array], dims: Mapping[str, int], size: int = 3
        ) -> dict[str, Array]:  # fmt: skip
    """What a function leaves in its parameters; memory of its own is poisoned."""
    arguments = {n: np.array(x) for n, x in given.items()}
    for p in func.params:
        if p.hint not in arguments:
            assert isinstance(p.type, Memory)
            arguments[p.hint] = np.full(tuple(number(d, dims) for d in p.type.shape), np.nan)
    interpret(func, arguments, {**dims, **tiles(func, size)})
    return arguments


def far(func: Func, dims: Mapping[str, int], seed: int = 0, size: int = 3) -> tuple[Func, float]:
    """A function fused, and how far its results are from what they were, by norm."""
    made = fuse(func)
    verify(made)
    given = random(func, dims, seed)
    want, got = ran(func, given, dims), ran(made, given, dims, size)
    off = [0.0]
    for n in given:
        finite = np.isfinite(want[n])
        assert np.array_equal(np.isfinite(got[n]), finite), n
        norm = np.linalg.norm(np.where(finite, want[n], 0).astype(float))
        error = np.linalg.norm(np.where(finite, got[n] - want[n].astype(float), 0))
        off.append(float(error / norm) if norm else float(error))
    return made, max(off)


def grids(func: Func) -> int:
    """How many kernels there are."""
    return sum(isinstance(op, control.Grid) for op in func.walk())


def loops(func: Func) -> list[Op]:
    """The loops over tiles."""
    return [op for op in canonicalize(func).walk() if isinstance(op, control.For)]
