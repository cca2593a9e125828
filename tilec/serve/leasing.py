"""Leases under way: heartbeats, ends, expiry.

A trial is ended by the lease that holds it, with its token, and by nothing else. What comes late is
kept beside the lease as evidence, and changes nothing.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from sqlalchemy import Connection, Row, select, update

from tilec.runtime.cache.key import canonical
from tilec.serve import blocklist, fleet, models
from tilec.serve.clock import Clock
from tilec.serve.events import happened
from tilec.serve.keys import device_digest
from tilec.serve.progress import advance
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import leases, studies, trials

LOST = 2  # workers, after which a trial is poison
INFRA = 5  # attempts that the infrastructure may spoil
EXPIRED = 100  # leases that one transaction ends


class Late(Refused):
    """The trial is no longer this lease's: what was said is kept, and refused."""

    def __init__(self, lease: str, message: str) -> None:
        super().__init__(409, message, code="late")
        self.lease = lease


def _row(tx: Connection, tenant: str, id_: str) -> Row[Any]:
    chosen = select(leases).where(leases.c.id == id_, leases.c.tenant == tenant)
    row = tx.execute(chosen.with_for_update()).first()
    if row is None:
        raise Refused(404, "there is no such lease")
    return row


def _held(tx: Connection, tenant: str, id_: str, token: int, clock: Clock) -> Row[Any]:
    """The lease, if it still holds its trial. Raises Late and Refused."""
    row = _row(tx, tenant, id_)
    if token != row.token:
        raise Late(id_, "this is not the token of the lease")
    if row.state != "active" or row.deadline < clock.now():
        ended = "expired" if row.state == "active" else row.state
        raise Late(id_, f"the lease has ended: {ended}")
    return row


def beat(tx: Connection, tenant: str, id_: str, token: int, clock: Clock,
         setup: Setup) -> models.Beat:  # fmt: skip
    """A heartbeat: the lease holds for as long again."""
    row = _row(tx, tenant, id_)
    if token == row.token and row.state == "cancelled":
        return models.Beat(deadline_s=0.0, cancelled=True)
    row = _held(tx, tenant, id_, token, clock)
    said = update(leases).where(leases.c.token == row.token)
    tx.execute(said.values(deadline=clock.now() + setup.lease_s))
    fleet.worked(tx, tenant, row.worker, clock)
    return models.Beat(deadline_s=setup.lease_s, cancelled=False)


def complete(tx: Connection, tenant: str, id_: str, said: models.Completion,
             clock: Clock) -> models.Ended:  # fmt: skip
    """A trial was measured."""
    row = _held(tx, tenant, id_, said.token, clock)
    trial = tx.execute(select(trials).where(trials.c.id == row.trial)).one()
    study = tx.execute(select(studies.c.toolchain).where(studies.c.id == row.study)).one()
    _check(trial, row, study, said)
    time = statistics.median(said.samples_ms[0]) if trial.purpose == "measure" else None
    tx.execute(update(trials).where(trials.c.id == trial.id).values(
        state="done", failure=None, samples=canonical(said.samples_ms), time=time,
        cost=said.cost_s, compiled=said.compile_s, device=row.device,
        toolchain=said.toolchain, finished=clock.day(), worker=row.worker, detail=""))  # fmt: skip
    _ended(tx, row, "done")
    fleet.worked(tx, tenant, row.worker, clock, done=1, seconds=said.cost_s)
    _tell(tx, trial, row, "done", time_ms=time)
    advance(tx, row.study, clock)
    return models.Ended(trial=trial.id, state="done")


def _check(trial: Row[Any], lease: Row[Any], study: Row[Any], said: models.Completion) -> None:
    configs = len(json.loads(trial.configs))
    if len(said.samples_ms) != configs:
        raise Refused(422, f"the trial has {configs} configs", "samples_ms")
    if trial.purpose == "measure" and not said.samples_ms[0]:
        raise Refused(422, "there are no samples", "samples_ms")
    if device_digest(said.device) != lease.device:
        raise Refused(422, "this is not the device that asked for the trial", "device")
    if said.toolchain != study.toolchain:
        raise Refused(422, "this is not the toolchain of the study", "toolchain")


def fail(tx: Connection, tenant: str, id_: str, said: models.FailureReport,
         clock: Clock) -> models.Ended:  # fmt: skip
    """A trial has no times, and why."""
    row = _held(tx, tenant, id_, said.token, clock)
    state = _failed(tx, row, said.failure, said.detail, said.cost_s, clock)
    _ended(tx, row, "failed")
    fleet.worked(tx, tenant, row.worker, clock, failed=1, seconds=said.cost_s)
    advance(tx, row.study, clock)
    return models.Ended(trial=row.trial, state=state)


def _failed(tx: Connection, row: Row[Any], failure: str, detail: str, cost: float,
            clock: Clock) -> Any:  # fmt: skip
    """What becomes of a trial that failed."""
    trial = tx.execute(select(trials).where(trials.c.id == row.trial)).one()
    lost = trial.lost + (failure == "worker_lost")
    state, ready = "failed", clock.now()
    if failure == "worker_lost":
        state = "poison" if lost >= LOST else "pending"
    elif failure == "infra" and trial.attempts < INFRA:
        state, ready = "pending", ready + 0.5 * trial.attempts
    tx.execute(update(trials).where(trials.c.id == trial.id).values(
        state=state, failure=failure, detail=_clean(detail), cost=cost, lost=lost, ready=ready,
        device=row.device, finished=None if state == "pending" else clock.day()))  # fmt: skip
    if state == "poison" and trial.purpose == "measure":
        _block(tx, trial, row, clock)
    _tell(tx, trial, row, state, failure=failure)
    return state


def _block(tx: Connection, trial: Row[Any], lease: Row[Any], clock: Clock) -> None:
    """No worker is to measure this config again."""
    chosen = select(studies.c.kernel, studies.c.toolchain).where(studies.c.id == trial.study)
    study = tx.execute(chosen).one()
    found = models.Blocked(kernel=study.kernel, device=lease.device, toolchain=study.toolchain,
                           config=json.loads(trial.configs)[0])  # fmt: skip
    blocklist.add(tx, lease.tenant, found, clock.day())


def _tell(tx: Connection, trial: Row[Any], lease: Row[Any], state: str, **more: Any) -> None:
    data = {"id": trial.id, "number": trial.number, "purpose": trial.purpose, "state": state,
            "worker": lease.worker, **more}  # fmt: skip
    happened(tx, lease.study, "trial", data)


def _ended(tx: Connection, row: Row[Any], state: str) -> None:
    tx.execute(update(leases).where(leases.c.token == row.token).values(state=state))


def _clean(text: str) -> str:
    """Text without what could end a log line, colour a terminal or turn its direction."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def keep_late(tx: Connection, late: Late, said: dict[str, Any], clock: Clock) -> None:
    """Keep the first thing that was said too late with a lease."""
    chosen = update(leases).where(leases.c.id == late.lease, leases.c.late.is_(None))
    tx.execute(chosen.values(late=canonical({"said": said, "at": clock.day()})))


def expire(tx: Connection, clock: Clock) -> int:
    """End the leases whose deadline is over: their workers are lost. Returns how many."""
    said = select(leases).where(leases.c.state == "active", leases.c.deadline < clock.now())
    rows = tx.execute(said.order_by(leases.c.token).limit(EXPIRED)
                      .with_for_update(skip_locked=True)).all()  # fmt: skip
    for row in rows:
        _ended(tx, row, "expired")
        _failed(tx, row, "worker_lost", "the lease ended without a word", 0.0, clock)
        advance(tx, row.study, clock)
    return len(rows)
