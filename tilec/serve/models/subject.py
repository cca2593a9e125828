"""What is tuned and where: jobs, policies, devices, spaces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from tilec.serve.models.fields import Config, Line, Scalar, Short, Text, Whole, Wire, of_lines


class KernelJob(Wire):
    """A kernel to compile and time: IR text only, never code of a user's."""

    kind: Literal["kernel"]
    ir: Text
    backend: Literal["cpu", "cuda", "triton"]
    target: Line
    results: Annotated[list[Line], Field(max_length=64)] = []
    data_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class RecordedJob(Wire):
    """Times from a recorded space that the worker knows: for tests and for trying the service."""

    kind: Literal["recorded"]
    space: Line
    noise_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


Job = Annotated[KernelJob | RecordedJob, Field(discriminator="kind")]


class Policy(Wire):
    """How is measured. Times of different policies are never compared."""

    mode: Literal["eager", "graph"] = "eager"
    cache: Literal["cold", "warm"] = "warm"
    threads: Annotated[int, Field(ge=0, le=4096)] = 0


class Fingerprint(Wire):
    """A device. Times are only used for a device whose whole fingerprint is the same."""

    kind: Literal["cpu", "cuda"]
    name: Line
    cores: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    sms: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    memory: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    features: Annotated[list[Line], Field(max_length=500)] | None = None
    capability: Short | None = None
    driver: Short | None = None


class DeviceFilter(Wire):
    """Which devices may measure a study: the kind, and a pattern with * and ? for the name."""

    kind: Literal["cpu", "cuda"]
    name: Line = "*"


class Parameter(Wire):
    """A choice and its values in order."""

    name: Line
    values: Annotated[list[Scalar], Field(min_length=1, max_length=10_000)]


class Constraint(Wire):
    """A condition on a config, and its reason."""

    condition: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    reason: Annotated[str, StringConstraints(max_length=1000), AfterValidator(of_lines)] = ""


class SpaceModel(Wire):
    """What can be chosen: see `tilec.tune.space`, which checks it again."""

    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=200)]
    constraints: Annotated[list[Constraint], Field(max_length=1000)] = []
    default: Config | None = None
    rows: Annotated[list[list[Whole]], Field(min_length=1, max_length=100_000)] | None = None
