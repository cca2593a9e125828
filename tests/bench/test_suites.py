"""The suites, the peers, and the command: what there is and how it is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from racing import SLEEPERS
from typer.testing import CliRunner

from tilec.bench import peers as package
from tilec.bench.case import OURS
from tilec.bench.peers import peers
from tilec.bench.suites import SUITES
from tilec.cli import app
from tilec.ir.errors import TileError

BASIC = ["gemv", "gemm", "formats", "sparse", "attention", "norm", "moe", "fusion", "compile",
         "launch"]  # fmt: skip


def bench(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["bench", *words])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda s: s.name)
def test_cases_have_names_axes_and_contenders(suite):
    few, all_ = suite.cases(True), suite.cases(False)
    assert 0 < len(few) <= len(all_)
    assert len({c.name for c in all_}) == len(all_)
    for case in (*few, *all_):
        assert OURS in case.problem.ours()
        json.dumps(dict(case.axes))
        assert (case.moved > 0) == (case.ceiling == "copy")
        hash(case.problem)


@pytest.mark.parametrize("words", [("--suite", "gpu"), ("--suite=gpu",), ("gpu",)])
def test_a_suite_may_be_an_option(words):
    code, text = bench(*words, "--help")
    assert code == 0
    assert "--dry-run" in text


def test_the_suites_cover_what_was_asked():
    assert set(BASIC) <= set(SUITES)
    names = {c.axes["format"] for c in SUITES["gemv"].cases(False)}
    assert {"bf16", "nf4<group=64>", "mxfp4", "int3<group=128, scale=bf16>"} <= names
    assert SUITES["gemv"].threads == (1, 0)
    rows = {c.axes["M"] for c in SUITES["gemm"].cases(False)}
    assert {2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096} <= rows
    kinds = {(c.axes["kind"], c.axes["format"]) for c in SUITES["attention"].cases(False)}
    assert {("causal", "dense"), ("decode", "paged"), ("decode", "int4<group=128>")} <= kinds


def test_peers_are_by_name_and_say_why_they_are_absent():
    found = {p.name: p.absent() for p in peers()}
    for name in ("torch", "torch.compile", "scipy", "ggml", "torchao", "tilelang", "marlin"):
        assert name in found
    assert "GPU" in found["gemlite"]
    assert [p.name for p in peers(["scipy", "torch"])] == ["scipy", "torch"]
    with pytest.raises(TileError, match="no peer is called 'jax'"):
        peers(["jax"])


def test_a_peer_comes_from_an_entry_point(monkeypatch: pytest.MonkeyPatch):
    def points(loaded: object) -> object:
        return lambda group: [SimpleNamespace(name="mine", load=lambda: loaded)] * (
            group == "tilec.bench.peers")  # fmt: skip

    monkeypatch.setattr(package, "entry_points", points(SLEEPERS))
    assert peers(["sleepers"]) == [SLEEPERS]
    other = replace(SLEEPERS, name="torch")  # one may be replaced
    monkeypatch.setattr(package, "entry_points", points(other))
    assert peers(["torch"]) == [other]
    monkeypatch.setattr(package, "entry_points", points(3))
    with pytest.raises(TileError, match=r"mine of tilec.bench.peers is 3, not a Peer"):
        peers()


def test_the_command_lists_and_refuses():
    code, said = bench("--list", "--json")
    assert code == 0
    assert {"suites", "peers"} == set(json.loads(said))
    assert "gemv" in json.loads(said)["suites"]
    for words, error in (
        (["gemvv"], "no suite is called 'gemvv'"),
        (["gemv", "--only", "int9"], "no case of gemv has 'int9' in its name"),
        (["gemv", "--peers", "jax"], "no peer is called 'jax'"),
        (["gemv", "--resume"], "--resume goes on with the file of -o, which is not given"),
        (["compare", "none", "none"], "none"),
        (["report", "none", "-o", "none"], "none"),
    ):
        code, said = bench(*words)
        assert code == 1, said
        assert error in said
    assert "Commands" in bench("--help")[1]


def test_help_teaches():
    for command in ("run", "report", "compare", "gpu", "faults", "fuzz", "reliability", "search",
                    "tuning"):  # fmt: skip
        code, said = bench(command, "--help")
        assert code == 0
        assert "Example: tilec bench" in said, command


def test_a_run_is_kept_and_printed(tmp_path):
    out = tmp_path / "r.json"
    words = ["gemv", "--quick", "--peers", "none", "--rounds", "1", "--threads", "1"]
    code, said = bench(*words, "-o", str(out))
    assert code == 0, said
    assert "gemv, 1 thread" in said
    (suite,) = json.loads(out.read_text())["suites"]
    assert set(suite["cases"][0]["contenders"]) == {"tilec", "read"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BASIC)
def test_a_quick_run_of_each(name: str):
    done = CliRunner().invoke(app, ["bench", name, "--quick", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    (suite,) = json.loads(done.stdout)["suites"]
    for case in suite["cases"]:
        assert OURS in case["contenders"]
        assert case["skipped"] == {}
