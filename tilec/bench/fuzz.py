"""Malformed requests against a real server: what it answers, and how its memory grows.

Two sources: schemathesis, from the OpenAPI document, and `fuzz_requests`, from valid requests with
the ids of a study, leases and a package that are there.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from tilec.bench.fuzz_requests import Sent, bent
from tilec.bench.reliability_fleet import Server
from tilec.serve.bodies import checked
from tilec.serve.refusal import Refused
from tilec.serve.setup import Limits

GROWTH = 50 << 20  # bytes of memory that the server may grow by, after the first requests
WARM = 0.1  # the part of the requests after which memory is read first
SLOW_S = 20.0
THREADS = 3
DEVICE = {"kind": "cpu", "name": "fuzz"}
TOOLCHAIN = "ab" * 32
WHO = {"worker": "fuzz", "device": DEVICE, "toolchain": TOOLCHAIN, "recorded": ["small"]}
STUDY = {
    "name": "fuzz", "job": {"kind": "recorded", "space": "small"}, "kernel": "12" * 32,
    "family": "34" * 32, "shape": {"M": 16}, "budget": 2, "seed": 1, "sampler": "random",
    "space": {
        "parameters": [{"name": "a", "values": [1, 2]}, {"name": "b", "values": ["x", "y"]}],
        "constraints": [{"condition": "a <= 3", "reason": "r"}], "default": {"a": 1, "b": "x"},
    },
    "policy": {"mode": "eager", "cache": "warm", "threads": 1}, "priority": 5, "confirm": 4,
    "device": {"kind": "cpu", "name": "*"}, "toolchain": TOOLCHAIN, "timeout_s": 60.0,
}  # fmt: skip
JSON = {"content-type": "application/json"}


@dataclass
class Found:
    """What came of the requests."""

    cases: Counter[str] = field(default_factory=Counter[str])
    statuses: Counter[int] = field(default_factory=Counter[int])
    faults: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0
    seconds: float = 0.0
    memory: tuple[int, int] = (0, 0)  # after the first requests, at the end
    whole: bool = False

    @property
    def clean(self) -> bool:
        grown = self.memory[1] - self.memory[0]
        return not self.faults and self.whole and grown < GROWTH


def measure(folder: Path, schema: int, hand: int, seed: int = 0,
            told: Callable[[int], None] = lambda _: None) -> Found:  # fmt: skip
    """Send `schema` requests of schemathesis' and `hand` of our own."""
    found, lock = Found(), threading.Lock()
    server = Server(folder, lease_s=60.0)
    server.start()
    try:
        known = _prepared(server.address.url)
        start, first = time.monotonic(), [0]

        def seen(source: str, sent: str, answer: httpx.Response | str, seconds: float) -> None:
            with lock:
                _judge(found, source, sent, answer, seconds)
                count = sum(found.cases.values())
                if not first[0] and count >= WARM * (schema + hand):
                    first[0] = _memory(server)
            told(count)

        jobs = [threading.Thread(target=_hand, args=(server.address.url, known, seed + i,
                                                     hand // THREADS, seen))
                for i in range(THREADS)]  # fmt: skip
        for job in jobs:
            job.start()
        _schema(server.address.url, known, schema, seen)
        for job in jobs:
            job.join()
        found.seconds = time.monotonic() - start
        found.memory = (first[0], _memory(server))
        found.whole = httpx.get(f"{server.address.url}/readyz").status_code == 200
        server.kill()
        found.whole &= set(server.checks) == {"ok"}
    finally:
        server.stop()
    return found


def _judge(found: Found, source: str, sent: str, answer: httpx.Response | str,
           seconds: float) -> None:  # fmt: skip
    found.cases[source] += 1
    found.slowest_s = max(found.slowest_s, seconds)
    if isinstance(answer, str):
        found.faults.append(f"{sent}: {answer}")
        return
    found.statuses[answer.status_code] += 1
    what = wrong(answer)
    if what:
        found.faults.append(f"{sent}: {answer.status_code} {what}: {answer.text[:200]}")
    elif seconds > SLOW_S:
        found.faults.append(f"{sent}: took {seconds:.1f} s")


def wrong(answer: httpx.Response) -> str:
    """What is wrong with an answer; empty for nothing."""
    if answer.status_code >= 500:
        return "is a fault of the server"
    if "json" not in answer.headers.get("content-type", "") or not answer.content:
        return ""
    try:
        document = checked(answer.content, Limits(body=1 << 30, elements=1 << 30))
    except Refused:
        return "is no strict JSON"
    if answer.status_code >= 400 and set(document.get("error", {})) != {"code", "message", "where"}:
        return "is an error in another form"
    return ""


def _prepared(url: str) -> list[tuple[Sent, Any]]:
    """A study that is done, one under way, a lease, a package; and the requests that use them."""
    with httpx.Client(base_url=url, timeout=60) as c:

        def post(path: str, body: Any) -> Any:
            return c.post(path, json=body).raise_for_status().json()

        done = post("/v1/studies", STUDY)["id"]
        completion: dict[str, Any] = {}
        while (answer := c.post("/v1/leases", json=WHO)).status_code == 200:
            lease = answer.json()
            completion = {"token": lease["token"], "cost_s": 0.1, "device": DEVICE,
                          "samples_ms": [[1.0, 1.1]] * len(lease["trial"]["configs"]),
                          "toolchain": TOOLCHAIN}  # fmt: skip
            post(f"/v1/leases/{lease['lease']}:complete", completion)
        key = c.get(f"/v1/studies/{done}").json()["winner"]["key"]
        open_ = post("/v1/studies", {**STUDY, "budget": 1000, "priority": 9})["id"]
        lease = post("/v1/leases", WHO)
        package = post("/v1/packages", {})["id"]
        document = c.get(f"/v1/packages/{package}").json()
    return _valid(done, open_, lease, key, package, document, completion)


def _valid(done: str, open_: str, lease: dict[str, Any], key: str, package: str,
           document: Any, completion: Any) -> list[tuple[Sent, Any]]:  # fmt: skip
    token = {"token": lease["token"]}
    one = {"kernel": "12" * 32, "device": "ab" * 32, "toolchain": TOOLCHAIN,
           "policy": {"mode": "eager", "cache": "warm", "threads": 1}}  # fmt: skip
    path = f"/v1/leases/{lease['lease']}"
    posts: list[tuple[str, Any]] = [
        ("/v1/studies", STUDY), ("/v1/studies", STUDY), (f"/v1/studies/{open_}:cancel", None),
        ("/v1/leases", {**WHO, "wait_s": 0.0}), (f"{path}:heartbeat", token),
        (f"{path}:complete", {**completion, **token}),
        (f"{path}:fail", {**token, "failure": "infra", "detail": "x", "cost_s": 0.1}),
        ("/v1/configs:lookup", {"keys": [one]}), ("/v1/packages", {"studies": [done]}),
        ("/v1/configs:import", {"package": document, "unsigned": True}), ("/v1/workers", WHO),
        ("/v1/workers/fuzz:drain", None),
    ]  # fmt: skip
    gets = ["/v1/studies", f"/v1/studies/{done}", f"/v1/studies/{done}/trials",
            f"/v1/studies/{done}/analysis", f"/v1/studies/{done}/t4", f"/v1/studies/{done}/events",
            f"/v1/configs/{key}", f"/v1/packages/{package}", "/v1/blocklist", "/v1/audit",
            "/v1/workers",
            f"/v1/artifacts/sha256/{'0' * 64}", "/healthz", "/ui/"]  # fmt: skip
    found: list[tuple[Sent, Any]] = [(Sent("POST", p, headers=JSON), b) for p, b in posts]
    found += [(Sent("GET", p), None) for p in gets]
    gone = (f"/v1/studies/{open_}", f"/v1/packages/{'0' * 64}")
    found += [(Sent("DELETE", p), None) for p in gone]
    return [*found, (Sent("PUT", f"/v1/artifacts/sha256/{'0' * 64}"), "x")]


def _hand(url: str, known: Sequence[tuple[Sent, Any]], seed: int, count: int,
          seen: Callable[..., None]) -> None:  # fmt: skip
    chance = random.Random(seed)
    with httpx.Client(base_url=url, timeout=SLOW_S + 40) as c:
        for _ in range(count):
            sent = bent(*chance.choice(known), chance)
            start, said = (
                time.monotonic(),
                f"{sent.method} {sent.path[:100]} {sent.content[:150]!r}",
            )
            try:
                answer: Any = c.request(sent.method, sent.path, content=sent.content,
                                        headers=dict(sent.headers))  # fmt: skip
            except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError):
                continue  # no client can send it
            except httpx.RemoteProtocolError as e:
                answer = _odd(e)
                if answer is None:
                    continue
            except httpx.TransportError as e:
                answer = f"no answer: {type(e).__name__}"
            seen("hand", said, answer, time.monotonic() - start)


def _odd(error: httpx.RemoteProtocolError) -> str | None:
    """A connection that the server ends while a body still comes is no fault."""
    return None if "disconnected" in str(error) else f"no HTTP: {error}"


def _schema(url: str, known: Sequence[tuple[Sent, Any]], count: int,
            seen: Callable[..., None]) -> None:  # fmt: skip
    """Requests of schemathesis', half of them within the document and half outside."""
    tools: Any = import_module("schemathesis")
    hypothesis: Any = import_module("hypothesis")
    session = import_module("requests").Session()
    document = tools.openapi.from_url(f"{url}/openapi.json")
    document.config.generation.update(with_security_parameters=False)
    modes = (tools.GenerationMode.POSITIVE, tools.GenerationMode.NEGATIVE)
    operations = [r.ok() for r in document.get_all_operations()]
    each = max(count // (len(operations) * len(modes)), 1)
    settings = hypothesis.settings(
        max_examples=each, database=None, deadline=None, derandomize=True,
        phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    ids = _ids(known)

    def tried(case: Any) -> None:
        for name, value in ids.items():
            spared = case.method == "DELETE" or not len(str(case.body)) % 2
            if name in (case.path_parameters or {}) and not spared:
                case.path_parameters[name] = value
        start = time.monotonic()
        answer = case.call(session=session, base_url=url, timeout=SLOW_S + 40)
        kind = answer.headers.get("content-type", [""])[0]
        same = httpx.Response(
            answer.status_code, headers={"content-type": kind}, content=answer.content
        )
        seen("schemathesis", f"{case.method} {case.path}", same, time.monotonic() - start)

    for operation in operations:
        for mode in modes:
            strategy = operation.as_strategy(generation_mode=mode)
            run = settings(hypothesis.given(case=strategy)(tried))
            try:
                run()
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing can be wrong with a path without parameters
            except Exception as e:
                seen("schemathesis", operation.label, f"no answer: {type(e).__name__}: {e}", 0.0)


def _ids(known: Sequence[tuple[Sent, Any]]) -> dict[str, str]:
    paths = [s.path for s, _ in known]

    def find(word: str, at: int) -> str:
        return next(p.split("/")[at].partition(":")[0] for p in paths if word in p)

    return {"study": find("/trials", 3), "lease": find(":heartbeat", 3), "worker": "fuzz",
            "key": find("/v1/configs/", 3), "package": find("/v1/packages/", 3)}  # fmt: skip


def _memory(server: Server) -> int:
    """The resident bytes of the server."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(x.split()[1]) << 10 for x in status.splitlines() if x.startswith("VmRSS"))


def table(found: Found) -> Table:
    """The result as a table."""
    shown = Table("what", "figure", title="malformed requests")
    shown.add_row("cases", ", ".join(f"{n} {s}" for s, n in found.cases.items()))
    shown.add_row("answers", ", ".join(f"{s}: {n}" for s, n in sorted(found.statuses.items())))
    shown.add_row("5xx and other faults", str(len(found.faults)))
    shown.add_row("requests a second", f"{sum(found.cases.values()) / found.seconds:.0f}")
    shown.add_row("slowest answer", f"{found.slowest_s:.1f} s")
    before, after = (m / 2**20 for m in found.memory)
    shown.add_row("memory after the first tenth, at the end", f"{before:.0f} MB, {after:.0f} MB")
    shown.add_row("database whole", "yes" if found.whole else "no")
    return shown


def data(found: Found) -> dict[str, object]:
    """The result as JSON data."""
    return json.loads(json.dumps({
        "cases": found.cases, "statuses": found.statuses, "faults": found.faults[:100],
        "slowest_s": found.slowest_s, "seconds": found.seconds, "memory": found.memory,
        "whole": found.whole, "clean": found.clean}))  # fmt: skip
