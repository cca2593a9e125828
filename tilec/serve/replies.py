"""Idempotency keys: a write that is sent again is answered as the first time, and made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, delete, insert, select

from tilec.runtime.cache.key import digest
from tilec.serve.refusal import Refused
from tilec.serve.tables import replies

KEPT_S = 24 * 3600.0
M = TypeVar("M", bound=BaseModel)


class Made(BaseModel):
    """What stands for something large that is in another table."""

    id: str


def kept(tx: Connection, tenant: str, key: str | None, request: object, kind: type[M]) -> M | None:
    """What was answered when the key came first, or None. Raises Refused for a key that came with
    another request."""
    said = select(replies.c.request, replies.c.reply).where(
        replies.c.tenant == tenant, replies.c.key == (key or ""))  # fmt: skip
    row = tx.execute(said).first()
    if row is None:
        return None
    if row.request != digest(request):
        raise Refused(422, "this Idempotency-Key came with another request", "Idempotency-Key")
    return kind.model_validate_json(row.reply)


def keep(tx: Connection, tenant: str, key: str | None, request: object, now: float,
         reply: BaseModel) -> None:  # fmt: skip
    """Keep an answer with the effect that it had."""
    if key is not None:
        tx.execute(insert(replies).values(tenant=tenant, key=key, request=digest(request),
                                          reply=reply.model_dump_json(), created=now))  # fmt: skip


def once(tx: Connection, tenant: str, key: str | None, request: object, now: float, kind: type[M],
         make: Callable[[Connection], M]) -> M:  # fmt: skip
    """What `make` returns, or returned when the key came first."""
    found = kept(tx, tenant, key, request, kind)
    if found is None:
        found = make(tx)
        keep(tx, tenant, key, request, now, found)
    return found


def forget(tx: Connection, now: float) -> None:
    """Drop the replies that are too old to be asked for again."""
    tx.execute(delete(replies).where(replies.c.created < now - KEPT_S))
