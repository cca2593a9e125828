"""/v1/leases: a worker claims a trial, says that it lives, and ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from tilec.serve import claims, leasing, models, replies
from tilec.serve.auth import Caller
from tilec.serve.refusal import DOCUMENTED
from tilec.serve.routes.asked import IdPath, Once, Served, WorkerCaller
from tilec.serve.service import Service

router = APIRouter(prefix="/v1/leases", tags=["leases"], responses=DOCUMENTED)
POLL_S = 1.0  # for what another server did
PLAN_S = 8.0  # that a claim waits for proposals, even if it does not wait for trials


@router.post("", responses={204: {"description": "no trial"}, 410: DOCUMENTED[409] | {
    "description": "the worker is being drained"}}, response_model=models.Lease)  # fmt: skip
async def claim(request: Request, said: models.LeaseRequest, who: WorkerCaller, service: Served,
                key: Once = None) -> models.Lease | Response:  # fmt: skip
    """Claim a trial; 204 where there is none within `wait_s` seconds, or within 8 where a sampler
    is at work."""
    end = time.monotonic() + said.wait_s
    claimant = claims.Claimant.of(who, said)
    first = True
    while True:
        change = service.change
        if first or await asyncio.to_thread(_waiting, service, claimant):
            found = await asyncio.to_thread(_claimed, service, claimant, key)
            match found:
                case models.Lease():
                    return found
                case claims.Wanted(study=study):
                    if await _planned(service, study, max(end - time.monotonic(), PLAN_S)):
                        first = True
                        continue
                case None:
                    pass
        first = False
        left = end - time.monotonic()
        if left <= 0 or await request.is_disconnected():
            return Response(status_code=204)
        await service.wait(change, min(left, POLL_S))


async def _planned(service: Service, study: str, seconds: float) -> bool:
    """Plan a study; whether that ended within some seconds. It goes on after them."""
    start = time.monotonic()
    try:
        added = await asyncio.wait_for(asyncio.shield(service.planner.plan(study)), seconds)
    except TimeoutError:
        return False
    service.metrics.plans.observe(time.monotonic() - start)
    service.changed()
    return added


def _waiting(service: Service, claimant: claims.Claimant) -> bool:
    with service.database.read() as tx:
        return claims.waiting(tx, claimant, service.clock, service.setup)


def _claimed(service: Service, claimant: claims.Claimant,
             key: str | None) -> models.Lease | claims.Wanted | None:  # fmt: skip
    request = {"claim": claimant.said.model_dump()}

    def change(tx: Connection) -> models.Lease | claims.Wanted | None:
        if key is not None:
            known = replies.kept(tx, claimant.by.tenant, key, request, replies.Made)
            if known is not None:
                return claims.lease(tx, known.id, service.setup)
        found = claims.claimed(tx, claimant, service.clock, service.setup)
        if isinstance(found, models.Lease):
            made = replies.Made(id=found.lease)
            replies.keep(tx, claimant.by.tenant, key, request, service.clock.day(), made)
        return found

    start = time.monotonic()
    found = service.database.write(change)
    service.metrics.claims.observe(time.monotonic() - start)
    if isinstance(found, models.Lease):
        service.changed()
    return found


@router.post("/{lease}:heartbeat")
def heartbeat(lease: IdPath, said: models.Heartbeat, who: WorkerCaller, service: Served,
              key: Once = None) -> models.Beat:  # fmt: skip
    """Hold a lease for as long again. 409: the trial is another's now, or ended."""
    del key  # it is the same however often it is done
    with _late(service, said):
        return service.database.write(lambda tx: leasing.beat(
            tx, who.tenant, lease, said.token, service.clock, service.setup))  # fmt: skip


@router.post("/{lease}:complete")
def complete(lease: IdPath, said: models.Completion, who: WorkerCaller, service: Served,
             key: Once = None) -> models.Ended:  # fmt: skip
    """End a trial with its times. 409: it is too late, nothing is changed."""
    ended = _ended(service, who, lease, key, said, lambda tx: leasing.complete(
        tx, who.tenant, lease, said, service.clock))  # fmt: skip
    service.metrics.completed.inc()
    service.metrics.measured.inc(said.cost_s)
    service.metrics.compiled.inc(said.compile_s or 0.0)
    return ended


@router.post("/{lease}:fail")
def fail(lease: IdPath, said: models.FailureReport, who: WorkerCaller, service: Served,
         key: Once = None) -> models.Ended:  # fmt: skip
    """End a trial that has no times. 409: it is too late, nothing is changed."""
    ended = _ended(service, who, lease, key, said, lambda tx: leasing.fail(
        tx, who.tenant, lease, said, service.clock))  # fmt: skip
    service.metrics.failures.labels(said.failure).inc()
    service.metrics.measured.inc(said.cost_s)
    return ended


def _ended(service: Service, who: Caller, lease: str, key: str | None, said: BaseModel,
           end: Callable[[Connection], models.Ended]) -> models.Ended:  # fmt: skip
    request = {"end": lease, "said": said.model_dump()}
    with _late(service, said):
        found = service.once(who.tenant, key, request, models.Ended, end)
    service.changed()
    return found


@contextmanager
def _late(service: Service, said: BaseModel) -> Generator[None]:
    """Keeps what is said too late as evidence."""
    try:
        yield
    except leasing.Late as late:
        service.metrics.late.inc()
        kept = late  # the name of an exception ends with its block
        service.database.write(
            lambda tx: leasing.keep_late(tx, kept, said.model_dump(), service.clock))  # fmt: skip
        raise
