"""The disk cache: every kind of damage is a miss, and a miss never hurts."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tilec.runtime.cache import Cache, Entry, cache_key, default_directory

PAYLOAD = bytes(range(256)) * 3
KEY = cache_key(text="define void @k()", cpu="znver5", options=[1, 2])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def stored(cache: Cache, key: str = KEY) -> Path:
    assert cache.put(key, Entry(PAYLOAD, {"entry": "k"}))
    path = cache.path(key)
    assert path is not None
    return path


def test_an_entry_reads_back(cache: Cache) -> None:
    stored(cache)
    found = cache.get(KEY)
    assert found is not None
    assert (found.payload, found.header) == (PAYLOAD, {"entry": "k"})
    assert cache.get(cache_key(text="other")) is None


def test_the_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert cache_key(options=(1, 2), cpu="znver5", text="define void @k()") == KEY
    others = [
        cache_key(text="define void @k()", cpu="znver5", options=[2, 1]),
        cache_key(text="define void @k()", cpu="znver4", options=[1, 2]),
        cache_key(text="define void @k()", cpu="znver5", options=[12]),
        cache_key(text="define void @k()", cpu="znver5", options=["1", 2]),
    ]
    assert len({KEY, *others}) == 5


def test_a_key_part_that_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        cache_key(text=object())
    with pytest.raises(ValueError, match="not JSON compliant"):
        cache_key(scale=float("nan"))


def test_truncation_at_any_place_is_a_miss_and_removes_the_file(cache: Cache) -> None:
    whole = stored(cache).read_bytes()
    for length in range(0, len(whole), 64):
        path = stored(cache)
        path.write_bytes(whole[:length])
        assert cache.get(KEY) is None
        assert not path.exists()


def test_a_flipped_bit_anywhere_is_a_miss(cache: Cache) -> None:
    whole = stored(cache).read_bytes()
    for place in range(0, len(whole), 7):
        path = stored(cache)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        assert cache.get(KEY) is None, place
        assert not path.exists()


def test_bytes_after_the_end_are_a_miss(cache: Cache) -> None:
    path = stored(cache)
    path.write_bytes(path.read_bytes() + b"x")
    assert cache.get(KEY) is None


def test_an_entry_under_another_key_is_a_miss(cache: Cache) -> None:
    other = cache_key(text="other")
    target = stored(cache, other)
    target.write_bytes(stored(cache).read_bytes())
    assert cache.get(other) is None
    assert cache.get(KEY) is not None


def test_no_link_pipe_or_directory_is_an_entry(cache: Cache, tmp_path: Path) -> None:
    path = stored(cache)
    outside = tmp_path / "outside"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)
    assert cache.get(KEY) is None
    assert outside.exists()
    os.mkfifo(path)
    assert cache.get(KEY) is None
    path.mkdir()
    assert cache.get(KEY) is None


def test_the_directory_is_private(cache: Cache) -> None:
    path = stored(cache)
    assert cache.root is not None
    for place in (cache.root.parent, cache.root, path.parent):
        assert place.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o077 == 0


def test_a_directory_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="writable by other users"):
        cache = Cache(tmp_path)
    assert cache.root is None
    assert cache.get_or_make(KEY, lambda: Entry(b"made")).payload == b"made"
    assert not cache.put(KEY, Entry(PAYLOAD))


def test_a_directory_that_can_not_be_made_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="no cache in"):
        cache = Cache(tmp_path / "file" / "cache")
    assert cache.get_or_make(KEY, lambda: Entry(b"made")).payload == b"made"


def test_a_full_or_read_only_disk_keeps_nothing_and_goes_on(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        entry = cache.get_or_make(KEY, lambda: Entry(b"made"))
    assert entry.payload == b"made"
    path = cache.path(KEY)
    assert path is not None
    assert list(path.parent.iterdir()) == []


def test_a_hit_makes_nothing(cache: Cache) -> None:
    stored(cache)
    assert cache.get_or_make(KEY, lambda: pytest.fail("made again")).payload == PAYLOAD


def test_threads_that_miss_together_make_one_entry(cache: Cache) -> None:
    made: list[int] = []

    def make() -> Entry:
        made.append(1)
        return Entry(PAYLOAD)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: cache.get_or_make(KEY, make), range(16)))
    assert {entry.payload for entry in found} == {PAYLOAD}
    assert len(made) == 1


def test_a_lock_that_is_never_released_is_not_waited_for_forever(tmp_path: Path) -> None:
    from filelock import FileLock

    cache = Cache(tmp_path / "cache", lock_seconds=0.1)
    assert cache.root is not None
    with FileLock(cache.root / "locks" / KEY[:3]):
        assert cache.get_or_make(KEY, lambda: Entry(b"made")).payload == b"made"


WRITER = """
import sys, time
from pathlib import Path
from tilec.runtime.cache import Cache, Entry
cache, key = Cache(Path(sys.argv[1])), sys.argv[2]
def make():
    open(sys.argv[3], "ab").write(b"1")
    time.sleep(0.2)
    return Entry(b"payload" * 1000)
for _ in range(20):
    assert cache.get_or_make(key, make).payload == b"payload" * 1000
"""


def test_processes_that_miss_together_make_one_entry(tmp_path: Path) -> None:
    made = tmp_path / "made"
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache"), KEY, str(made)]
    root = Path(__file__).parents[2]
    running = [subprocess.Popen(command, cwd=root) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert made.read_bytes() == b"1"


def test_the_default_directory_follows_the_environment() -> None:
    assert default_directory({"TILEC_CACHE_DIR": "/x/y", "HOME": "/h"}) == Path("/x/y")
    assert default_directory({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/tilec")
    assert default_directory({"XDG_CACHE_HOME": "c", "HOME": "/h"}) == Path("/h/.cache/tilec")
    assert default_directory({"HOME": "/h"}) == Path("/h/.cache/tilec")
