"""The suite of `tilec bench faults` on a small scale, and that it notices faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilec.bench.faults import FAULTS, Fault, tried
from tilec.bench.faults_damage import damaged_bytes, strange_files
from tilec.bench.faults_processes import cold_key
from tilec.bench.faults_triton import Peer
from tilec.cli import app
from tilec.ir.errors import TileError
from tilec.runtime.cache import Entry, Refusal, entry, flight, store
from tilec.runtime.jit import compile_object, host_machine
from tilec.runtime.nvrtc import compile_cuda
from tilec.runtime.triton import _final

FEW = {"kill": 5, "truncated": 40, "flipped": 40, "disk": 2, "processes": 6, "eviction": 4}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "-"))
def test_a_fault_does_no_harm(fault: Fault) -> None:
    few = next((n for word, n in FEW.items() if word in fault.name), 2)
    outcome = tried(replace(fault, memory=True), few)
    assert outcome.clean, outcome
    assert outcome.trials >= few


def test_damage_that_is_served_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(data: bytes, name: str) -> entry.Stored:
        return entry.Stored(name, Entry(data), {}, {})

    monkeypatch.setattr(store, "decode", trusting)
    outcome = damaged_bytes(tmp_path, 40, "flip")
    assert outcome.wrong > 10
    assert not outcome.clean


def test_links_that_are_followed_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.Cache, "_set_aside", lambda *_: None)
    with pytest.warns(RuntimeWarning, match="can't keep"):
        outcome = strange_files(tmp_path, 1)
    assert outcome.stuck > 0 or outcome.failed > 0


def test_work_that_is_done_twice_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "_acquired", lambda *_: True)
    assert cold_key(tmp_path, 6).compiles > 1


def test_the_command_makes_the_table(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    words = [
        "bench",
        "faults",
        "--no-peer",
        "--scale",
        "0.01",
        "--only",
        "clock,read-only",
        "-o",
        str(out),
    ]
    done = CliRunner().invoke(app, [*words, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "need a human" in " ".join(done.output.split())
    rows = json.loads(out.read_text())["faults"]
    assert [r["fault"] for r in rows] == ["read-only directory", "clock a day wrong"]
    assert {r["wrong"] + r["failed"] + r["stuck"] for r in rows} == {0}


@pytest.mark.slow
def test_tritons_cache_is_measured_too() -> None:
    peer = Peer(0.05)
    assert "served wrong" in peer.said("truncated")
    assert peer.said("bounds") == "no bound"
    assert peer.said("no such fault") == ""


def test_refusals_are_of_the_source() -> None:
    with pytest.raises(Refusal, match="LLVM does not accept"):
        compile_object("define void @k() {", host_machine())
    with pytest.raises(Refusal, match="does not compile"):
        compile_cuda("int k() { return absent; }", "sm_80")
    with pytest.raises(TileError) as found:  # may be another one tomorrow
        compile_cuda("", "sm_10")
    assert not isinstance(found.value, Refusal)


def test_which_errors_of_triton_are_final() -> None:
    class PTXASError(Exception):
        pass

    class CompilationError(Exception):
        pass

    assert _final(CompilationError("at 3:4"))
    assert _final(PTXASError("`ptxas` failed with error code 255"))
    assert not _final(PTXASError("`ptxas` failed with error code -9"))
    assert _final(RuntimeError("PassManager::run failed"))
    assert not _final(RuntimeError("can't start new thread"))
    assert not _final(OSError(28, "No space left on device"))
    assert not _final(MemoryError())
