"""`tilec roofline`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilec.cli import app
from tilec.profile import roofline
from tilec.profile.work import KINDS

LINEAR = str(Path(__file__).parents[2] / "examples" / "linear.tile")
ATTENTION = str(Path(__file__).parents[2] / "examples" / "attention.tile")
DIMS = ("--dims", "M=1,N=4096,K=4096", "--types", "w=int4<group=128>")


def tilec(*words: str):
    return CliRunner().invoke(app, words)


def test_a_table_of_devices():
    done = tilec("roofline", LINEAR, *DIMS, "--device", "h100,a100,rtx4090,mi300x")
    assert done.exit_code == 0, done.output
    for text in ("linear with", "before", "after", "h100", "mi300x", "memory", "op/byte",
                 "NVIDIA, H100 Tensor Core GPU data sheet"):  # fmt: skip
        assert text in done.stdout


def test_json_and_the_measured_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(roofline, "SIZES", (1 << 18,))
    monkeypatch.setattr(roofline, "_SECONDS", 0.0)
    done = tilec("roofline", LINEAR, *DIMS, "--device", "host,h100", "--json")
    found = json.loads(done.stdout)
    assert found["dims"] == {"M": 1, "N": 4096, "K": 4096}
    first, last = found["before"], found["after"]
    assert first["compulsory_bytes"] > 3 * last["compulsory_bytes"]
    assert last["operations"] / last["moved_bytes"] == pytest.approx(last["intensity"])
    h100, host = found["devices"]["h100"], found["devices"]["host"]
    assert h100["after"]["seconds"] == last["moved_bytes"] / 3350e9
    assert h100["after"]["bound"] == "memory"
    assert host["source"].startswith("measured")
    assert host["after"]["seconds"] > h100["after"]["seconds"]


def test_the_host_is_measured_again_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    dates = iter(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
    rates = {str(kind): 1e9 for kind in KINDS}
    monkeypatch.setattr(
        roofline, "_measured", lambda: roofline.Ceilings(next(dates), 2, ((1, 1e9),), rates)
    )
    said = [json.loads(tilec("roofline", LINEAR, *DIMS, "--device", "host", "--json", *more).stdout)
            ["devices"]["host"]["source"] for more in ((), (), ("--measure",), ())]  # fmt: skip
    assert ["01-01" in s for s in said] == [True, True, False, False]


def test_a_program_is_fused():
    dims = "B=1,H=8,M=1024,N=1024,D=64"
    done = tilec("roofline", ATTENTION, "--dims", dims, "--device", "h100", "--json")
    found = json.loads(done.stdout)
    first, last = found["before"], found["after"]
    assert first["kernels"] > last["kernels"] == 1
    assert first["moved_bytes"] > 10 * last["moved_bytes"]
    assert first["intensity"] < 10 < 100 < last["intensity"]


@pytest.mark.parametrize(("words", "said"), [
    (("--device", "pdp11"), "no device is called 'pdp11'"),
    (("--device", ","), "expected a name"),
    (("--dims", "M=1"), "no number for the dimensions K, N"),
    (("--types", "q=f32"), "no tensor `q`"),
])  # fmt: skip
def test_what_it_refuses(words, said):
    done = tilec("roofline", LINEAR, "--json", *words)
    assert done.exit_code == 1
    assert said in json.loads(done.stdout)["error"]["message"]
