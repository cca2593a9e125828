"""Services that misbehave, and what a lookup on the way to a kernel's first call makes of them."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tilec.tune.client.lookup import TOTAL_S, Lookup
from tilec.tune.client.wire import Address

KEY: Mapping[str, object] = {
    "kernel": "ab" * 32,
    "device": "cd" * 32,
    "toolchain": "ef" * 32,
    "policy": {},
}
MORE = 200  # lookups after the first
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Manner = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Latency:
    """What lookups took: the first one, and the slowest of those after it, in seconds; what was
    counted; how many configs came; errors that were raised."""

    manner: str
    first: float
    later: float
    counted: Mapping[str, int]
    found: int
    raised: int


def _reset(peer: socket.socket) -> None:
    peer.recv(1 << 16)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silent(peer: socket.socket) -> None:
    time.sleep(30)


def _drip(peer: socket.socket) -> None:
    peer.recv(1 << 16)
    for letter in HEAD + "X: " + "x" * 3000:
        peer.sendall(letter.encode())
        time.sleep(0.02)


def _slow_body(peer: socket.socket) -> None:
    peer.recv(1 << 16)
    peer.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n".encode())
    for _ in range(1000):
        peer.sendall(b" ")
        time.sleep(0.02)


def says(status: str, body: str) -> Manner:
    """A peer that always says the same."""

    def said(peer: socket.socket) -> None:
        peer.recv(1 << 16)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall((head + body).encode())

    return said


def _endless(peer: socket.socket) -> None:
    peer.recv(1 << 16)
    peer.sendall(f"{HEAD}\r\n[".encode())
    while True:
        peer.sendall(b"1," * 40_000)


def published(config: object, time_ms: object = 1.0) -> str:
    """An answer to one key."""
    return json.dumps([{"key": "00" * 32, "config": config, "time_ms": time_ms, "provenance": {}}])


MANNERS: Mapping[str, Manner] = {
    "RST": _reset,
    "silence": _silent,
    "slow drip": _drip,
    "slow body": _slow_body,
    "endless body": _endless,
    "500": says("500 Internal Server Error", "{}"),
    "503": says("503 Service Unavailable", "no"),
    "401": says("401 Unauthorized", '{"error": {"code": "unauthorized", "message": "no"}}'),
    "redirect": says("302 Found\r\nLocation: http://127.0.0.1:9/", ""),
    "no HTTP": lambda peer: peer.sendall(b"\x00\x01\x02 who are you\r\n\r\n"),
    "bad JSON": says("200 OK", "[{"),
    "deep JSON": says("200 OK", "[" * 100_000),
    "another shape": says("200 OK", '{"configs": 3}'),
    "two answers": says("200 OK", "[null, null]"),
    "NaN time": says("200 OK", published({"m": 1}).replace("1.0", "NaN")),
    "negative time": says("200 OK", published({"m": 1}, -1.0)),
    "config of lists": says("200 OK", published({"m": [1]})),
    "config with code": says("200 OK", published({"m; import os": 1})),
}


@contextmanager
def service(manner: Manner) -> Generator[str]:
    """The URL of a service that behaves like this."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accepts, args=(listener, manner), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accepts(listener: socket.socket, manner: Manner) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answers, args=(peer, manner), daemon=True).start()


def _answers(peer: socket.socket, manner: Manner) -> None:
    with peer, suppress(OSError):
        manner(peer)


@contextmanager
def nobody() -> Generator[str]:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def black_hole() -> Generator[str]:
    """A port that does not answer to connections: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        place = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(place)
        yield f"http://127.0.0.1:{place[1]}"
        for each in waiting:
            each.close()


def latency(manner: str, url: str, total_s: float = TOTAL_S) -> Latency:
    """The first lookup of a process, and many after it; each takes at most `total_s`."""
    lookup = Lookup(Address(url), total_s)
    times: list[float] = []
    found = raised = 0
    for _ in range(1 + MORE):
        start = time.perf_counter()
        try:
            found += sum(r is not None for r in lookup.lookup([KEY]) or ())
        except Exception:
            raised += 1
        times.append(time.perf_counter() - start)
    return Latency(manner, times[0], max(times[1:]), dict(lookup.failures), found, raised)


def latencies() -> Generator[Latency]:
    """Every manner in turn."""
    with nobody() as url:
        yield latency("nobody listens", url)
    with black_hole() as url:
        yield latency("black hole", url)
    with service(MANNERS["500"]) as url:
        yield latency("TLS to plain HTTP", url.replace("http:", "https:"))
    for name, manner in MANNERS.items():
        with service(manner) as url:
            yield latency(name, url)
