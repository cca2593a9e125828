"""How much is kept, what goes first, and what is tidied up."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest
from caches import ENTRY, KEY, stored

from tilec.ir.errors import TileError
from tilec.runtime.cache import Bounds, Cache, Entry, Key, default_directory, open_cache
from tilec.runtime.cache import disk as disk_module
from tilec.runtime.cache import place as place_module
from tilec.runtime.cache.disk import owner
from tilec.runtime.cache.sweep import files, tidy

LARGE = Entry(b"x" * 10_000)  # three blocks


pytestmark = pytest.mark.usefixtures("quick_disk")


def times(age: float) -> tuple[float, float]:
    now = time.time() - age
    return now, now


def keys(count: int) -> list[Key]:
    return [Key(KEY.made_by, {"text": str(n)}) for n in range(count)]


def used(cache: Cache) -> int:
    assert cache.root is not None
    return sum(cache.bounds.charge(f.size) for f in files(cache.root))


def test_bytes_and_entries_are_bounded(tmp_path: Path) -> None:
    by_bytes = Cache(tmp_path / "b", bounds=Bounds(400_000, 1000), locks=tmp_path)
    by_entries = Cache(tmp_path / "e", bounds=Bounds(1 << 30, 32), locks=tmp_path)
    for key in keys(100):
        by_bytes.put(key, LARGE)
        by_entries.put(key, Entry(b"x"))
        assert used(by_bytes) <= by_bytes.bounds.blocks
    assert by_bytes.root is not None
    assert by_entries.root is not None
    assert 20 < len(list(files(by_bytes.root))) <= 33
    assert 20 < len(list(files(by_entries.root))) <= 32


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", bounds=Bounds(400_000, 1000), locks=tmp_path)
    some = keys(60)
    for age, key in enumerate(some[:20]):
        path = stored(cache, key)
        assert cache.put(key, LARGE)
        os.utime(path, (10_000_000 - age, 10_000_000 - age))
    assert cache.get(some[19]) == LARGE  # the oldest, until now
    for key in some[20:36]:
        cache.put(key, LARGE)
    left = [n for n in range(20) if cache.get(some[n]) is not None]
    assert 19 in left
    assert left == [*range(len(left) - 1), 19]
    assert len(left) < 20


def test_a_use_is_noted_once_an_hour(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", locks=tmp_path)
    path = stored(cache)
    for age, noted in ((60, False), (4000, True), (-4000, True)):
        os.utime(path, times(age))
        before = path.stat().st_mtime_ns
        assert cache.get(KEY) == ENTRY
        assert (path.stat().st_mtime_ns != before) is noted


def test_an_entry_that_is_read_is_not_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", bounds=Bounds(400_000, 1000), locks=tmp_path)
    path = stored(cache)
    os.utime(path, (1, 1))
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        for key in keys(100):
            cache.put(key, LARGE)
        assert path.exists()
    for key in keys(100):
        cache.put(key, LARGE)
    assert not path.exists()


def test_a_lost_ledger_costs_a_look(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", bounds=Bounds(400_000, 1000), locks=tmp_path)
    assert cache.root is not None
    ledger = cache.root / "ledger"
    for n, key in enumerate(keys(100)):
        if n % 3 == 0:
            ledger.unlink(missing_ok=True)
            if n % 6 == 0:
                ledger.mkdir()
        assert cache.put(key, LARGE)
        assert used(cache) <= cache.bounds.blocks
    assert ledger.stat().st_size >= used(cache)


def test_a_put_looks_at_no_other_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "c", locks=tmp_path)
    stored(cache)
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("looked at all entries"))
    for key in keys(20):
        assert cache.put(key, ENTRY)


def test_leftovers_go_when_their_owner_has(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", locks=tmp_path)
    assert cache.root is not None
    dead = subprocess.Popen(["true"])
    dead.wait()
    where = owner().rpartition("-")[0]
    ages = {
        f"{where}-{dead.pid}-a": 0,
        f"{owner()}-b": 0,
        f"{owner()}-c": 100_000,
        f"elsewhere-{dead.pid}-d": 60,
        f"elsewhere-{dead.pid}-e": 4000,
        "odd": 4000,
    }
    for name, age in ages.items():
        path = cache.root / "tmp" / name
        path.write_text("half")
        os.utime(path, times(age))
    assert tidy(cache.root) == 4
    left = {p.name for p in (cache.root / "tmp").iterdir()}
    assert left == {f"{owner()}-b", f"elsewhere-{dead.pid}-d"}


def test_a_new_process_tidies_up(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", locks=tmp_path)
    assert cache.root is not None
    (cache.root / "tmp" / "elsewhere-1-x").write_text("half")
    os.utime(cache.root / "tmp" / "elsewhere-1-x", (1, 1))
    Cache(tmp_path / "c", locks=tmp_path)
    assert list((cache.root / "tmp").iterdir()) == []


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", locks=tmp_path)
    for _ in range(70):
        stored(cache).write_bytes(b"damaged")
        assert cache.get(KEY) is None
    assert cache.root is not None
    tidy(cache.root)
    assert len(list((cache.root / "quarantine").iterdir())) == 64
    tidy(cache.root, quarantine=0)
    assert list((cache.root / "quarantine").iterdir()) == []


def test_sizes_are_read() -> None:
    for text, size in (("", 2 << 30), ("4096", 4096), ("500M", 500 << 20), ("2g", 2 << 30)):
        assert Bounds.of({"TILEC_CACHE_BYTES": text}).bytes == size
    for text in ("-1", "0", "1.5G", "lots", "1P", "9" * 13):
        with pytest.raises(TileError, match="expected a size such as 500M"):
            Bounds.of({"TILEC_CACHE_BYTES": text})


def test_the_default_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_directory({"TILEC_CACHE_DIR": "/x/y", "HOME": "/h"}) == Path("/x/y")
    assert default_directory({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/tilec")
    assert default_directory({"XDG_CACHE_HOME": "c", "HOME": "/h"}) == Path("/h/.cache/tilec")
    assert default_directory({"HOME": "/h"}) == Path("/h/.cache/tilec")

    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert default_directory({}).is_absolute()


def test_a_network_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "network", lambda _: "NFS")
    monkeypatch.setattr(place_module, "local_directory", lambda: tmp_path / "local")
    with pytest.warns(
        RuntimeWarning, match=r"is on NFS: compiled kernels are kept in .*local"
    ) as w:
        cache = open_cache({"XDG_CACHE_HOME": str(tmp_path / "far")})
    assert len(w) == 1
    assert "\n" not in str(w[0].message)
    assert cache.root == tmp_path / "local" / "v2"
    assert not (tmp_path / "far").exists()


def test_a_network_that_was_chosen_is_used_without_locks_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "network", lambda _: "Lustre")
    cache = open_cache({"TILEC_CACHE_DIR": str(tmp_path / "far")})
    stored(cache)
    monkeypatch.setattr(disk_module.fcntl, "flock", lambda *_: pytest.fail("locked a file there"))
    assert cache.get(KEY) == ENTRY
    assert cache.tidied() == []


def test_file_systems_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place_module.network(Path("/proc/nothing/here")) == ""
    monkeypatch.setitem(place_module.NETWORK, 0x9FA0, "procfs")  # statfs(2): PROC_SUPER_MAGIC
    assert place_module.network(Path("/proc/nothing/here")) == "procfs"


def test_layers_come_from_the_environment(tmp_path: Path) -> None:
    site = Cache(tmp_path / "site", locks=tmp_path)
    stored(site)
    found = f"{tmp_path / 'absent'}{os.pathsep}{tmp_path / 'site'}"
    cache = open_cache({"TILEC_CACHE_DIR": str(tmp_path / "own"), "TILEC_SITE_CACHE": found})
    assert cache.get(KEY) == ENTRY
    assert cache.root == tmp_path / "own" / "v2"
