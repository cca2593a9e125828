"""The configs of a space as a population: how many, a fair sample, neighbours, feature vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.tune.config import Value
from tilec.tune.space import Rows, Space, extended

Features = NDArray[np.float64]
ENUMERATED = 200_000  # rows that are held at once
LOOKED = 20  # combinations that are looked at for each row that may be held
DRAWS, DRAW = 400, 1 << 13  # attempts at rejection, and rows in each


class _TooRare(Exception):
    """Too many combinations were looked at."""


def everything(space: Space, most: int = ENUMERATED) -> Rows | None:
    """All valid rows in order, or None where there are more than `most`."""
    if space.rows is not None:
        most = max(most, len(space.rows))
    return _all(space, tuple(range(len(space.sizes))), most)


def _all(space: Space, order: tuple[int, ...], most: int) -> Rows | None:
    """All valid rows over some of the parameters, or None where there are more than `most`, or
    where they are too rare to be found among all combinations."""
    if space.rows is not None:
        return next(iter(space.blocks()))
    found: list[Rows] = []
    seen = 0

    def looked(rows: int) -> None:
        nonlocal seen
        seen += rows
        if seen > LOOKED * most + (1 << 20):
            raise _TooRare

    try:
        for block in extended(space, np.zeros((1, 0), np.intp), order, 1 << 15, looked):
            found.append(block)
            if sum(map(len, found)) > most:
                return None
    except _TooRare:
        return None
    return np.concatenate(found) if found else np.zeros((0, len(order)), np.intp)


def groups(space: Space) -> list[tuple[int, ...]]:
    """Parameters that constraints bind together; what is in different groups is independent."""
    if space.rows is not None:
        return [tuple(range(len(space.sizes)))]
    group = list(range(len(space.sizes)))
    for rule in space.rules:
        bound = [i for i, n in enumerate(space.names) if n in rule.names] or [0]
        merged = {group[i] for i in bound}
        group = [min(merged) if g in merged else g for g in group]
    return [tuple(i for i, g in enumerate(group) if g == k) for k in sorted(set(group))]


def count(space: Space, most: int = ENUMERATED) -> int | None:
    """How many valid configs there are: exact, or None where a group is too large to enumerate."""
    sizes = [_all(space, g, most) for g in groups(space)]
    return None if any(s is None for s in sizes) else prod(len(s) for s in sizes if s is not None)


def sample(space: Space, n: int, random: np.random.Generator) -> Rows:
    """Up to `n` different valid rows, each set of them as likely as any other.

    Groups that can be enumerated are drawn from directly; of the others, rows are drawn from all
    combinations and invalid ones thrown away, which keeps the rest uniform. Fewer rows come back
    where there are fewer, or where valid ones are too rare to be met.
    """
    draws = [_Group(space, g) for g in groups(space)]
    if all(d.rows is not None for d in draws):
        total = prod(len(d.rows) for d in draws if d.rows is not None)
        if total <= 4 * n:
            block = everything(space, max(total, 1))
            assert block is not None  # total counts it
            return block[np.sort(random.permutation(len(block))[:n])]
    seen: dict[tuple[int, ...], None] = {}
    for _ in range(DRAWS):
        parts = [d.draw(max(n, 64), random) for d in draws]
        block = np.zeros((min(map(len, parts)), len(space.sizes)), np.intp)
        for d, part in zip(draws, parts, strict=True):
            block[:, d.order] = part[: len(block)]
        seen.update(dict.fromkeys(map(tuple, block.tolist())))
        if len(seen) >= n:
            break
    return np.array(list(islice(seen, n)), np.intp).reshape(-1, len(space.sizes))


class _Group:
    """A source of uniform rows over one group of parameters."""

    def __init__(self, space: Space, order: tuple[int, ...]) -> None:
        self.space, self.order = space, order
        self.sizes = np.array([space.sizes[i] for i in order])
        self.rows = _all(space, order, ENUMERATED)
        if self.rows is not None and not len(self.rows):
            raise TileError("no config satisfies the constraints of this space",
                            hint="; ".join(c.condition for c in space.constraints[:9]))  # fmt: skip

    def draw(self, n: int, random: np.random.Generator) -> Rows:
        if self.rows is not None:
            return self.rows[random.integers(len(self.rows), size=n)]
        block = random.integers(self.sizes, size=(max(n, DRAW), len(self.order)))
        names = {self.space.names[i] for i in self.order}
        columns = {self.space.names[i]: self.space.parameters[i].column[block[:, k]]
                   for k, i in enumerate(self.order)}  # fmt: skip
        good = np.ones(len(block), bool)
        for rule in self.space.rules:
            if rule.names <= names:
                good &= rule.holds(columns)
        return block[good]


def neighbours(space: Space, row: Rows, *, far: bool = False) -> Rows:
    """Valid rows that differ in one parameter: a number by one step or by the factor 2, as sizes
    do, a word or boolean at will.

    With `far`, a number differs at will too.
    """
    found: list[list[int]] = []
    here = [int(i) for i in row]
    for k, p in enumerate(space.parameters):
        if far or isinstance(p.values[0], str | bool):
            others = [i for i in range(len(p.values)) if i != here[k]]
        else:
            others = _beside(np.array(p.values, np.float64), here[k])
        found += [[*here[:k], i, *here[k + 1 :]] for i in others]
    block = np.array(found, np.intp).reshape(-1, len(here))
    return block[space.holds(block)]


def _beside(values: Features, at: int) -> list[int]:
    """The places of the values next to one of them, and of its half and its double."""
    order = np.argsort(values)
    place = int(np.flatnonzero(order == at)[0])
    doubled = np.flatnonzero((values == 2 * values[at]) | (2 * values == values[at]))
    found = {int(i) for i in [*order[max(0, place - 1) : place + 2], *doubled]}
    return sorted(found - {at})


@dataclass(frozen=True, eq=False)
class Encoding:
    """Feature vectors of rows: a table of its values' features for each parameter with a choice.

    `groups` says of which parameter (counted from 0 among these) each feature is.
    """

    parameters: tuple[int, ...]
    tables: tuple[Features, ...]

    @staticmethod
    def of(space: Space, *, exchangeable: bool = False) -> Encoding:
        """Features within [0, 1]: numbers in place, words one-hot, or with `exchangeable` all.

        Numbers that are positive and span a factor of 4 are taken by their logarithm: doubling a
        tile means the same at any size.
        """
        chosen = tuple(i for i, p in enumerate(space.parameters) if len(p.values) > 1)
        tables = (space.parameters[i].values for i in chosen or (0,))
        return Encoding(chosen or (0,), tuple(_one_hot(len(t)) if exchangeable else _features(t)
                                              for t in tables))  # fmt: skip

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self.tables)), [t.shape[1] for t in self.tables])

    def features(self, block: Rows) -> Features:
        """The feature vectors of a block."""
        pairs = zip(self.parameters, self.tables, strict=True)
        return np.concatenate([t[block[:, i]] for i, t in pairs], 1)


def _one_hot(n: int) -> Features:
    """One feature a value; any two are 1 apart."""
    return np.eye(n) / np.sqrt(2)


def _features(values: tuple[Value, ...]) -> Features:
    """The features of one parameter's values."""
    if isinstance(values[0], str):
        return _one_hot(len(values))
    numbers = np.array(values, np.float64)
    if numbers.min() > 0 and numbers.max() >= 4 * numbers.min():
        numbers = np.log2(numbers)
    return ((numbers - numbers.min()) / max(float(np.ptp(numbers)), 1e-300)).reshape(-1, 1)
