import json
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, Entry
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy, config_key, device_digest
from tilec.tune.package import Signer, kept, package, records_of
from tilec.tune.space import Constraint, Parameter, Space
from tilec.tune.store import Store, disk_key

JOB = Job("func @k() {\n}\n")
HERE, ELSEWHERE = {"kind": "cpu", "name": "a", "cores": 2}, {"kind": "cpu", "name": "b", "cores": 2}
POLICY, TOOLS = Policy(threads=2), "abcd" * 4
SPACE = Space((Parameter("m", (1, 2, 4)), Parameter("n", (1, 2, 4))),
              (Constraint("m * n <= 8", "too large"),))  # fmt: skip
BEST = Config.of({"m": 2, "n": 4})


def record(config=BEST, device=HERE, tools=TOOLS, policy=POLICY, **more):
    key = config_key(JOB.kernel, device_digest(device), tools, policy)
    said = {"study": "local", "trial": "", "worker": "local", "device": device,
            "toolchain": tools, "policy": policy.to_json(), "samples_ms": [1.0],
            "default_ms": 2.0, "date": 1.0}  # fmt: skip
    return {"key": key, "kernel": JOB.kernel, "family": "ab" * 8, "shape": {"M": 4},
            "config": config.to_json(), "time_ms": 1.0, "provenance": said, **more}  # fmt: skip


def look(store, device=HERE, tools=TOOLS, policy=POLICY, job=JOB, space=SPACE):
    return store.lookup(job, device, tools, policy, lambda: space)


@dataclass
class FakeService:
    found: Any = None
    asked: list = field(default_factory=list)

    def lookup(self, keys) -> Any:
        self.asked += keys
        return [self.found]


@dataclass
class Found:
    key: str
    config: Config
    seconds: float = 1e-3
    provenance: dict = field(default_factory=dict)


def test_memory_then_disk_then_service(tmp_path):
    service = FakeService(Found(record()["key"], BEST))
    store = Store(Cache(tmp_path), service)
    assert look(store) == look(store) == BEST
    assert len(service.asked) == 1
    assert store.counts == {"service": 1, "memory": 1}
    again = Store(Cache(tmp_path), FakeService())  # what the service said is on disk
    assert look(again) == BEST
    assert again.counts == {"disk": 1}


def test_a_layer_below_is_read(tmp_path):
    Store(Cache(tmp_path / "packaged")).keep(record())
    store = Store(Cache(tmp_path / "own", layers=[tmp_path / "packaged"]))
    assert look(store) == BEST


def test_a_miss_is_remembered(tmp_path):
    service = FakeService()
    store = Store(Cache(tmp_path), service)
    assert look(store) is None
    assert look(store) is None
    assert len(service.asked) == 1


@pytest.mark.parametrize("other", [
    {"device": ELSEWHERE}, {"tools": "ef" * 8}, {"policy": Policy(threads=1)},
    {"policy": Policy(cache="cold", threads=2)}, {"job": Job("func @l() {\n}\n", "triton")},
])  # fmt: skip
def test_nothing_is_used_for_anything_else(tmp_path, other):
    store = Store(Cache(tmp_path))
    store.keep(record())
    assert look(store, **other) is None
    assert look(store) == BEST


@pytest.mark.parametrize("config", [
    {"m": 4, "n": 4}, {"m": 3, "n": 1}, {"m": 2}, {"m": 2, "n": 2, "ir_override": "x"},
])  # fmt: skip
def test_a_config_that_does_not_fit_is_refused_and_logged(tmp_path, config, caplog):
    Store(Cache(tmp_path)).keep(record(Config.of(config)))
    store = Store(Cache(tmp_path))
    with caplog.at_level(logging.WARNING, "tilec.tune"):
        assert look(store) is None
    assert store.counts["refused"] == 1
    assert "tuned config" in caplog.text


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b'{"key": 1}', b"\xff\xfe", json.dumps({**record(), "code": "x"}).encode(),
    json.dumps({**record(), "key": "00"}).encode(),
    json.dumps({**record(), "config": {"m": None}}).encode(),
])  # fmt: skip
def test_what_is_no_record_is_a_miss(tmp_path, data):
    cache = Cache(tmp_path)
    cache.put(disk_key(record()["key"]), Entry(data, {"kind": "tuned"}))
    store = Store(cache)
    assert look(store) is None
    assert store.counts["refused"] == 1


def test_without_a_disk():
    store = Store()
    assert look(store) is None
    store.keep(record())
    assert look(store) == BEST


KEY = Signer("team", b"0123456789abcdef")


def test_a_package_goes_elsewhere(tmp_path):
    cache = Cache(tmp_path)
    Store(cache).keep(record())
    root: Any = cache.root
    found = json.loads(json.dumps(package(kept(root), KEY)))
    (back,) = records_of(found, KEY)
    assert back["config"] == BEST.to_json()
    other = Store(Cache(tmp_path / "other"))
    other.keep(back)
    assert look(other) == BEST


def test_a_package_that_was_changed_is_refused():
    found = package([record()], KEY)
    for key, match in ((None, "no key"), (Signer("x", b"another key here"), "belong")):
        with pytest.raises(TileError, match=match):
            records_of(found, key)
    changed = json.loads(json.dumps(found))
    changed["configs"][0]["config"]["m"] = 1
    with pytest.raises(TileError, match="belong"):
        records_of(changed, KEY)
    with pytest.raises(TileError, match="not signed"):  # stripped
        records_of({**found, "signature": None}, KEY)
    with pytest.raises(TileError, match="expected hmac"):  # downgraded
        records_of({**found, "signature": {**found["signature"], "algorithm": "none"}}, KEY)
    moved = package([{**record(), "key": "00" * 32}], None)
    with pytest.raises(TileError, match="is not of what it names"):
        records_of(moved, None, unsigned=True)
    with pytest.raises(TileError, match="at least 16"):
        Signer("short", b"1234")
