"""/v1/workers: register, list, drain."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from tilec.serve import fleet, models
from tilec.serve.refusal import DOCUMENTED
from tilec.serve.routes.asked import (
    Admin,
    Once,
    Reader,
    Served,
    WorkerCaller,
    WorkerCursor,
    WorkerPath,
)

router = APIRouter(prefix="/v1/workers", tags=["workers"], responses=DOCUMENTED)


@router.post("", status_code=204)
def register(said: models.WorkerRequest, who: WorkerCaller, service: Served,
             key: Once = None) -> Response:  # fmt: skip
    """A worker starts. One that was drained may work again."""
    del key  # it is the same however often it is done

    def change(tx: Connection) -> None:
        fleet.register(tx, who, said, service.clock, service.setup)

    service.database.write(change)
    return Response(status_code=204)


@router.get("")
def list_workers(who: Reader, service: Served,
                 cursor: WorkerCursor = "") -> models.Workers:  # fmt: skip
    """The workers of the caller's tenant by name."""
    with service.database.read() as tx:
        return fleet.listed(tx, who.tenant, service.clock, cursor)


@router.post("/{worker}:drain", status_code=204)
def drain(worker: WorkerPath, who: Admin, service: Served, key: Once = None) -> Response:
    """Give a worker no more trials: its next claim is answered by 410."""
    del key  # it is the same however often it is done
    service.database.write(lambda tx: fleet.drain(tx, who.tenant, worker))
    return Response(status_code=204)
