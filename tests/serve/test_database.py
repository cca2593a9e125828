import ast
import ctypes
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from served import Client, served, setup
from sqlalchemy import inspect, select

from tilec.ir.errors import TileError
from tilec.runtime.cache import place
from tilec.serve import server
from tilec.serve.clock import Clock
from tilec.serve.database import Database
from tilec.serve.tables import facts, metadata, studies

ROOT = Path(__file__).parents[2]


def fresh(folder: Path) -> Database:
    return Database(f"sqlite:///{folder}/fresh/tilec.db")


def test_migrations_make_the_tables_that_the_code_has(tmp_path):
    database = fresh(tmp_path)
    database.migrate()
    with database.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []
    database.close()


def test_migrations_go_down_and_up_and_keep_what_was_there(tmp_path):
    async def submit(c: Client):
        return (await c.submit())["id"]

    async def lease(c: Client):
        return (await c.lease())["trial"]["study"]

    id_ = served(submit, tmp_path)
    database = Database(setup(tmp_path).database)
    database.migrate("0001")
    with database.read() as tx:
        assert "packages" not in inspect(tx).get_table_names()
        assert tx.execute(select(studies.c.id)).scalars().all() == [id_]
    database.migrate("0003")
    with database.read() as tx:
        assert {"audit", "uses"}.isdisjoint(inspect(tx).get_table_names())
    database.migrate()
    database.migrate()
    assert served(lease, tmp_path) == id_
    database.migrate("base")
    with database.read() as tx:
        assert set(inspect(tx).get_table_names()) <= {"alembic_version"}
    database.close()


def test_sqlite_loses_nothing_that_was_answered(tmp_path):
    database = fresh(tmp_path)
    with database.read() as tx:
        found = {n: tx.exec_driver_sql(f"PRAGMA {n}").scalar() for n in (
            "journal_mode", "synchronous", "trusted_schema")}  # fmt: skip
    assert found == {"journal_mode": "wal", "synchronous": 2, "trusted_schema": 0}
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o700
    database.close()


def test_nobody_else_on_the_machine_can_read_it(tmp_path):
    """Also in a folder that others can enter: it has the IR of users and digests of secrets."""
    (tmp_path / "fresh").mkdir(mode=0o755)
    database = fresh(tmp_path)
    database.migrate()
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "fresh").iterdir()}
    database.close()
    assert modes == {"tilec.db": 0o600, "tilec.db-wal": 0o600, "tilec.db-shm": 0o600}


@pytest.mark.parametrize(("magic", "kind"), [(0x6969, "NFS"), (0xFF534D42, "CIFS"),
                                             (0x0BD00BD0, "Lustre")])  # fmt: skip
def test_sqlite_is_refused_on_a_network(tmp_path, monkeypatch, magic, kind):
    class Library:
        def statfs(self, path: bytes, found: ctypes.Array) -> int:
            found[0] = magic
            return 0

    monkeypatch.setattr(place.ctypes, "CDLL", lambda name: Library())
    with pytest.raises(TileError, match=f"on {kind}"):
        fresh(tmp_path)
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "x", ""])
def test_what_is_no_database_for_this_is_refused(url):
    with pytest.raises(TileError):
        Database(url)


def test_a_change_that_fails_leaves_nothing(tmp_path):
    database = fresh(tmp_path)
    database.migrate()

    def change(tx):
        tx.execute(facts.insert().values(name="a", value=1.0))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.write(change)
    with database.read() as tx:
        assert tx.execute(select(facts)).all() == []
    database.close()


def test_a_change_waits_for_another_process(tmp_path):
    database = fresh(tmp_path)
    database.migrate()
    other = sqlite3.connect(
        tmp_path / "fresh" / "tilec.db", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    Timer(0.3, other.execute, ["COMMIT"]).start()
    database.write(lambda tx: tx.execute(facts.insert().values(name="a", value=1.0)))
    database.close()


def test_the_clock_stands_still_while_no_server_runs(tmp_path):
    database, ticks = fresh(tmp_path), [100.0]
    database.migrate()
    clock = Clock(database, lambda: ticks[0])
    first = clock.now()
    ticks[0] += 50
    database.write(clock.store)
    ticks[0] = -1e6  # another boot
    again = Clock(database, lambda: ticks[0])
    assert again.now() == first + 50
    ticks[0] += 5
    assert again.now() == first + 55
    database.close()


def test_servers_on_one_database_keep_in_step(tmp_path):
    database, slow, fast = fresh(tmp_path), [0.0], [0.0]
    database.migrate()
    a, b = Clock(database, lambda: slow[0]), Clock(database, lambda: fast[0])
    fast[0] += 40
    database.write(b.store)
    assert a.now() == 0
    database.write(a.store)
    assert a.now() == b.now() == 40
    slow[0] -= 10  # no clock of a process goes back, but if one did, the stored time would not
    database.write(a.store)
    assert a.now() == 40
    database.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.evil"])
def test_a_service_that_others_reach_needs_tls_and_a_token(tmp_path, host):
    """TUNING.md 3.6, 23."""
    found = setup(tmp_path, anonymous=False)
    with pytest.raises(TileError, match="TLS"):
        server.checked(found, host, has_tls=False)
    with pytest.raises(TileError, match="no token"):
        server.checked(found, host, has_tls=True)
    with pytest.raises(TileError, match="no token"):
        server.checked(setup(tmp_path, anonymous=True), host, has_tls=True)

    async def token(c: Client):
        c.token("read")

    served(token, tmp_path)
    server.checked(found, host, has_tls=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_on_this_machine_nothing_is_needed(tmp_path, host):
    server.checked(setup(tmp_path), host, has_tls=False)


def test_nothing_listens_where_it_is_unsafe(tmp_path):
    code = "from tilec.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--host", "0.0.0.0", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs TLS" in done.stderr


def test_the_service_opens_no_connection_of_its_own():
    """TUNING.md 3.6, 30 and 22: it fetches no URL, and unpacks no archive, whoever asks."""
    banned = {"httpx", "requests", "urllib.request", "http.client", "aiohttp", "socket", "ftplib",
              "zipfile", "tarfile", "pickle", "marshal", "shelve", "runpy", "code"}  # fmt: skip
    seen = set()
    for path in (ROOT / "tilec" / "serve").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                seen |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                seen.add(node.module)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__"), path
    assert "sqlalchemy" in seen
    assert seen & banned == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_passes_on_postgresql():
    """The same suite on a real server, which is made in a folder for the occasion."""
    pgserver = pytest.importorskip("pgserver")
    folder = TemporaryDirectory()  # root starts it as another user, who must get there
    os.chmod(folder.name, 0o755)
    postgres = pgserver.get_server(Path(folder.name) / "server")
    try:
        environment = {**os.environ, "TILEC_TEST_POSTGRES": postgres.get_uri()}
        command = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "not slow", "-x",
                   "-p", "no:cacheprovider", "tests/serve/test_studies.py",
                   "tests/serve/test_leases.py", "tests/serve/test_auth.py",
                   "tests/serve/test_artifacts.py", "tests/serve/test_packages.py",
                   "tests/serve/test_blocklist.py"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=800,
                              capture_output=True, text=True)  # fmt: skip
    finally:
        postgres.cleanup()
        folder.cleanup()
    assert done.returncode == 0, done.stdout[-3000:]
