import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from served import Client, asks, client, served, setup, study

from tilec.serve.bodies import checked
from tilec.serve.refusal import Refused
from tilec.serve.setup import Limits

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
JSON = {"content-type": "application/json"}
RAW = {
    "deep arrays": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "deep and not closed": "[" * 100_000,
    "a long number": "1" * 5000,
    "a long fraction": "0." + "1" * 5000,
    "2^63": json.dumps(study(seed=2**63)),
    "10^30": json.dumps(study(budget=10**30)),
    "-10^30": json.dumps(study(priority=-(10**30))),
    "1e999": json.dumps(study()).replace('"seed": 3', '"seed": 1e999'),
    "NaN": json.dumps(study(timeout_s=float("nan"))),
    "Infinity": json.dumps(study(timeout_s=float("inf"))),
    "-Infinity": json.dumps(study(timeout_s=float("-inf"))),
    "half a pair": json.dumps(study(name="\ud800")),
    "other half": json.dumps(study(name="a\udfff")),
    "NUL": json.dumps(study(name="a\0b")),
    "NUL in a key": json.dumps({"a\0": 1}),
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": json.dumps(study()).encode("utf-16"),
    "cut off": json.dumps(study())[:-5],
    "two documents": "{}{}",
    "a string": '"study"',
    "many commas": "[" + "1," * 1_000_001 + "1]",
    "many arrays": "[" + "[]," * 160_000 + "[]]",
    "nothing": "",
    "blanks": "  ",
    "a comment": "{/* */}",
    "single quotes": "{'name': 'x'}",
}  # fmt: skip


def test_bodies_that_are_no_strict_json_are_refused_quickly(tmp_path):
    """TUNING.md 3.5 and 3.6: 26, 27. Each of these broke or slowed a plain FastAPI application."""

    async def check(c: Client):
        for name, body in RAW.items():
            found = await asyncio.wait_for(
                c.http.post("/v1/studies", content=body, headers=JSON), 5)  # fmt: skip
            assert found.status_code in (400, 422), (name, found.status_code, found.text[:200])
            assert set(found.json()) == {"error"}, name
            assert len(found.content) < 1000, name
        assert (await c.get("/v1/studies"))["studies"] == []

    served(check, tmp_path)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path):
    async def check(c: Client):
        taken = 0

        async def parts():
            nonlocal taken
            for _ in range(200):
                taken += 1
                yield b" " * (1 << 20)

        streamed = await c.http.post("/v1/studies", content=parts(), headers=JSON)
        said = await c.http.post("/v1/studies", content=b"{}",
                                 headers={**JSON, "content-length": str(200 << 20)})  # fmt: skip
        odd = [await c.http.post("/v1/studies", content=b"{}", headers={**JSON,
               "content-length": n}) for n in ("-1", "9" * 40, "1e3")]  # fmt: skip
        return streamed.status_code, said.status_code, [o.status_code for o in odd], taken

    streamed, said, odd, taken = served(check, tmp_path)
    assert (streamed, said, odd) == (413, 413, [413] * 3)
    assert taken < 10


def test_strangers_can_not_make_it_read_much(tmp_path):
    """A large body, or one of unknown size, is not read before its token is looked up."""
    limits, taken = Limits(strangers=1000), 0

    async def parts():
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield b" " * 500

    async def check(c: Client):
        by = c.token("submit")
        large = json.dumps(study(name="x" * 200, shape={f"d{i}": i for i in range(64)}))
        assert len(large) > limits.strangers
        bearers = ({}, {"authorization": "Bearer tilec_000000000000_" + "A" * 43},
                   {"authorization": by.headers["Authorization"].replace("Bearer", "Basic")},
                   by.headers)  # fmt: skip
        found = [(await c.http.post("/v1/studies", content=large, headers=JSON | b)).status_code
                 for b in bearers]  # fmt: skip
        streamed = [(await c.http.post("/v1/studies", content=parts(), headers=JSON | b)
                     ).status_code for b in bearers[:3]]  # fmt: skip
        small = (await c.http.post("/v1/studies", content=b"{}", headers=JSON)).status_code
        return found, streamed, small

    found, streamed, small = served(check, tmp_path, anonymous=False, limits=limits)
    assert (found, streamed, small) == ([401, 401, 401, 201], [401] * 3, 401)
    assert taken <= 3


def test_only_json_is_read(tmp_path):
    """A page elsewhere may send text/plain without asking: it is not read."""

    async def check(c: Client):
        body = json.dumps(study())
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
                     "application/json-patch+json"):  # fmt: skip
            found = await c.http.post("/v1/studies", content=body, headers={"content-type": kind})
            assert found.status_code == 415, kind
        kind = "application/json; charset=utf-8"
        found = await c.http.post("/v1/studies", content=body, headers={"content-type": kind})
        assert found.status_code == 201

    served(check, tmp_path)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil", "127.0.0.1.x",
                                  "localhost:80:80", "", "localhost@evil"])  # fmt: skip
def test_other_hosts_are_refused_on_every_method(host):
    """TUNING.md 3.6, 29: a name that an attacker lets point to this machine."""
    assert _statuses({"host": host}) == dict.fromkeys(METHODS, 421)


@pytest.mark.parametrize("origin", [
    "http://evil.example", "null", "http://localhost:1", "https://localhost.evil.example",
    "http://[", "file://",
])  # fmt: skip
def test_other_origins_are_refused_on_every_method(origin):
    assert _statuses({"origin": origin}) == dict.fromkeys(METHODS, 403)


def test_its_own_pages_may_ask():
    assert _statuses({"origin": "http://localhost"}, "/healthz")["GET"] == 200


def _statuses(headers, path="/v1/studies") -> dict[str, int]:
    """The status by method of requests that the application never sees when they are refused."""

    async def run():
        with TemporaryDirectory() as folder:
            async with client(setup(Path(folder))) as c:
                return {m: (await c.http.request(m, path, headers=headers)).status_code
                        for m in METHODS}  # fmt: skip

    return asyncio.run(run())


def test_every_answer_says_how_it_may_be_used(tmp_path):
    async def check(c: Client):
        paths = (
            "/healthz",
            "/v1/studies",
            "/v1/studies/x",
            "/nothing",
            "/metrics",
            "/openapi.json",
        )
        return [(await c.get(p, None)).headers for p in paths]

    for headers in served(check, tmp_path):
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


ANY = "/v1/studies/s" + "0" * 20
ODD_PATHS = (
    "/v1/studies/9223372036854775808", "/v1/studies/%00", "/v1/studies/%0a", "/v1/studies/%ff%fe",
    "/v1/studies/../../etc/passwd", "/v1/studies?cursor=%00", "/v1/configs/..",
    f"{ANY}/trials?cursor=9223372036854775808", f"{ANY}/trials?cursor=-1",
    f"{ANY}/events?after=1e9",
    "/v1/artifacts/sha256/..", "/v1/packages/" + "A" * 64, "/ui/..%2f..%2fapp.py",
    "/ui/%2e%2e/%2e%2e/app.py", "/" + "a" * 5000,
)  # fmt: skip


def test_odd_paths_and_parameters_are_refused(tmp_path):
    async def check(c: Client):
        found = {}
        for path in ODD_PATHS:
            answer = await c.get(path, None)
            found[path] = answer.status_code
            assert "import" not in answer.text
        return found

    found = served(check, tmp_path)
    assert set(found.values()) <= {404, 422}, found


def test_an_idempotency_key_is_checked(tmp_path):
    async def check(c: Client):
        for key in ("", "a b", "x" * 129, "a\x7f", 'a"b'):
            found = await c.post("/v1/leases", asks(), None, Idempotency_Key=key)
            assert found.status_code == 422, key

    served(check, tmp_path)


def test_headers_that_are_there_twice_are_refused(tmp_path):
    async def check(c: Client):
        twice = [("host", "localhost"), ("host", "evil.example")]
        return (await c.http.get("/healthz", headers=twice)).status_code

    assert served(check, tmp_path) == 400


def test_a_string_that_looks_like_structure_is_no_structure():
    limits = Limits(depth=2, containers=4, elements=3)
    text = '{"a": "[[[[[[{{{{,,,,,,\\"[[[1111111111111111111111111111111111111111111111111111111"}'
    assert checked(text.encode(), limits) == json.loads(text)
    with pytest.raises(Refused, match="deeper"):
        checked(b"[[[1]]]", limits)
    with pytest.raises(Refused, match="elements"):
        checked(b"[1,2,3,4,5]", limits)
