"""/v1/artifacts: files by the digest of their content."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response

from tilec.serve import models
from tilec.serve.models import Stored
from tilec.serve.refusal import DOCUMENTED
from tilec.serve.routes.asked import Digest, Downloader, Served, Uploader

router = APIRouter(prefix="/v1/artifacts/sha256", tags=["artifacts"], responses=DOCUMENTED)
BINARY = "application/octet-stream"
CONTENT = {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}


@router.put("/{digest}", status_code=201, openapi_extra={"requestBody": {"required": True,
                                                                        **CONTENT}})  # fmt: skip
async def put(request: Request, digest: Digest, who: Uploader, service: Served,
              study: Annotated[models.Id | None, Query()] = None) -> Stored:  # fmt: skip
    """Send a file. It is refused where its SHA-256 is not the digest in the path. One that is sent
    for a study is deleted with it, unless it was sent for another too."""
    day = service.clock.day()
    return await service.artifacts.put(who.tenant, digest, request.stream(), day, study)


def _headers(digest: str) -> dict[str, str]:
    return {"ETag": f'"{digest}"', "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Disposition": f'attachment; filename="{digest}"'}  # fmt: skip


@router.get("/{digest}", response_class=FileResponse, responses={200: CONTENT})
def get(digest: Digest, who: Downloader, service: Served) -> FileResponse:
    """A file."""
    service.artifacts.size(who.tenant, digest)
    return FileResponse(service.artifacts.path(digest), media_type=BINARY,
                        headers=_headers(digest))  # fmt: skip


@router.head("/{digest}", response_class=Response)
def head(digest: Digest, who: Downloader, service: Served) -> Response:
    """Whether a file is here, and how large it is."""
    size = service.artifacts.size(who.tenant, digest)
    return Response(headers={**_headers(digest), "Content-Length": str(size)}, media_type=BINARY)
