"""A hit of the cache on the disk, which has so many entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tilec.bench.case import OURS, Made, Make
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, Entry, Key

ASKED = 64  # entries that calls rotate over, spread over all


@dataclass(frozen=True)
class Kept:
    """So many entries, of `size` bytes of code each."""

    entries: int
    size: int = 16_384

    def code(self, i: int) -> bytes:
        """What an entry holds."""
        return np.random.default_rng(i).bytes(self.size)

    @property
    def asked(self) -> list[int]:
        """The numbers of the entries that are asked for."""
        return list(range(0, self.entries, max(1, self.entries // ASKED)))

    def want(self) -> Array:
        """The bytes of the first that is asked for."""
        return as_bytes(self.code(0))

    def ours(self) -> Mapping[str, Make]:
        """A look-up by key, with the file read and its checksum verified."""
        return {OURS: partial(_ours, self)}


def as_bytes(code: bytes) -> Array:
    """Code as numbers, to be compared."""
    return np.frombuffer(code, np.uint8).astype(np.float64)


def _ours(of: Kept) -> Made:
    folder = TemporaryDirectory(prefix="tilec-bench-")
    cache = Cache(Path(folder.name))
    keys = [Key({"kind": "bench"}, {"number": i}) for i in range(of.entries)]
    for i, key in enumerate(keys):
        cache.put(key, Entry(of.code(i), {}))

    def hit(key: Key) -> bytes:
        found = cache.get(key)
        if found is None:
            raise TileError(f"{folder.name} has lost an entry")
        return found.payload

    return Made([partial(hit, keys[i]) for i in of.asked], of.want, as_bytes, nbytes=of.size)
