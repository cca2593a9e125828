"""/v1/studies: submit, list, read, cancel, delete, trials, events, exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection
from starlette.types import Receive, Scope, Send

from tilec.serve import analysis, auth, deletion, events, exports, models, replies, studies
from tilec.serve.auth import Caller
from tilec.serve.refusal import DOCUMENTED, Refused
from tilec.serve.routes.asked import (
    Admin,
    After,
    Cursor,
    IdPath,
    Once,
    Reader,
    Served,
    Submitter,
)
from tilec.serve.service import Service

router = APIRouter(prefix="/v1/studies", tags=["studies"], responses=DOCUMENTED)
SILENCE_S = 15.0  # after which a stream says that it lives
POLL_S = 1.0  # for what another server did
WORDS = 8  # that studies are looked for by, at most
Find = Annotated[models.Short, Query()]
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$")]


@router.post("", status_code=201)
def submit(said: models.StudyRequest, who: Submitter, service: Served,
           key: Once = None) -> models.StudyDetail:  # fmt: skip
    """Submit a study."""
    space = studies.checked_space(said)

    def make(tx: Connection) -> replies.Made:
        day, limits = service.clock.day(), service.setup.limits
        return replies.Made(id=studies.made(tx, who.tenant, said, space, day, limits))

    made = service.once(who.tenant, key, {"submit": said.model_dump()}, replies.Made, make)
    service.changed()
    with service.database.read() as tx:
        return studies.detail(tx, studies.row_of(tx, who.tenant, made.id, light=False))


@router.get("")
def list_studies(who: Reader, service: Served, cursor: Cursor = None,
                 find: Find = "") -> models.Page:  # fmt: skip
    """The studies of the caller's tenant, the newest first; `find`: those that have every word of
    it in their name, state, device, shape or kernel."""
    with service.database.read() as tx:
        return studies.listed(tx, who.tenant, cursor, find.split()[:WORDS])


@router.get("/{study}")
def read(study: IdPath, who: Reader, service: Served) -> models.StudyDetail:
    """A study with its job and space."""
    with service.database.read() as tx:
        return studies.detail(tx, studies.row_of(tx, who.tenant, study, light=False))


@router.post("/{study}:cancel")
def cancel(study: IdPath, who: Submitter, service: Served, key: Once = None) -> models.Study:
    """End a study; one that has ended stays as it is."""
    del key  # it is the same however often it is done

    def change(tx: Connection) -> models.Study:
        studies.cancel(tx, who.tenant, study, service.clock.day())
        return studies.shown(tx, studies.row_of(tx, who.tenant, study))

    found = service.database.write(change)
    service.changed()
    return found


@router.delete("/{study}", status_code=204)
def delete(study: IdPath, who: Admin, service: Served, key: Once = None) -> Response:
    """Delete a study that has ended, and what was sent for it. What it found stays published."""
    day = service.clock.day()
    service.gone_once(who.tenant, key, study, lambda tx: deletion.study(tx, who, study, day))
    return Response(status_code=204)


@router.get("/{study}/trials")
def list_trials(study: IdPath, who: Reader, service: Served,
                cursor: After = 0) -> models.TrialPage:  # fmt: skip
    """The trials of a study in order."""
    with service.database.read() as tx:
        studies.row_of(tx, who.tenant, study)
        return studies.trial_page(tx, study, cursor)


@router.get("/{study}/analysis")
def analyse(request: Request, study: IdPath, who: Reader, service: Served) -> analysis.Analysis:
    """What the trials of a study say: see `tilec.serve.analysis`."""

    def gone() -> bool:
        return from_thread.run(request.is_disconnected)

    return service.analyses.of(service.database, who.tenant, study, gone)


@router.get("/{study}/t4")
def t4(study: IdPath, who: Reader, service: Served) -> dict[str, Any]:
    """The trials of a study as Kernel Tuner's T4 results."""
    with service.database.read() as tx:
        return exports.t4(tx, studies.row_of(tx, who.tenant, study))


@router.get("/{study}/events", response_class=StreamingResponse,
            responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
async def stream(request: Request, study: IdPath, who: Reader, service: Served, after: After = 0,
                 last: LastEvent = None) -> StreamingResponse:  # fmt: skip
    """What happens to a study, as server-sent events, until it has ended. `after` or Last-Event-ID
    is the number of the last event that is known."""

    def row() -> Any:
        with service.database.read() as tx:
            return studies.row_of(tx, who.tenant, study)

    await asyncio.to_thread(row)
    if service.streams[who.tenant] >= service.setup.limits.streams:
        raise Refused(429, "there are too many event streams")
    return Stream(service, who, _told(request, service, who, study, int(last or after)))


class Stream(StreamingResponse):
    """An event stream, counted from the moment that it is promised."""

    def __init__(self, service: Service, who: Caller, lines: AsyncGenerator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self._streams, self._tenant = service.streams, who.tenant
        self._streams[self._tenant] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams[self._tenant] -= 1


async def _told(
    request: Request, service: Service, who: Caller, study: str, number: int
) -> AsyncGenerator[str]:
    def fresh() -> Any:
        with service.database.read() as tx:
            if not auth.holds(tx, who, service.clock.day()):
                return None
            ended = events.ended(tx, study)  # read first: what is after the end is never missed
            return ended, events.since(tx, study, number)

    silent = 0.0
    while not await request.is_disconnected():
        change = service.change
        told = await asyncio.to_thread(fresh)
        if told is None:
            return  # without a word: whoever asks again is told why
        ended, found = told
        for number, kind, data in found:
            yield events.line(number, kind, data)
        if ended and not found:
            yield "event: end\ndata: {}\n\n"
            return
        silent = 0.0 if found else silent + POLL_S
        if silent >= SILENCE_S:
            silent = 0.0
            yield ": nothing new\n\n"
        if not found:
            await service.wait(change, POLL_S)
