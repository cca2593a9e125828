"""Plans of launches in numpy: which rows a task has, and which tokens an expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError


@dataclass(frozen=True, eq=False)
class Tasks:
    """Runs of rows: task b is rows first[b] to end[b] of list owner[b], at most `size`."""

    owner: Array
    first: Array
    end: Array
    size: int

    @property
    def offset(self) -> Array:
        """0, 1, ..., size - 1."""
        return np.arange(self.size, dtype=np.int32)

    @property
    def wasted(self) -> float:
        """The part of the rows multiplied that are none: those at the ends of lists."""
        rows, slots = int((self.end - self.first).sum()), self.size * len(self.first)
        return 1.0 - rows / slots if slots else 0.0


def tasks(start: Any, size: int = 64, *, local: bool = False) -> Tasks:
    """Lists start[i] to start[i + 1], in runs of at most `size` rows, the longest lists first.

    With `local`, rows are counted from the start of their list. Empty lists have no task. Raises
    TileError for starts that fall or a size below 1.
    """
    starts = np.asarray(start).astype(np.int64)
    counts = np.diff(starts)
    if size < 1 or starts.ndim != 1 or (counts < 0).any():
        raise TileError(f"tasks: expected starts that never fall and a size of at least 1, not "
                        f"{starts.tolist()[:8]} and {size}")  # fmt: skip
    owner = np.repeat(np.arange(len(counts)), -(-counts // size))
    before = np.concatenate([[0], np.cumsum(-(-counts // size))])
    run = np.arange(len(owner)) - before[owner]
    first = starts[owner] + run * size
    end = np.minimum(first + size, starts[owner + 1])
    order = np.argsort(-counts[owner], kind="stable")
    base = starts[owner] if local else np.zeros_like(first)
    found = [a[order].astype(np.int32) for a in (owner, first - base, end - base)]
    return Tasks(found[0], found[1], found[2], size)


def owned(owner: Any, lists: int, size: int = 64) -> tuple[Array, Tasks]:
    """The rows by their owners, and tasks of at most `size` rows of one owner.

    owner[M] is below `lists`; rows whose owner is below 0 have none, and are in tasks of `lists`.
    Raises TileError for other owners.
    """
    ids = np.asarray(owner)
    if ids.ndim != 1 or ids.max(initial=-1) >= lists:
        raise TileError(f"owned: expected owners [M] below {lists}, not {list(ids.shape)} up to "
                        f"{ids.max(initial=-1)}")  # fmt: skip
    own = np.where(ids < 0, lists, ids)
    start = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=lists + 1))])
    return np.argsort(own, kind="stable").astype(np.int32), tasks(start, size)


@dataclass(frozen=True, eq=False)
class Routing:
    """Which token each place has: those of expert e are start[e] to start[e + 1].

    `token` and `weight` are by place; place[t, c] is that of token t's choice c, or -1 where it was
    dropped. `dropped` choices were, `added` places are no choice's.
    """

    start: Array
    token: Array
    weight: Array
    place: Array
    dropped: int = 0
    added: int = 0

    @property
    def counts(self) -> Array:
        """Tokens of each expert."""
        return np.diff(self.start)


def route(chosen: Any, weight: Any, experts: int, *, capacity: int | None = None,
          multiple: int = 1, scores: Any = None) -> Routing:  # fmt: skip
    """Sort choices chosen[T, C] of experts, each with a weight, by expert; -1 is no choice.

    With a `capacity`, experts with more tokens drop those of least weight; given scores[T, experts]
    these go to the best expert that has room and that the token has not chosen. With a `multiple`,
    the number of tokens of each expert is rounded to the nearest one: the least weights are
    dropped, or, given scores, the tokens of best score are added ("token rounding", SonicMoE,
    arXiv 2512.14080). Raises TileError for experts that there are not.
    """
    ids, weights = np.array(chosen, np.int64), np.array(weight, np.float64)
    if ids.ndim != 2 or ids.shape != weights.shape or ids.max(initial=-1) >= experts:
        raise TileError(
            f"route: expected choices [T, C] below {experts} and their weights, not "
            f"{list(ids.shape)} up to {ids.max(initial=-1)} and {list(weights.shape)}"
        )
    rated = None if scores is None else np.asarray(scores, np.float64)
    wanted = int((ids >= 0).sum())
    if capacity is not None:
        _limit(ids, weights, np.full(experts, capacity))
        if rated is not None:
            _reroute(chosen, ids, weights, rated, capacity)
    extra: list[tuple[int, int, float]] = []
    if multiple > 1:
        extra = _rounded(ids, weights, experts, multiple, rated)
    return _sorted(ids, weights, experts, wanted, extra)


def _limit(ids: Array, weights: Array, room: Array) -> None:
    """Drop the choices of least weight of experts with more than their room."""
    for e in np.flatnonzero(np.bincount(ids[ids >= 0], minlength=len(room)) > room):
        t, c = np.nonzero(ids == e)
        worst = np.argsort(-weights[t, c], kind="stable")[room[e] :]
        ids[t[worst], c[worst]] = -1


def _reroute(chosen: Any, ids: Array, weights: Array, scores: Array, capacity: int) -> None:
    """Give dropped choices, the heaviest first, to the best expert with room."""
    asked = np.asarray(chosen)
    left = capacity - np.bincount(ids[ids >= 0], minlength=scores.shape[1])
    t, c = np.nonzero((ids < 0) & (asked >= 0))
    for i in np.argsort(-weights[t, c], kind="stable"):
        free = left > 0
        free[[*asked[t[i]][asked[t[i]] >= 0], *ids[t[i]][ids[t[i]] >= 0]]] = False
        if free.any():
            e = int(np.argmax(np.where(free, scores[t[i]], -np.inf)))
            ids[t[i], c[i]], weights[t[i], c[i]] = e, scores[t[i], e]
            left[e] -= 1


def _rounded(ids: Array, weights: Array, experts: int, multiple: int, scores: Array | None
             ) -> list[tuple[int, int, float]]:  # fmt: skip
    """Round the tokens of experts to multiples; the expert, token and weight of those added."""
    counts = np.bincount(ids[ids >= 0], minlength=experts)
    target = (counts + multiple // 2) // multiple * multiple
    if scores is None:
        target = np.minimum(target, counts // multiple * multiple)
    _limit(ids, weights, target)
    extra: list[tuple[int, int, float]] = []
    for e in np.flatnonzero(target > counts) if scores is not None else ():
        assert scores is not None
        rest = np.where((ids == e).any(1), -np.inf, scores[:, e])
        best = np.argsort(-rest, kind="stable")[: target[e] - counts[e]]
        extra += [(int(e), int(t), float(scores[t, e])) for t in best if rest[t] > -np.inf]
    return extra


def _sorted(ids: Array, weights: Array, experts: int, wanted: int,
            extra: list[tuple[int, int, float]]) -> Routing:  # fmt: skip
    """Choices by expert, then by token."""
    t, c = np.nonzero(ids >= 0)
    e = np.concatenate([ids[t, c], np.array([x[0] for x in extra], np.int64)])
    token = np.concatenate([t, np.array([x[1] for x in extra], np.int64)])
    weight = np.concatenate([weights[t, c], np.array([x[2] for x in extra], np.float64)])
    order = np.lexsort((token, e))
    place = np.full(ids.shape, -1, np.int32)
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    place[t, c] = inverse[: len(t)]
    start = np.concatenate([[0], np.cumsum(np.bincount(e, minlength=experts))])
    tokens, own = token[order].astype(np.int32), weight[order].astype(np.float32)
    return Routing(start.astype(np.int32), tokens, own, place, wanted - len(t), len(extra))
