"""Files named after the SHA-256 of what they hold: checked as they come in, never changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, exists, func, insert, select

from tilec.serve.database import Database
from tilec.serve.models import Stored
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.studies import row_of
from tilec.serve.tables import artifacts, uses

LEFT_S = 3600.0  # after which a file that comes in was given up


class Artifacts:
    """The folder of artifacts. A tenant sees what it sent itself."""

    def __init__(self, database: Database, setup: Setup) -> None:
        self.database, self.setup, self.root = database, setup, setup.artifacts
        self._under_way: Counter[str] = Counter()
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self.root.glob("incoming-*"):
            with suppress(FileNotFoundError):  # another server may share the folder
                if time.time() - left.stat().st_mtime > LEFT_S:
                    left.unlink()

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def size(self, tenant: str, digest: str) -> int:
        """How large a tenant's artifact is. Raises Refused where it has none of that digest."""
        chosen = select(artifacts.c.size).where(
            artifacts.c.tenant == tenant, artifacts.c.digest == digest)  # fmt: skip
        with self.database.read() as tx:
            found = tx.execute(chosen).scalar()
        if found is None or not self.path(digest).is_file():
            raise Refused(404, "there is no such artifact")
        return found

    async def put(
        self, tenant: str, digest: str, parts: AsyncIterator[bytes], day: float,
        study: str | None = None,
    ) -> Stored:  # fmt: skip
        """Take an artifact in, for a study if one is named: it goes with the last of them.

        Raises Refused for what is too large, not what its name says, or for no study of the tenant.
        """
        name = self.root / f"incoming-{secrets.token_hex(8)}"
        seen, size = hashlib.sha256(), 0
        self._begin(tenant)
        try:
            with open(name, "xb", opener=_private) as file:
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
            await asyncio.to_thread(self._keep, tenant, digest, size, name, day, study)
        finally:
            self._under_way[tenant] -= 1
            name.unlink(missing_ok=True)
        return Stored(digest=digest, size=size)

    def _begin(self, tenant: str) -> None:
        """Raises Refused where a tenant has many uploads under way: the quota counts them later."""
        if self._under_way[tenant] >= self.setup.limits.uploads:
            raise Refused(429, f"{self.setup.limits.uploads} uploads are under way already")
        self._under_way[tenant] += 1

    def _keep(self, tenant: str, digest: str, size: int, name: Path, day: float,
              study: str | None) -> None:  # fmt: skip
        def change(tx: Connection) -> None:
            self.database.lock(tx, digest)
            if study is not None:
                _used(tx, tenant, digest, study)
            mine = (artifacts.c.tenant == tenant, artifacts.c.digest == digest)
            if tx.execute(select(artifacts.c.size).where(*mine)).first() is not None:
                self._place(name, digest)  # it may have been lost from the disk
                return
            used = select(func.coalesce(func.sum(artifacts.c.size), 0))
            if tx.execute(used.where(artifacts.c.tenant == tenant)).scalar_one() + size > (
                    self.setup.limits.quota):  # fmt: skip
                raise Refused(413, "the quota of this tenant is spent", code="quota")
            self._place(name, digest)
            tx.execute(insert(artifacts).values(tenant=tenant, digest=digest, size=size,
                                                created=day))  # fmt: skip

        self.database.write(change)

    def collect(self) -> int:
        """Remove the files that nobody has any more; how many there were."""
        with self.database.read() as tx:
            known = set(tx.execute(select(artifacts.c.digest).distinct()).scalars())
        left = [p for p in self.root.glob("??/*") if p.name not in known]
        return sum(self.database.write(partial(self._remove, path=p)) for p in left)

    def _remove(self, tx: Connection, path: Path) -> bool:
        """Remove a file, unless it was sent again meanwhile."""
        self.database.lock(tx, path.name)
        if tx.execute(select(exists().where(artifacts.c.digest == path.name))).scalar_one():
            return False
        path.unlink(missing_ok=True)
        return True

    def _place(self, name: Path, digest: str) -> None:
        """Give a file its name, to survive a power cut; another upload of the same content may have
        been faster."""
        path = self.path(digest)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            os.link(name, path)
        for folder in (path.parent, self.root):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _used(tx: Connection, tenant: str, digest: str, study: str) -> None:
    """Say that a study has an artifact. Raises Refused where the tenant has no such study."""
    row_of(tx, tenant, study)
    mine = {"tenant": tenant, "digest": digest, "study": study}
    if not tx.execute(select(exists().where(*(uses.c[n] == v for n, v in mine.items())))).scalar():
        tx.execute(insert(uses).values(**mine))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
