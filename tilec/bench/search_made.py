"""Made recordings: kernels of random structure on the devices of a family.

They have the traits that recorded spaces have by their published statistics (TUNING.md 4.1, 4.4):
effects that multiply and interact, plateaus, cliffs and failures, a few configs near the optimum, a
factor for each config that no model explains, and devices between which the optimum moves. What a
search does is chosen on these, never on recorded spaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilec.bench.search_data import Floats, Recording
from tilec.tune.config import Value
from tilec.tune.population import everything
from tilec.tune.space import Parameter, Rows, Space

MOST = 3000  # configs of a space
NUMBERS: tuple[tuple[Value, ...], ...] = (
    (1, 2, 4, 8, 16, 32), (16, 32, 48, 64, 96, 128), (1, 2, 3, 4), (1, 2, 4, 8), (8, 16, 32, 64),
    (1, 2, 3, 4, 5, 6, 7, 8),
)  # fmt: skip
WORDS: tuple[tuple[Value, ...], ...] = ((False, True), ("a", "b", "c"), (False, True))
TERMS, RESOURCES = 3, 2
TABLES, BOUND = 10, 4  # of factors that combinations of the values of some parameters have
STEEPNESS = (0.26, 2.3)  # of the median over the optimum, the logarithm
RUNS = 0.2  # of the configs, at least
AT_ONCE = 8  # blocks that a unit holds at most


@dataclass(frozen=True, eq=False)
class Structure:
    """How the time of a kernel depends on its parameters, on one device.

    Times are sums of `terms`, each a product of powers of the numbers; blocks that fit at once
    follow from `resources`; each value has a factor of its own, and so has each combination of the
    values of some parameters, as compilers make them.
    """

    terms: Floats  # terms x numbers: exponents
    offsets: Floats  # terms
    resources: Floats  # resources x numbers: exponents
    limits: Floats  # resources
    values: Floats  # parameters x values
    tables: Floats  # tables x values x ... x values
    bound: NDArray[np.intp]  # tables x BOUND: the parameters of each table

    def moved(self, random: np.random.Generator, far: float) -> Structure:
        """The same on another device, `far` from this one."""

        def off(x: Floats, by: float) -> Floats:
            return x + far * by * random.standard_normal(x.shape)

        return Structure(self.terms * off(np.ones_like(self.terms), 0.3), off(self.offsets, 1.2),
                         self.resources, off(self.limits, 0.6), off(self.values, 0.15),
                         off(self.tables, 0.15), self.bound)  # fmt: skip


def family(seed: int, devices: int = 3) -> list[Recording]:
    """A kernel on several devices."""
    random = np.random.default_rng([seed, 11])
    space = _space(random)
    rows = np.array(space.rows, np.intp)
    first = _drawn(random, space)
    far, spread = random.uniform(0.4, 1.8), random.uniform(0.02, 0.08)
    steepness, fails = random.uniform(*STEEPNESS), random.random() < 0.7
    found: list[Recording] = []
    for device in range(devices):
        logs, fitting = _logs(first.moved(random, far), space, rows)
        steep = steepness * random.lognormal(0, 0.4 * far)
        logs = steep * (logs - logs.min()) / float(np.median(logs) - logs.min())
        times = np.exp(logs + random.normal(0, spread, len(rows)))
        if fails and fitting.mean() > RUNS:
            times[~fitting] = np.nan
        found.append(Recording(f"made{seed}", f"d{device}", space, times, np.ones(len(rows))))
    return found


def _space(random: np.random.Generator) -> Space:
    """A space: the product of two of its parameters is bounded, as threads of a block are."""
    numbers = random.permutation(len(NUMBERS))[: random.integers(4, 6)]
    words = random.permutation(len(WORDS))[: random.integers(2, 4)]
    values: list[tuple[Value, ...]] = [NUMBERS[i] for i in numbers]
    values += [WORDS[i] for i in words]
    space = Space(tuple(Parameter(f"p{i}", v) for i, v in enumerate(values)))
    rows = everything(space)
    assert rows is not None  # some thousands
    bound = tuple(random.permutation(len(numbers))[:2].tolist())
    apart = np.abs(_places(space, rows)[:, bound].sum(1) - random.normal(0, 0.2))
    kept = np.sort(np.argsort(apart, kind="stable")[:MOST])
    return Space(space.parameters, rows=tuple(map(tuple, rows[kept].tolist())))


def _places(space: Space, rows: Rows) -> Floats:
    """The logarithms of numbers, scaled to -1 to 1; a column each."""
    found: list[Floats] = []
    for i, p in enumerate(space.parameters):
        if not isinstance(p.values[0], str | bool):
            logs = np.log2(np.array(p.values, np.float64))
            found.append((2 * (logs - logs.min()) / np.ptp(logs) - 1)[rows[:, i]])
    return np.stack(found, 1)


def _drawn(random: np.random.Generator, space: Space) -> Structure:
    numbers = sum(not isinstance(p.values[0], str | bool) for p in space.parameters)
    parameters, most = len(space.sizes), max(space.sizes)
    terms = random.normal(0, 1.2, (TERMS, numbers)) * (random.random((TERMS, numbers)) < 0.7)
    resources = np.abs(random.normal(0, 1, (RESOURCES, numbers)))
    resources *= random.random((RESOURCES, numbers)) < 0.6
    offsets, limits = random.normal(0, 0.5, TERMS), random.normal(0.6, 0.5, RESOURCES)
    values = random.normal(0, 0.2, (parameters, most))
    tables = random.normal(0, random.uniform(0.1, 0.4), (TABLES, *[most] * BOUND))
    bound = np.stack([random.permutation(parameters)[:BOUND] for _ in range(TABLES)])
    return Structure(terms, offsets, resources, limits, values, tables, bound)


def _logs(s: Structure, space: Space, rows: Rows) -> tuple[Floats, NDArray[np.bool_]]:
    """The logarithm of the time up to a factor, and which rows fit into the device."""
    places = _places(space, rows)
    logs = np.log(np.exp(places @ s.terms.T + s.offsets).sum(1))
    flag = rows[:, -1] > 0  # the last parameter says whether the second resource is used
    fitting = np.ones(len(rows), bool)
    for k in range(RESOURCES):
        needed = places @ s.resources[k] - s.limits[k]
        blocks: Floats = np.floor(2 * np.exp(-needed)).clip(0, AT_ONCE)
        used = flag if k else np.ones(len(rows), bool)
        waiting = 0.3 * np.log(AT_ONCE / np.maximum(blocks, 1))
        slower: Floats = np.where(blocks < 1, 1 + needed, waiting)
        logs += np.where(used, slower, 0.5)
        fitting &= (blocks >= 1) | (k > 0)
    for i, v in enumerate(s.values):
        logs += v[rows[:, i]]
    for bound, table in zip(s.bound, s.tables, strict=True):
        logs += table[tuple(rows[:, bound].T)]
    return logs, fitting
