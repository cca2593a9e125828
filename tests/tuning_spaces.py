"""Small synthetic spaces: effects that multiply, cliffs, regions that fail, noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.tune.config import Config
from tilec.tune.population import everything
from tilec.tune.records import Failure, Trial
from tilec.tune.space import Constraint, Parameter, Space


@dataclass(frozen=True)
class Synthetic:
    """A space with a time for each of its configs: NaN where it fails."""

    name: str
    space: Space
    rows: np.ndarray
    seconds: np.ndarray

    @property
    def optimum(self) -> float:
        return float(np.nanmin(self.seconds))

    def trial(self, config: Config) -> Trial:
        at = int(np.flatnonzero((self.rows == self.space.row(config)).all(1))[0])
        seconds = float(self.seconds[at])
        if np.isnan(seconds):
            return Trial(config, failure=Failure.RUN_TIMEOUT, cost=1.0)
        return Trial(config, (seconds,), cost=1.0)


def every_row(space: Space) -> np.ndarray:
    """All configs of a space that is small."""
    rows = everything(space)
    assert rows is not None
    return rows


def noise(rows: np.ndarray, spread: float, seed: int) -> np.ndarray:
    """What no model explains: a fixed random factor for each config."""
    return np.exp(np.random.default_rng(seed).normal(0, spread, len(rows)))


def _space(values: dict[str, tuple], *constraints: tuple[str, str], default: dict) -> Space:
    return Space(
        tuple(Parameter(n, v) for n, v in values.items()),
        tuple(Constraint(c, why) for c, why in constraints),
        Config.of(default),
    )


def _product(seed: int) -> Synthetic:
    """A tiled product: waves, traffic, spills beyond a cliff, too many registers fail."""
    space = _space(
        {
            "bm": (16, 32, 64, 128),
            "bn": (16, 32, 64, 128, 256),
            "bk": (16, 32, 64),
            "warps": (1, 2, 4, 8),
            "stages": (1, 2, 3, 4),
            "order": ("row", "column", "curve"),
        },
        ("(bm + bn) * bk * stages * 2 <= 65536", "shared memory"),
        ("bm * bn >= 128 * warps", "a warp has work"),
        default={"bm": 16, "bn": 16, "bk": 16, "warps": 1, "stages": 1, "order": "row"},
    )
    rows = every_row(space)
    c = space.columns(rows)
    units = 24 + 12 * seed
    shared = (c["bm"] + c["bn"]) * c["bk"] * c["stages"] * 2
    registers = c["bm"] * c["bn"] / (c["warps"] * 32) + 40
    at_once = np.clip(np.minimum(65536 // shared, 65536 // (registers * c["warps"] * 32)), 1, 8)
    waves = np.ceil(np.ceil(1500 / c["bm"]) * np.ceil(1500 / c["bn"]) / (units * at_once))
    work = c["bm"] * c["bn"] / np.minimum(1, 0.3 + c["warps"] * at_once / 12)
    traffic = (c["bm"] + c["bn"]) * 40.0
    wait = 30000 / c["bk"] / c["stages"] / at_once
    spill = np.where(registers > 255, registers / 128, 1)
    order = 1 - 0.1 * (c["order"] == "curve") + 0.1 * (c["order"] == "column")
    seconds = waves * (at_once * np.maximum(work, traffic) + wait) * spill * order * 1e-7
    seconds *= noise(rows, 0.03, seed)
    return Synthetic("product", space, rows, np.where(registers > 500, np.nan, seconds))


def _stencil(seed: int) -> Synthetic:
    """Widths that are no powers of two, alignment, a halo, launches that fail."""
    space = _space(
        {
            "x": tuple(range(16, 257, 16)),
            "y": (1, 2, 4, 8, 16),
            "tx": (1, 2, 3, 4),
            "ty": (1, 2, 3, 4),
            "shared": (False, True),
            "padded": (False, True),
        },
        ("32 <= x * y <= 1024", "threads of a block"),
        ("shared or not padded", "padding is of shared memory"),
        default={"x": 32, "y": 1, "tx": 1, "ty": 1, "shared": False, "padded": False},
    )
    rows = every_row(space)
    c = space.columns(rows)
    tile = c["x"] * c["tx"] * c["y"] * c["ty"]
    around = (c["x"] * c["tx"] + 6) * (c["y"] * c["ty"] + 6)
    traffic = np.where(c["shared"], around / tile, 4.0)
    registers = 24 + 8 * c["tx"] * c["ty"]
    at_once = np.minimum(65536 // (registers * c["x"] * c["y"]), 2048 // (c["x"] * c["y"]))
    busy = np.minimum(1, np.maximum(at_once, 0.5) * c["x"] * c["y"] / (900 + 300 * seed))
    aligned = np.where(c["x"] % 32 == 0, 1, 1.3)
    conflict = np.where(c["shared"] & ~c["padded"] & (c["tx"] % 2 == 0), 1.4, 1)
    seconds = (traffic * aligned + 2 / np.sqrt(c["tx"] * c["ty"])) / busy * conflict * 1e-4
    seconds *= noise(rows, 0.05, seed + 10)
    return Synthetic("stencil", space, rows, np.where(around * 4 > 48 * 1024, np.nan, seconds))


def _names(seed: int) -> Synthetic:
    """Mostly categories: each value has a factor of its own, and so have some pairs."""
    values: dict[str, tuple] = {f"way{i}": tuple("abcde"[: 2 + i % 4]) for i in range(5)}
    values |= {"unroll": (1, 2, 3, 4, 6, 8), "flag": (False, True)}
    first = {n: v[0] for n, v in values.items()}
    space = _space(values, default=first)
    rows, random = every_row(space), np.random.default_rng(seed + 20)
    logs = np.zeros(len(rows))
    for i, size in enumerate(space.sizes):
        logs += random.normal(0, 0.3, size)[rows[:, i]]
    for a, b in ((0, 1), (1, 2), (3, 5)):
        pair = random.normal(0, 0.3, (space.sizes[a], space.sizes[b]))
        logs += pair[rows[:, a], rows[:, b]]
    return Synthetic("names", space, rows, 1e-3 * np.exp(logs) * noise(rows, 0.02, seed + 30))


MAKERS: dict[str, Callable[[int], Synthetic]] = {
    "product": _product,
    "stencil": _stencil,
    "names": _names,
}
