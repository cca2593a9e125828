"""Files named after the SHA-256 of what they hold: checked as they come in, never changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from tilec.serve.database import Database
from tilec.serve.models import Stored
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import artifacts


class Artifacts:
    """The folder of artifacts. A tenant sees what it sent itself."""

    def __init__(self, database: Database, setup: Setup) -> None:
        self.database, self.setup, self.root = database, setup, setup.artifacts
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self.root.glob("incoming-*"):
            left.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def size(self, tenant: str, digest: str) -> int:
        """How large a tenant's artifact is. Raises Refused where it has none of that digest."""
        chosen = select(artifacts.c.size).where(
            artifacts.c.tenant == tenant, artifacts.c.digest == digest)  # fmt: skip
        with self.database.read() as tx:
            found = tx.execute(chosen).scalar()
        if found is None:
            raise Refused(404, "there is no such artifact")
        return found

    async def put(
        self, tenant: str, digest: str, parts: AsyncIterator[bytes], day: float
    ) -> Stored:
        """Take an artifact in. Raises Refused for what is too large, or not what its name says."""
        name = self.root / f"incoming-{secrets.token_hex(8)}"
        seen, size = hashlib.sha256(), 0
        try:
            with name.open("xb") as file:
                async for part in parts:
                    size += len(part)
                    if size > self.setup.limits.artifact:
                        raise Refused(413, f"at most {self.setup.limits.artifact} bytes are taken")
                    seen.update(part)
                    file.write(part)
                if seen.hexdigest() != digest:
                    raise Refused(422, "the content has another digest", "digest")
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(self._keep, tenant, digest, size, name, day)
        finally:
            name.unlink(missing_ok=True)
        return Stored(digest=digest, size=size)

    def _keep(self, tenant: str, digest: str, size: int, name: Path, day: float) -> None:
        def change(tx: Connection) -> None:
            mine = (artifacts.c.tenant == tenant, artifacts.c.digest == digest)
            if tx.execute(select(artifacts.c.size).where(*mine)).first() is not None:
                return
            used = select(func.coalesce(func.sum(artifacts.c.size), 0))
            if tx.execute(used.where(artifacts.c.tenant == tenant)).scalar_one() + size > (
                    self.setup.limits.quota):  # fmt: skip
                raise Refused(413, "the quota of this tenant is spent", code="quota")
            path = self.path(digest)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            _linked(name, path)
            tx.execute(insert(artifacts).values(tenant=tenant, digest=digest, size=size,
                                                created=day))  # fmt: skip

        self.database.write(change)


def _linked(name: Path, path: Path) -> None:
    """Give a file its name; another upload of the same content may have been faster."""
    try:
        os.link(name, path)
    except FileExistsError:
        return
