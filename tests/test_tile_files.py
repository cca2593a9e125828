"""The `.tile` collector itself: what it accepts, and that it can fail."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tilec.ir.errors import TileError

CONFTEST = Path(__file__).with_name("conftest.py").read_text()


def _optimize(text: str, pipeline: str) -> str:
    if "wrong" in text:
        raise TileError("dequant: 10 columns do not divide into groups of 4")
    return (
        f"{pipeline or 'nothing'} of {sum(not line.startswith('//') for line in text.splitlines())}"
    )


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    def run_text(text: str) -> pytest.RunResult:
        monkeypatch.setitem(sys.modules, "tilec.compile", SimpleNamespace(optimize=_optimize))
        pytester.makeconftest(CONFTEST)
        (pytester.path / "case.tile").write_text(text)
        return pytester.runpytest_inprocess()

    return run_text


def test_met_checks_pass(run):
    run("// RUN: cse{rounds=2}\n// CHECK: cse{rounds=2} of 2\na\nb\n").assert_outcomes(passed=1)


def test_each_run_line_is_a_test(run):
    run("// RUN:\n// RUN: cse\n// CHECK: of 1\na\n").assert_outcomes(passed=2)


def test_a_missed_check_fails_and_shows_the_output(run):
    result = run("// RUN: cse\n// CHECK: cse of 2\na\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["-p 'cse':", "*the output was:*", "*cse of 1*"])


def test_checks_that_do_not_exist_fail(run):
    run("// RUN: cse\na\n").assert_outcomes(failed=1)


def test_a_file_without_a_run_line_is_an_error(run):
    run("// CHECK: of 1\na\n").assert_outcomes(errors=1)


def test_programs_run_apart_and_errors_are_output(run):
    text = (
        "// RUN:\n// CHECK: error: dequant: 10 columns\n// CHECK: -----\n// CHECK: nothing of 1\n"
        "wrong\n// -----\na\n"
    )
    run(text).assert_outcomes(passed=1)


def test_golden_is_compared_and_blessed(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_text="def test_text(golden): golden('c.txt', 'new')")
    pytester.runpytest_inprocess().assert_outcomes(failed=1)
    pytester.runpytest_inprocess("--bless").assert_outcomes(passed=1)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    (pytester.path / "golden" / "c.txt").write_text("old")
    pytester.runpytest_inprocess().assert_outcomes(failed=1)
