"""What every route is given: the service, who asks, and the header of a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tilec.serve.auth import ANONYMOUS, Caller
from tilec.serve.refusal import Refused
from tilec.serve.service import Service

ID = r"^[a-z][0-9a-f]{20}$"
bearer = HTTPBearer(auto_error=False, scheme_name="token")


async def service_of(request: Request) -> Service:
    """The service that the application runs."""
    return request.app.state.service


def needs(*scopes: str) -> Callable[..., Any]:
    """A dependency: the caller, who has one of these scopes."""

    async def allowed(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
        service: Annotated[Service, Depends(service_of)],
    ) -> Caller:
        found = await _caller(request, given, service)
        if not any(found.may(s) for s in scopes):
            raise Refused(403, f"this needs a token with the scope {' or '.join(scopes)}")
        return found

    return allowed


async def _caller(
    request: Request, given: HTTPAuthorizationCredentials | None, service: Service
) -> Caller:
    if "authorization" not in request.headers:
        if service.setup.anonymous:
            return ANONYMOUS
        raise Refused(401, "this needs a token: Authorization: Bearer TOKEN")

    found = None if given is None else await service.caller(given.credentials)
    if found is None:
        raise Refused(401, "the token is wrong, expired or revoked")
    return found


Served = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(needs("read"))]
Submitter = Annotated[Caller, Depends(needs("submit"))]
WorkerCaller = Annotated[Caller, Depends(needs("worker"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
Uploader = Annotated[Caller, Depends(needs("worker", "submit"))]
Downloader = Annotated[Caller, Depends(needs("read", "worker"))]
Once = Annotated[
    str | None,
    Header(alias="Idempotency-Key", pattern=r"^[A-Za-z0-9._:-]{1,128}$",
           description="A write that is sent again with the same key is made once."),
]  # fmt: skip
IdPath = Annotated[str, Path(pattern=ID)]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
WORKER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
WorkerPath = Annotated[str, Path(pattern=WORKER)]
WorkerCursor = Annotated[str, Query(pattern=WORKER)]
Cursor = Annotated[str | None, Query(pattern=ID)]
After = Annotated[int, Query(ge=0, le=1_000_000)]
