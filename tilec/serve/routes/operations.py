"""/healthz, /readyz, /metrics, /v1/audit: for those who keep the service running."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from tilec.serve import audit
from tilec.serve.models import Audited, Health
from tilec.serve.refusal import DOCUMENTED, Refused
from tilec.serve.routes.asked import Admin, Reader, Served

Before = Annotated[int | None, Query(ge=1, lt=2**53)]
router = APIRouter(tags=["operations"], responses=DOCUMENTED)


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok", version=version("tilec"))


@router.get("/readyz")
def readyz(service: Served) -> Health:
    """Whether the database answers too."""
    try:
        service.database.check()
    except SQLAlchemyError:
        raise Refused(503, "the database does not answer") from None
    return Health(status="ok", version=version("tilec"))


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(who: Reader, service: Served) -> Response:
    """Figures for Prometheus."""
    del who
    with service.database.read() as tx:
        page = service.metrics.page(tx, service.clock)
    return Response(page, media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/audit")
def audited(who: Admin, service: Served, before: Before = None) -> list[Audited]:
    """What administrators of the caller's tenant deleted, the newest first; `before` continues."""
    with service.database.read() as tx:
        return audit.listed(tx, who.tenant, before)
