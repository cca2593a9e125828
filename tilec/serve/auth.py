"""Who asks: tokens with scopes, of a tenant. Only digests of secrets are kept.

A token is `tilec_ID_SECRET`. It is looked up by its ID and its digest compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tilec.ir.errors import TileError
from tilec.serve.tables import tokens

SCOPES = ("read", "submit", "worker", "admin")
FORM = re.compile(r"tilec_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()  # no secret has it


@dataclass(frozen=True)
class Caller:
    """A tenant and what may be done for it. `admin` may do everything, within its tenant."""

    tenant: str
    scopes: frozenset[str]
    token: str  # its id; empty for an anonymous caller

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


ANONYMOUS = Caller("default", frozenset(SCOPES), "")


def day() -> float:
    """The time of day that tokens end by."""
    return time.time()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def made(tx: Connection, name: str, tenant: str, scopes: Iterable[str], now: float,
         days: float | None = None) -> str:  # fmt: skip
    """A new token. It is shown this once."""
    wanted = sorted(set(scopes))
    unknown = [s for s in wanted if s not in SCOPES]
    if unknown or not wanted:
        raise TileError(f"{unknown[0] if unknown else 'nothing'} is no scope",
                        hint=", ".join(SCOPES))  # fmt: skip
    id_, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = None if days is None else now + days * 86400
    tx.execute(insert(tokens).values(
        id=id_, digest=_digest(secret), name=name, tenant=tenant, scopes=" ".join(wanted),
        created=now, expires=expires, revoked=None))  # fmt: skip
    return f"tilec_{id_}_{secret}"


def caller(tx: Connection, text: str, now: float) -> Caller | None:
    """Whose token this is; None for one that is wrong, expired or revoked."""
    form = FORM.fullmatch(text)
    id_, secret = form.groups() if form else ("", "")
    row = tx.execute(select(tokens).where(tokens.c.id == id_)).first()
    same = hmac.compare_digest(_digest(secret), row.digest if row else NOBODY)
    if row is None or not same or not _holds(row, now):
        return None
    return Caller(row.tenant, frozenset(row.scopes.split()), row.id)


def holds(tx: Connection, who: Caller, now: float) -> bool:
    """Whether a caller's token, which was right, still is: what goes on for long asks again."""
    if not who.token:
        return True
    row = tx.execute(select(tokens).where(tokens.c.id == who.token)).first()
    return row is not None and _holds(row, now)


def _holds(row: Row[Any], now: float) -> bool:
    return row.revoked is None and (row.expires is None or row.expires > now)


def revoked(tx: Connection, id_: str, now: float) -> bool:
    """End a token; whether there was one to end."""
    said = update(tokens).where(tokens.c.id == id_, tokens.c.revoked.is_(None)).values(revoked=now)
    return tx.execute(said).rowcount == 1


def listed(tx: Connection) -> list[dict[str, Any]]:
    """The tokens without their digests, the oldest first."""
    shown = [c for c in tokens.c if c.name != "digest"]
    rows = tx.execute(select(*shown).order_by(tokens.c.created, tokens.c.id))
    return [dict(r) for r in rows.mappings()]
