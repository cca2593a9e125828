import asyncio
import json
import logging
import re
import time

import pytest
from served import Client, served, study
from typer.testing import CliRunner

from tilec.cli import app
from tilec.observe import counters, fell_back
from tilec.serve import auth
from tilec.serve.server import Lines
from tilec.serve.setup import Limits

SCOPED = {  # path: method, the scopes that may, and a body that goes no further than the check
    "/v1/studies": ("POST", {"submit"}),
    "/v1/leases": ("POST", {"worker"}),
    "/v1/leases/l" + "0" * 20 + ":complete": ("POST", {"worker"}),
    "/v1/leases/l" + "0" * 20 + ":heartbeat": ("POST", {"worker"}),
    "/v1/leases/l" + "0" * 20 + ":fail": ("POST", {"worker"}),
    "/v1/workers": ("GET", {"read"}),
    "/v1/workers/w:drain": ("POST", set()),
    "/v1/configs:import": ("POST", set()),
    "/v1/configs:lookup": ("POST", {"read"}),
    "/v1/configs/" + "0" * 64: ("GET", {"read"}),
    "/v1/packages": ("POST", {"submit"}),
    "/v1/packages/" + "0" * 64: ("GET", {"read"}),
    "/v1/studies/s" + "0" * 20: ("GET", {"read"}),
    "/v1/studies/s" + "0" * 20 + ":cancel": ("POST", {"submit"}),
    "/v1/studies/s" + "0" * 20 + "/trials": ("GET", {"read"}),
    "/v1/studies/s" + "0" * 20 + "/events": ("GET", {"read"}),
    "/v1/studies/s" + "0" * 20 + "/analysis": ("GET", {"read"}),
    "/v1/studies/s" + "0" * 20 + "/t4": ("GET", {"read"}),
    "/v1/artifacts/sha256/" + "0" * 64: ("PUT", {"submit", "worker"}),
    "/v1/blocklist": ("GET", {"read"}),
    "/v1/audit": ("GET", set()),
    "/metrics": ("GET", {"read"}),
}  # fmt: skip
DELETED = {"/v1/packages/" + "0" * 64: ("DELETE", set()),
           "/v1/studies/s" + "0" * 20: ("DELETE", set())}  # fmt: skip


def test_every_path_asks_for_its_scope(tmp_path):
    """TUNING.md 3.6: 24, 25: a worker can't submit, a submitter can't end leases."""

    async def check(c: Client):
        for path, (method, scopes) in (*SCOPED.items(), *DELETED.items()):
            body = (
                {} if method == "POST" and ":drain" not in path and ":cancel" not in path else None
            )
            assert (await c.ask(method, path, body, None)).status_code == 401, path
            for scope in auth.SCOPES:
                found = await c.token(scope).ask(method, path, body, None)
                allowed = scope in scopes or scope == "admin"
                assert (found.status_code != 403) == allowed, (path, scope, found.text)
                assert found.status_code != 401

    served(check, tmp_path, anonymous=False)


def test_every_path_of_the_service_is_in_the_table_or_open(tmp_path):
    async def check(c: Client):
        return (await c.get("/openapi.json"))["paths"]

    known = {re.sub(r"/0{64}|/\w0{20}|/w(?=:)", "/{}", p) for p in SCOPED}
    paths = {re.sub(r"{\w+}", "{}", p) for p in served(check, tmp_path, anonymous=False)}
    assert paths - known == {"/healthz", "/readyz"}


def test_a_tenant_sees_only_what_is_its_own(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("admin"), c.token("admin", tenant="other")
        made = await ours.submit()
        lease = await ours.lease()
        id_ = made["id"]
        for path in (f"/v1/studies/{id_}", f"/v1/studies/{id_}/trials", f"/v1/studies/{id_}/events",
                     f"/v1/studies/{id_}/t4", f"/v1/studies/{id_}/analysis"):  # fmt: skip
            await theirs.get(path, 404)
        await theirs.post(f"/v1/studies/{id_}:cancel", None, 404)
        await theirs.ask("DELETE", f"/v1/studies/{id_}", None, 404)
        assert await theirs.lease("w9") is None
        await theirs.complete(lease, 404)
        await theirs.fail(lease, "infra", 404)
        await theirs.post(f"/v1/leases/{lease['lease']}:heartbeat", {"token": lease["token"]}, 404)
        await theirs.post("/v1/workers/w1:drain", None, 404)
        await ours.complete(lease)
        await ours.work()
        key = (await ours.study(id_))["winner"]["key"]
        await theirs.get(f"/v1/configs/{key}", 404)
        await theirs.get(f"/v1/studies?cursor={id_}", 404)
        assert (await theirs.get("/v1/studies"))["studies"] == []
        package = await ours.post("/v1/packages", {}, 201)
        await theirs.ask("DELETE", f"/v1/packages/{package['id']}", None, 404)
        await ours.ask("DELETE", f"/v1/packages/{package['id']}", None, 204)
        assert await theirs.get("/v1/audit") == []
        assert [w["worker"] for w in (await theirs.get("/v1/workers"))["workers"]] == ["w9"]
        keyed = [await who.post("/v1/studies", study(), 201, Idempotency_Key="same")
                 for who in (ours, theirs)]  # fmt: skip
        assert keyed[0]["id"] != keyed[1]["id"]

    served(check, tmp_path, anonymous=False)


def test_tokens_end(tmp_path):
    async def check(c: Client):
        by = c.token("read")
        await by.get("/v1/studies")
        id_ = by.headers["Authorization"].split("_")[1]
        c.service.database.write(lambda tx: auth.revoked(tx, id_, time.time()))
        await by.get("/v1/studies", 401)
        day, write = time.time(), c.service.database.write
        made = write(lambda tx: auth.made(tx, "short", "default", ["read"], day - 90_000, 1.0))
        short = c.by(made)
        await short.get("/v1/studies", 401)

    served(check, tmp_path, anonymous=False)


def test_a_stream_ends_with_its_token(tmp_path):
    """It goes on for as long as its study: a token that was revoked must not hear the rest."""

    async def check(c: Client):
        by = c.token("read", "submit")
        made = await by.submit()
        events = f"/v1/studies/{made['id']}/events"
        stream = asyncio.create_task(by.get(events, None))
        await asyncio.sleep(0.3)
        assert not stream.done()
        id_ = by.headers["Authorization"].split("_")[1]
        c.service.database.write(lambda tx: auth.revoked(tx, id_, time.time()))
        c.service.changed()
        found = await asyncio.wait_for(stream, 5)
        await by.get(events, 401)
        return found.text, +c.service.streams

    text, streams = served(check, tmp_path, anonymous=False)
    assert '"state":"queued"' in text
    assert "event: end" not in text
    assert not streams


def test_streams_are_bounded_for_each_tenant(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("admin"), c.token("admin", tenant="other")
        paths = [f"/v1/studies/{(await who.submit())['id']}" for who in (ours, theirs)]
        asked = [asyncio.create_task(ours.get(f"{paths[0]}/events", None)) for _ in range(5)]
        await asyncio.sleep(0.3)
        other = asyncio.create_task(theirs.get(f"{paths[1]}/events", None))
        await asyncio.sleep(0.3)
        open_ = [t.done() for t in (*asked, other)]
        for who, path in zip((ours, theirs), paths, strict=True):
            await who.post(f"{path}:cancel")
        ended = [(await t).status_code for t in (*asked, other)]
        return open_, sorted(ended[:5]), ended[5], +c.service.streams

    open_, ours, theirs, streams = served(
        check, tmp_path, anonymous=False, limits=Limits(streams=2)
    )
    assert open_.count(False) == 3  # two of ours, one of theirs
    assert (ours, theirs) == ([200, 200, 429, 429, 429], 200)
    assert not streams


@pytest.mark.parametrize("given", [
    "", "Bearer", "Bearer ", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer tilec__",
    "Bearer tilec_" + "0" * 12 + "_" + "A" * 43, "Bearer " + "x" * 10_000, "tilec",
])  # fmt: skip
def test_what_is_no_token_is_refused(tmp_path, given):
    async def check(c: Client):
        await c.get("/v1/studies", 401, Authorization=given)

    served(check, tmp_path, anonymous=False)


def test_a_wrong_token_is_refused_even_where_none_is_needed(tmp_path):
    async def check(c: Client):
        await c.get("/v1/studies", 401, Authorization="Bearer tilec_000000000000_" + "A" * 43)
        await c.get("/v1/studies")

    served(check, tmp_path)


def test_secrets_are_nowhere_but_with_their_owner(tmp_path, caplog):
    """Not in the database, not in the logs, not in answers, and no use in a URL."""
    caplog.set_level(logging.DEBUG)

    async def check(c: Client):
        by = c.token("admin")
        text = by.headers["Authorization"].split()[1]
        found = await by.get(f"/v1/studies?token={text}&access_token={text}")
        assert text not in json.dumps(found)
        await c.get(f"/v1/studies?token={text}&access_token={text}", 401)
        await c.get("/v1/studies", 401, Authorization=f"Bearer {text[:-1]}")
        return text.split("_", 2)[2]

    secret = served(check, tmp_path, anonymous=False)
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert secret.encode() not in kept
    ours = [r for r in caplog.records if r.name.startswith("tilec")]
    assert len(ours) == 3
    assert all(secret not in Lines().format(r) for r in ours)


def test_secrets_are_compared_in_constant_time(tmp_path, monkeypatch):
    """Also for an ID that is not there: the same comparison is made."""
    seen = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: seen.append(len(a)) or real(a, b))

    async def check(c: Client):
        await c.token("read").get("/v1/studies")
        for text in ("tilec_000000000000_" + "A" * 43, "x"):
            await c.get("/v1/studies", 401, Authorization=f"Bearer {text}")

    served(check, tmp_path, anonymous=False)
    assert seen == [64] * 3


def test_metrics_have_the_counters_of_the_process_and_no_tenant(tmp_path):
    def value(page: str, name: str) -> float:
        return float(next(x for x in page.splitlines() if x.startswith(name + " ")).split()[-1])

    async def check(c: Client):
        by = c.token("admin", tenant="very-secret")
        name = 'tilec_fallbacks_total{instead_of="a \\"quoted\\" thing"}'
        fell_back('a "quoted" thing', "for a test", "tune")
        first = await by.get("/metrics", None)
        fell_back('a "quoted" thing', "for a test", "tune")
        await by.submit(name="hidden")
        second = (await by.get("/metrics", None)).text
        assert "very-secret" not in second
        assert "hidden" not in second
        return first.text, second, value(second, name) - value(first.text, name)

    first, page, more = served(check, tmp_path, anonymous=False)
    assert more == 1
    told = counters()
    assert value(page, 'tilec_compiles_total{end="done"}') == told.compiles
    assert value(page, 'tilec_cache_events_total{event="misses"}') == told.cache.misses
    assert value(page, 'tilec_studies{state="queued"}') == 1
    assert "tilec_requests_total" in first


def test_log_lines_can_not_be_forged(tmp_path, caplog):
    """TUNING.md 3.6: 16, 37."""
    caplog.set_level(logging.INFO)
    forged = '\n{"level": "INFO", "status": 200}\r\x1b[31m'

    async def check(c: Client):
        await c.get("/v1/studies/%0a%7b%22status%22%3a200%7d%1b%5b31m", None)
        await c.post("/v1/studies", study(name=forged), 422)
        await c.submit()
        lease = await c.lease()
        body = {"token": lease["token"], "failure": "infra", "detail": forged}
        await c.post(f"/v1/leases/{lease['lease']}:fail", body)
        return await c.trials(lease["trial"]["study"])

    trials = served(check, tmp_path)
    assert "\x1b" not in trials[0]["detail"]
    assert "\r" not in trials[0]["detail"]
    lines = [Lines().format(r) for r in caplog.records]
    assert len(lines) >= 4
    assert all(x.isascii() and x.isprintable() and json.loads(x)["level"] for x in lines)
    odd = logging.LogRecord("x", logging.INFO, "", 0, forged, (), None)
    assert Lines().format(odd).isprintable()


def test_tokens_are_made_and_ended_on_the_command_line(tmp_path):
    def run(*words: str) -> str:
        found = CliRunner().invoke(app, ["serve", "token", *words])
        assert found.exit_code == 0, found.output
        return found.output

    data = ["--data", str(tmp_path)]
    text = run("create", "ci", "--scope", "read", "--scope", "submit", *data).strip()
    assert auth.FORM.fullmatch(text)
    id_, secret = text.split("_", 2)[1:]
    listed = run("list", *data, "--json")
    assert secret not in listed
    assert [(r["id"], r["scopes"], r["revoked"]) for r in json.loads(listed)] == [
        (id_, "read submit", None)]  # fmt: skip
    run("revoke", id_, *data)
    assert json.loads(run("list", *data, "--json"))[0]["revoked"] is not None
    again = CliRunner().invoke(app, ["serve", "token", "revoke", id_, *data])
    wrong = CliRunner().invoke(app, ["serve", "token", "create", "x", "--scope", "root", *data])
    assert (again.exit_code, wrong.exit_code) == (1, 1)
