"""A service within a test: its application over httpx, and workers that measure nothing."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlalchemy import create_engine, make_url

from tilec.serve import auth
from tilec.serve.app import application
from tilec.serve.database import Database
from tilec.serve.service import Service
from tilec.serve.setup import Setup

TOOLCHAIN = "ab" * 32
CPU = {"kind": "cpu", "name": "Test CPU", "cores": 4, "features": ["avx2", "fma"]}
SPACE = {
    "parameters": [
        {"name": "bm", "values": [16, 32, 64, 128]},
        {"name": "bn", "values": [16, 32, 64]},
        {"name": "order", "values": ["row", "column"]},
    ],
    "constraints": [{"condition": "bm * bn <= 4096", "reason": "registers"}],
    "default": {"bm": 16, "bn": 16, "order": "row"},
}


ROUNDS = (1.0, 1.001, 0.999, 1.0, 1.002, 0.998, 1.0, 1.0)  # what slowed each of them down


def study(**changed: Any) -> dict[str, Any]:
    """A study that may be submitted."""
    return {
        "name": "linear", "kernel": "12" * 32, "family": "34" * 32, "shape": {"M": 16, "N": 4096},
        "job": {"kind": "recorded", "space": "small"}, "space": SPACE, "budget": 6, "seed": 3,
        "sampler": "random", "device": {"kind": "cpu", "name": "*"}, "toolchain": TOOLCHAIN,
        **changed,
    }  # fmt: skip


def asks(worker="w1", **changed: Any) -> dict[str, Any]:
    return {"worker": worker, "device": CPU, "toolchain": TOOLCHAIN, "recorded": ["small"],
            **changed}  # fmt: skip


def time_ms(config: dict[str, Any]) -> float:
    """A time for every config of SPACE; the best is bm=64, bn=64, order=column."""
    size, faster = config["bm"] * config["bn"], config["order"] == "column"
    return 100 / size**0.5 * (1 + config["bm"] / 1000) * (0.9 if faster else 1)


def done(lease: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The completion of a lease."""
    samples = [[time_ms(c) * f for f in ROUNDS] for c in lease["trial"]["configs"]]
    return {"token": lease["token"], "samples_ms": samples, "cost_s": 0.5, "device": CPU,
            "toolchain": TOOLCHAIN, **changed}  # fmt: skip


class Ticks:
    """A clock that a test can move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Client:
    """Requests to a service: answers are checked for their status."""

    http: httpx.AsyncClient
    service: Service
    ticks: "Ticks"
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None, status: int | None = 200,
                  **headers: str) -> Any:  # fmt: skip
        more = {n.replace("_", "-"): v for n, v in headers.items()}
        json = {} if body is None else {"json": body}
        found = await self.http.request(method, path, headers={**self.headers, **more}, **json)
        if status is not None:
            assert found.status_code == status, (found.status_code, found.text[:500])
        return found.json() if found.content and status is not None else found

    async def get(self, path: str, status: int | None = 200, **headers: str) -> Any:
        return await self.ask("GET", path, None, status, **headers)

    async def post(self, path: str, body: Any = None, status: int | None = 200,
                   **headers: str) -> Any:  # fmt: skip
        return await self.ask("POST", path, body, status, **headers)

    async def submit(self, **changed: Any) -> dict[str, Any]:
        return await self.post("/v1/studies", study(**changed), 201)

    async def lease(self, worker="w1", **changed: Any) -> Any:
        """A lease, or None where there is no trial."""
        found = await self.post("/v1/leases", asks(worker, **changed), None)
        assert found.status_code in (200, 204), found.text
        return found.json() if found.status_code == 200 else None

    async def complete(self, lease: dict[str, Any], status: int = 200, **changed: Any) -> Any:
        return await self.post(f"/v1/leases/{lease['lease']}:complete", done(lease, **changed),
                               status)  # fmt: skip

    async def fail(self, lease: dict[str, Any], failure: str, status: int = 200,
                   **headers: str) -> Any:  # fmt: skip
        body = {"token": lease["token"], "failure": failure, "detail": "a reason"}
        return await self.post(f"/v1/leases/{lease['lease']}:fail", body, status, **headers)

    async def work(self, *workers: str) -> list[dict[str, Any]]:
        """Measure until nothing is left; the trials in the order in which they were leased."""
        trials: list[dict[str, Any]] = []
        while leases := [x for w in workers or ("w1",) if (x := await self.lease(w))]:
            for lease in leases:
                trials.append(lease["trial"])
                await self.complete(lease)
        return trials

    def token(self, *scopes: str, tenant: str = "default") -> "Client":
        """The same service asked with a new token."""
        return self.by(self.service.database.write(
            lambda tx: auth.made(tx, "test", tenant, scopes, time.time())))  # fmt: skip

    def sweep(self, seconds: float) -> int:
        """How many leases end when so much time has passed."""
        self.ticks.ahead += seconds
        return self.service.sweep()

    async def study(self, id_: str) -> dict[str, Any]:
        return await self.get(f"/v1/studies/{id_}")

    async def trials(self, id_: str) -> list[dict[str, Any]]:
        return (await self.get(f"/v1/studies/{id_}/trials"))["trials"]

    def by(self, token: str) -> "Client":
        """The same service asked with a token."""
        return replace(self, headers={"Authorization": f"Bearer {token}"})


@cache
def _empty() -> bytes:
    """A database with tables and nothing else: to make one takes most of a short test."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tilec.db"
        found = Database(f"sqlite:///{path}")
        found.migrate()
        found.close()
        return path.read_bytes()


def database(folder: Path) -> str:
    """A database for a test: in its folder, or a new one of TILEC_TEST_POSTGRES."""
    server = os.environ.get("TILEC_TEST_POSTGRES")
    folder.mkdir(parents=True, exist_ok=True)
    if server is None:
        path = folder / "tilec.db"
        if not path.exists():
            path.write_bytes(_empty())
        return f"sqlite:///{path}"
    name = folder / "database"
    if not name.exists():
        name.write_text(f"t{uuid.uuid4().hex}")
        _execute(server, f"CREATE DATABASE {name.read_text()} TEMPLATE {_template(server)}")
    return _named(server, name.read_text())


@cache
def _template(server: str) -> str:
    """The name of a database with tables and nothing else."""
    name = f"t{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name}")
    found = Database(_named(server, name))
    found.migrate()
    found.close()
    return name


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _execute(server: str, said: str) -> None:
    engine = create_engine(
        make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as c:
        c.exec_driver_sql(said)
    engine.dispose()


def setup(folder: Path, **changed: Any) -> Setup:
    """A service on a folder: on the same folder again it has the same data."""
    known: dict[str, Any] = {
        "database": database(folder), "artifacts": folder / "artifacts", "anonymous": True,
        "planners": 0, "hosts": ("localhost",),
    }  # fmt: skip
    return Setup(**known | changed)


@asynccontextmanager
async def client(found: Setup) -> AsyncGenerator[Client]:
    ticks = Ticks()
    service = Service(found, ticks)
    async with service.running():
        transport = httpx.ASGITransport(application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Client(http, service, ticks)


def served(test: Callable[[Client], Any], folder: Path, **changed: Any) -> Any:
    """What a test returns that talks to a new service on a folder."""

    async def run() -> Any:
        async with client(setup(folder, **changed)) as c:
            return await test(c)

    return asyncio.run(run())
