"""/v1/studies: submit, list, read, cancel, trials, events, exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from tilec.serve import analysis, events, exports, models, replies, studies
from tilec.serve.refusal import DOCUMENTED, Refused
from tilec.serve.routes.asked import (
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
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$")]


@router.post("", status_code=201)
def submit(said: models.StudyRequest, who: Submitter, service: Served,
           key: Once = None) -> models.StudyDetail:  # fmt: skip
    """Submit a study."""
    space = studies.checked_space(said)

    def change(tx: Connection) -> models.StudyDetail:
        def make() -> replies.Made:
            limits = service.setup.limits
            return replies.Made(id=studies.made(tx, who.tenant, said, space, day, limits))

        request, day = {"submit": said.model_dump()}, service.clock.day()
        made = replies.once(tx, who.tenant, key, request, day, replies.Made, make)
        return studies.detail(tx, studies.row_of(tx, who.tenant, made.id, light=False))

    made = service.database.write(change)
    service.changed()
    return made


@router.get("")
def list_studies(who: Reader, service: Served, cursor: Cursor = None) -> models.Page:
    """The studies of the caller's tenant, the newest first."""
    with service.database.read() as tx:
        return studies.listed(tx, who.tenant, cursor)


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


@router.get("/{study}/trials")
def list_trials(study: IdPath, who: Reader, service: Served,
                cursor: After = 0) -> models.TrialPage:  # fmt: skip
    """The trials of a study in order."""
    with service.database.read() as tx:
        studies.row_of(tx, who.tenant, study)
        return studies.trial_page(tx, study, cursor)


@router.get("/{study}/analysis")
def analyse(study: IdPath, who: Reader, service: Served) -> analysis.Analysis:
    """What the trials of a study say: see `tilec.serve.analysis`."""
    return service.analyses.of(service.database, who.tenant, study)


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
    if service.streams >= service.setup.limits.streams:
        raise Refused(429, "there are too many event streams")
    return StreamingResponse(_told(request, service, study, int(last or after)),
                             media_type="text/event-stream")  # fmt: skip


async def _told(request: Request, service: Service, study: str, number: int) -> AsyncGenerator[str]:
    def fresh() -> Any:
        with service.database.read() as tx:
            ended = events.ended(tx, study)  # read first: what is after the end is never missed
            return ended, events.since(tx, study, number)

    service.streams += 1
    try:
        silent = 0.0
        while not await request.is_disconnected():
            change = service.change
            ended, found = await asyncio.to_thread(fresh)
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
    finally:
        service.streams -= 1
