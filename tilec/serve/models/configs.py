"""Tuned configs, packages, artifacts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tilec.serve.models.fields import (
    BATCH,
    Config,
    Hex,
    Id,
    Line,
    Milliseconds,
    Samples,
    Scalar,
    Sha256,
    Short,
    Wire,
    with_names,
)
from tilec.serve.models.subject import Fingerprint, Policy

Date = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]  # seconds since 1970


class Provenance(Wire):
    """Where a config comes from."""

    study: Short
    trial: Short
    worker: Short
    device: Fingerprint
    toolchain: Hex
    policy: Policy
    samples_ms: Samples
    default_ms: Milliseconds | None
    date: Date
    imported: Short | None = None  # the signer of the package that it came in


class Published(Wire):
    """A tuned config, confirmed beside the default."""

    key: str
    kernel: str
    family: str
    shape: dict[str, Scalar]
    config: Config
    time_ms: float
    provenance: Provenance


class ConfigKey(Wire):
    """What a tuned config is for; `device` is the digest of the fingerprint."""

    kernel: Hex
    device: Hex
    toolchain: Hex
    policy: Policy = Policy()


class Lookup(Wire):
    """Keys to look up together."""

    keys: Annotated[list[ConfigKey], Field(min_length=1, max_length=BATCH)]


class PackageRequest(Wire):
    """Which configs to bundle: those of studies or of kernels, by default all."""

    studies: Annotated[list[Id], Field(max_length=1000)] = []
    kernels: Annotated[list[Hex], Field(max_length=1000)] = []


class PackageMade(Wire):
    """A package and how many configs it has."""

    id: str
    configs: int
    signer: str


class PackageListed(Wire):
    """A package that is here: its bytes, and when it was made."""

    id: str
    size: int
    created: float


class Signature(Wire):
    """HMAC-SHA256 over the canonical JSON of everything else, by a key that both sides have."""

    algorithm: Literal["hmac-sha256"]
    signer: Line
    value: Sha256


class PackagedConfig(Wire):
    """A published config in a package."""

    key: Sha256
    kernel: Hex
    family: Hex
    shape: Annotated[dict[str, Scalar], Field(max_length=64), AfterValidator(with_names)] = {}
    config: Config
    time_ms: Milliseconds
    provenance: Provenance


class Blocked(Wire):
    """A config that took two workers down: never to be tried again on such a device."""

    kernel: Hex
    device: Hex | None
    toolchain: Hex
    config: Config


class Package(Wire):
    """Tuned configs for another host."""

    format: Literal["tilec-package"]
    version: Literal[1]
    created: Date
    configs: Annotated[list[PackagedConfig], Field(max_length=10_000)]
    blocklist: Annotated[list[Blocked], Field(max_length=10_000)] = []
    signature: Signature | None = None


class ImportRequest(Wire):
    """A package to take over. An unsigned one is refused unless `unsigned` says that it may be."""

    package: Package
    unsigned: bool = False


class Imported(Wire):
    """How many configs came in, how many were here already and newer; how many more are blocked."""

    imported: int
    kept: int
    blocked: int


class Stored(Wire):
    """An artifact that is here."""

    digest: str
    size: int
