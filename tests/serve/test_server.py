"""A real server in a process of its own: slow clients, many clients, kills, TLS, a full disk."""

import json
import os
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
from typing import Any

import httpx
import pytest
from serve_process import Server, running
from served import asks, done, study

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")]
HEAD = b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def closed_after(s: socket.socket, most: float, feed: bytes = b"") -> float:
    """Seconds until the server ends a connection that is fed a byte at a time."""
    start = time.monotonic()
    s.settimeout(0.25)
    for i in range(int(most * 4)):
        try:
            if feed:
                s.send(feed[i % len(feed) : i % len(feed) + 1])
            if s.recv(1 << 16) == b"":
                return time.monotonic() - start
        except TimeoutError:
            continue
        except (ConnectionError, BrokenPipeError):
            return time.monotonic() - start
    return time.monotonic() - start


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as found:
        yield found


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def test_a_head_that_never_ends_is_given_up(server):
    """TUNING.md 3.6, 28: slowloris, a header letter at a time."""
    with connected(server) as silent, connected(server) as slow, connected(server) as second:
        slow.send(b"GET / HTTP/1.1\r\n")
        second.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /h")
        assert 8 < closed_after(slow, 16, b"X-a: b\r\n") < 13
        assert closed_after(silent, 3) < 3
        assert closed_after(second, 3) < 3


def test_a_body_that_never_ends_is_given_up(server):
    with connected(server) as s:
        s.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert 28 < closed_after(s, 38, b" ") < 35


def test_an_answer_that_is_not_taken_is_given_up(server):
    with httpx.Client(base_url=server.url) as c:
        for i in range(60):
            c.post("/v1/studies", json=study(name="x" * 200, seed=i)).raise_for_status()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(("127.0.0.1", server.port))
        get = b"GET /v1/studies HTTP/1.1\r\nHost: localhost\r\n\r\n"
        s.settimeout(1)
        sent = 0
        try:
            for _ in range(2000):  # pipelined: the server stops reading while it answers
                sent += s.send(get)
        except TimeoutError:
            pass
        assert sent < 1 << 22
        assert httpx.get(f"{server.url}/healthz", timeout=5).status_code == 200


def test_a_thousand_idle_connections_do_not_keep_others_out(server):
    found = []
    try:
        for _ in range(1000):
            found.append(connected(server))
        start = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"{server.url}/healthz", timeout=5).status_code == 200
        assert time.monotonic() - start < 5
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 700
    finally:
        for s in found:
            s.close()


def test_requests_that_are_no_http_are_refused(server):
    for raw in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\0" * 100,
                HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nA\nB: c\r\n\r\n"):  # fmt: skip
        with connected(server) as s:
            s.send(raw)
            s.settimeout(12)
            try:
                answer = s.recv(1 << 16)
            except ConnectionError:
                answer = b""
            assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5")), (raw[:60], answer[:200])
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_server_that_is_killed_again_and_again_loses_nothing(tmp_path):
    """TUNING.md 6: killed in the middle of requests; every answered trial is there exactly once."""
    with running(tmp_path) as server:
        made = patient("POST", server, "/v1/studies", study(budget=12, sampler="gp"))
        answered: dict[str, list] = {}
        for turn in range(40):
            if turn % 4 == 3:
                server.kill()
                server.start()
                check = sqlite3.connect(tmp_path / "tilec.db").execute("PRAGMA integrity_check")
                assert check.fetchall() == [("ok",)]
            lease = patient("POST", server, "/v1/leases", asks())
            if lease is None:
                break
            path = f"/v1/leases/{lease['lease']}:complete"
            patient("POST", server, path, done(lease))
            patient("POST", server, path, done(lease))  # its answer was lost: the same key
            answered[lease["trial"]["id"]] = lease["trial"]["configs"]
        after = patient("GET", server, f"/v1/studies/{made['id']}")
        found = patient("GET", server, f"/v1/studies/{made['id']}/trials")["trials"]
    assert after["state"] == "done"
    assert {t["id"]: t["configs"] for t in found} == answered
    assert [t["number"] for t in found] == list(range(1, 14))


def patient(method: str, server: Server, path: str, body: dict | None = None) -> Any:
    """Asked until it is answered, under one key, as the client does."""
    key = {
        "Idempotency-Key": f"{path}-{(body or {}).get('token', time.time_ns())}".replace("/", ".")
    }
    for _ in range(100):
        try:
            found = httpx.request(method, server.url + path, json=body, headers=key, timeout=20)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        assert found.status_code in (200, 201, 204), found.text
        return found.json() if found.content else None
    raise TimeoutError(path)


def test_a_server_that_is_told_to_end_does(tmp_path):
    with running(tmp_path) as server, connected(server) as waits, connected(server):
        body = json.dumps(asks(wait_s=30.0)).encode()
        waits.send(HEAD.replace(b"studies", b"leases")
                   + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
        time.sleep(0.5)
        start = time.monotonic()
        assert server.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - start < 15


def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    """RLIMIT_FSIZE stands for a full disk: writes fail, reads go on, later writes succeed."""
    with running(tmp_path) as server:
        made = patient("POST", server, "/v1/studies", study(budget=3))
        wal = tmp_path / "tilec.db-wal"
        most = max(wal.stat().st_size, (tmp_path / "tilec.db").stat().st_size)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, most * 1000))
        statuses = {httpx.post(f"{server.url}/v1/studies", json=study(name="x" * 200, seed=i),
                               timeout=30).status_code for i in range(30)}  # fmt: skip
        assert httpx.get(f"{server.url}/v1/studies/{made['id']}").status_code == 200
        unlimited = most * 1000
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        lease = patient("POST", server, "/v1/leases", asks())
    assert 503 in statuses
    assert statuses <= {201, 503}
    assert lease["trial"]["number"] == 1


def test_it_serves_by_tls_with_a_token_from_elsewhere(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext " \
            "subjectAltName=DNS:localhost -keyout"  # fmt: skip
    command = ["openssl", *words.split(), str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    command = ["token", "create", "x", "--scope", "read", "--data", str(tmp_path)]
    text = Server(tmp_path).command(*command)
    with running(tmp_path, "--host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key",
                 str(key), scheme="https") as server:  # fmt: skip
        trusted = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{server.port}/v1/studies"
        assert httpx.get(url, verify=trusted).status_code == 401
        by = {"Authorization": f"Bearer {text}"}
        assert httpx.get(url, verify=trusted, headers=by).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))
