"""Finished studies and packages are deleted by administrators, with what was sent for them."""

import hashlib
from pathlib import Path

from served import Client, served
from sqlalchemy import select

from tilec.serve.tables import artifacts, events, leases, studies, trials, uses

ONE, TWO, FREE = b"of one study" * 50, b"of two studies" * 50, b"of none" * 50


async def send(c: Client, data: bytes, study: str = "", status: int = 201) -> str:
    digest = hashlib.sha256(data).hexdigest()
    where = f"/v1/artifacts/sha256/{digest}" + (f"?study={study}" if study else "")
    kind = {"content-type": "application/octet-stream"}
    answer = await c.http.put(where, content=data, headers=c.headers | kind)
    assert answer.status_code == status, answer.text
    return digest


def kept(folder: Path) -> set[str]:
    return {p.name for p in (folder / "artifacts").rglob("*") if p.is_file()}


def rows_of(c: Client, study: str) -> list[int]:
    """How many rows there are of a study, by table."""
    with c.service.database.read() as tx:
        return [len(tx.execute(select(t).where(column == study)).all()) for t, column in (
            (studies, studies.c.id), (trials, trials.c.study), (leases, leases.c.study),
            (events, events.c.study), (uses, uses.c.study))]  # fmt: skip


def test_what_is_deleted_is_gone_and_is_in_the_audit(tmp_path):
    async def check(c: Client):
        admin = c.token("admin")
        made = (await admin.submit(budget=3))["id"]
        await admin.work()
        won = (await admin.study(made))["winner"]
        before = rows_of(c, made)
        await admin.ask("DELETE", f"/v1/studies/{made}", None, 204)
        await admin.get(f"/v1/studies/{made}", 404)
        await admin.ask("DELETE", f"/v1/studies/{made}", None, 404)
        package = (await admin.post("/v1/packages", {}, 201))["id"]
        await admin.ask("DELETE", f"/v1/packages/{package}", None, 204)
        await admin.get(f"/v1/packages/{package}", 404)
        await admin.ask("DELETE", f"/v1/packages/{package}", None, 404)
        assert await admin.get(f"/v1/configs/{won['key']}") == won
        audit = await admin.get("/v1/audit")
        older = await admin.get(f"/v1/audit?before={audit[0]['number']}")
        token = admin.headers["Authorization"].split("_")[1]
        return made, package, before, rows_of(c, made), token, audit, older

    made, package, before, after, token, audit, older = served(check, tmp_path, anonymous=False)
    assert all(before[:4])
    assert after == [0] * 5
    assert [(a["action"], a["subject"]) for a in audit] == [
        ("delete package", package), ("delete study", made)]  # fmt: skip
    assert {a["caller"] for a in audit} == {token}
    assert audit[1]["detail"]["trials"] == 4
    assert older == audit[1:]


def test_a_study_under_way_stays_and_so_does_what_it_starts_from(tmp_path):
    async def check(c: Client):
        first = (await c.submit(budget=2))["id"]
        await c.ask("DELETE", f"/v1/studies/{first}", None, 409)
        await c.work()
        second = await c.submit(budget=2)
        refused = await c.ask("DELETE", f"/v1/studies/{first}", None, 409)
        await c.work()
        await c.ask("DELETE", f"/v1/studies/{first}", None, 204)
        return first, second, refused, await c.study(second["id"])

    first, second, refused, after = served(check, tmp_path)
    assert second["sources"] == [first]
    assert second["id"] in refused["error"]["message"]
    assert after["state"] == "done"


def test_a_deletion_that_is_sent_again_is_made_once(tmp_path):
    async def check(c: Client):
        made = (await c.submit(budget=1))["id"]
        await c.post(f"/v1/studies/{made}:cancel")
        for _ in range(2):
            await c.ask("DELETE", f"/v1/studies/{made}", None, 204, Idempotency_Key="gone")
        return await c.get("/v1/audit")

    assert len(served(check, tmp_path)) == 1


def test_files_go_with_the_last_study_that_has_them(tmp_path):
    async def check(c: Client):
        one, two = [(await c.submit())["id"] for _ in range(2)]
        for study in (one, two):
            await c.post(f"/v1/studies/{study}:cancel")
        alone, free = await send(c, ONE, one), await send(c, FREE)
        both = {await send(c, TWO, study) for study in (one, two, two)}
        await send(c, ONE, "s" + "0" * 20, 404)
        found = []
        for study in (one, two):
            await c.ask("DELETE", f"/v1/studies/{study}", None, 204)
            waiting = kept(tmp_path)
            found.append((c.service.artifacts.collect(), waiting - kept(tmp_path)))
        gone = [(await c.http.get(f"/v1/artifacts/sha256/{d}")).status_code for d in (alone, *both)]
        return alone, both, free, found, gone, await c.get("/v1/audit")

    alone, both, free, found, gone, audit = served(check, tmp_path)
    assert found == [(1, {alone}), (1, both)]
    assert kept(tmp_path) == {free}
    assert gone == [404, 404]
    assert [a["detail"]["artifacts"] for a in audit] == [sorted(both), [alone]]


def test_a_file_that_another_tenant_has_stays(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("admin"), c.token("admin", tenant="other")
        made = (await ours.submit())["id"]
        await ours.post(f"/v1/studies/{made}:cancel")
        digest = await send(ours, ONE, made)
        await send(theirs, ONE)
        await send(theirs, TWO, made, 404)
        await ours.ask("DELETE", f"/v1/studies/{made}", None, 204)
        with c.service.database.read() as tx:
            left = tx.execute(select(artifacts.c.tenant)).scalars().all()
        got = [(await c.http.get(f"/v1/artifacts/sha256/{digest}", headers=who.headers)).status_code
               for who in (ours, theirs)]  # fmt: skip
        return c.service.artifacts.collect(), left, got

    assert served(check, tmp_path, anonymous=False) == (0, ["other"], [404, 200])


def test_a_file_that_is_sent_again_meanwhile_stays(tmp_path):
    async def check(c: Client):
        made = (await c.submit())["id"]
        await c.post(f"/v1/studies/{made}:cancel")
        digest = await send(c, ONE, made)
        await c.ask("DELETE", f"/v1/studies/{made}", None, 204)
        path = c.service.artifacts.path(digest)
        await send(c, ONE)
        removed = c.service.database.write(lambda tx: c.service.artifacts._remove(tx, path))
        return removed, (await c.http.get(f"/v1/artifacts/sha256/{digest}")).content

    assert served(check, tmp_path) == (False, ONE)
