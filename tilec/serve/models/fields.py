"""The kinds of fields that messages have: each strict and bounded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from tilec.tune.config import NAME

MOST_TRIALS = 10_000  # of a study
LONGEST_IR, LONGEST_DETAIL = 256 << 10, 4000
SLOWEST_MS = 1e9
BATCH = 256  # keys of a lookup


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected printable characters only")
    return text


def of_lines(text: str) -> str:
    """Text without control characters except tabs and ends of lines. Raises ValueError."""
    if not all(c.isprintable() or c in "\n\t" for c in text):
        raise ValueError("expected printable characters, tabs and ends of lines only")
    return text


def with_names(found: dict[str, Any]) -> dict[str, Any]:
    """A map whose keys are names that are safe anywhere. Raises ValueError."""
    if not all(NAME.fullmatch(name) for name in found):
        raise ValueError("expected names of letters, digits and _")
    return found


Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z][0-9a-f]{20}$")]
WorkerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Short = Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]
Text = Annotated[str, StringConstraints(max_length=LONGEST_IR), AfterValidator(of_lines)]
Detail = Annotated[str, StringConstraints(max_length=LONGEST_DETAIL)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-(2.0**53), le=2.0**53)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Scalar = bool | Whole | Number | Annotated[str, StringConstraints(max_length=64)]
Config = Annotated[dict[str, Scalar], Field(max_length=200)]
Token = Annotated[int, Field(ge=1, lt=2**63)]
Milliseconds = Annotated[float, Field(gt=0, le=SLOWEST_MS, allow_inf_nan=False)]
Samples = Annotated[list[Milliseconds], Field(max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Failure = Literal[
    "compile_error", "compile_timeout", "ptxas_crash", "launch_error", "run_timeout",
    "device_fault", "wrong_result", "resource_exceeded", "worker_lost", "infra",
]  # fmt: skip
StudyState = Literal["queued", "running", "confirming", "done", "cancelled", "failed"]
TrialState = Literal["pending", "leased", "done", "failed", "poison", "cancelled"]
Sampler = Literal["auto", "gp", "lfbo", "evolve", "random", "optuna"]


class Wire(BaseModel):
    """The base of all messages."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
