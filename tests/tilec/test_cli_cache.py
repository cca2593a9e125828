"""`tilec cache`: what it says of entries, and what it does to them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from caches import ENTRY, KEY, stored
from typer.testing import CliRunner

from tilec.cli import app
from tilec.ir.source import KernelSource
from tilec.runtime.cache import Cache, Entry, Key, Refusal
from tilec.runtime.cache.store import failure_path
from tilec.runtime.engine import Engine

LINEAR = str(Path(__file__).parents[2] / "examples" / "linear.tile")
DIMS = "M=4,N=64,K=64"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TILEC_SITE_CACHE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Cache(tmp_path / "cache", locks=tmp_path / "locks")


def times(age: float) -> tuple[float, float]:
    now = time.time() - age
    return now, now


def said(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["cache", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_ls_shows_what_is_kept(cache: Cache) -> None:
    old = stored(cache, Key(KEY.made_by, {"text": "old"}, {"kernel": "bad\x1b[31m\nname"}))
    os.utime(old, times(3 * 86400))
    stored(cache)
    first, second, last = said("ls").splitlines()
    assert first.split()[:5] == [KEY.name[:12], "object", "1.0", "KB", "0"]
    assert second.endswith("3 d  bad?[31m?name")
    assert last.startswith("2 entries, ")
    told = json.loads(said("ls", "--json"))
    assert [e["kernel"] for e in told["entries"]] == ["k", "bad\x1b[31m\nname"]
    assert told["entries"][0]["parts"]["parts"] == {"text": "define void @k()", "options": "[1,2]"}


def test_verify_finds_damage_and_strangers(cache: Cache) -> None:
    path = stored(cache)
    assert said("verify") == "1 entries, 0 of all files damaged\n"
    path.write_bytes(path.read_bytes()[:-1])
    path.with_name("odd").write_text("?")
    path.with_name("0" * 64 + ".tlc").symlink_to(path)
    told = json.loads(said("verify", "--json", code=1))
    assert [d["what"] for d in told["damaged"]] == ["wrong checksum", *["not an entry"] * 2]
    assert json.loads(said("gc", "--json"))["damaged"] == 3
    assert said("verify").startswith("0 entries, 0 of")


def test_gc_removes_what_it_is_told_to(cache: Cache) -> None:
    old = stored(cache)
    os.utime(old, (1, 1))
    new = stored(cache, Key(KEY.made_by, {"text": "new"}))

    def refuse() -> Entry:
        raise Refusal("no")

    key = Key(KEY.made_by, {"text": "bad"})
    with pytest.raises(Refusal):
        cache.get_or_make(key, refuse)
    assert said("gc", "--days", "30").startswith("1 chosen, 0 beyond the bounds, 0 damaged")
    assert (old.exists(), new.exists()) == (False, True)
    assert cache.root is not None
    assert failure_path(cache.root, key).exists()
    assert said("gc", "--failures").startswith("1 chosen")
    assert not failure_path(cache.root, key).exists()
    for n in range(30):
        cache.put(Key(KEY.made_by, {"text": str(n)}), ENTRY)
    assert json.loads(said("gc", "--max", "64K", "--json"))["evicted"] == 19
    assert "expected a size" in said("gc", "--max", "lots", code=1)


def test_pack_makes_a_layer(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(cache)
    other = Key({**KEY.made_by, "kind": "cuda"}, {"text": "b"}, {"kernel": "b"})
    stored(cache, other)
    site = tmp_path / "site"
    assert json.loads(said("pack", "-o", str(site), "--kernel", "b", "--json"))["entries"] == 1
    assert said("ls", "--in", str(site)).startswith(other.name[:12])
    assert said("verify", "--in", str(site)) == "1 entries, 0 of all files damaged\n"
    assert Cache(None, layers=[site]).get(other) == ENTRY
    assert Cache(None, layers=[site]).get(KEY) is None
    said("pack", "-o", str(site), KEY.name[:10])
    assert Cache(None, layers=[site]).get(KEY) == ENTRY
    manifest = json.loads((site / "v2" / KEY.environment / "manifest.json").read_text())
    assert manifest["made_by"] == {"kind": "object", "target": "znver5"}
    for path in site.rglob("*"):
        assert path.stat().st_mode & 0o055 == (0o055 if path.is_dir() else 0o044)
    assert "no entry in" in said("pack", "-o", str(site), "--kind", "none", code=1)


def test_why_compares_two_entries(cache: Cache) -> None:
    stored(cache)
    other = Key({**KEY.made_by, "target": "znver4"}, {**KEY.parts, "fast": True}, {"kernel": "j"})
    stored(cache, other)
    told = json.loads(said("why", KEY.name[:9], other.name[:9], "--json"))
    assert told["differs"] == [
        {"part": "target", "here": "znver5", "there": "znver4"},
        {"part": "fast", "here": "-", "there": "true"},
        {"part": "kernel", "here": "k", "there": "j"},
    ]
    assert "0 entries have a key that begins with 'zz'" in said("why", "zz", "zz", code=1)


def test_why_knows_the_key_of_a_kernel(cache: Cache) -> None:
    from tilec.artifacts import kernel_of
    from tilec.compile import engine
    from tilec.cpu import cpu_source

    assert "no entry is of this kernel" in said("why", LINEAR, "--dims", DIMS)
    sizes = {"M": 4, "N": 64, "K": 64}
    source: KernelSource = cpu_source(kernel_of(Path(LINEAR)), {}, sizes, engine())
    Engine(cache, native=False, threads=1).load(source)
    assert said("why", LINEAR, "--dims", DIMS).startswith("hit: ")
    told = json.loads(said("why", LINEAR, "--dims", "M=5,N=64,K=64", "--json"))
    assert told["hit"] is None
    assert told["kernel"] == "linear"
    assert [d["part"] for d in told["differs"]] == ["text", "takes"]
    assert told["differs"][1]["here"].startswith("x: f16[5, 64]")
    assert "no number for the dimensions K" in said("why", LINEAR, "--dims", "M=5,N=6", code=1)


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_why_compiles_nothing(cache: Cache, backend: str) -> None:
    words = ("why", LINEAR, "--dims", "N=64,K=64" if backend == "triton" else DIMS)
    assert "no entry is of this kernel" in said(*words, "--backend", backend)


def test_doctor_says_where_the_cache_is(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilec.cli import machine

    stored(cache)
    assert machine._cache() == f"{cache.root} (1 entries, 0 of 2048 MB)"
    monkeypatch.setattr(machine, "network", lambda _: "NFS")
    finding = machine._checked("cache", machine._cache, "")
    assert not finding.ok
    assert "is on NFS" in finding.value
