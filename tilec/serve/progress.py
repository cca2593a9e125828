"""What follows when a trial ends: more trials, the confirmation of the best few, a winner.

The finalists are measured again in turns with the default and with what is published already, by
another token where there is one: no single worker's times decide. What is published is chosen as
tuning on one machine does (`tilec.tune.contest`), so it is never slower than the default.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tilec.runtime.cache.key import canonical
from tilec.serve import models, studies
from tilec.serve.clock import Clock
from tilec.serve.events import state as into
from tilec.serve.keys import config_key, new_id
from tilec.serve.tables import configs as published
from tilec.serve.tables import studies as table
from tilec.serve.tables import trials
from tilec.tune import contest
from tilec.tune.config import Config
from tilec.tune.records import Trial

OPEN = ("pending", "leased")
CONFIRMATIONS = 4  # that may fail, each of half as many configs as the one before


def advance(tx: Connection, study: str, clock: Clock) -> None:
    """Bring a study on as far as its trials allow."""
    row = tx.execute(select(table).where(table.c.id == study).with_for_update()).one()
    waiting = select(func.count()).select_from(trials).where(
        trials.c.study == study, trials.c.state.in_(OPEN))  # fmt: skip
    if tx.execute(waiting).scalar_one():
        return
    if row.state in ("queued", "running") and (row.planned >= row.budget or row.exhausted):
        _confirm(tx, row, clock, row.confirm)
    elif row.state == "confirming":
        _conclude(tx, row, clock)


def _confirm(tx: Connection, row: Row[Any], clock: Clock, most: int) -> None:
    """Add the trial that measures the best few again."""
    timed = select(trials.c.configs, trials.c.worker, trials.c.caller).where(
        trials.c.study == row.id, trials.c.purpose == "measure", trials.c.state == "done"
    )
    order = timed.order_by(trials.c.time, trials.c.number)
    best = tx.execute(order.limit(most)).all()
    if not best:
        studies.stop(tx, row.id, "failed", clock.day(), "no config ran")
        return
    chosen = [json.loads(r.configs)[0] for r in best]
    default = json.loads(row.space).get("default")
    ran = {canonical(json.loads(r.configs)[0]) for r in tx.execute(timed)}
    if default is None or canonical(default) not in ran:
        default = min(chosen, key=canonical)  # the same in every study with these finalists
    chosen = [default, *(c for c in chosen if c != default)]
    here = _incumbent(tx, row)
    if here is not None and here not in chosen:
        chosen.append(here)
    if row.state != "confirming":
        into(tx, row.id, "confirming", clock.day())
    add_trial(tx, row.id, "confirm", chosen, clock, (best[0].worker, best[0].caller))


def _incumbent(tx: Connection, row: Row[Any]) -> dict[str, Any] | None:
    """The config that is published under the key of a study, if it is of the space."""
    space = studies.Space.from_json(json.loads(row.space))
    said = select(published.c.published).where(
        published.c.tenant == row.tenant, published.c.key == key_of(row))  # fmt: skip
    found = tx.execute(said).scalar()
    config = None if found is None else json.loads(found)["config"]
    return config if config is not None and Config.from_json(config) in space else None


def key_of(row: Row[Any]) -> str:
    """The key under which the winner of a study is found."""
    policy = models.Policy.model_validate(json.loads(row.policy))
    return config_key(row.kernel, row.measured_device, row.toolchain, policy)


def add_trial(tx: Connection, study: str, purpose: str, chosen: list[dict[str, Any]],
              clock: Clock, avoid: tuple[str, str | None] | None = None) -> None:  # fmt: skip
    """A new trial at the end of a study, if possible not by the worker and caller to avoid."""
    last = select(func.coalesce(func.max(trials.c.number), 0)).where(trials.c.study == study)
    tx.execute(insert(trials).values(
        id=new_id("t"), study=study, number=tx.execute(last).scalar_one() + 1, purpose=purpose,
        configs=canonical(chosen), state="pending", attempts=0, lost=0,
        avoid=avoid and avoid[0], avoid_caller=avoid and avoid[1],
        ready=clock.now(), detail="", created=clock.day()))  # fmt: skip


def _conclude(tx: Connection, row: Row[Any], clock: Clock) -> None:
    """Publish what the last confirmation says, or confirm fewer configs where it failed."""
    said = select(trials).where(trials.c.study == row.id, trials.c.purpose == "confirm")
    last = tx.execute(said.order_by(trials.c.number.desc()).limit(1)).one()
    configs = map(Config.from_json, json.loads(last.configs))
    samples = json.loads((last.state == "done" and last.samples) or "[]")
    tried = [Trial(c, tuple(s / 1000 for s in times))
             for c, times in zip(configs, samples, strict=False) if times]  # fmt: skip
    if not tried:
        counted = said.with_only_columns(func.count())
        rounds = tx.execute(counted).scalar_one()
        if rounds < CONFIRMATIONS:
            _confirm(tx, row, clock, max(row.confirm >> rounds, 1))
        else:
            studies.stop(tx, row.id, "failed", clock.day(), "the confirmation failed")
        return
    config = contest.chosen([t.config for t in tried], [t.samples for t in tried])
    shown = {t.config: t for t in contest.paired(tried)}
    default = json.loads(row.space).get("default")
    of_default = None if default is None else shown.get(Config.from_json(default))
    _publish(tx, row, last, shown[config], of_default, clock)


def _publish(tx: Connection, row: Row[Any], last: Row[Any], won: Trial, default: Trial | None,
             clock: Clock) -> None:  # fmt: skip
    key, day = key_of(row), clock.day()
    policy = json.loads(row.policy)
    found = models.Published.model_validate({
        "key": key, "kernel": row.kernel, "family": row.family, "shape": json.loads(row.shape),
        "config": won.config.to_json(), "time_ms": 1000 * (won.seconds or 0.0),
        "provenance": {
            "study": row.id, "trial": last.id, "worker": last.worker or "",
            "device": json.loads(row.measured_on), "toolchain": row.toolchain, "policy": policy,
            "samples_ms": [1000 * s for s in won.samples], "date": day,
            "default_ms": default and 1000 * (default.seconds or 0.0),
        },
    })  # fmt: skip
    store(tx, row.tenant, found, row.id, day)
    text = canonical(found.model_dump())
    tx.execute(update(table).where(table.c.id == row.id).values(winner=text))
    into(tx, row.id, "done", day)


def store(tx: Connection, tenant: str, found: models.Published, study: str | None,
          day: float) -> None:  # fmt: skip
    """Put a config under its key, in place of what was there."""
    tx.execute(delete(published).where(published.c.tenant == tenant, published.c.key == found.key))
    tx.execute(insert(published).values(
        tenant=tenant, key=found.key, kernel=found.kernel, family=found.family, study=study,
        time=found.time_ms, published=canonical(found.model_dump()), created=day))  # fmt: skip
