"""Tokens, errors, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tilec.serve.models.fields import Line, Wire


class TokenRequest(Wire):
    """A token to make."""

    name: Line
    tenant: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "default"
    scopes: Annotated[
        list[Literal["read", "submit", "worker", "admin"]], Field(min_length=1, max_length=4)
    ]
    days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] | None = None


class Problem(Wire):
    """What went wrong: a word for programs, a sentence for people."""

    code: str
    message: str
    where: str | None = None


class Refusal(Wire):
    """The body of every error."""

    error: Problem


class Health(Wire):
    """Whether the service runs."""

    status: Literal["ok"]
    version: str


class Audited(Wire):
    """Something that an administrator did: `caller` is the id of the token (empty: none), `subject`
    the id of what it was done to, `detail` what that was."""

    number: int
    caller: str
    action: str
    subject: str
    detail: dict[str, Any]
    created: float
