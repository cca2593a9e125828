"""Exchange within a warp (PTX ISA, `vote`, `shfl`, `match`, `redux`, `activemask`, `elect`)."""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.operand import Pair
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.threads import WARP
from tilec.ptx.types import B32, PRED, types
from tilec.ptx.values import numbers

BIT = np.uint32(1) << np.arange(WARP, dtype=np.uint32)


def _members(x: Step, n: int) -> Array:
    """For every lane, the lanes that its mask names and that are here: warps x 32 x 32."""
    masks = x.t.by_warp(x.row(n, 32))
    return ((masks[:, :, None] & BIT) != 0) & x.t.active[:, None, :]


def _ballot(flags: Array) -> Array:
    """Flags of the last axis as bits of a word."""
    return (flags * BIT).sum(axis=-1, dtype=np.uint32)


@instruction("vote", "sync all any uni", types=((PRED,),), operands=3, sync="mask")
def vote(x: Step) -> None:
    """Whether a predicate holds in all lanes, in any, or is the same in all."""
    members = _members(x, 2)
    holds = members & x.t.by_warp(x.bits(1, 1))[:, None, :]
    every: Array = (holds == members).all(axis=2)
    match x.i.one_of("all", "any", "uni"):
        case "all":
            d = every
        case "any":
            d = np.any(holds, axis=2)
        case _:
            d = np.where(np.any(holds, axis=2), every, True)
    x.put(x.t.by_thread(d))


@instruction("vote", "sync ballot", types=((B32,),), operands=3, sync="mask")
def ballot(x: Step) -> None:
    """The lanes in which a predicate holds, as bits."""
    holds = _members(x, 2) & x.t.by_warp(x.bits(1, 1))[:, None, :]
    x.put(x.t.by_thread(_ballot(holds)))


@instruction("activemask", types=((B32,),), operands=1)
def activemask(x: Step) -> None:
    """The lanes that execute this together."""
    x.put(x.t.by_thread(_ballot(x.t.active)[:, None]))


@instruction("elect", "sync", operands=2, sync="mask")
def elect(x: Step) -> None:
    """One lane of the mask: the lowest, whose predicate alone is true."""
    leader = _members(x, 1).argmax(axis=2)
    chosen = x.t.by_thread(leader)
    d = x.operand(0)
    if isinstance(d, Pair):
        if str(d.first) != "_":
            d.first.put(x.t, chosen.astype(np.uint32))
        d.second.put(x.t, chosen == x.t.lane)


def _source(mode: str, lane: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The lane to read from and whether it lies in the segment that c describes."""
    clamp, segment = c & 31, c >> 8 & 31
    top = (lane & segment) | (clamp & ~segment)
    low = lane & segment
    match mode:
        case "up":
            source = lane - b
            good = source >= top
        case "down":
            source = lane + b
            good = source <= top
        case "bfly":
            source = lane ^ b
            good = source <= top
        case _:
            source = low | (b & ~segment)
            good = source <= top
    return np.where(good, source, lane), good


@instruction("shfl", "sync up down bfly idx", types=((B32,),), operands=5, sync="mask")
def shfl(x: Step) -> None:
    """The value of another lane, and whether that lane lies in range; else one's own."""
    lane = x.t.lane
    b = x.row(2, 32).astype(np.int64) & 31
    c = x.row(3, 32).astype(np.int64)
    source, good = _source(x.i.one_of("up", "down", "bfly", "idx"), lane, b, c)
    matrix = x.t.by_warp(x.bits(1))
    rows = x.t.by_warp(source)
    d = x.t.by_thread(np.take_along_axis(matrix, rows, axis=1))
    both = x.operand(0)
    if isinstance(both, Pair):
        both.first.put(x.t, d)
        both.second.put(x.t, good)
    else:
        both.put(x.t, d)


@instruction("match", "any all sync", types=(types("b32 b64"),), operands=3, sync="mask")
def match_(x: Step) -> None:
    """The lanes that hold the same value (any); all lanes, if all hold the same (all)."""
    values = x.t.by_warp(x.bits(1))
    members = _members(x, 2)
    same = (values[:, :, None] == values[:, None, :]) & members
    d = x.operand(0)
    if "any" in x.i.modifiers:
        d.put(x.t, x.t.by_thread(_ballot(same)))
        return
    every = (same == members).all(axis=2)
    mask = x.t.by_thread(np.where(every, _ballot(members), np.uint32(0)))
    if isinstance(d, Pair):
        d.first.put(x.t, mask)
        d.second.put(x.t, x.t.by_thread(every))
    else:
        d.put(x.t, mask)


_FOLDS: dict[str, tuple[np.ufunc, int]] = {  # and what changes nothing
    "add": (np.add, 0),
    "min": (np.minimum, 1 << 40),
    "max": (np.maximum, -(1 << 40)),
    "and": (np.bitwise_and, -1),
    "or": (np.bitwise_or, 0),
    "xor": (np.bitwise_xor, 0),
}


@instruction("redux", "sync add min max and or xor abs NaN",
             types=(types("u32 s32 b32 f32"),), operands=3, sync="mask")  # fmt: skip
def redux(x: Step) -> None:
    """The sum, the extreme or the logic of the values of all lanes of the mask."""
    t = x.i.types[0]
    values = x.t.by_warp(x.bits(1))
    if t.kind == "float":
        x.put(x.t.by_thread(_float_extreme(x, values, _members(x, 2))))
        return
    number = numbers(values, t).astype(np.int64)
    fold, neutral = _FOLDS[x.i.one_of(*_FOLDS)]
    kept = np.where(_members(x, 2), number[:, None, :], neutral)
    x.put(x.t.by_thread(fold.reduce(kept, axis=2).astype(np.uint32)))


def _float_extreme(x: Step, bits: Array, members: Array) -> Array:
    values = np.ascontiguousarray(bits).view(np.float32)
    if "abs" in x.i.modifiers:
        values = np.abs(values)
    least = "min" in x.i.modifiers
    kept = np.where(members, values[:, None, :], np.float32("inf" if least else "-inf"))
    d = (np.fmin if least else np.fmax).reduce(kept, axis=2)
    nan = np.isnan(values[:, None, :]) & members
    lost = nan.any(axis=2) if "NaN" in x.i.modifiers else (nan == members).all(axis=2)
    return np.where(lost, np.uint32(0x7FFFFFFF), d.view(np.uint32))
