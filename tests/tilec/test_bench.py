"""The table of formats: what it counts and compares, but no time."""

import json

from typer.testing import CliRunner

from tilec.bench.__main__ import app
from tilec.bench.formats import checked, names
from tilec.bench.peers import takes
from tilec.ir.codes import CODES
from tilec.ir.dtype import integer


def test_there_are_enough_names():
    assert len(names()) >= 60
    assert len(set(names())) == len(names())


def test_a_row_counts_right_codes():
    row = checked("nvfp4")
    assert (row.right, row.codes, row.oracle) == (16, 16, "float4_e2m1fn")
    assert row.error < 0.1
    assert max(row.linear) < 1e-6


def test_rows_of_formats_that_are_more_than_scaled():
    row = checked("df11")
    assert (row.right, row.codes, row.oracle) == (65536, 65536, "bits of bfloat16")
    row = checked("squeezellm")
    assert (row.right, row.codes, row.oracle) == (16, 16, "drawn table")
    assert row.error < checked("codebook<4>").error < 0.1
    row = checked("fp6_llm")
    assert (row.right, row.codes, row.oracle) == (64, 64, "float6_e3m2fn")
    assert (row.error, row.bits) == (checked("fp6").error, checked("fp6").bits)


def test_a_wrong_decoder_is_noticed(monkeypatch):
    from tilec.bench import formats

    monkeypatch.setitem(formats.ORACLES, "e2m3", "float6_e3m2fn")
    row = checked("mxfp6")
    assert row.right < row.codes / 2


def test_peers_are_those_that_state_it():
    assert takes(integer(3, True)) == ["Tilus", "torchao"]
    assert takes(CODES["nf4"]) == ["BitBLAS", "torchao"]
    assert takes(CODES["bipolar3"]) == []


def test_the_table_and_its_data(tmp_path):
    out = tmp_path / "formats.json"
    done = CliRunner().invoke(
        app, ["formats", "--only", "mxfp4;q4_k", "--no-speed", "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "16/16" in done.output
    assert [f["name"] for f in json.loads(out.read_text())["formats"]] == ["mxfp4", "q4_k"]
