"""What is known: tuned configs by key, from memory, disk, what is packaged, and the service.

A record is JSON data, as packages of the service have it: FIELDS. It is used for exactly
the kernel, device, toolchain and policy that it was measured for; anything else is a miss.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tilec.ir.errors import TileError
from tilec.observe import fell_back
from tilec.runtime.cache import Cache, Entry, Key
from tilec.tune import relatives, strict
from tilec.tune.blocked import Blocklist
from tilec.tune.config import TUNED, Config
from tilec.tune.job import Job, Policy, Subject, config_key, device_digest
from tilec.tune.space import Space

FIELDS = ("key", "kernel", "family", "shape", "config", "time_ms", "provenance")


class Found(Protocol):
    """A config that a service knows."""

    @property
    def key(self) -> str: ...
    @property
    def config(self) -> Config: ...
    @property
    def seconds(self) -> float: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...


class Service(Protocol):
    """A service that knows configs: see `tilec.tune.client.lookup.Lookup`."""

    def lookup(self, keys: Sequence[Mapping[str, Any]]) -> Sequence[Found | None] | None:
        """What is known for each key; None instead of all where the service did not say."""
        ...


class Store:
    """Tuned configs. `cache` is this machine's disk, with the folders that come with packages
    below; `service` is asked last. `counts` says how often what happened."""

    def __init__(self, cache: Cache | None = None, service: Service | None = None) -> None:
        self._cache, self._service = cache, service
        self._known: dict[str, Config | None] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def lookup(self, job: Job, device: Mapping[str, Any], toolchain: str, policy: Policy,
               space: Callable[[], Space], unsaid: Callable[[], None] = lambda: None
               ) -> Config | None:  # fmt: skip
        """The tuned config of a job, or None: then the default is used.

        A config that is not in `space`, that of the very shape, is refused and logged. What is
        found is remembered, and that there is nothing; but where the service did not say, `unsaid`
        is called, and the next lookup asks again.
        """
        digest = device_digest(device)
        key = config_key(job.kernel, digest, toolchain, policy)
        with self._lock:
            if key in self._known:
                self.counts["memory"] += 1
                return self._known[key]
        found, is_sure = self._found(key, job, digest, toolchain, policy, space)
        if not is_sure:
            unsaid()
            return None
        with self._lock:
            return self._known.setdefault(key, found)

    def _found(self, key: str, job: Job, device: str, toolchain: str, policy: Policy,
               space: Callable[[], Space]) -> tuple[Config | None, bool]:  # fmt: skip
        """The config, and whether all were heard that may know one."""
        entry = None if self._cache is None else self._cache.get(disk_key(key))
        record, where = None if entry is None else entry.payload, "disk"
        if record is None and self._service is not None:
            asked = {"kernel": job.kernel, "device": device, "toolchain": toolchain,
                     "policy": policy.to_json()}  # fmt: skip
            answers = self._service.lookup([asked])
            if answers is None:
                self.counts["unsaid"] += 1
                return None, False
            record, where = _told(answers[0]), "service"
        if record is None:
            self.counts["miss"] += 1
            return None, True
        try:
            config = config_of(record, key)
            space().row(config)
        except TileError as e:
            self.counts["refused"] += 1
            fell_back("tuned config", e.message, "tune", source=where, kernel=job.kernel[:12])
            return None, True
        self.counts[where] += 1
        if where == "service":
            self._keep(key, record)
        return config, True

    def keep(self, record: Mapping[str, Any]) -> None:
        """Remember what tuning found, here and on disk. Raises TileError for what is no record."""
        data = json.dumps(dict(record)).encode()
        config = config_of(data, str(record.get("key")))
        with self._lock:
            self._known[str(record["key"])] = config
        self._keep(str(record["key"]), data)
        if self._cache is not None and record.get("family"):
            there = device_digest(record["provenance"]["device"])
            relatives.remember(self._cache, there, record)

    def blocklist(self, kernel: str, device: str, toolchain: str) -> Blocklist:
        """What is not to be tried of a kernel on a device: digests."""
        return Blocklist(self._cache, kernel, device, toolchain)

    def relatives(self, of: Subject, device: Mapping[str, Any], most: int = 4
                  ) -> tuple[Config, ...]:  # fmt: skip
        """Tuned configs of the same kernel at the most similar other shapes on a device."""
        if self._cache is None:
            return ()
        digest = device_digest(device)
        return relatives.relatives(self._cache, of.family, digest, of.shape, most)

    def record(self, key: str) -> dict[str, Any] | None:
        """What is on disk under a key."""
        entry = None if self._cache is None else self._cache.get(disk_key(key))
        return None if entry is None else json.loads(entry.payload)

    def _keep(self, key: str, data: bytes) -> None:
        if self._cache is not None:
            self._cache.put(disk_key(key), Entry(data, {"kind": "tuned"}))


def _told(found: Found | None) -> bytes | None:
    """What a service says, as a record."""
    if found is None:
        return None
    record = {"key": found.key, "config": found.config.to_json(), "time_ms": 1e3 * found.seconds,
              "provenance": dict(found.provenance)}  # fmt: skip
    return json.dumps(record).encode()


def disk_key(key: str) -> Key:
    """What a record is named after on disk; the key says all that it depends on."""
    return Key(TUNED, {"key": key}, {"kernel": f"tuned {key[:12]}"})


def config_of(data: bytes, key: str) -> Config:
    """The config of a record, whose own key must be the one it was found under. A service says
    less than what is kept here. Raises TileError for anything else."""
    record = strict.document(data.decode("utf-8", "replace"), "a tuned config")
    found = strict.fields(record, "a tuned config", ("key", "config"), *FIELDS)
    if found["key"] != key:
        raise TileError("a tuned config is for another key than it was found under")
    return Config.from_json(found["config"])
