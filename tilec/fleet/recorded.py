"""Recorded spaces as a device: times that were measured once, drawn again with their noise.

A file NAME.json or NAME.json.gz has `parameters` (name to values), `configs` (value indices),
`time_ms` (null where a config fails), `samples_ms` (raw times) and `trial_cost_s`; `faults` may
name configs, by place, that do to the measuring process what broken kernels do (see `poison`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tilec.fleet.protocol import Failed, Lease, Measured
from tilec.ir.errors import TileError
from tilec.tune import strict
from tilec.tune.config import Config
from tilec.tune.contest import contending
from tilec.tune.measure.measurer import LEAST_ROUNDS, MOST_ROUNDS
from tilec.tune.records import Failure
from tilec.tune.space import Parameter, Space

TOOLCHAIN = hashlib.sha256(b"recorded").hexdigest()
SAMPLES = 7  # of a trial
LARGEST = 256 << 20  # of a file, in bytes
Fault = Callable[[str, float, threading.Event], Failed]


@dataclass(frozen=True, eq=False)
class Recorded:
    """A space with the raw times in seconds of each config (none where it fails)."""

    name: str
    space: Space
    samples: tuple[tuple[float, ...], ...] = field(repr=False)
    costs: tuple[float, ...] = field(repr=False)
    faults: Mapping[int, str] = field(default_factory=dict[int, str])

    @cached_property
    def _places(self) -> dict[tuple[int, ...], int]:
        return {r: i for i, r in enumerate(self.space.rows or ())}

    def place(self, config: Config) -> int:
        """Where a config is. Raises TileError for one that was not recorded."""
        return self._places[self.space.row(config)]

    def in_turns(self, places: Sequence[int], seed: str) -> tuple[tuple[float, ...], ...]:
        """Raw times of some configs (none for one that fails), drawn round after round until it is
        decided which of them to use."""
        chance = [random.Random(f"{seed} {p}") for p in places]
        found: list[list[float]] = [[] for _ in places]
        left = [i for i, p in enumerate(places) if self.samples[p]]
        for n in range(MOST_ROUNDS):
            for i in left:
                found[i].append(chance[i].choice(self.samples[places[i]]))
            if left and n + 1 >= LEAST_ROUNDS:
                left = [left[at] for at in contending([found[i] for i in left])]
        return tuple(map(tuple, found))

    def drawn(self, place: int, seed: str) -> tuple[float, ...]:
        """Raw times, drawn with replacement: the same for the same seed, whoever draws."""
        known = self.samples[place]
        return tuple(random.Random(f"{seed} {place}").choices(known, k=SAMPLES)) if known else ()


def recorded(folder: Path) -> dict[str, Recorded]:
    """The recorded spaces of a folder by name. Raises TileError for a bad file, or none."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")])
    found = {p.name.removesuffix(".gz").removesuffix(".json"): p for p in files}
    if not found:
        raise TileError(f"no *.json or *.json.gz in {folder}")
    return {name: load(name, path) for name, path in found.items()}


def load(name: str, path: Path) -> Recorded:
    """A recorded space of a file. Raises TileError."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f:
            text = f.read(LARGEST + 1)
    except (OSError, EOFError) as e:
        raise TileError(f"{path} can't be read: {e}") from None
    if len(text) > LARGEST:
        raise TileError(f"{path} has more than {LARGEST} bytes")
    return read(name, strict.document(text.decode("utf-8", "replace"), str(path)))


def read(name: str, data: object) -> Recorded:
    """A recorded space of JSON data. Raises TileError."""
    found = cast("dict[str, Any]", strict.typed(data, dict, name))
    needed = ("parameters", "configs", "time_ms", "samples_ms", "trial_cost_s")
    for field_ in needed:
        if field_ not in found:
            raise TileError(f"{name}: {field_!r} is missing")
    values = cast("dict[str, Any]", strict.typed(found["parameters"], dict, "parameters"))
    rows = tuple(tuple(strict.array(r, "a config")) for r in strict.array(found["configs"], name))
    times, raw, costs = (strict.array(found[n], n) for n in needed[2:])
    if not len(rows) == len(times) == len(costs) == len(raw):
        raise TileError(f"{name}: its fields are of different lengths")
    default = found.get("default")
    space = Space(tuple(Parameter(n, tuple(strict.array(v, n))) for n, v in values.items()),
                  default=None if default is None else Config.from_json(default),
                  rows=rows)  # fmt: skip
    samples = tuple(_seconds(t, r) for t, r in zip(times, raw, strict=True))
    paid = tuple(strict.number(c or 0.0, "a cost", 0) for c in costs)
    return Recorded(name, space, samples, paid, _faults(found.get("faults", {})))


def _seconds(time_ms: object, raw: object) -> tuple[float, ...]:
    """The raw times of a config, or its one time where they were not kept."""
    if time_ms is None:
        return ()
    known = strict.array([] if raw is None else raw, "samples_ms") or [time_ms]
    return tuple(1e-3 * strict.number(s, "a sample", 0) for s in known)


def _faults(data: object) -> dict[int, str]:
    found = cast("dict[str, Any]", strict.typed(data, dict, "faults"))
    if not all(k.isdecimal() for k in found):
        raise TileError("faults: expected the places of configs")
    return {int(k): strict.typed(v, str, "a fault") for k, v in found.items()}


class FakeDevice:
    """Measures recorded jobs. A trial takes `pace` of the time that it took when recorded."""

    def __init__(self, spaces: Mapping[str, Recorded], fault: Fault, pace: float = 1.0) -> None:
        self._spaces, self._fault, self._pace = spaces, fault, pace

    def __call__(self, lease: Lease, stop: threading.Event) -> Measured | Failed:
        start = time.monotonic()
        space = self._spaces.get(str(lease.job.get("space")))
        if space is None:
            return Failed(Failure.INFRA, f"{lease.job.get('space')} is not recorded here")
        seed = f"{lease.job.get('noise_seed', 0)} {lease.purpose}"
        places = [space.place(c) for c in lease.configs]
        for place in places:
            if place in space.faults:
                return self._fault(space.faults[place], lease.timeout_s, stop)
        cost = self._pace * sum(space.costs[p] for p in places)
        if cost > lease.timeout_s:
            stop.wait(lease.timeout_s)
            return Failed(Failure.RUN_TIMEOUT, "", time.monotonic() - start)
        stop.wait(cost)
        if lease.purpose == "confirm":
            found = space.in_turns(places, seed)
        else:
            found = tuple(space.drawn(p, seed) for p in places)
        took = time.monotonic() - start
        if len(found) == 1 and not found[0]:
            return Failed(Failure.LAUNCH_ERROR, "it failed when it was recorded", took)
        return Measured(found, took)


def describe(space: Recorded) -> str:
    """The text of a recorded space: `load` reads it back."""
    data: dict[str, Any] = {
        "parameters": {p.name: list(p.values) for p in space.space.parameters},
        "configs": [list(r) for r in space.space.rows or ()],
        "time_ms": [1e3 * sorted(s)[len(s) // 2] if s else None for s in space.samples],
        "samples_ms": [[1e3 * x for x in s] for s in space.samples],
        "trial_cost_s": list(space.costs),
        "faults": {str(k): v for k, v in space.faults.items()},
    }
    if space.space.default is not None:
        data["default"] = space.space.default.to_json()
    return json.dumps(data)
