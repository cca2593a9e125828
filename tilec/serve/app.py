"""The application: routes, what errors become, and the guard around them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tilec.serve.guard import Guard
from tilec.serve.refusal import WORDS, Refused
from tilec.serve.routes import artifacts, configs, fleet, leases, operations, studies
from tilec.serve.service import Service

UI = Path(__file__).parent / "ui"
log = logging.getLogger("tilec.serve")


def application(service: Service) -> ASGIApp:
    """The service over HTTP."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    app = FastAPI(title="tilec", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
                  description="Tuning as a service.", redirect_slashes=False)  # fmt: skip
    app.state.service = service
    for module in (studies, leases, configs, artifacts, fleet, operations):
        app.include_router(module.router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(SQLAlchemyError, _unavailable)
    app.add_exception_handler(Exception, _broken)
    if UI.is_dir():
        app.mount("/ui", StaticFiles(directory=UI, html=True), name="ui")
        for path in ("/", "/ui"):
            app.add_api_route(path, lambda: RedirectResponse("/ui/"), include_in_schema=False)
    return Guard(app, service.setup, service.metrics.request, service.caller)


async def _refused(_: Request, error: Any) -> JSONResponse:
    return error.response()


async def _invalid(_: Request, error: Any) -> JSONResponse:
    """The first thing that is wrong, and where. What was sent is not repeated."""
    first = error.errors()[0]
    where = ".".join(str(p)[:100] for p in first["loc"])[:200]
    status = 400 if first["type"] == "json_invalid" else 422
    return Refused(status, first["msg"], where).response()


async def _http(_: Request, error: Any) -> JSONResponse:
    known = error.status_code if error.status_code in WORDS else 400
    return Refused(known, str(error.detail)).response(error.headers)


async def _gone(_: Request, __: Any) -> JSONResponse:
    """Nobody reads this: it is for the log and the figures."""
    return Refused(400, "the request ended early").response()


async def _unavailable(_: Request, error: Any) -> JSONResponse:
    """A full disk, a database that is gone: nothing was changed, and it may be tried again."""
    log.error("the database: %s: %s", type(error).__name__, getattr(error, "orig", ""))
    return Refused(503, "the database can't do this now").response()


async def _broken(_: Request, error: Exception) -> JSONResponse:
    log.error("a request broke down", exc_info=error)
    return JSONResponse({"error": {"code": "broken", "message": "this is a fault of the service",
                                   "where": None}}, 500)  # fmt: skip
