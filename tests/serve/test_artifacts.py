import asyncio
import hashlib

from served import Client, served

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


def test_an_artifact_belongs_to_those_who_sent_it(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("worker"), c.token("worker", tenant="other")
        await put(ours, DATA)
        before = (await c.http.get(path(DATA), headers=theirs.headers)).status_code
        await put(theirs, DATA)
        after = (await c.http.get(path(DATA), headers=theirs.headers)).status_code
        return before, after

    assert served(check, tmp_path, anonymous=False) == (404, 200)
