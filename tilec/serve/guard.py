"""The outermost layer: which requests are read at all, in how much time, and what is said of them.

Host and Origin are checked on every method: a page elsewhere can't speak to a service on this
machine, under whatever name. Bodies are read whole, bounded in size and time, and checked.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tilec.serve.bodies import checked
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; "
     b"frame-ancestors 'none'; object-src 'none'"),
)  # fmt: skip
ARTIFACT = re.compile(r"/v1/artifacts/sha256/[0-9a-f]{64}")
THREADED = 64 << 10  # bytes of JSON that are checked beside the event loop
READING = ("GET", "HEAD", "OPTIONS")
log = logging.getLogger("tilec.serve")
Seen = Callable[[str, int, float], None]
Known = Callable[[str], Awaitable[object | None]]  # whose token it is


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, setup: Setup, seen: Seen, caller: Known) -> None:
        self.app, self.setup, self.seen, self.caller = app, setup, seen, caller
        self.hosts = frozenset(h.lower() for h in setup.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets
        start, status = time.monotonic(), 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {n.lower() for n, _ in message["headers"]}
                more = [(n, v) for n, v in HEADERS if n not in known]
                if b"cache-control" not in known:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *more]}
            async with asyncio.timeout(self.setup.limits.send_s):
                await send(message)

        try:
            await self.app(scope, await self._read(scope, receive), answered)
        except Refused as refused:
            await refused.response({"Connection": "close"})(scope, receive, answered)
        except TimeoutError:
            if not status:
                raise
            log.info("a client took its answer too slowly")
        finally:
            self._say(scope, status, time.monotonic() - start)

    def _say(self, scope: Scope, status: int, seconds: float) -> None:
        """One line for a request, by its fields: see `server.Lines`."""
        self.seen(scope["method"], status, seconds)
        said = {"method": scope["method"], "path": scope["path"][:200], "status": status,
                "ms": round(seconds * 1000, 2),
                "from": (scope.get("client") or ["-"])[0]}  # fmt: skip
        log.info("answered", extra={"fields": said})

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """What the application receives. Raises Refused."""
        headers = _headers(scope)
        self._check_origin(headers)
        limits, method = self.setup.limits, scope["method"]
        length = headers.get("content-length", "0")
        binary = method == "PUT" and ARTIFACT.fullmatch(scope["path"]) is not None
        most = limits.artifact if binary else limits.body
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            raise Refused(413, f"at most {most} bytes are taken")
        chunked = "transfer-encoding" in headers
        if binary:
            return _timed(receive, limits.receive_s)
        if method in READING and length == "0" and not chunked:
            return receive
        if (chunked or int(length) > limits.strangers) and await self._is_stranger(headers):
            raise Refused(401, "this needs a token: Authorization: Bearer TOKEN")
        body = await _whole(_timed(receive, limits.receive_s), most)
        if body:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refused(415, "the body is not application/json")
            if len(body) > THREADED:
                await asyncio.to_thread(checked, body, limits)
            else:
                checked(body, limits)
        return _replayed(body, receive)

    async def _is_stranger(self, headers: dict[str, str]) -> bool:
        """Whether a request comes without a right token where it needs one: then no large body is
        read, nor one of unknown size."""
        said = headers.get("authorization")
        if said is None:
            return not self.setup.anonymous
        scheme, _, token = said.partition(" ")
        return scheme.lower() != "bearer" or await self.caller(token.strip()) is None

    def _check_origin(self, headers: dict[str, str]) -> None:
        if _name(headers.get("host", "")) not in self.hosts:
            raise Refused(421, "this service does not answer to that host name")
        origin = headers.get("origin")
        if origin is not None and _place(origin) != headers["host"].lower():
            raise Refused(403, "a page elsewhere can't use this service")


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name. Raises Refused where one that decides something is there twice."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in ("host", "origin", "content-length", "authorization",
                                    "content-type", "idempotency-key"):  # fmt: skip
            raise Refused(400, "a header is there twice")
        found[key] = value.decode("latin-1")
    return found


def _name(host: str) -> str:
    """A Host without its port: localhost:80, [::1]:80."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _place(origin: str) -> str:
    """The host and port of an Origin; empty for one that has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _whole(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request ended early")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, f"at most {most} bytes are taken")
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body at once, then whatever comes (that the client went away)."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _timed(receive: Receive, seconds: float) -> Receive:
    """A body in parts that must all arrive within some seconds."""
    end = time.monotonic() + seconds
    going = True

    async def timed() -> Message:
        nonlocal going
        if not going:
            return await receive()
        message = await _before(end, receive)
        going = message.get("more_body", False)
        return message

    return timed


async def _before(end: float, receive: Callable[[], Awaitable[Message]]) -> Message:
    try:
        async with asyncio.timeout(max(end - time.monotonic(), 0.001)):
            return await receive()
    except TimeoutError:
        raise Refused(408, "the request took too long to arrive") from None
