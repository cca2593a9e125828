"""Reading files of results, and the causes beside them."""

from __future__ import annotations

import bench_results as made
import pytest

from tilec.bench.report.causes import Tried, beside
from tilec.bench.report.results import read
from tilec.ir.errors import TileError


def test_a_file_is_read_whole(tmp_path):
    found = read(made.write(tmp_path / "a.json", *made.several()))
    gemv, gemm = found.suites
    assert (gemv.title, gemm.title) == ("gemv, 1 thread", "gemm, 2 threads")
    assert gemv.others == ("torch int4", "torch bf16")
    assert gemv.skipped == {"ggml": "llama-cpp-python is not installed"}
    case = gemv.cases[0]
    assert case.key == ("gemv", 1, "int4 M=1")
    assert case.ours is not None
    assert case.roof is not None
    assert case.ours.time == pytest.approx(110e-6, rel=0.05)
    assert len(case.ours.rounds) == made.ROUNDS
    assert case.shares() == pytest.approx([90 / 110] * made.ROUNDS, rel=0.08)
    assert case.behind == ()
    assert gemv.cases[5].behind == ("torch bf16",)
    assert len(found.cases) == 10


def test_disturbed_rounds_leave_processor_time(tmp_path):
    times = {"tilec": 50.0, "torch bf16": 40.0, "read": 30.0}
    suite = made.suite("gemv", [made.case("a", {}, times, disturbed=True)])
    (case,) = read(made.write(tmp_path / "a.json", suite)).cases
    assert case.ours is not None
    assert (case.ours.seconds, case.ours.time) == (None, 50e-6)
    assert case.shares() == (None,) * made.ROUNDS
    assert case.ratios["torch bf16"].value == pytest.approx(0.8)
    assert case.behind == ("torch bf16",)


@pytest.mark.parametrize(("text", "said"), [
    ("{", "no results"),
    ("[]", "schema is None, expected 1"),
    ('{"schema": 2}', "schema is 2, expected 1"),
    ('{"schema": 1, "machine": {}, "suites": [{"suite": "a"}]}', "KeyError: 'threads'"),
    ('{"schema": 1, "machine": {}, "suites": 3}', "TypeError"),
])  # fmt: skip
def test_what_is_no_file_of_results(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TileError, match=said):
        read(path)
    with pytest.raises(TileError, match="absent"):
        read(tmp_path / "absent.json")


def test_causes(tmp_path):
    results = made.write(tmp_path / "a.json", *made.several())
    assert beside(results).cases == {}
    (tmp_path / "causes.toml").write_text("""[causes]
"int8 M=2" = "two passes"
"gemv: int8 M=4" = "three passes"
"gone" = "was slow"

[[tried]]
what = "prefetch"
result = "nothing"
""")
    found = beside(results)
    cases = list(read(results).cases)
    assert [found.of(c) for c in cases[5:8]] == ["two passes", "three passes", ""]
    assert found.idle(cases) == ["gone"]
    assert found.tried == (Tried("prefetch", "nothing"),)
    assert found | found == found


@pytest.mark.parametrize(("text", "said"), [
    ("causes", "can't be read"),
    ("[reasons]\na = 'b'", "expected .causes. and"),
    ("[causes]\na = 1", "expected a sentence for 'a'"),
    ("[[tried]]\nwhat = 'x'", "expected `what` and `result`"),
])  # fmt: skip
def test_causes_that_nobody_understands(tmp_path, text, said):
    (tmp_path / "causes.toml").write_text(text)
    with pytest.raises(TileError, match=said):
        beside(tmp_path / "a.json")
