"""A service of a few lines that gives out trials, for tests of clients and workers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tilec.tune.client.wire import Address

Answer = tuple[int, Any]
Said = tuple[str, str, Any, dict[str, str]]  # method, path, body, headers


def refused(status: int, code: str = "no") -> Answer:
    return status, {"error": {"code": code, "message": "not now"}}


@dataclass
class Pretended:
    """What was said to it, and what it says: `answers[path]` may be a list that is used up."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    heard: list[Said] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> Address:
        return Address(f"http://127.0.0.1:{self.port}")

    def answer(self, path: str) -> Answer:
        found = self.answers.get(path, refused(404))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def said(self, path: str) -> list[Any]:
        return [body for _, p, body, _ in self.heard if p == path]


@contextmanager
def pretended(**answers: Answer | list[Answer]) -> Iterator[Pretended]:
    """A running service; a name `v1_leases` stands for /v1/leases."""
    service = Pretended({"/" + n.replace("_", "/"): a for n, a in answers.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            body = json.loads(text) if text else None
            service.heard.append((self.command, self.path, body, dict(self.headers)))
            status, document = service.answer(self.path)
            if status == 0:  # the connection breaks before the answer
                self.close_connection = True
                return
            said = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_DELETE = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def lease(number: int = 1, **more: Any) -> dict[str, Any]:
    """A lease as the service gives it."""
    trial = {"id": f"t{number}", "study": "s1", "number": number, "purpose": "measure",
             "configs": [{"a": 1}]}  # fmt: skip
    return {"lease": f"l{number}", "token": number, "deadline_s": 30.0, "timeout_s": 10.0,
            "trial": {**trial, **more}, "job": {"kind": "recorded", "space": "x"}, "policy": {},
            "default": None}  # fmt: skip
