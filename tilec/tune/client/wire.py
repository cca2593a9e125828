"""JSON over HTTP/1.1 to one service, by the standard library: nothing to install, fast to load.

No redirect is followed and no proxy is used, so that a token goes to the service only.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tilec.ir.errors import TileError

MOST_BYTES = 64 << 20  # of an answer
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unreachable(Exception):
    """No answer, or none that makes sense: trying again later may help."""


class Refused(Exception):
    """The service answered with an error: its status, a word for programs, a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code}, HTTP {status})")
        self.status, self.code, self.message = status, code, message

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status >= 500 or self.status in (408, 425, 429)


@dataclass(frozen=True)
class Address:
    """Where a service is, and the token for it. Raises TileError for a URL that is none."""

    url: str
    token: str = field(default="", repr=False)
    authority: str = ""  # a file of certificates to trust besides the system's

    def __post_init__(self) -> None:
        try:
            found = urlsplit(self.url)
            _ = found.port
        except ValueError as e:
            raise TileError(f"{self.url!r} is no URL of a service: {e}") from None
        if found.scheme not in ("http", "https") or not found.hostname or found.query:
            raise TileError(f"{self.url!r} is no URL of a service", hint="https://HOST:PORT")
        if found.username or found.password:
            raise TileError("a URL of a service holds no password", hint="TILEC_TOKEN")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise TileError("the token has letters that no token has")
        if self.token and found.scheme == "http" and found.hostname not in LOOPBACK:
            raise TileError(f"a token is not sent to {found.hostname} unencrypted",
                            hint="https://HOST:PORT")  # fmt: skip

    @staticmethod
    def of(environment: Mapping[str, str], url: str = "") -> Address | None:
        """The service of an environment, if it names one: TILEC_SERVICE (a URL), TILEC_TOKEN or
        TILEC_TOKEN_FILE, TILEC_SERVICE_CA (certificates)."""
        url = url or environment.get("TILEC_SERVICE", "")
        if not url:
            return None
        token, file = environment.get("TILEC_TOKEN", ""), environment.get("TILEC_TOKEN_FILE", "")
        if file and not token:
            try:
                token = Path(file).read_text("utf-8").strip()
            except (OSError, ValueError) as e:
                raise TileError(f"TILEC_TOKEN_FILE can't be read: {e}") from None
        return Address(url.rstrip("/"), token, environment.get("TILEC_SERVICE_CA", ""))

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """The certificates that are trusted."""
        found = ssl.create_default_context()
        if self.authority:
            found.load_verify_locations(self.authority)
        return found

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def connection(self, seconds: float) -> HTTPConnection:
        """A connection that is not open yet; `seconds` is for connecting."""
        found = urlsplit(self.url)
        host = str(found.hostname)
        if found.scheme == "https":
            return HTTPSConnection(host, found.port, timeout=seconds, context=self.trust)
        return HTTPConnection(host, found.port, timeout=seconds)


class Wire:
    """One connection, kept open between requests. For one thread at a time, except `abort`."""

    def __init__(self, address: Address, connect_s: float = 5.0, most: int = MOST_BYTES) -> None:
        self.address, self.connect_s, self.most = address, connect_s, most
        self._connection: HTTPConnection | None = None
        self._aborted = False

    def ask(self, method: str, path: str, body: object = None, *, seconds: float = 30.0,
            key: str = "") -> Any:  # fmt: skip
        """The JSON of the answer (None for none); `key` makes a write safe to repeat.

        `seconds` is for each time that bytes are waited for. Raises Refused and Unreachable.
        """
        reused = self._connection is not None
        try:
            return self._once(method, path, body, seconds, key)
        except Unreachable:
            if not reused or not (key or method == "GET"):
                raise
        return self._once(method, path, body, seconds, key)  # it was closed while idle

    def _once(self, method: str, path: str, body: object, seconds: float, key: str) -> Any:
        try:
            answer = self._sent(method, path, body, seconds, key)
            text = answer.read(self.most + 1)
            if answer.will_close:
                self.close()
        except (OSError, HTTPException, ValueError) as e:
            self.close()
            raise Unreachable(f"{type(e).__name__}: {e}") from None
        except BaseException:  # a signal's
            self.close()  # an answer that was not read whole would be taken for the next one
            raise
        if len(text) > self.most:
            self.close()
            raise Unreachable(f"an answer of more than {self.most} bytes")
        return _read(answer.status, text)

    def lines(self, path: str, seconds: float) -> Iterator[str]:
        """The lines of an answer that goes on. Raises Refused and Unreachable."""
        try:
            answer = self._sent("GET", path, None, seconds, "")
            if answer.status != 200:
                _read(answer.status, answer.read(self.most))
            while line := answer.readline(1 << 20):
                yield line.decode("utf-8", "replace").rstrip("\r\n")
        except (OSError, HTTPException, ValueError) as e:
            raise Unreachable(f"{type(e).__name__}: {e}") from None
        finally:
            self.close()

    def _sent(self, method: str, path: str, body: object, seconds: float, key: str) -> HTTPResponse:
        connection = self._opened()
        assert connection.sock is not None
        connection.sock.settimeout(seconds)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.address.token:
            headers["Authorization"] = f"Bearer {self.address.token}"
        if key:
            headers["Idempotency-Key"] = key
        text = None if body is None else json.dumps(body, allow_nan=False).encode()
        connection.request(method, self.address.path + path, text, headers)
        return connection.getresponse()

    def _opened(self) -> HTTPConnection:
        if self._connection is None:
            connection = self.address.connection(self.connect_s)
            connection.connect()
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
        if self._aborted:
            raise Unreachable("given up")
        return self._connection

    def abort(self) -> None:
        """End what another thread waits for here, for good."""
        self._aborted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forget the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read(status: int, text: bytes) -> Any:
    """The JSON of an answer, or the error that it is."""
    try:
        data = json.loads(text) if text else None
    except (ValueError, RecursionError):
        if status < 400:
            raise Unreachable("an answer that is no JSON") from None
        data = None
    if 200 <= status < 300:
        return data
    match data:
        case {"error": {"code": str(code), "message": str(message)}}:
            raise Refused(status, code, message)
        case _:
            raise Refused(status, "unknown", "the service gave no reason")
