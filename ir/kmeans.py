"""Clusters by weighted k-means, of numbers and of vectors: the same numbers give the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.dtype import Array

# How the first centres of numbers are spread. The distance d between neighbours counts as d**p, so
# that p = 0 is quantiles, 1 even steps, and 2/3 the best for many centres: their density is then
# the cube root of that of the numbers (Panter and Dite, 1951).
STARTS = (2 / 3, 0.0, 1.0)
ROUNDS, SWAPS = 40, 32  # of numbers, at most
LEAST = 1e-9  # of the error: what a swap has to gain, so that rounding does not
SEED = 0  # of samples
MANY = 1 << 20  # numbers of a row from which centres are learnt, at most
DRAWS, TURNS = 16, 10  # of vectors: parts in which first centres are drawn; rounds
FLOOR = 1e-6  # of the largest error: what every vector counts when one is drawn
SAMPLE, EACH = 1 << 15, 4  # vectors from which centres are learnt, and for a centre at least
CHUNK = 4096  # vectors whose nearest centres are found together


def of_numbers(x: Array, weight: Array, count: int, starts: tuple[float, ...] = STARTS) -> Array:
    """The `count` centres of each row of x[B, L], in order: the best that any of the starts leads
    to. Errors count `weight` times, which is at least 0.

    Of many, a sample is taken. Where a row has no more different numbers than that, these are its
    centres. Elsewhere they move to the means of what is nearest to them (Lloyd's rule); where they
    are at rest, two neighbours become one and another becomes two, if the error falls by it.
    """
    if x.shape[1] > MANY:
        kept = np.random.default_rng(SEED).choice(x.shape[1], MANY, False)
        x, weight = x[:, kept], weight[:, kept]
    order = np.argsort(x, -1, kind="stable")
    numbers = _Sorted(np.take_along_axis(x, order, -1), np.take_along_axis(weight, order, -1))
    best, few = numbers.different(count)
    rows = np.flatnonzero(~few)
    least = np.full(len(rows), np.inf)
    for power in starts if len(rows) else ():
        centres = numbers.spread(count, power, rows)
        error = numbers.settle(centres, rows)
        better = error < least
        best[rows[better]], least[better] = centres[better], error[better]
    return best


@dataclass(frozen=True)
class _Parts:
    """The weights of parts of rows, and the weighted sums of their numbers."""

    mass: Array
    moment: Array

    @property
    def energy(self) -> Array:
        """What centres at the means take off the sums of squares."""
        out = np.zeros_like(self.moment)
        return np.divide(np.square(self.moment), self.mass, out=out, where=self.mass > 0)

    def means(self, centres: Array) -> Array:
        """The means of the parts; the centre of a part without weight stays where it is."""
        return np.divide(self.moment, self.mass, out=np.array(centres), where=self.mass > 0)


class _Sorted:
    """Rows of numbers in order with their weights, and the sums over all before each."""

    def __init__(self, x: Array, weight: Array) -> None:
        self.x = x
        none = np.zeros((len(x), 1))
        self.mass = np.concatenate([none, np.cumsum(weight, -1)], -1)
        self.moment = np.concatenate([none, np.cumsum(weight * x, -1)], -1)

    def different(self, count: int) -> tuple[Array, Array]:
        """The first different numbers of each row, and whether these are all."""
        rank = np.cumsum(np.diff(self.x, axis=-1, prepend=self.x[:, :1]) > 0, -1)
        out = np.repeat(self.x[:, -1:], count, 1)
        np.put_along_axis(out, np.minimum(rank, count - 1), self.x, -1)
        return out, rank[:, -1] < count

    def spread(self, count: int, power: float, rows: Array) -> Array:
        """First centres: at equal parts of the sum of d**p over neighbours."""
        total = np.cumsum(np.diff(self.x[rows], axis=-1) ** power, -1)
        wanted = (np.arange(count) + 0.5) / count * total[:, -1:]
        return self.x[rows[:, None], below(total, np.arange(len(rows)), wanted)]

    def settle(self, centres: Array, rows: Array) -> Array:
        """Move the centres of these rows; the error of each row, less a constant."""
        ends = np.zeros((len(rows), centres.shape[1] + 1), np.int64)
        active = np.arange(len(rows))
        for _ in range(SWAPS):
            centres[active], ends[active] = self._rest(centres[active], rows[active])
            swapped, gained = self._swapped(centres[active], ends[active], rows[active])
            active = active[gained]
            if not len(active):
                break
            centres[active] = swapped[gained]
        return -self._parts(ends[:, :-1], ends[:, 1:], rows).energy.sum(-1)

    def _rest(self, centres: Array, rows: Array) -> tuple[Array, Array]:
        """Centres where Lloyd's rule moves them no more, and the ends of what is nearest."""
        ends = np.full((len(rows), centres.shape[1] + 1), self.x.shape[1])
        ends[:, 0], active = 0, np.arange(len(rows))
        for _ in range(ROUNDS):
            before, own = ends[active], centres[active]
            new = np.array(before)
            new[:, 1:-1] = below(self.x, rows[active], (own[:, 1:] + own[:, :-1]) / 2)
            parts = self._parts(new[:, :-1], new[:, 1:], rows[active])
            centres[active], ends[active] = np.sort(parts.means(own), -1), new
            active = active[(new != before).any(-1)]
        return centres, ends

    def _parts(self, first: Array, end: Array, rows: Array) -> _Parts:
        """The parts of rows from one number to before another."""
        at = rows[:, None]
        return _Parts(self.mass[at, end] - self.mass[at, first],
                      self.moment[at, end] - self.moment[at, first])  # fmt: skip

    def _swapped(self, centres: Array, ends: Array, rows: Array) -> tuple[Array, Array]:
        """Centres after one pair of them is merged and one is split, and where that gains."""
        first, end = ends[:, :-1], ends[:, 1:]
        cut = self._cut(centres, first, end, rows)
        own, low, high = (
            self._parts(a, b, rows) for a, b in ((first, end), (first, cut), (cut, end))
        )
        pairs = self._parts(ends[:, :-2], ends[:, 2:], rows)
        gain = low.energy + high.energy - own.energy
        split: Array = np.asarray(gain).argmax(-1, keepdims=True)
        loss: Array = own.energy[:, 1:] + own.energy[:, :-1] - pairs.energy
        place: Array = np.arange(int(loss.shape[1]))
        loss = np.where((place == split) | (place + 1 == split), np.inf, loss)
        merged = loss.argmin(-1, keepdims=True)
        out = np.array(centres)
        joint = np.take_along_axis(pairs.means(centres[:, 1:]), merged, -1)
        np.put_along_axis(out, merged, joint, -1)
        for half, to in ((low, split), (high, merged + 1)):
            np.put_along_axis(out, to, np.take_along_axis(half.means(centres), split, -1), -1)
        gained = np.take_along_axis(gain, split, -1) - np.take_along_axis(loss, merged, -1)
        return np.sort(out, -1), gained[:, 0] > LEAST * own.energy.sum(-1)

    def _cut(self, centres: Array, first: Array, end: Array, rows: Array) -> Array:
        """Where to cut each part in two: at its mean or in its middle."""
        at, last = rows[:, None], self.x.shape[1] - 1
        middle = (self.x[at, np.minimum(first, last)] + self.x[at, np.maximum(end - 1, 0)]) / 2
        cuts = [np.clip(below(self.x, rows, c), first, end) for c in (centres, middle)]
        energy = [self._parts(first, c, rows).energy + self._parts(c, end, rows).energy
                  for c in cuts]  # fmt: skip
        return np.where(energy[1] > energy[0], cuts[1], cuts[0])


def below(x: Array, rows: Array, limit: Array) -> Array:
    """How many numbers of each of these rows of x[B, L], which is in order, are at most each of
    limit[rows, C]."""
    found = np.zeros(limit.shape, np.int64)
    step = 1 << x.shape[-1].bit_length() - 1
    while step:
        end = found + step
        inside = end <= x.shape[-1]
        value = x[rows[:, None], np.where(inside, end - 1, 0)]
        found = np.where(inside & (value <= limit), end, found)
        step >>= 1
    return found


def of_vectors(x: Array, weight: Array, count: int) -> Array:
    """The `count` centres [count, D] of vectors x[L, D], whose errors count `weight[L, D]` times.

    Of many, a sample is taken. Where there are no more different vectors than that, these are the
    centres; elsewhere some of the vectors move by Lloyd's rule. These are drawn with a fixed seed,
    a few at a time, with chances like their errors beside those before (as k-means++ draws them:
    Arthur and Vassilvitskii, 2007).
    """
    counts = weight.any(1)
    if counts.any():
        x, weight = x[counts], weight[counts]
    rng = np.random.default_rng(SEED)
    size = max(SAMPLE, EACH * count)
    if len(x) > size:
        kept = np.sort(rng.permutation(len(x))[:size])
        x, weight = x[kept], weight[kept]
    different = np.unique(x, axis=0)
    if len(different) <= count:
        return np.concatenate([different, np.repeat(different[-1:], count - len(different), 0)])
    centres = x[rng.permutation(len(x))[: -(-count // DRAWS)]]
    while len(centres) < count:
        lost = (weight * np.square(x - centres[nearest(x, centres, weight)])).sum(1)
        lost = np.maximum(lost, FLOOR * (lost.max() or 1.0))
        size = min(-(-count // DRAWS), count - len(centres))
        centres = np.concatenate([centres, x[rng.choice(len(x), size, False, lost / lost.sum())]])
    for _ in range(TURNS):
        centres = _moved(x, weight, centres)
    return centres


def _moved(x: Array, weight: Array, centres: Array) -> Array:
    """The means of the vectors nearest to each centre; without any, it stays where it is."""
    which, count = nearest(x, centres, weight), len(centres)
    mass, moment = (
        np.stack([np.bincount(which, part[:, i], count) for i in range(x.shape[1])], 1)
        for part in (weight, weight * x)
    )
    return _Parts(mass, moment).means(centres)


def nearest(x: Array, centres: Array, weight: Array | None = None) -> Array:
    """The number of the centre [C, D] that is nearest to each vector x[..., D]."""
    rows, half = x.reshape(-1, x.shape[-1]), np.square(centres).T / 2
    weights = np.ones((1, 1)) if weight is None else weight.reshape(rows.shape)
    alike = float(np.ptp(weights)) == 0
    found: list[Array] = []
    for i in range(0, len(rows), CHUNK):
        part, w = rows[i : i + CHUNK], weights[i : i + CHUNK]
        score = part @ centres.T - half.sum(0) if alike else (w * part) @ centres.T - w @ half
        found.append(score.argmax(1))
    return np.concatenate(found).reshape(x.shape[:-1])
