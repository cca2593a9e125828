"""`tilec compile --emit cubin,sass,stats`: machine code for a GPU that need not be there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tilec.cli import app

pytest.importorskip("triton")
LINEAR = str(Path(__file__).parents[2] / "examples" / "linear.tile")
TYPES = "x=f16,w=int4<group=64>"


def compiled(*words: str) -> Result:
    done = CliRunner().invoke(
        app, ["compile", LINEAR, "--backend", "triton", "--types", TYPES, *words]
    )
    assert done.exit_code == 0, done.stderr
    return done


def test_a_table():
    shown = compiled("--target", "sm_90", "--emit", "stats").stdout
    for words in ("linear_kernel for sm_90a", "HGMMA.64x", "CTAs", "bytes per CTA", "main loop"):
        assert words in shown


def test_json_has_every_number():
    words = "--target", "sm_80", "--dims", "N=4096,K=4096", "--emit", "stats,sass", "--json"
    document = json.loads(compiled(*words).stdout)
    (stats,) = document["stats"]
    assert (stats["target"], stats["threads"], stats["spills"]) == ("sm_80", 128, 0)
    assert stats["shared"] > 0  # dynamic: what triton launches with
    assert stats["loop"]["classes"]["mma"] >= 4
    assert stats["loop"]["instructions"] == sum(stats["loop"]["names"].values())
    assert stats["residency"]["ctas"] >= 1
    assert any(
        line.split("/")[-1].startswith("linear_kernel.py:") for line in stats["loop"]["lines"]
    )
    assert "HMMA.16816.F32" in document["sass"]
    assert "nvinfo" not in document["sass"]


def test_files(tmp_path: Path):
    compiled("--emit", "cubin,stats", "-o", str(tmp_path))
    assert (tmp_path / "linear.cubin").read_bytes()[:4] == b"\x7fELF"
    lines = (tmp_path / "linear.stats.txt").read_text().splitlines()
    assert lines[0].split() == ["kernel", "linear_kernel", "for", "sm_90a"]
