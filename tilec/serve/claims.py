"""Which trial a worker gets: of the study of the highest priority that it can measure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, or_, select, update

from tilec.runtime.cache.key import canonical
from tilec.serve import blocklist, fleet, models, studies
from tilec.serve.auth import Caller
from tilec.serve.clock import Clock
from tilec.serve.events import happened
from tilec.serve.events import state as into
from tilec.serve.keys import device_digest, new_id
from tilec.serve.progress import advance
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import leases, trials
from tilec.serve.tables import studies as table

OPEN = ("queued", "running", "confirming")


@dataclass(frozen=True)
class Wanted:
    """No trial is waiting, but this study may propose some."""

    study: str


@dataclass(frozen=True)
class Claimant:
    """A worker that asks."""

    by: Caller
    said: models.LeaseRequest
    device: str  # the digest

    @staticmethod
    def of(by: Caller, said: models.LeaseRequest) -> Claimant:
        return Claimant(by, said, device_digest(said.device))


def waiting(tx: Connection, who: Claimant, clock: Clock, setup: Setup) -> bool:
    """Whether it is worth asking: reads only."""
    return any(_trial(tx, s, who, clock, setup) or _plannable(s) for s in _studies(tx, who))


def claimed(
    tx: Connection, who: Claimant, clock: Clock, setup: Setup
) -> models.Lease | Wanted | None:
    """A lease of the next trial, or a study that is to propose some, or None."""
    fleet.touch(tx, who.by, who.said, clock, setup)
    held = select(func.count()).select_from(leases).where(
        leases.c.tenant == who.by.tenant, leases.c.worker == who.said.worker,
        leases.c.state == "active")  # fmt: skip
    if tx.execute(held).scalar_one() >= setup.limits.leases:
        raise Refused(429, f"this worker has {setup.limits.leases} leases already")
    for study in _studies(tx, who):
        row = _wanted(tx, study, who, clock, setup)
        if row is not None:
            return _leased(tx, study, row, who, clock, setup)
        if _plannable(study):
            return Wanted(study.id)
    return None


def _studies(tx: Connection, who: Claimant) -> Iterator[Row[Any]]:
    """The studies that a worker can measure, in order."""
    known = who.said.recorded
    said = select(*studies.LIGHT).where(
        table.c.tenant == who.by.tenant, table.c.state.in_(OPEN),
        table.c.device_kind == who.said.device.kind, table.c.toolchain == who.said.toolchain,
        or_(table.c.recorded.is_(None), table.c.recorded.in_(known)))  # fmt: skip
    order = said.order_by(table.c.priority.desc(), table.c.created, table.c.id)
    name = who.said.device.name
    for row in tx.execute(order).all():
        if fnmatchcase(name, row.device_name) and _bound_to(tx, row, who.device):
            yield row


def _bound_to(tx: Connection, study: Row[Any], device: str) -> bool:
    """Whether a study may be measured on a device: its first one, as long as any trial is of it."""
    if study.measured_device in (None, device):
        return True
    made = exists().where(trials.c.study == study.id, trials.c.state.in_(("leased", "done")))
    return not tx.execute(select(made)).scalar_one()


def _plannable(study: Row[Any]) -> bool:
    open_ = study.state in ("queued", "running")
    return open_ and not study.exhausted and study.planned < study.budget


def _trial(tx: Connection, study: Row[Any], who: Claimant, clock: Clock,
           setup: Setup) -> Row[Any] | None:  # fmt: skip
    """The next trial of a study for a worker."""
    now = clock.now()
    said = select(trials).where(trials.c.study == study.id, trials.c.state == "pending",
                                trials.c.ready <= now)  # fmt: skip
    row = tx.execute(said.order_by(trials.c.number).limit(1).with_for_update(skip_locked=True)
                     ).first()  # fmt: skip
    if row is None or row.avoid is None or _impartial(tx, study, row, who, now, setup):
        return row
    return None


def _impartial(tx: Connection, study: Row[Any], row: Row[Any], who: Claimant, now: float,
               setup: Setup) -> bool:  # fmt: skip
    """Whether a worker may confirm: it has another token than who measured the best. Where no
    other token was seen of late, another name will do; that one itself where there is no other, or
    none came for it in time."""
    if row.avoid_caller not in (None, who.by.token):
        return True
    others = fleet.others(tx, study, who.said.worker, who.device, now - setup.alone_s)
    if others - {who.by.token}:
        return False
    waited = now - row.ready > setup.confirm_wait_s
    return row.avoid != who.said.worker or not others or waited


def _wanted(tx: Connection, study: Row[Any], who: Claimant, clock: Clock,
            setup: Setup) -> Row[Any] | None:  # fmt: skip
    """The next trial of a study for a worker; those that would take it down are put aside."""
    row = _trial(tx, study, who, clock, setup)
    while row is not None and row.purpose == "measure" and blocklist.has(
            tx, study, who.device, json.loads(row.configs)[0]):  # fmt: skip
        _put_aside(tx, row, who, clock)
        row = _trial(tx, study, who, clock, setup)
    return row


def _put_aside(tx: Connection, row: Row[Any], who: Claimant, clock: Clock) -> None:
    tx.execute(update(trials).where(trials.c.id == row.id).values(
        state="poison", failure="worker_lost", detail="it has taken two workers down before",
        device=who.device, finished=clock.day()))  # fmt: skip
    happened(tx, row.study, "trial", {"id": row.id, "number": row.number, "purpose": row.purpose,
                                      "state": "poison", "worker": None})  # fmt: skip
    advance(tx, row.study, clock)


def _leased(tx: Connection, study: Row[Any], row: Row[Any], who: Claimant, clock: Clock,
            setup: Setup) -> models.Lease:  # fmt: skip
    worker, now, id_ = who.said.worker, clock.now(), new_id("l")
    tx.execute(update(trials).where(trials.c.id == row.id).values(
        state="leased", worker=worker, caller=who.by.token, attempts=row.attempts + 1))  # fmt: skip
    tx.execute(insert(leases).values(
        id=id_, trial=row.id, study=study.id, tenant=who.by.tenant, worker=worker,
        device=who.device, state="active", started=now, deadline=now + setup.lease_s))  # fmt: skip
    if study.measured_device != who.device:
        device = canonical(who.said.device.model_dump(exclude_none=True))
        tx.execute(update(table).where(table.c.id == study.id).values(
            measured_on=device, measured_device=who.device))  # fmt: skip
    if study.state == "queued":
        into(tx, study.id, "running", clock.day())
    happened(tx, study.id, "trial", {"id": row.id, "number": row.number, "purpose": row.purpose,
                                     "state": "leased", "worker": worker})  # fmt: skip
    return lease(tx, id_, setup)


def lease(tx: Connection, id_: str, setup: Setup) -> models.Lease:
    """What a worker is told of its lease."""
    row = tx.execute(select(leases).where(leases.c.id == id_)).one()
    trial = tx.execute(select(trials).where(trials.c.id == row.trial)).one()
    study = tx.execute(select(table).where(table.c.id == row.study)).one()
    return models.Lease.model_validate({
        "lease": id_, "token": row.token, "deadline_s": setup.lease_s,
        "trial": studies.trial(trial), "job": json.loads(study.job),
        "policy": json.loads(study.policy), "timeout_s": study.timeout,
        "default": json.loads(study.space).get("default"),
    })  # fmt: skip
