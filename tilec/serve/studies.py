"""Studies: made, shown, listed, cancelled."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update
from sqlalchemy import and_ as both

from tilec.ir.errors import TileError
from tilec.runtime.cache.key import canonical
from tilec.serve import models
from tilec.serve.events import ENDED, happened
from tilec.serve.events import state as into
from tilec.serve.keys import new_id
from tilec.serve.refusal import Refused
from tilec.serve.setup import Limits
from tilec.serve.tables import leases, studies, trials
from tilec.tune.space import Space

PAGE, TRIAL_PAGE = 50, 500
SOURCES = 8  # other studies that a search starts from
LIGHT = [c for c in studies.c if c.name not in ("space", "job")]


def checked_space(request: models.StudyRequest) -> Space:
    """The space of a request. Raises Refused."""
    try:
        return Space.from_json(request.space.model_dump(exclude_none=True))
    except TileError as e:
        raise Refused(422, f"the space: {e.message}", "space") from None


def made(tx: Connection, tenant: str, request: models.StudyRequest, space: Space, day: float,
         limits: Limits) -> str:  # fmt: skip
    """The id of a new study."""
    active = select(func.count()).select_from(studies).where(
        studies.c.tenant == tenant, studies.c.state.not_in(ENDED))  # fmt: skip
    if tx.execute(active).scalar_one() >= limits.active:
        raise Refused(429, f"there are {limits.active} unfinished studies already")
    id_ = new_id("s")
    tx.execute(insert(studies).values(
        id=id_, tenant=tenant, name=request.name, state="queued", note="", kernel=request.kernel,
        family=request.family, job=canonical(request.job.model_dump()),
        recorded=request.job.space if isinstance(request.job, models.RecordedJob) else None,
        shape=canonical(request.shape), space=space.text, budget=request.budget,
        seed=request.seed, sampler="gp" if request.sampler == "auto" else request.sampler,
        policy=canonical(request.policy.model_dump()), device_kind=request.device.kind,
        device_name=request.device.name, toolchain=request.toolchain, priority=request.priority,
        confirm=request.confirm, timeout=request.timeout_s,
        work=request.work and canonical(request.work.model_dump()),
        sources=canonical(_sources(tx, tenant, request)), planned=0, exhausted=0, events=0,
        created=day,
    ))  # fmt: skip
    happened(tx, id_, "state", {"state": "queued", "note": ""})
    return id_


def _sources(tx: Connection, tenant: str, request: models.StudyRequest) -> list[list[Any]]:
    """Finished studies of the family with how similar they are: fixed now, so that a search that
    goes on after a restart starts from the same."""
    said = select(studies.c.id, studies.c.shape, studies.c.measured_on, studies.c.policy).where(
        studies.c.tenant == tenant, studies.c.family == request.family, studies.c.state == "done",
        studies.c.device_kind == request.device.kind)  # fmt: skip
    rows = tx.execute(said.order_by(studies.c.created.desc(), studies.c.id).limit(200)).all()
    found = [(_likeness(row, request), row.id) for row in rows]
    found.sort(key=lambda f: (-f[0], f[1]))
    return [[id_, weight] for weight, id_ in found[:SOURCES]]


def _likeness(row: Any, request: models.StudyRequest) -> float:
    """1 for the same shape on such a device; a factor of 2 in an extent halves it or less."""
    there, here = json.loads(row.shape), request.shape
    apart = 0.0
    for name in {*there, *here}:
        a, b = there.get(name), here.get(name)
        if isinstance(a, int | float) and isinstance(b, int | float) and min(a, b) > 0:
            apart += abs(math.log2(a / b))
        elif a != b:
            apart += 1
    name = json.loads(row.measured_on or "{}").get("name", "")
    device = 1.0 if fnmatchcase(name, request.device.name) else 0.5
    return round(max(device / (1 + apart), 0.01), 6)


def row_of(tx: Connection, tenant: str, id_: str, *, light: bool = True) -> Row[Any]:
    """A study's row. Raises Refused where the tenant has no such study."""
    chosen = select(*LIGHT) if light else select(studies)
    row = tx.execute(chosen.where(studies.c.id == id_, studies.c.tenant == tenant)).first()
    if row is None:
        raise Refused(404, "there is no such study")
    return row


def shown(tx: Connection, row: Row[Any]) -> models.Study:
    """A study as it stands."""
    return models.Study(**_fields(tx, row))


def detail(tx: Connection, row: Row[Any]) -> models.StudyDetail:
    """A study with its job and space."""
    sources = [id_ for id_, _ in json.loads(row.sources)]
    return models.StudyDetail.model_validate(
        {**_fields(tx, row), "job": json.loads(row.job), "space": json.loads(row.space),
         "sources": sources, "work": _work(row)})  # fmt: skip


def _work(row: Row[Any]) -> models.Work | None:
    """The work of a study, without the ceilings of another device than it is measured on."""
    if row.work is None:
        return None
    found = models.Work.model_validate(json.loads(row.work))
    if found.device in (None, row.measured_device):
        return found
    return models.Work(operations=found.operations, bytes=found.bytes)


def _fields(tx: Connection, row: Row[Any]) -> dict[str, Any]:
    grouped = select(trials.c.state, func.count()).where(trials.c.study == row.id)
    counts = {s: n for s, n in tx.execute(grouped.group_by(trials.c.state))}
    on = row.measured_on and models.Fingerprint.model_validate(json.loads(row.measured_on))
    winner = row.winner and models.Published.model_validate(json.loads(row.winner))
    return {
        "id": row.id, "name": row.name, "tenant": row.tenant, "state": row.state, "note": row.note,
        "kernel": row.kernel, "family": row.family, "shape": json.loads(row.shape),
        "budget": row.budget, "seed": row.seed, "sampler": row.sampler,
        "policy": models.Policy.model_validate(json.loads(row.policy)),
        "device": models.DeviceFilter(kind=row.device_kind, name=row.device_name),
        "measured_on": on, "toolchain": row.toolchain, "priority": row.priority,
        "created": row.created, "finished": row.finished, "trials": models.Counts(**counts),
        "best": _best(tx, row.id), "winner": winner,
    }  # fmt: skip


def _best(tx: Connection, study: str) -> models.Best | None:
    said = select(trials.c.id, trials.c.number, trials.c.configs, trials.c.time).where(
        trials.c.study == study, trials.c.state == "done", trials.c.time.is_not(None))  # fmt: skip
    row = tx.execute(said.order_by(trials.c.time, trials.c.number).limit(1)).first()
    if row is None:
        return None
    return models.Best(trial=row.id, number=row.number, config=json.loads(row.configs)[0],
                               time_ms=row.time)  # fmt: skip


def listed(tx: Connection, tenant: str, cursor: str | None, words: Sequence[str] = ()
           ) -> models.Page:  # fmt: skip
    """Studies that have all of some words, the newest first."""
    said = select(*LIGHT).where(studies.c.tenant == tenant, *map(_has, words))
    if cursor is not None:
        last = row_of(tx, tenant, cursor)
        as_old = both(studies.c.created == last.created, studies.c.id < last.id)
        said = said.where(or_(studies.c.created < last.created, as_old))
    said = said.order_by(studies.c.created.desc(), studies.c.id.desc()).limit(PAGE + 1)
    rows = tx.execute(said).all()
    return models.Page(studies=[shown(tx, r) for r in rows[:PAGE]],
                       cursor=rows[PAGE - 1].id if len(rows) > PAGE else None)  # fmt: skip


def _has(word: str) -> ColumnElement[bool]:
    """Whether a study is called so, in this state, on such a device, of this kernel or shape (M=16
    as well as 16)."""
    name, equals, value = word.lower().partition("=")
    text = f'"{name}":{value}' if equals else name
    shown = (studies.c.name, studies.c.state, studies.c.device_name, studies.c.measured_on,
             studies.c.shape, studies.c.kernel)  # fmt: skip
    return or_(*(func.lower(c).contains(text, autoescape=True) for c in shown))


def trial_page(tx: Connection, study: str, after: int) -> models.TrialPage:
    """Trials of a study after a number."""
    said = select(trials).where(trials.c.study == study, trials.c.number > after)
    rows = tx.execute(said.order_by(trials.c.number).limit(TRIAL_PAGE + 1)).all()
    more = str(rows[TRIAL_PAGE - 1].number) if len(rows) > TRIAL_PAGE else None
    return models.TrialPage(trials=[trial(r) for r in rows[:TRIAL_PAGE]], cursor=more)


def trial(row: Row[Any]) -> models.Trial:
    """A trial as it stands."""
    return models.Trial(
        id=row.id, study=row.study, number=row.number, purpose=row.purpose,
        configs=json.loads(row.configs), state=row.state, failure=row.failure,
        samples_ms=json.loads(row.samples or "[]"), attempts=row.attempts, worker=row.worker,
        cost_s=row.cost, compile_s=row.compiled, detail=row.detail, device=row.device,
        toolchain=row.toolchain, created=row.created, finished=row.finished)  # fmt: skip


def cancel(tx: Connection, tenant: str, id_: str, day: float) -> None:
    """End a study. What is being measured is told at its next heartbeat."""
    row = row_of(tx, tenant, id_)
    if row.state in ENDED:
        return
    stop(tx, id_, "cancelled", day, "")


def stop(tx: Connection, id_: str, name: str, day: float, note: str) -> None:
    """Bring a study to an end without a winner; nothing of it is measured any more."""
    open_ = update(trials).where(trials.c.study == id_, trials.c.state.in_(("pending", "leased")))
    tx.execute(open_.values(state="cancelled", finished=day))
    under_way = update(leases).where(leases.c.study == id_, leases.c.state == "active")
    tx.execute(under_way.values(state="cancelled"))
    into(tx, id_, name, day, note)
