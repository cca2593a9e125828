"""Starts a service: what is unsafe is refused first."""

from __future__ import annotations

import ipaddress
import json
import logging
import logging.config
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import uvicorn
from sqlalchemy import func, or_, select

from tilec.ir.errors import TileError
from tilec.serve import auth
from tilec.serve.app import application
from tilec.serve.connections import bounded
from tilec.serve.database import Database
from tilec.serve.service import Service
from tilec.serve.setup import Setup
from tilec.serve.tables import tokens

GRACE_S = 5
HEAD = 32 << 10  # bytes of the head of a request
SHORTEST_KEY = 32  # bytes


class Lines(logging.Formatter):
    """One line of JSON for a record: nothing in a message can end it, or look like another."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"time": self.formatTime(record), "level": record.levelname, "log": record.name,
                "message": record.getMessage(), **getattr(record, "fields", {})}  # fmt: skip
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said)


def logs(level: str) -> None:
    """Send the logs of the service and of uvicorn to standard error."""
    logging.config.dictConfig({
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"lines": {"()": Lines}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "loggers": {name: {"handlers": ["out"], "level": level, "propagate": False}
                    for name in ("tilec.serve", "uvicorn.error")},
    })  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked(setup: Setup, host: str, has_tls: bool) -> None:
    """Raises TileError for a service that others could reach and misuse."""
    if is_loopback(host):
        return
    if not has_tls:
        raise TileError(f"{host} can be reached by others, and needs TLS",
                        hint="--tls-cert FILE --tls-key FILE, or --host 127.0.0.1")  # fmt: skip
    if setup.anonymous or not _has_token(setup):
        raise TileError(f"{host} can be reached by others, and there is no token",
                        hint="tilec serve token create --scope admin NAME")  # fmt: skip


def _has_token(setup: Setup) -> bool:
    database = Database(setup.database)
    try:
        database.migrate()
        now = auth.day()
        usable = select(func.count()).select_from(tokens).where(
            tokens.c.revoked.is_(None), or_(tokens.c.expires.is_(None), tokens.c.expires > now)
        )  # fmt: skip
        with database.read() as tx:
            return tx.execute(usable).scalar_one() > 0
    finally:
        database.close()


def private_key(path: Path) -> bytes:
    """The bytes of a key file. Raises TileError where others can read it, or it is too short."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode, key = os.fstat(file.fileno()).st_mode, file.read(4096).strip()
    except OSError as e:
        raise TileError(f"the key {path} can't be read: {e.strerror}") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise TileError(f"others can read the key {path}", hint=f"chmod 600 {path}")
    if len(key) < SHORTEST_KEY:
        raise TileError(f"the key {path} is shorter than {SHORTEST_KEY} bytes")
    return key


def signed_by(setup: Setup, keys: Mapping[str, Path], signer: str) -> Setup:
    """The setup with keys to check packages with, and the one to sign by. Raises TileError."""
    if signer and signer not in keys:
        raise TileError(f"there is no key of the signer {signer}", hint="--key NAME=FILE")
    found = {name: private_key(path) for name, path in keys.items()}
    return replace(setup, keys=found, signer=signer)


def run(setup: Setup, host: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
    """Serve until a signal. Raises TileError for what is unsafe."""
    checked(setup, host, tls is not None)
    app = application(Service(setup))
    certificate, key = tls or (None, None)
    uvicorn.Server(uvicorn.Config(
        app, host=host, port=port, http=bounded(setup.limits), ws="none", lifespan="on",
        access_log=False, log_config=None, server_header=False, proxy_headers=False,
        timeout_keep_alive=int(setup.limits.header_s), timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEAD, ssl_certfile=certificate, ssl_keyfile=key,
    )).run()  # fmt: skip
