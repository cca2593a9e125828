"""What administrators did that can't be undone: kept for good, a row for each."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select

from tilec.runtime.cache.key import canonical
from tilec.serve import models
from tilec.serve.auth import Caller
from tilec.serve.tables import audit

PAGE = 200


def wrote(tx: Connection, who: Caller, action: str, subject: str, detail: dict[str, Any],
          day: float) -> None:  # fmt: skip
    """Add a row: who did what to what, and what it was."""
    tx.execute(insert(audit).values(
        tenant=who.tenant, caller=who.token, action=action, subject=subject,
        detail=canonical(detail), created=day))  # fmt: skip


def listed(tx: Connection, tenant: str, before: int | None) -> list[models.Audited]:
    """The rows of a tenant, the newest first, those before a number."""
    said = select(audit).where(audit.c.tenant == tenant)
    if before is not None:
        said = said.where(audit.c.number < before)
    rows = tx.execute(said.order_by(audit.c.number.desc()).limit(PAGE))
    return [models.Audited(number=r.number, caller=r.caller, action=r.action, subject=r.subject,
                           detail=json.loads(r.detail), created=r.created)
            for r in rows]  # fmt: skip
