"""Tuned configs of the same kernel at other shapes, by family and device: where a tune starts.

They are kept beside the configs themselves, as one entry of the cache for each family and device.
Who writes at the same time may lose a shape: it is found again when it is tuned again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, Entry, Key
from tilec.tune import strict
from tilec.tune.config import Config, Value
from tilec.tune.space import Parameter, Space

MOST_KEPT = 64  # shapes of a family


def family_key(family: str, device: str) -> Key:
    """What the shapes of a family are named after on disk. `device` is a digest."""
    return Key({"kind": "tuned-family"}, {"family": family, "device": device},
               {"kernel": f"family {family[:12]}"})  # fmt: skip


def remember(cache: Cache, device: str, record: Mapping[str, Any]) -> None:
    """Note the shape and the config of a record under its family, the newest last."""
    shape, config = dict(record["shape"]), Config.from_json(record["config"])
    known = [(s, c) for s, c in _kept(cache, record["family"], device) if s != shape]
    known.append((shape, config))
    data = json.dumps([{"shape": s, "config": c.to_json()} for s, c in known[-MOST_KEPT:]])
    cache.put(family_key(record["family"], device), Entry(data.encode(), {"kind": "tuned-family"}))


def relatives(cache: Cache, family: str, device: str, shape: Mapping[str, int], most: int
              ) -> tuple[Config, ...]:  # fmt: skip
    """The configs of other shapes, that of the most similar one first, each config once."""
    known = [(s, c) for s, c in _kept(cache, family, device) if s != shape and set(s) == set(shape)]
    known.sort(key=lambda k: (_apart(k[0], shape), k[1].text))
    return tuple(dict.fromkeys(c for _, c in known))[:most]


def adapted(config: Config, space: Space) -> Config | None:
    """The config of a space that is the most like one of another; None where that breaks a rule."""
    usual = {} if space.default is None else space.default.to_json()
    found = {p.name: _closest(p, config.get(p.name)) for p in space.parameters}
    made = Config.of(usual | {n: v for n, v in found.items() if v is not None})
    return made if made in space else None


def _closest(p: Parameter, value: Value | None) -> Value | None:
    """The value of a parameter that is closest to another; None where nothing is close to it."""
    if value in p.values or value is None or isinstance(value, str | bool):
        return value if value in p.values else None
    numbers = [v for v in p.values if not isinstance(v, str | bool) and (v > 0) == (value > 0)]
    return min(numbers, key=lambda v: abs(math.log2(v / value)), default=None)


def _apart(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """How unlike two shapes are: doublings and halvings of their extents."""
    return sum(abs(math.log2(max(1, n) / max(1, other[d]))) for d, n in one.items())


def _kept(cache: Cache, family: str, device: str) -> list[tuple[dict[str, int], Config]]:
    """The shapes of a family; none where what is kept can't be read."""
    entry = cache.get(family_key(family, device))
    if entry is None:
        return []
    try:
        rows = strict.array(strict.document(entry.payload.decode("utf-8", "replace"), "a family"),
                            "a family")  # fmt: skip
        return [_row(r) for r in rows]
    except TileError:
        return []


def _row(data: object) -> tuple[dict[str, int], Config]:
    found = strict.fields(data, "a shape", ("shape", "config"))
    shape = {n: strict.typed(v, int, "an extent")
             for n, v in Config.from_json(found["shape"]).items()}  # fmt: skip
    return shape, Config.from_json(found["config"])
