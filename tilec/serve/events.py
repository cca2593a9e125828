"""What happened to a study, numbered without gaps: what event streams are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tilec.runtime.cache.key import canonical
from tilec.serve.tables import events, studies

ENDED = ("done", "cancelled", "failed")
BLOCK = 500


def happened(tx: Connection, study: str, kind: str, data: dict[str, Any]) -> None:
    """Add an event. The number comes from the study's row, so numbers are in order of commits."""
    said = update(studies).where(studies.c.id == study).values(events=studies.c.events + 1)
    number = tx.execute(said.returning(studies.c.events)).scalar_one()
    tx.execute(insert(events).values(study=study, number=number, kind=kind, data=canonical(data)))


def since(tx: Connection, study: str, number: int) -> Sequence[tuple[int, str, str]]:
    """Events after a number: number, kind, JSON."""
    said = select(events.c.number, events.c.kind, events.c.data).where(
        events.c.study == study, events.c.number > number)  # fmt: skip
    return [(n, k, d) for n, k, d in tx.execute(said.order_by(events.c.number).limit(BLOCK))]


def state(tx: Connection, study: str, name: str, now: float, note: str = "") -> None:
    """Bring a study into a state."""
    said = update(studies).where(studies.c.id == study).values(state=name, note=note)
    tx.execute(said.values(finished=now) if name in ENDED else said)
    happened(tx, study, "state", {"state": name, "note": note})


def line(number: int, kind: str, data: str) -> str:
    """An event as a server-sent event."""
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n"


def ended(tx: Connection, study: str) -> bool:
    """Whether nothing will happen to a study any more."""
    return tx.execute(select(studies.c.state).where(studies.c.id == study)).scalar() in ENDED
