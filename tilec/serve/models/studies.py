"""Studies and their trials."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tilec.serve.models.configs import Published
from tilec.serve.models.fields import (
    MOST_TRIALS,
    Config,
    Failure,
    Hex,
    Line,
    Sampler,
    Scalar,
    StudyState,
    TrialState,
    Wire,
    with_names,
)
from tilec.serve.models.subject import DeviceFilter, Fingerprint, Job, Policy, SpaceModel


class Work(Wire):
    """What a kernel does at least, and what the device was measured to do of it in a second. Where
    `device` is said, a digest as in keys, the latter is known of that device only."""

    operations: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
    bytes: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
    operations_per_s: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)] | None = None
    bytes_per_s: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)] | None = None
    device: Hex | None = None


class StudyRequest(Wire):
    """A study to make. `kernel` is worked out by the client: the server compiles nothing."""

    name: Line
    job: Job
    kernel: Hex
    family: Hex
    shape: Annotated[dict[str, Scalar], Field(max_length=64), AfterValidator(with_names)] = {}
    space: SpaceModel
    budget: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = 120
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    sampler: Sampler = "auto"
    policy: Policy = Policy()
    device: DeviceFilter
    toolchain: Hex
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    confirm: Annotated[int, Field(ge=1, le=32)] = 8
    timeout_s: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 120.0
    work: Work | None = None


class Counts(Wire):
    """Trials by state."""

    pending: int = 0
    leased: int = 0
    done: int = 0
    failed: int = 0
    poison: int = 0
    cancelled: int = 0


class Best(Wire):
    """The fastest trial of the search, before it is confirmed."""

    trial: str
    number: int
    config: Config
    time_ms: float


class Study(Wire):
    """A study as it stands. Times of day are seconds since 1970."""

    id: str
    name: str
    tenant: str
    state: StudyState
    note: str
    kernel: str
    family: str
    shape: dict[str, Scalar]
    budget: int
    seed: int
    sampler: str
    policy: Policy
    device: DeviceFilter
    measured_on: Fingerprint | None
    toolchain: str
    priority: int
    created: float
    finished: float | None
    trials: Counts
    best: Best | None
    winner: Published | None


class StudyDetail(Study):
    """A study with its job and its space."""

    job: Job
    space: dict[str, Any]
    sources: list[str]
    work: Work | None


class Page(Wire):
    """Some studies, the newest first; `cursor` continues."""

    studies: list[Study]
    cursor: str | None


class Trial(Wire):
    """One config measured, or the best few measured again side by side."""

    id: str
    study: str
    number: int
    purpose: Literal["measure", "confirm"]
    configs: list[Config]
    state: TrialState
    failure: Failure | None = None
    samples_ms: list[list[float]] = []
    attempts: int = 0
    worker: str | None = None
    cost_s: float | None = None
    compile_s: float | None = None
    detail: str = ""
    device: str | None = None  # the digest of the fingerprint
    toolchain: str | None = None
    created: float
    finished: float | None = None


class TrialPage(Wire):
    """Some trials of a study in order; `cursor` continues."""

    trials: list[Trial]
    cursor: str | None
