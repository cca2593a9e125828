"""What is known of every format: what the suite counts and compares, but no time."""

from __future__ import annotations

import pytest

from tilec.bench.case import OURS
from tilec.bench.problems import stored
from tilec.bench.problems.stored import Stored, checked, names
from tilec.bench.takers import takes
from tilec.ir.codes import CODES
from tilec.ir.dtype import integer


def test_there_are_enough_names() -> None:
    assert len(names()) >= 60
    assert len(set(names())) == len(names())


def test_a_row_counts_right_codes() -> None:
    row = checked("nvfp4")
    assert (row.right, row.codes, row.oracle) == (16, 16, "float4_e2m1fn")
    assert row.error < 0.1
    assert max(row.linear) < 1e-6


def test_rows_of_formats_that_are_more_than_scaled() -> None:
    row = checked("df11")
    assert (row.right, row.codes, row.oracle) == (65536, 65536, "bits of bfloat16")
    row = checked("squeezellm")
    assert (row.right, row.codes, row.oracle) == (16, 16, "drawn table")
    assert row.error < checked("codebook<4>").error < 0.1
    row = checked("fp6_llm")
    assert (row.right, row.codes, row.oracle) == (64, 64, "float6_e3m2fn")
    assert (row.error, row.bits) == (checked("fp6").error, checked("fp6").bits)


def test_a_wrong_decoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stored.ORACLES, "e2m3", "float6_e3m2fn")
    row = checked("mxfp6")
    assert row.right < row.codes / 2


def test_peers_are_those_that_state_it() -> None:
    assert takes(integer(3, True)) == ["Tilus", "torchao"]
    assert takes(CODES["nf4"]) == ["BitBLAS", "torchao"]
    assert takes(CODES["bipolar3"]) == []


def test_a_case_says_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilec.bench.case.rotated", lambda: 1 << 18)
    made = Stored("mxfp4", 256).ours()[OURS]()
    assert (made.about["right"], made.about["codes"]) == (16, 16)
    assert made.nbytes == 256 * 256 * 17 // 32
    assert len(made.calls) > 1
