"""What a worker and the service say to each other. Every word is repeated until it is answered."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from tilec.ir.errors import TileError
from tilec.tune import strict
from tilec.tune.client.studies import patiently
from tilec.tune.client.wire import Address, Refused, Wire
from tilec.tune.config import Config
from tilec.tune.records import Failure

DRAINED = 410  # the status that tells a worker to end
LATE = 409
LONGEST_DETAIL = 4000
ANSWER_S = 15.0  # for the service to begin an answer, beside what it was asked to wait


@dataclass(frozen=True)
class Identity:
    """Who a worker is: its name, its device, its compilers, the recorded spaces that it knows."""

    worker: str
    device: Mapping[str, Any]
    toolchain: str
    recorded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"worker": self.worker, "device": dict(self.device), "toolchain": self.toolchain,
                "recorded": list(self.recorded)}  # fmt: skip


@dataclass(frozen=True)
class Lease:
    """A trial to measure: seconds until the deadline and for the whole trial."""

    id: str
    token: int
    deadline_s: float
    timeout_s: float
    trial: str
    study: str
    number: int
    purpose: str
    configs: tuple[Config, ...]
    job: Mapping[str, Any]
    policy: Mapping[str, Any]
    default: Config | None

    @staticmethod
    def from_json(data: object) -> Lease:
        """A lease as the service gives it. Raises TileError for what is none."""
        needed = ("lease", "token", "deadline_s", "trial", "job", "policy", "timeout_s", "default")
        found = strict.fields(data, "a lease", needed)
        trial, default = _object(found["trial"], "a trial"), found["default"]
        return Lease(
            strict.typed(found["lease"], str, "a lease"),
            strict.typed(found["token"], int, "a token"),
            strict.number(found["deadline_s"], "deadline_s", 0),
            strict.number(found["timeout_s"], "timeout_s", 0),
            strict.typed(trial.get("id"), str, "a trial's id"),
            strict.typed(trial.get("study"), str, "a trial's study"),
            strict.typed(trial.get("number"), int, "a trial's number"),
            strict.typed(trial.get("purpose"), str, "a trial's purpose"),
            tuple(map(Config.from_json, strict.array(trial.get("configs"), "configs"))),
            _object(found["job"], "a job"),
            _object(found["policy"], "a policy"),
            None if default is None else Config.from_json(default),
        )


def _object(data: object, what: str) -> dict[str, Any]:
    return cast("dict[str, Any]", strict.typed(data, dict, what))


@dataclass(frozen=True)
class Measured:
    """Times of each config in seconds (none: it failed in a trial of several), the seconds that all
    took, and those of compiling, where they are known."""

    samples: tuple[tuple[float, ...], ...]
    cost: float
    compiled: float | None = None


@dataclass(frozen=True)
class Failed:
    """Why a trial has no times."""

    failure: Failure
    detail: str
    cost: float = 0.0


class Service:
    """The service as one worker sees it. For one thread: a heart has a service of its own."""

    def __init__(self, address: Address, who: Identity, patience_s: float = math.inf) -> None:
        self.address, self.who, self.patience_s = address, who, patience_s
        self._wire = Wire(address)

    def twin(self) -> Service:
        """The same with a connection of its own."""
        return Service(self.address, self.who, self.patience_s)

    def register(self) -> None:
        """Say that this worker starts: one that was drained may work again."""
        self._write("/v1/workers", self.who.to_json(), os.urandom(16).hex())

    def lease(self, wait_s: float) -> Lease | None:
        """A trial, or None where there was none for `wait_s` seconds.

        A request whose answer was lost is repeated under its key, and gets the same trial.
        """
        body = {**self.who.to_json(), "wait_s": wait_s}
        answer = self._write("/v1/leases", body, os.urandom(16).hex(), wait_s)
        return None if answer is None else Lease.from_json(answer)

    def beat(self, lease: Lease) -> tuple[float, bool]:
        """Seconds to the new deadline, and whether the trial is no longer wanted. Tried once."""
        answer = self._wire.ask("POST", _path(lease, "heartbeat"), {"token": lease.token},
                                seconds=ANSWER_S, key=os.urandom(16).hex())  # fmt: skip
        found = strict.fields(answer, "a beat", ("deadline_s", "cancelled"))
        cancelled = strict.typed(found["cancelled"], bool, "cancelled")
        return strict.number(found["deadline_s"], "deadline_s", 0), cancelled

    def complete(self, lease: Lease, found: Measured) -> bool:
        """Hand in times; whether they count (they don't where the lease has ended)."""
        samples = [[1e3 * s for s in times] for times in found.samples]
        body = {"token": lease.token, "samples_ms": samples, "cost_s": found.cost,
                "compile_s": found.compiled, "device": dict(self.who.device),
                "toolchain": self.who.toolchain}  # fmt: skip
        return self._handed_in(lease, "complete", body)

    def fail(self, lease: Lease, why: Failed) -> bool:
        """Say why there are no times; whether it counts."""
        detail = why.detail.replace("\0", "?").encode("utf-8", "replace").decode()
        body = {"token": lease.token, "failure": why.failure.value, "cost_s": why.cost,
                "detail": detail[-LONGEST_DETAIL:]}  # fmt: skip
        return self._handed_in(lease, "fail", body)

    def _handed_in(self, lease: Lease, verb: str, body: dict[str, Any]) -> bool:
        try:
            self._write(_path(lease, verb), body, f"{lease.id}-{verb}")
        except Refused as e:
            if e.status == LATE:
                return False
            raise
        return True

    def _write(self, path: str, body: object, key: str, wait_s: float = 0.0) -> Any:
        seconds = ANSWER_S + wait_s
        return patiently(lambda: self._wire.ask("POST", path, body, seconds=seconds, key=key),
                         self.patience_s)  # fmt: skip


def _path(lease: Lease, verb: str) -> str:
    return f"/v1/leases/{quote(lease.id, safe='')}:{verb}"


def refusal(address: Address, error: Refused) -> TileError:
    """What a person is told where the service does not want this worker."""
    hint = {401: "TILEC_TOKEN or TILEC_TOKEN_FILE", 403: "a token with the scope worker"}
    return TileError(f"{address.url}: {error}", hint=hint.get(error.status, ""))
