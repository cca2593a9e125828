import asyncio
import hashlib
import os
import time

from served import Client, served

from tilec.serve.app import application
from tilec.serve.setup import Limits

BINARY = {"content-type": "application/octet-stream"}
DATA = bytes(range(256)) * 100


def path(data: bytes) -> str:
    return f"/v1/artifacts/sha256/{hashlib.sha256(data).hexdigest()}"


async def put(c: Client, data: bytes, where: str | None = None):
    return await c.http.put(where or path(data), content=data, headers=c.headers | BINARY)


def test_what_is_sent_comes_back_and_never_changes(tmp_path):
    async def check(c: Client):
        first, again = await put(c, DATA), await put(c, DATA)
        got = await c.http.get(path(DATA))
        head = await c.http.head(path(DATA))
        missing = await c.http.get(path(b"other")), await c.http.head(path(b"other"))
        return first, again, got, head, missing

    first, again, got, head, missing = served(check, tmp_path)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == {"digest": hashlib.sha256(DATA).hexdigest(), "size": len(DATA)}
    assert got.content == DATA
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment")
    assert head.headers["content-length"] == str(len(DATA))
    assert [m.status_code for m in missing] == [404, 404]


def test_what_is_not_as_its_name_says_is_refused_and_leaves_nothing(tmp_path):
    """TUNING.md 3.6, 31."""

    async def check(c: Client):
        wrong = await put(c, DATA + b"x", path(DATA))
        cut = await put(c, DATA[:-1], path(DATA))
        names = ("..", "../../x", "A" * 64, "0" * 63, "%2e%2e", "0" * 64 + "/x")
        odd = [(await put(c, DATA, f"/v1/artifacts/sha256/{n}")).status_code for n in names]
        return wrong.status_code, cut.status_code, odd, (await c.http.get(path(DATA))).status_code

    wrong, cut, odd, got = served(check, tmp_path)
    assert (wrong, cut, got) == (422, 422, 404)
    assert all(status in (404, 405, 413, 415, 422) for status in odd), odd
    assert [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()] == []


def test_size_and_quota_are_bounded(tmp_path):
    limits = Limits(artifact=1000, quota=2500)

    async def check(c: Client):
        async def drops():
            for _ in range(100):
                yield b"x" * 100

        large = (await put(c, b"x" * 1001)).status_code
        streamed = (await c.http.put(path(b"x"), content=drops(), headers=BINARY)).status_code
        kept = [(await put(c, bytes([i]) * 1000)).status_code for i in range(3)]
        again = (await put(c, bytes([0]) * 1000)).status_code
        return large, streamed, kept, again

    large, streamed, kept, again = served(check, tmp_path, limits=limits)
    assert (large, streamed, again) == (413, 413, 201)
    assert kept == [201, 201, 413]
    files = [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) == 2000


def test_uploads_of_the_same_at_once_are_one(tmp_path):
    async def check(c: Client):
        found = await asyncio.gather(*(put(c, DATA) for _ in range(8)))
        return [f.status_code for f in found], (await c.http.get(path(DATA))).content

    statuses, got = served(check, tmp_path)
    assert statuses == [201] * 8
    assert got == DATA


def test_what_was_lost_from_the_disk_is_missed_and_may_be_sent_again(tmp_path):
    async def check(c: Client):
        await put(c, DATA)
        (found,) = [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]
        found.unlink()
        statuses = [(await c.http.request(m, path(DATA))).status_code for m in ("GET", "HEAD")]
        again = (await put(c, DATA)).status_code
        return statuses, again, (await c.http.get(path(DATA))).content

    assert served(check, tmp_path) == ([404, 404], 201, DATA)


def test_few_uploads_are_under_way_at_a_time(tmp_path):
    """Each may be as large as an artifact, and the quota counts it at its end only."""

    async def check(c: Client):
        ours, theirs = c.token("worker"), c.token("worker", tenant="other")
        gate = asyncio.Event()

        async def slowly():
            yield DATA
            await gate.wait()

        def begun(by: Client):
            headers = by.headers | BINARY
            return asyncio.create_task(c.http.put(path(DATA), content=slowly(), headers=headers))

        tasks = [begun(ours) for _ in range(2)]
        while len(list((tmp_path / "artifacts").glob("incoming-*"))) < 2:
            await asyncio.sleep(0.01)
        refused = (await put(ours, b"x")).status_code
        other = (await put(theirs, b"x")).status_code
        gate.set()
        ended = [(await t).status_code for t in tasks]
        return refused, other, ended, (await put(ours, b"x")).status_code

    limits = Limits(uploads=2)
    found = served(check, tmp_path, anonymous=False, limits=limits)
    assert found == (429, 201, [201, 201], 201)


def test_nobody_else_on_the_machine_can_read_them(tmp_path):
    (tmp_path / "artifacts").mkdir(mode=0o755)

    async def check(c: Client):
        await put(c, DATA)

    served(check, tmp_path)
    (found,) = [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]
    assert found.stat().st_mode & 0o777 == 0o600


def test_a_server_that_starts_leaves_the_uploads_of_another_alone(tmp_path):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    new, old = folder / "incoming-1", folder / "incoming-2"
    for name in (new, old):
        name.write_bytes(b"x")
    then = time.time() - 7200
    os.utime(old, (then, then))

    async def check(c: Client):
        del c
        return new.exists(), old.exists()

    assert served(check, tmp_path) == (True, False)


def test_an_upload_that_ends_early_leaves_nothing_and_is_no_fault(tmp_path):
    """The client goes away in the middle: no error of the server is logged or counted."""

    async def check(c: Client):
        said = [{"type": "http.request", "body": b"x" * 10, "more_body": True},
                {"type": "http.disconnect"}]  # fmt: skip
        sent: list[dict] = []

        async def receive():
            return said.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "PUT", "path": path(DATA), "raw_path": b"",
                 "root_path": "", "query_string": b"", "headers": [(b"host", b"localhost")],
                 "http_version": "1.1",
                 "scheme": "http", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
                 "asgi": {"version": "3.0"}, "state": {}}  # fmt: skip
        await application(c.service)(scope, receive, send)
        return sent[0]["status"]

    assert served(check, tmp_path) == 400
    assert [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()] == []


def test_an_artifact_belongs_to_those_who_sent_it(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("worker"), c.token("worker", tenant="other")
        await put(ours, DATA)
        before = (await c.http.get(path(DATA), headers=theirs.headers)).status_code
        await put(theirs, DATA)
        after = (await c.http.get(path(DATA), headers=theirs.headers)).status_code
        return before, after

    assert served(check, tmp_path, anonymous=False) == (404, 200)
