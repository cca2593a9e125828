"""`tilec profile`, `tilec compile --times`, and what `tilec doctor` says of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilec.cli import app
from tilec.profile import roofline
from tilec.profile.roofline import Ceilings
from tilec.profile.work import KINDS

SOFTMAX = str(Path(__file__).parents[2] / "examples" / "softmax.tile")
DIMS = ("--dims", "M=4,N=32")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, in which no ceilings are; measuring them takes no time."""
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TILEC_LOG", raising=False)
    monkeypatch.setattr(roofline, "SIZES", (1 << 18,))
    monkeypatch.setattr(roofline, "_SECONDS", 0.0)
    return tmp_path


def tilec(*words: str):
    return CliRunner().invoke(app, words)


def test_a_profile_and_its_trace(folder: Path):
    out = folder / "trace.json"
    done = tilec("profile", SOFTMAX, *DIMS, "--repeat", "7", "-o", str(out))
    assert done.exit_code == 0, done.output
    assert "softmax" in done.stdout
    assert "M=4" in done.stdout
    assert "roofline" in done.stdout
    assert "ceilings of" in done.stdout
    calls = [e for e in json.loads(out.read_text())["traceEvents"] if e.get("cat") == "call"]
    assert len(calls) == 8


def test_a_profile_as_json():
    done = tilec("profile", SOFTMAX, *DIMS, "--repeat", "3", "--json")
    found = json.loads(done.stdout)
    (row,) = found["kernels"]
    assert (row["calls"], row["warm"], row["kernel"]) == (4, 3, "softmax")
    assert row["work"]["compulsory"] == 2 * 4 * 4 * 32
    assert 0 < row["minimum"] <= row["median"]
    assert row["share"] > 0
    (made,) = [c for c in found["compiles"] if c["kernel"] == "softmax"]
    assert {"pass", "codegen"} <= {s["kind"] for s in made["stages"]}
    assert min(found["ceilings"]["rates"].values()) > 1e6


def test_ceilings_are_measured_once(monkeypatch: pytest.MonkeyPatch):
    tilec("profile", SOFTMAX, *DIMS, "--repeat", "1")
    first = roofline.ceilings()
    fresh = Ceilings("2026-01-01T00:00:00Z", 1, ((1, 1.0),), dict.fromkeys(KINDS, 1.0))
    monkeypatch.setattr(roofline, "_measured", lambda: fresh)
    tilec("profile", SOFTMAX, *DIMS, "--repeat", "1")
    assert roofline.ceilings() == first
    tilec("profile", SOFTMAX, *DIMS, "--repeat", "1", "--measure")
    assert roofline.ceilings() == fresh


def test_a_file_that_is_not_there():
    done = tilec("profile", "absent.tile", "--json")
    assert done.exit_code == 1
    assert "absent.tile" in json.loads(done.stdout)["error"]["message"]


def test_the_times_of_a_compile(folder: Path):
    done = tilec("compile", SOFTMAX, *DIMS, "--emit", "asm", "--times")
    assert done.exit_code == 0, done.output
    for stage in ("parse", "tile", "codegen", "LLVM", "other"):
        assert stage in done.stdout
    given = ("--emit", "source", "--times", "--json", "-o", str(folder / "out"))
    found = json.loads(tilec("compile", SOFTMAX, *DIMS, *given).stdout)
    assert found["times"]["dims"] == {"M": 4, "N": 32}
    names = [s["name"] for s in found["times"]["stages"]]
    assert names.count("tile") == 1
    assert Path(found["files"]["source"]).exists()
    assert "times" not in json.loads(tilec("compile", SOFTMAX, *DIMS, "--json").stdout)


def test_doctor_says_what_it_can_see(monkeypatch: pytest.MonkeyPatch):
    def findings() -> dict[str, dict[str, object]]:
        return {f["what"]: f for f in json.loads(tilec("doctor", "--json").stdout)}

    found = findings()
    assert "not measured yet" in str(found["ceilings"]["value"])
    assert " from the cache (" in str(found["its compile"]["value"])
    assert str(found["log"]["value"]).startswith("off")
    assert isinstance(found["fallbacks"]["value"], str)
    roofline.ceilings()
    monkeypatch.setenv("TILEC_LOG", "cache:loud")
    found = findings()
    assert "GB/s" in str(found["ceilings"]["value"])
    assert found["log"]["ok"] is False
    assert "'cache:loud'" in str(found["log"]["value"])
