"""Finished studies and packages that an administrator deletes. What a study found stays published.

The files that were sent for a study go with the last study that has them: their rows at once, what
is on disk when the service collects it (`Artifacts.collect`).
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, exists, func, select

from tilec.serve import audit
from tilec.serve.auth import Caller
from tilec.serve.events import ENDED
from tilec.serve.refusal import Refused
from tilec.serve.studies import row_of
from tilec.serve.tables import artifacts, events, leases, packages, studies, trials, uses


def study(tx: Connection, who: Caller, id_: str, day: float) -> None:
    """Delete a study with its trials. Raises Refused for one that has not ended, and for one that
    another under way starts from."""
    row = row_of(tx, who.tenant, id_)
    if row.state not in ENDED:
        raise Refused(409, f"the study is {row.state}: cancel it first")
    if (other := _started_from(tx, who.tenant, id_)) is not None:
        raise Refused(409, f"the study {other} starts from it and has not ended")
    count = select(func.count()).select_from(trials).where(trials.c.study == id_)
    said = {"name": row.name, "kernel": row.kernel, "state": row.state,
            "trials": tx.execute(count).scalar_one()}  # fmt: skip
    for table in (trials, leases, events):
        tx.execute(delete(table).where(table.c.study == id_))
    tx.execute(delete(studies).where(studies.c.id == id_))
    said["artifacts"] = _unused(tx, who.tenant, id_)
    audit.wrote(tx, who, "delete study", id_, said, day)


def _started_from(tx: Connection, tenant: str, id_: str) -> str | None:
    """A study under way whose search starts from the trials of this one."""
    said = select(studies.c.id, studies.c.sources).where(
        studies.c.tenant == tenant, studies.c.state.not_in(ENDED),
        studies.c.sources.contains(id_, autoescape=True))  # fmt: skip
    found = (r.id for r in tx.execute(said) if id_ in (s for s, _ in json.loads(r.sources)))
    return next(found, None)


def _unused(tx: Connection, tenant: str, id_: str) -> list[str]:
    """Drop the artifacts that were sent for a study and for no other; their digests."""
    mine = select(uses.c.digest).where(uses.c.tenant == tenant, uses.c.study == id_)
    digests = tx.execute(mine.order_by(uses.c.digest)).scalars().all()
    tx.execute(delete(uses).where(uses.c.tenant == tenant, uses.c.study == id_))
    dropped: list[str] = []
    for digest in digests:
        here = (uses.c.tenant == tenant, uses.c.digest == digest)
        if not tx.execute(select(exists().where(*here))).scalar_one():
            tx.execute(delete(artifacts).where(
                artifacts.c.tenant == tenant, artifacts.c.digest == digest))  # fmt: skip
            dropped.append(digest)
    return dropped


def package(tx: Connection, who: Caller, id_: str, day: float) -> None:
    """Delete a package. What other hosts took over from it stays there. Raises Refused."""
    mine = (packages.c.tenant == who.tenant, packages.c.id == id_)
    row = tx.execute(select(packages.c.size, packages.c.created).where(*mine)).first()
    if row is None:
        raise Refused(404, "there is no such package")
    tx.execute(delete(packages).where(*mine))
    audit.wrote(tx, who, "delete package", id_, {"size": row.size, "created": row.created}, day)
