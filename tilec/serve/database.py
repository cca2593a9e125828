"""The database: opened safely, brought up to date, and used in transactions that are tried again.

SQLite: WAL, FULL (an answered request survives a power cut), one writer at a time in this process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError

from tilec.ir.errors import TileError
from tilec.runtime.cache.place import network

T = TypeVar("T")
TRIES = 8
BUSY_MS = 20_000
POOL = 40  # connections: as many as there are threads that answer
AGAIN = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock


class Database:
    """Transactions. `write` runs a function until it commits: it must use `tx` only."""

    def __init__(self, url: str) -> None:
        self.engine = _opened(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock()

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to a revision, up or down (`base`: none)."""
        with as_file(files("tilec.serve") / "migrations") as folder, self.engine.connect() as tx:
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.attributes["connection"] = tx
            if not self.is_sqlite:  # two servers that start together
                tx.exec_driver_sql("SELECT pg_advisory_lock(7459214)")
            try:
                (command.downgrade if _is_down(tx, revision) else command.upgrade)(config, revision)
                tx.commit()
            finally:
                if not self.is_sqlite:
                    tx.exec_driver_sql("SELECT pg_advisory_unlock(7459214)")
                    tx.commit()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as tx:
            yield tx

    def write(self, change: Callable[[Connection], T]) -> T:
        """What `change` returns, after its transaction is committed."""
        for attempt in range(TRIES):
            try:
                return self._once(change)
            except (OperationalError, IntegrityError, DBAPIError) as e:
                if attempt == TRIES - 1 or not _passing(e):
                    raise
            time.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable")

    def _once(self, change: Callable[[Connection], T]) -> T:
        if not self.is_sqlite:
            with self.engine.begin() as tx:
                return change(tx)
        with self._turn, self.engine.connect() as tx:
            tx.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                found = change(tx)
            except BaseException:
                tx.exec_driver_sql("ROLLBACK")
                raise
            tx.exec_driver_sql("COMMIT")
            return found

    def lock(self, tx: Connection, name: str) -> None:
        """Keep others from changing what has this name until a transaction of `write` ends."""
        if not self.is_sqlite:  # which has one writer at a time
            tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                       {"name": name})  # fmt: skip

    def check(self) -> None:
        """Raises where the database does not answer."""
        with self.read() as tx:
            tx.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        self.engine.dispose()


def _is_down(tx: Connection, revision: str) -> bool:
    """Whether a revision is older than that of the tables: revisions are numbered."""
    now = MigrationContext.configure(tx).get_current_revision() or ""
    return revision == "base" or (revision != "head" and revision < now)


def _passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    if isinstance(error, IntegrityError):
        return True  # two servers made the same row: the second run finds it
    state = getattr(error.orig, "sqlstate", None)
    return state in AGAIN or "locked" in str(error.orig) or "busy" in str(error.orig)


def _opened(url: str) -> Engine:
    try:
        found = make_url(url)
    except ArgumentError:
        raise TileError("the database is no URL", hint="sqlite:///tilec.db, or "
                        "postgresql+psycopg://user@host/name") from None  # fmt: skip
    match found.get_backend_name():
        case "sqlite":
            return _sqlite(found.database or "")
        case "postgresql":
            wanted = found.set(drivername="postgresql+psycopg")
            return create_engine(wanted, pool_size=20, max_overflow=20, pool_pre_ping=True)
        case other:
            raise TileError(f"{other} is no database of this service", hint="sqlite, postgresql")


def _sqlite(name: str) -> Engine:
    if name in ("", ":memory:"):
        raise TileError("a database in memory would lose everything", hint="sqlite:///FILE")
    path = Path(name)
    kind = network(path)
    if kind:
        raise TileError(f"{path} is on {kind}, where SQLite loses data",
                        hint="a local folder, or PostgreSQL")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for its owner only
    engine = create_engine(f"sqlite:///{path}", pool_size=POOL, max_overflow=8,
                           connect_args={"timeout": BUSY_MS / 1000, "isolation_level": None,
                                         "check_same_thread": False})  # fmt: skip
    event.listen(engine, "connect", _prepared)
    return engine


def _prepared(connection: Any, _: Any) -> None:
    for said in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF",
                 "cache_size=-500",
                 f"busy_timeout={BUSY_MS}", "journal_size_limit=67108864"):  # fmt: skip
        connection.execute(f"PRAGMA {said}")
