"""Step functions of floats: found by bisection, computed by comparisons or a binary search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.ir.dtype import Array

MOST_COMPARED = 128  # results to choose from one by one, a comparison each; more take a search
_NUMPY = {"float": (np.float32, np.int32), "double": (np.float64, np.int64)}


@dataclass(frozen=True)
class Steps:
    """results[i] from edges[i - 1] on, and below edges[i]; the edges ascend."""

    edges: tuple[float, ...]
    results: tuple[float, ...]


def bisected(function: Callable[[Array], Array], samples: Sequence[float], kind: str) -> Steps:
    """The steps of a function of a `float` or `double`, given a number of each step.

    The sign of a zero counts neither in what the function takes nor in what it gives.
    """
    floating, _ = _NUMPY[kind]
    points = np.unique(np.array([-np.inf, *samples, np.inf]).astype(floating) + 0)
    values = function(points.astype(np.float64))
    last = np.flatnonzero(~_same(values[:-1], values[1:]))
    low, high = (_keys(points[i], kind) for i in (last, last + 1))
    while True:
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        if (middle == low).all():
            break
        below = _same(function(_number(middle, kind)), values[last])
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    ends = np.append(last, len(values) - 1)
    return Steps(tuple(_number(high, kind).tolist()), tuple(values[ends].tolist()))


def _same(a: Array, b: Array) -> Array:
    return (a == b) | np.isnan(a) & np.isnan(b)


def _keys(x: Array, kind: str) -> Array:
    """Whole numbers for floats, neighbours for neighbours."""
    _, whole = _NUMPY[kind]
    raw = x.view(whole).astype(np.int64)
    return np.where(raw < 0, np.iinfo(whole).min - raw, raw)


def _number(keys: Array, kind: str) -> Array:
    """The inverse of `_keys`, in float64."""
    floating, whole = _NUMPY[kind]
    raw = np.where(keys < 0, np.iinfo(whole).min - keys, keys).astype(whole)
    return raw.view(floating).astype(np.float64)


def emit(f: Function, name: str, edges: Sequence[float], columns: Sequence[Sequence[float]], x: V,
         kind: str = "float") -> list[V]:  # fmt: skip
    """For each column of results (one more than there are edges) that of the step on which x lies.

    The first of them for NaN. `name` tells the tables of a module apart, `kind` is of the results.
    """
    n = x.lanes
    if len(edges) * len(columns) > MOST_COMPARED:
        index = _search(f, name, edges, x)
        return [_entry(f, f"{name}.{i}", kind, column, index) for i, column in enumerate(columns)]
    out = [constant(kind, column[0], n) for column in columns]
    for i, edge in enumerate(edges, 1):
        reached = f.compare("fcmp oge", x, constant(x.type, edge, n))
        out = [
            f.select(reached, constant(kind, column[i], n), y)
            for column, y in zip(columns, out, strict=True)
        ]
    return out


def _search(f: Function, name: str, edges: Sequence[float], x: V) -> V:
    """How many edges are at most x."""
    n, half = x.lanes, 1 << len(edges).bit_length() - 1
    table = [*edges, *[float("nan")] * (2 * half - 1 - len(edges))]
    index = constant("i32", 0, n)
    while half:
        probe = f.binary("add", index, constant("i32", half - 1, n))
        reached = f.compare("fcmp oge", x, _entry(f, f"{name}.{x.type}", x.type, table, probe))
        index = f.select(reached, f.binary("add", index, constant("i32", half, n)), index)
        half >>= 1
    return index


def _entry(f: Function, name: str, kind: str, values: Sequence[float], index: V) -> V:
    """The numbers at an i32's places in a constant table."""
    entries = ", ".join(f"{kind} {constant(kind, v).text}" for v in values)
    f.declared.add(f"@{name} = private unnamed_addr constant [{len(values)} x {kind}] [{entries}]")
    out = V(kind, index.lanes, "poison")
    for i in range(index.lanes):
        lane = f.convert("zext", f.lane(index, i), "i64")
        at = f.op("ptr", 1, f"getelementptr {kind}, ptr @{name}, i64 {lane.text}")
        value = f.load(kind, 1, at, 4)
        out = value if index.lanes == 1 else f.insert(out, value, i)
    return out
