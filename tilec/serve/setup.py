"""What a service is told when it starts: where its data is, its limits, its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client may ask for: bytes, seconds and counts."""

    body: int = 4 << 20  # of JSON
    strangers: int = 64 << 10  # of JSON without a token
    elements: int = 1_000_000  # commas of a JSON document
    containers: int = 150_000  # arrays and objects
    depth: int = 32
    artifact: int = 64 << 20
    quota: int = 1 << 30  # bytes of artifacts of one tenant
    uploads: int = 8  # of one tenant, at a time
    receive_s: float = 30.0  # for a whole request to arrive
    send_s: float = 30.0  # for a client to take a part of an answer
    header_s: float = 10.0  # for the head of a request to arrive
    connections: int = 512
    streams: int = 64  # of events, of one tenant at a time
    active: int = 1000  # unfinished studies of one tenant
    workers: int = 10_000  # of one tenant
    leases: int = 64  # of one worker
    packages: int = 1000  # of one tenant


@dataclass(frozen=True)
class Setup:
    """A service. `database` is an SQLAlchemy URL, `hosts` the names that a request may be for.

    `anonymous`: a request without a token may do everything (on loopback only, see `server`).
    `keys` are shared secrets by signer, to check packages with; `signer` names the one to sign by.
    """

    database: str
    artifacts: Path
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    anonymous: bool = False
    lease_s: float = 30.0
    alone_s: float = 60.0  # after which a worker that was not seen is not waited for
    confirm_wait_s: float = 30.0  # for another worker to confirm
    plan_s: float = 60.0  # for a sampler to propose
    planners: int = 2
    keys: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    signer: str = ""
    limits: Limits = Limits()
