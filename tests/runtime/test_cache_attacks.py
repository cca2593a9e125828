"""What may lie in the place of an entry, and where the cache will not be."""

from __future__ import annotations

import ast
import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from caches import ENTRY, KEY, anothers, stored

from tilec.runtime.cache import Bounds, Cache, Entry, Key, open_cache
from tilec.runtime.cache import place as place_module
from tilec.runtime.cache import trust as trust_module
from tilec.runtime.cache.entry import encode
from tilec.runtime.cache.flight import alone, lock_folder

ROOT = Path(__file__).parents[2]
SMALL = encode(KEY, Entry(b"code", {"a": 1}))


pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", locks=tmp_path / "locks")


def heals(cache: Cache) -> None:
    """What is there now is a miss, and in its place an entry is made that stays."""
    assert cache.get(KEY) is None
    assert cache.get_or_make(KEY, lambda: ENTRY) == ENTRY
    assert cache.get(KEY) == ENTRY


# 1: directories


def _foreign(path: Path, patch: pytest.MonkeyPatch) -> Path:
    path.mkdir()
    anothers(path, patch)
    return path


def _open(path: Path, patch: pytest.MonkeyPatch) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def _under_an_open_one(path: Path, patch: pytest.MonkeyPatch) -> Path:
    return _open(path, patch) / "cache"


def _behind_a_link(path: Path, patch: pytest.MonkeyPatch) -> Path:
    """The link is another user's, and may lead elsewhere tomorrow."""
    (path.parent / "mine").mkdir(mode=0o700)
    path.symlink_to("mine")
    anothers(path, patch)
    return path / "cache"


def _around(path: Path, patch: pytest.MonkeyPatch) -> Path:
    path.symlink_to(path)
    return path


def _a_file(path: Path, patch: pytest.MonkeyPatch) -> Path:
    path.write_text("in the way")
    return path


PLACES = [_foreign, _open, _under_an_open_one, _behind_a_link, _around, _a_file]


@pytest.mark.parametrize("make", PLACES, ids=lambda f: f.__name__[1:])
def test_a_place_that_is_not_ours_is_not_used(
    make: Callable[[Path, pytest.MonkeyPatch], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = make(tmp_path / "place", monkeypatch)
    with pytest.warns(RuntimeWarning, match="no cache in") as said:
        cache = Cache(path, locks=tmp_path)
    assert len(said) == 1
    assert cache.root is None
    assert cache.get_or_make(KEY, lambda: ENTRY) == ENTRY
    assert not cache.put(KEY, ENTRY)
    assert list(tmp_path.rglob("*.tlc")) == []


def test_another_place_is_used_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead = tmp_path / "instead"
    monkeypatch.setattr(place_module, "local_directory", lambda: instead)
    path = _open(tmp_path / "open", monkeypatch)
    with pytest.warns(RuntimeWarning, match="writable by other users; .* kept in .*instead"):
        cache = open_cache({"TILEC_CACHE_DIR": str(path)})
    assert cache.root == instead / "v2"
    stored(cache)


def test_a_link_of_ours_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("disk")
    cache = Cache(tmp_path / "link" / "cache", locks=tmp_path)
    stored(cache)
    assert cache.root == tmp_path / "disk" / "cache" / "v2"


def test_a_sandbox_shows_root_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = _foreign(tmp_path / "place", monkeypatch) / "cache"
    shown = place.parent.stat().st_uid
    monkeypatch.setattr(trust_module, "_unmapped", lambda: shown)
    if os.geteuid() == 0:
        place.mkdir(mode=0o700)  # ours, in a folder of the sandbox
        assert Cache(place, locks=tmp_path).root is not None
    with pytest.warns(RuntimeWarning, match="no cache in"):
        assert Cache(place.parent, locks=tmp_path).root is None


@pytest.mark.parametrize("mask", [0, 0o777])
def test_the_directory_is_private_whatever_the_mask(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0o777: no cache, but for root
            cache = Cache(tmp_path / "a" / "b", locks=tmp_path)
    finally:
        os.umask(old)
    if mask == 0:
        path = stored(cache)
        assert path.stat().st_mode & 0o777 == 0o600
        for place in [tmp_path / "a", *(p for p in (tmp_path / "a").rglob("*") if p.is_dir())]:
            assert place.stat().st_mode & 0o777 == 0o700
    assert cache.get_or_make(KEY, lambda: ENTRY) == ENTRY


# 2: what is no file of ours


def _link(path: Path, aside: Path) -> None:
    aside.write_bytes(encode(KEY, ENTRY))
    path.symlink_to(aside)


def _hard_link(path: Path, aside: Path) -> None:
    aside.write_bytes(b"another user's")
    if os.geteuid() == 0:
        os.chown(aside, 54321, 54321)
    os.link(aside, path)


def _device(path: Path, aside: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(path, 0o020600, os.makedev(1, 5))  # /dev/zero
    else:
        path.symlink_to("/dev/zero")


def _socket(path: Path, aside: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(f"/proc/self/cwd/{os.path.relpath(path)}"[-107:])


def _directory(path: Path, aside: Path) -> None:
    path.mkdir()
    (path / "full").write_text("of things")


def _writable(path: Path, aside: Path) -> None:
    path.write_bytes(encode(KEY, ENTRY))
    path.chmod(0o666)


def _huge(path: Path, aside: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


THINGS = [_link, _hard_link, lambda p, _: os.mkfifo(p), _device, _directory, _writable, _huge]
NAMES = ["link", "hard link", "pipe", "device", "directory", "writable", "huge"]


@pytest.mark.parametrize("make", THINGS, ids=NAMES)
def test_what_is_no_file_of_ours_is_a_miss_and_goes(
    make: Callable[[Path, Path], None], cache: Cache, tmp_path: Path
) -> None:
    path, aside = stored(cache), tmp_path / "aside"
    path.unlink()
    make(path, aside)
    before = aside.read_bytes() if aside.exists() else b""
    heals(cache)
    assert not aside.exists() or aside.read_bytes() == before


def test_a_folder_of_entries_that_is_a_link_is_not_written_through(
    cache: Cache, tmp_path: Path
) -> None:
    path, aside = stored(cache), tmp_path / "aside"
    aside.mkdir()
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(aside)
    with pytest.warns(RuntimeWarning, match="is not a directory"):
        assert cache.get_or_make(KEY, lambda: ENTRY) == ENTRY
    assert list(aside.iterdir()) == []


# 3 to 6, 8: damage; that of every byte is in test_cache_entry


def test_damage_is_put_aside_and_counted(cache: Cache) -> None:
    for n, damage in enumerate((b"", SMALL[:-1], SMALL + b"\0", b"\0" * 4096)):
        stored(cache).write_bytes(damage)
        heals(cache)
        assert cache.counts["damaged"] == n + 1
    assert cache.root is not None
    assert len(list((cache.root / "quarantine").iterdir())) == 4


def test_an_entry_under_another_key_is_a_miss(cache: Cache) -> None:
    other = Key(KEY.made_by, {"text": "other"})
    data = stored(cache, other).read_bytes()
    stored(cache).write_bytes(data)
    heals(cache)
    assert cache.get(other) == ENTRY


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_entries_of_other_versions_are_left_alone(cache: Cache, version: int) -> None:
    path = stored(cache)
    data = bytearray(path.read_bytes())
    data[7] = version
    path.write_bytes(data)
    assert cache.get(KEY) is None
    assert path.read_bytes() == data
    assert cache.counts["damaged"] == 0
    heals(cache)  # and written over by what this version makes


def test_what_another_version_keeps_is_not_looked_at(cache: Cache) -> None:
    assert cache.root is not None
    for name in ("v1", "v3", "manifest.json"):
        (cache.root.parent / name).mkdir()
    stored(cache)
    assert cache.get(KEY) == ENTRY


# 7: between looking and using


def test_what_was_verified_is_what_is_used(cache: Cache) -> None:
    path = stored(cache)
    found = cache.get(KEY)
    path.write_bytes(b"swapped")
    assert found == ENTRY  # bytes: nothing is opened again


# 9: there is no compression; a length is checked before memory is asked for (`huge`, above)


def test_no_entry_is_larger_than_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", bounds=Bounds(1 << 16, 4), locks=tmp_path / "locks")
    assert not cache.put(KEY, Entry(b"x" * (1 << 16)))
    path = stored(cache)
    path.write_bytes(encode(KEY, Entry(b"x" * (1 << 17))))
    heals(cache)


# 10: eviction


def test_eviction_does_not_leave_the_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o" / "ab").mkdir(parents=True)
    name = f"{KEY.name}.tlc"
    victims = [outside / name, outside / "o" / "ab" / name, outside / "o" / name]
    for v in victims:
        v.write_bytes(b"x" * 9000)
        os.utime(v, (1, 1))
    cache = Cache(tmp_path / "c", bounds=Bounds(1 << 16, 8), locks=tmp_path / "locks")
    path = stored(cache)
    assert cache.root is not None
    links = {path.parent.parent / "zz": outside, path.parents[2] / "f": outside,
             cache.root / "0123456789abcdef": outside,
             path.with_name("0" * 64 + ".tlc"): victims[0],
             cache.root / "tmp" / "unknown-1": victims[2],
             path.parent.parent / "yy": outside / "o" / "ab",
             cache.root / "quarantine" / "old": outside}  # fmt: skip
    for at, to in links.items():
        at.symlink_to(to)
        os.utime(at, (1, 1), follow_symlinks=False)
    for n in range(40):
        cache.put(Key(KEY.made_by, {"text": str(n)}), Entry(b"y" * 9000))
    assert cache.counts["evicted"] > 20
    assert [v.read_bytes() for v in victims] == [b"x" * 9000] * 3


# 11: locks


def test_a_lock_that_is_a_link_or_a_pipe_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    (tmp_path / "b").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "c")
    for name in "abc":
        with alone(tmp_path / name, 1) as held:
            assert not held
    assert not (tmp_path / "nothing").exists()
    assert (tmp_path / "precious").read_text() == "precious"


def test_locks_in_a_folder_of_others_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tilec").mkdir()
    (tmp_path / "tilec").chmod(0o777)
    found = lock_folder({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert found != tmp_path / "tilec"
    (tmp_path / "tilec").chmod(0o700)
    assert lock_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "tilec"


# 12: nothing that is read is run

CALLS = {"eval", "exec", "__import__", "compile"}
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "imp", "code"}


def test_nothing_of_the_cache_unpickles_or_evaluates() -> None:
    paths = sorted((ROOT / "runtime" / "cache").glob("*.py"))
    assert len(paths) > 8
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, path
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & MODULES, path


AUDITED = """
import sys
import warnings
from pathlib import Path
from tilec.runtime.cache import Cache, Entry, Key
import tilec.runtime.engine
key = Key({"kind": "x"}, {"text": "y"})
cache = Cache(Path(sys.argv[1]))
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
assert cache.get(key) is None
cache.get_or_make(key, lambda: Entry(b"code"))
assert cache.get(key) is not None
bad = ("pickle.find_class", "marshal.loads", "exec", "compile", "ctypes.dlopen", "import",
       "subprocess.Popen", "os.system", "os.exec", "socket.connect")
print(sorted({e for e in seen if e in bad}), "open" in seen)
"""


def test_reading_and_writing_entries_runs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AUDITED, str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[] True\n", done.stderr


# 13: nothing in an entry leads anywhere


def test_no_path_in_an_entry_is_followed(cache: Cache, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    header = {"path": str(secret), "file": str(secret), "ir_override": str(secret), "code": "../.."}
    data = encode(Key(KEY.made_by, KEY.parts, {"kernel": str(secret)}), Entry(b"code", header))
    stored(cache).write_bytes(data)
    opened: list[object] = []
    watch = [True]
    sys.addaudithook(lambda e, a: opened.append(a[0]) if e == "open" and watch[0] else None)
    found = cache.get(KEY)
    watch[0] = False
    assert found == Entry(b"code", header)
    assert [Path(str(p)).suffix for p in opened if not isinstance(p, int)] == [".tlc"]
