"""What took two tuning processes down is not tried again, here or where a package goes."""

import json
import os
import signal

import pytest

from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, Entry
from tilec.serve.models import Package
from tilec.tune import blocked
from tilec.tune.blocked import Blocklist, exported, rows_of
from tilec.tune.config import Config
from tilec.tune.package import Signer, package, payloads, records_of

OF = ("12" * 32, "34" * 32, "56" * 32)
BAD, GOOD = Config.of({"m": 16, "w": "a"}), Config.of({"m": 32, "w": "a"})
KEY = Signer("team", b"0123456789abcdef")


def killed_in(cache: Cache, config: Config) -> None:
    """A process that dies while it tries a config."""
    child = os.fork()
    if not child:
        with Blocklist(cache, *OF).trying(config):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_took_two_processes_down_is_blocked(tmp_path):
    cache = Cache(tmp_path)
    killed_in(cache, BAD)
    assert Blocklist(cache, *OF).configs == set()
    with Blocklist(cache, *OF).trying(GOOD):
        pass
    killed_in(cache, BAD)
    for _ in range(2):
        assert Blocklist(cache, *OF).configs == {BAD}
    for other in ("00" * 32, OF[1], OF[2]), (OF[0], "00" * 32, OF[2]), (OF[0], OF[1], "00" * 32):
        assert Blocklist(cache, *other).configs == set()


def test_who_lives_or_gives_up_took_nothing_down(tmp_path):
    cache = Cache(tmp_path)
    for _ in range(3):
        with Blocklist(cache, *OF).trying(BAD):
            assert Blocklist(cache, *OF).configs == set()  # another process looks meanwhile
        with pytest.raises(KeyboardInterrupt), Blocklist(cache, *OF).trying(BAD):
            raise KeyboardInterrupt
    assert Blocklist(cache, *OF).configs == set()


def test_a_process_of_another_boot_is_gone(tmp_path, monkeypatch):
    cache, held = Cache(tmp_path), []
    for boot in ("one", "two"):
        monkeypatch.setattr(blocked, "_boot", lambda boot=boot: boot)
        held.append(Blocklist(cache, *OF).trying(BAD))
        held[-1].__enter__()  # and never left
    monkeypatch.setattr(blocked, "_boot", lambda: "three")
    assert Blocklist(cache, *OF).configs == {BAD}


def test_a_package_carries_what_is_blocked(tmp_path):
    cache, there = Cache(tmp_path / "here"), Cache(tmp_path / "there")
    Blocklist(cache, *OF).add(BAD)
    Blocklist(cache, OF[0], blocked.ANY, OF[2]).add(GOOD)
    assert cache.root is not None
    rows = exported(payloads(cache.root, blocked.KIND))
    document = json.loads(json.dumps(package([], KEY, rows)))
    assert len(Package.model_validate(document).blocklist) == 2  # a service takes it
    assert records_of(document, KEY) == []
    for of, config in rows_of(document):
        Blocklist(there, *of).add(config)
    assert Blocklist(there, *OF).configs == {BAD, GOOD}
    assert Blocklist(there, OF[0], "00" * 32, OF[2]).configs == {GOOD}
    changed = {**document, "blocklist": document["blocklist"][:1]}
    with pytest.raises(TileError, match="does not belong"):
        records_of(changed, KEY)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"kernel": 1}'])
def test_what_can_not_be_read_blocks_nothing(tmp_path, data):
    cache = Cache(tmp_path)
    found = Blocklist(cache, *OF)
    cache.put(found._key(), Entry(data, {"kind": blocked.KIND}))
    assert Blocklist(cache, *OF).configs == set()
    assert cache.root is not None
    assert exported(payloads(cache.root, blocked.KIND)) == []
    Blocklist(cache, *OF).add(BAD)
    assert Blocklist(cache, *OF).configs == {BAD}


@pytest.mark.parametrize("row", [
    {}, [], {"kernel": 1, "device": None, "toolchain": "a", "config": {}},
    {"kernel": "a", "device": 1, "toolchain": "a", "config": {}},
    {"kernel": "a", "device": None, "toolchain": "a", "config": {"m; rm": 1}},
    {"kernel": "a", "device": None, "toolchain": "a", "config": {}, "code": "x"},
])  # fmt: skip
def test_rows_that_are_none_are_refused(row):
    with pytest.raises(TileError):
        rows_of({"blocklist": [row]})


def test_without_a_cache_nothing_is_kept():
    found = Blocklist(None, *OF)
    with found.trying(BAD):
        found.add(GOOD)
    assert Blocklist(None, *OF).configs == set()
