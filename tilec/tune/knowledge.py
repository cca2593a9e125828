"""What a process knows of tuned configs; little is imported before there is anything to know."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from tilec.ir.errors import TileError
from tilec.observe import fell_back
from tilec.runtime.cache import open_cache
from tilec.settings import settings
from tilec.tune.config import TUNED, Config


class Knowledge:
    """What this process knows: the store, this machine, and that it tunes one kernel at a time."""

    def __init__(self) -> None:
        environment = settings().environment
        service = _service(environment)
        self._cache, self._service = open_cache(environment), service
        self._again: Any = None
        if service is not None:
            from tilec.tune.client.again import Again

            self._again = Again(service.breaker.pause)
        self.one = threading.Lock()

    @cached_property
    def store(self) -> Any:
        """The store (tilec.tune.store), imported when there may be something in it."""
        from tilec.tune.store import Store

        return Store(self._cache, self._service)

    @property
    def empty(self) -> bool:
        """Whether nothing can be known, as in most processes: what a lookup needs takes longer to
        import than a small kernel to compile."""
        asked = "store" in vars(self) or self._service is not None
        return not asked and not self._cache.has(TUNED)

    def lookup(self, of: Any, unsaid: Callable[[], None] = lambda: None) -> Config | None:
        """The tuned config of a subject (tilec.tune.job) on this machine; `unsaid` is called where
        there may be one, but the service does not answer now."""
        from tilec.tune.job import device, policy_of, toolchain

        def space() -> Any:
            from tilec.tune.spaces import derived

            return derived(of.job).space

        backend = of.job.backend
        here, policy = device(backend), policy_of(backend)
        return self.store.lookup(of.job, here, toolchain(backend), policy, space, unsaid)

    def relatives(self, of: Any) -> tuple[Config, ...]:
        """What was found for other shapes of a subject on this machine."""
        from tilec.tune.job import device

        return self.store.relatives(of, device(of.job.backend))

    def blocked(self, of: Any) -> Any:
        """What is not to be tried of a subject on this machine (tilec.tune.blocked)."""
        from tilec.tune.job import device, device_digest, toolchain

        backend = of.job.backend
        digest = device_digest(device(backend))
        return self.store.blocklist(of.job.kernel, digest, toolchain(backend))

    def later(self, of: Any, found: Callable[[Config], None]) -> None:
        """Look it up again when the service may answer, in a thread; `found` is told a config."""

        def ask() -> bool:
            silent: list[bool] = []
            try:
                if (config := self.lookup(of, lambda: silent.append(True))) is not None:
                    found(config)
            except TileError as e:
                fell_back("tuned config", e.message, "tune", kernel=of.job.kernel[:12])
            return not silent

        if self._again is not None:
            self._again.add(ask)


def _service(environment: Mapping[str, str]) -> Any:
    """The service that an environment names, if any; only then is its client imported."""
    if not environment.get("TILEC_SERVICE"):
        return None
    from tilec.tune.client.lookup import Lookup
    from tilec.tune.client.wire import Address

    address = Address.of(environment)
    return None if address is None else Lookup(address)
