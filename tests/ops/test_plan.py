"""Plans: every row in one task, every token with its experts."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ops.plan import owned, route, tasks


@pytest.mark.parametrize("size", [1, 16, 64])
@pytest.mark.parametrize("counts", [[0, 0], [5], [0, 64, 1, 200, 0, 63]], ids=str)
def test_every_row_is_in_one_task(counts, size):
    start = np.concatenate([[0], np.cumsum(counts)])
    t = tasks(start, size)
    rows = [range(a, b) for a, b in zip(t.first, t.end, strict=True)]
    assert sorted(i for r in rows for i in r) == list(range(sum(counts)))
    assert all(0 < len(r) <= size for r in rows)
    assert all(
        start[o] <= r[0] and r[-1] < start[o + 1] for o, r in zip(t.owner, rows, strict=True)
    )
    assert len(rows) == sum(-(-c // size) for c in counts)
    assert t.wasted == pytest.approx(1 - sum(counts) / max(1, size * len(rows)) if rows else 0)
    near = tasks(start, size, local=True)
    assert np.array_equal(near.first + start[near.owner], t.first)


def test_rows_by_their_owners():
    owner = np.random.default_rng(0).integers(-1, 5, 90)
    row, t = owned(owner, 5, 16)
    assert sorted(row) == list(range(90))
    for o, a, b in zip(t.owner, t.first, t.end, strict=True):
        assert (owner[row[a:b]] == (-1 if o == 5 else o)).all()
    with pytest.raises(TileError, match=r"expected owners \[M\] below 4, not \[90\] up to 4"):
        owned(owner, 4)


def sample(tokens: int = 200, experts: int = 16, top: int = 4):
    """Scores, and the choices of each token with softmax over their scores."""
    scores = np.random.default_rng(0).standard_normal((tokens, experts)) + np.linspace(
        0, 2, experts
    )
    chosen = np.argsort(-scores, axis=1)[:, :top]
    return chosen, np.exp(np.take_along_axis(scores, chosen, 1)), scores


def consistent(r, chosen, weight) -> None:
    """Places, tokens and weights agree."""
    for t, row in enumerate(r.place):
        for c, p in enumerate(row):
            if p >= 0:
                assert r.token[p] == t
                expert = np.searchsorted(r.start, p, "right") - 1
                assert expert == chosen[t, c] or r.dropped >= 0
                assert r.weight[p] == pytest.approx(weight[t, c]) or expert != chosen[t, c]
    for e in range(len(r.counts)):
        own = r.token[r.start[e] : r.start[e + 1]]
        assert (np.diff(own) > 0).all()


def test_every_choice_has_a_place():
    chosen, weight, _ = sample()
    chosen[3, 2] = -1
    r = route(chosen, weight, 16)
    consistent(r, chosen, weight)
    assert (r.place >= 0).sum() == 799
    assert (r.place[3, 2], r.dropped, r.added) == (-1, 0, 0)
    assert np.array_equal(r.counts, np.bincount(chosen[chosen >= 0], minlength=16))


def test_capacity_drops_the_lightest():
    chosen, weight, _ = sample()
    r = route(chosen, weight, 16, capacity=40)
    consistent(r, chosen, weight)
    counts = np.bincount(chosen.ravel(), minlength=16)
    assert np.array_equal(r.counts, np.minimum(counts, 40))
    assert r.dropped == (counts - r.counts).sum() > 0
    for e in np.flatnonzero(counts > 40):
        kept = weight[(chosen == e) & (r.place >= 0)]
        assert kept.min() >= weight[(chosen == e) & (r.place < 0)].max()


def test_dropped_choices_go_to_experts_with_room():
    chosen, weight, scores = sample()
    r = route(chosen, weight, 16, capacity=55, scores=scores)
    assert r.counts.max() <= 55
    assert r.dropped < route(chosen, weight, 16, capacity=55).dropped
    for t in range(200):
        own = [int(np.searchsorted(r.start, p, "right")) - 1 for p in r.place[t] if p >= 0]
        assert len(set(own)) == len(own)


@pytest.mark.parametrize("multiple", [8, 16])
def test_counts_are_rounded_to_tiles(multiple):
    chosen, weight, scores = sample()
    counts = np.bincount(chosen.ravel(), minlength=16)
    r = route(chosen, weight, 16, multiple=multiple, scores=scores)
    consistent(r, chosen, weight)
    assert (r.counts % multiple == 0).all()
    assert (np.abs(r.counts - counts) <= multiple / 2).all()
    assert r.added > 0
    assert tasks(r.start, multiple).wasted == 0
    down = route(chosen, weight, 16, multiple=multiple)
    assert np.array_equal(down.counts, counts // multiple * multiple)
    assert down.added == 0


def test_refused():
    with pytest.raises(TileError, match=r"choices \[T, C\] below 4 .* up to 4"):
        route([[4]], [[1.0]], 4)
    with pytest.raises(TileError, match="starts that never fall"):
        tasks([0, 3, 2])
    with pytest.raises(TileError, match="a size of at least 1"):
        tasks([0, 3], 0)
