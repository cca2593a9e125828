"""Leases and workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tilec.serve.models.fields import (
    Config,
    Detail,
    Failure,
    Hex,
    Line,
    Samples,
    Seconds,
    Token,
    TrialState,
    Wire,
    WorkerId,
)
from tilec.serve.models.studies import Trial
from tilec.serve.models.subject import Fingerprint, Job, Policy


class LeaseRequest(Wire):
    """A worker asks for a trial and waits up to `wait_s` for one."""

    worker: WorkerId
    device: Fingerprint
    toolchain: Hex
    recorded: Annotated[list[Line], Field(max_length=200)] = []
    wait_s: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] = 0.0


class Lease(Wire):
    """A trial to measure before the deadline: `deadline_s` seconds from now, by the server's clock.

    `token` is larger than every token given before: what is done with an older one is refused.
    """

    lease: str
    token: int
    deadline_s: float
    trial: Trial
    job: Job
    policy: Policy
    timeout_s: float
    default: Config | None


class Heartbeat(Wire):
    """A worker is still measuring."""

    token: Token


class Beat(Wire):
    """The new deadline in seconds from now, and whether the trial is no longer wanted."""

    deadline_s: float
    cancelled: bool


class Completion(Wire):
    """What was measured: times for each config (none in a confirm trial: it failed). `compile_s` is
    the part of `cost_s` that compiling took, where it is known."""

    token: Token
    samples_ms: Annotated[list[Samples], Field(min_length=1, max_length=64)]
    cost_s: Seconds
    compile_s: Seconds | None = None
    device: Fingerprint
    toolchain: Hex


class FailureReport(Wire):
    """Why there are no times. Only `worker_lost` and `infra` are tried again."""

    token: Token
    failure: Failure
    detail: Detail = ""
    cost_s: Seconds = 0.0


class Ended(Wire):
    """The trial after a completion or a failure."""

    trial: str
    state: TrialState


class WorkerRequest(Wire):
    """A worker says what it is."""

    worker: WorkerId
    device: Fingerprint
    toolchain: Hex
    recorded: Annotated[list[Line], Field(max_length=200)] = []


class Worker(Wire):
    """A worker; `seen_s` is how many seconds ago it last asked or answered."""

    worker: str
    state: Literal["active", "draining"]
    device: Fingerprint
    toolchain: str
    first: float
    seen_s: float
    leases: int
    done: int
    failed: int
    measured_s: float


class Workers(Wire):
    """Some workers of a tenant by name; `cursor` continues."""

    workers: list[Worker]
    cursor: str | None
