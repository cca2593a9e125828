"""Workers: what they are, when they were last seen, what they did.

A name is of the token that it came with, for as long as a worker is seen under it.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from tilec.runtime.cache.key import canonical
from tilec.serve import models
from tilec.serve.auth import Caller
from tilec.serve.clock import Clock
from tilec.serve.keys import device_digest
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import leases, workers

FORGOTTEN_S = 7 * 86400.0  # of the service clock
PAGE = 500
Said = models.WorkerRequest | models.LeaseRequest


def register(tx: Connection, who: Caller, said: Said, clock: Clock, setup: Setup) -> None:
    """A worker starts: it is active, whatever it was. Raises Refused for a name that is in use."""
    _keep(tx, who, said, clock, setup, _row(tx, who.tenant, said.worker))


def touch(tx: Connection, who: Caller, said: Said, clock: Clock, setup: Setup) -> None:
    """A worker asks for a trial. Raises Refused (410) for one that is being drained, and for a name
    that is in use."""
    row = _row(tx, who.tenant, said.worker)
    if row is not None and row.state == "draining":
        raise Refused(410, "this worker is being drained")
    _keep(tx, who, said, clock, setup, row)


def _row(tx: Connection, tenant: str, worker: str) -> Row[Any] | None:
    chosen = select(workers).where(workers.c.tenant == tenant, workers.c.worker == worker)
    return tx.execute(chosen).first()


def _keep(tx: Connection, who: Caller, said: Said, clock: Clock, setup: Setup,
          row: Row[Any] | None) -> None:  # fmt: skip
    tenant = who.tenant
    if row is not None and row.caller != who.token and clock.now() - row.seen < setup.alone_s:
        raise Refused(409, "a worker with another token has this name now")
    values = {
        "state": "active", "caller": who.token, "kind": said.device.kind, "name": said.device.name,
        "device": device_digest(said.device), "toolchain": said.toolchain,
        "fingerprint": canonical(said.device.model_dump(exclude_none=True)),
        "recorded": canonical(said.recorded), "seen": clock.now(),
    }  # fmt: skip
    if row is not None:
        mine = (workers.c.tenant == tenant, workers.c.worker == said.worker)
        tx.execute(update(workers).where(*mine).values(**values))
        return
    count = select(func.count()).select_from(workers).where(workers.c.tenant == tenant)
    if tx.execute(count).scalar_one() >= setup.limits.workers:
        raise Refused(429, f"there are {setup.limits.workers} workers already")
    tx.execute(insert(workers).values(tenant=tenant, worker=said.worker, first=clock.day(),
                                      done=0, failed=0, measured=0.0, **values))  # fmt: skip


def worked(tx: Connection, tenant: str, worker: str, clock: Clock, *, done: int = 0,
           failed: int = 0, seconds: float = 0.0) -> None:  # fmt: skip
    """A worker was heard of, and ended so many trials."""
    chosen = update(workers).where(workers.c.tenant == tenant, workers.c.worker == worker)
    tx.execute(chosen.values(seen=clock.now(), done=workers.c.done + done,
                             failed=workers.c.failed + failed,
                             measured=workers.c.measured + seconds))  # fmt: skip


def others(tx: Connection, study: Row[Any], worker: str, device: str, since: float
           ) -> frozenset[str]:  # fmt: skip
    """Whose the other workers are that could measure a study too, and were seen since then."""
    chosen = select(workers.c.caller, workers.c.recorded).where(
        workers.c.tenant == study.tenant, workers.c.worker != worker, workers.c.device == device,
        workers.c.toolchain == study.toolchain, workers.c.state == "active",
        workers.c.seen > since)  # fmt: skip
    needed = {study.recorded} - {None}
    return frozenset(r.caller for r in tx.execute(chosen) if needed <= {*json.loads(r.recorded)})


def listed(tx: Connection, tenant: str, clock: Clock, after: str = "") -> models.Workers:
    """The workers of a tenant by name, those after a name."""
    held = select(leases.c.worker, func.count()).where(
        leases.c.tenant == tenant, leases.c.state == "active")  # fmt: skip
    holds = {w: n for w, n in tx.execute(held.group_by(leases.c.worker))}
    chosen = select(workers).where(workers.c.tenant == tenant, workers.c.worker > after)
    rows = tx.execute(chosen.order_by(workers.c.worker).limit(PAGE + 1)).all()
    found = [models.Worker(
        worker=r.worker, state=r.state, toolchain=r.toolchain, first=r.first,
        device=models.Fingerprint.model_validate(json.loads(r.fingerprint)),
        seen_s=max(clock.now() - r.seen, 0.0), leases=holds.get(r.worker, 0), done=r.done,
        failed=r.failed, measured_s=r.measured) for r in rows[:PAGE]]  # fmt: skip
    return models.Workers(workers=found, cursor=found[-1].worker if len(rows) > PAGE else None)


def drain(tx: Connection, tenant: str, worker: str) -> None:
    """Give a worker no more trials. Raises Refused for one that is not there."""
    chosen = update(workers).where(workers.c.tenant == tenant, workers.c.worker == worker)
    if not tx.execute(chosen.values(state="draining")).rowcount:
        raise Refused(404, "there is no such worker")


def forget(tx: Connection, clock: Clock) -> None:
    """Drop the workers that were not seen for long and hold nothing: many have a name of their own
    for each time that they were started."""
    mine = (leases.c.tenant == workers.c.tenant, leases.c.worker == workers.c.worker)
    held = exists().where(*mine, leases.c.state == "active")
    old = workers.c.seen < clock.now() - FORGOTTEN_S
    tx.execute(delete(workers).where(old, ~held))
