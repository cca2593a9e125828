"""`tilec bench report` and `tilec bench compare`, as the commands that they are."""

from __future__ import annotations

import json

import bench_results as made
import pytest
from typer.testing import CliRunner

from tilec.cli import app


def bench(*words: object):
    return CliRunner().invoke(app, ["bench", *map(str, words)])


@pytest.fixture
def files(tmp_path):
    return [made.write(tmp_path / f"{s}.json", *made.several(s)) for s in (1.0, 1.2)]


def test_a_comparison(files):
    done = bench("compare", *files)
    assert done.exit_code == 0, done.output
    assert "10 slower" in done.stdout
    assert "int4 M=1" in done.stdout
    assert bench("compare", *files, "--fail-above", "25%").exit_code == 0
    failed = bench("compare", *files, "--fail-above", "5%")
    assert failed.exit_code == 1
    assert bench("compare", *files[::-1], "--fail-above", "0%").exit_code == 0


def test_a_comparison_as_json(files):
    found = json.loads(bench("compare", *files, "--json").stdout)
    assert found["same_machine"] is True
    assert {c["verdict"] for c in found["changes"]} == {"slower"}
    assert found["changes"][0]["interval"]["high"] < 1


@pytest.mark.parametrize("text", ["5", "five%", "-1%", "inf%", "%"])
def test_a_part_that_is_none(files, text):
    done = bench("compare", *files, "--fail-above", text)
    assert done.exit_code == 1
    assert f"{text!r} is no percentage such as 5%" in done.stderr


def test_a_report(tmp_path):
    one = made.suite("gemv", [made.case("a", {}, {"tilec": 9.0, "torch bf16": 8.0}, None)])
    results, out = made.write(tmp_path / "a.json", one), tmp_path / "out"
    done = bench("report", results, "-o", out)
    assert done.exit_code == 0, done.output
    assert "index.html" in done.stdout
    assert (out / "gemv-2-bars.png").exists()
    failed = bench("report", tmp_path / "absent.json", "-o", out, "--json")
    assert failed.exit_code == 1
    assert "absent.json" in json.loads(failed.stdout)["error"]["message"]
    (tmp_path / "file").write_text("")
    assert "can't be written" in bench("report", results, "-o", tmp_path / "file").stderr
