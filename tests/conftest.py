"""Tests in `.tile` files, and golden files.

A `.tile` file holds one `// RUN: <pipeline>` per run and the `// CHECK` lines that each run's
output must meet. `// -----` separates programs that are run on their own, so that one file can
hold many invalid cases. A `TileError` becomes the output, as `error: <message>`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser

from tilec.ir.errors import TileError

RUN = re.compile(r"^//[ \t]*RUN:(.*)$", re.MULTILINE)
SEPARATOR = re.compile(r"^// -----\n", re.MULTILINE)


class CheckFailure(Exception):
    """The output does not meet the `// CHECK` lines."""


class TileRun(pytest.Item):
    """One `// RUN:` line of a `.tile` file."""

    pipeline: str
    text: str

    def runtest(self) -> None:
        """Run the pipeline on every program of the file, then check the joined output."""
        # Loaded here so that a broken compiler fails the `.tile` tests, not the collection of all.
        optimize = importlib.import_module("tilec.compile").optimize
        programs = SEPARATOR.split(self.text)
        output = "// -----\n".join(_outcome(optimize, p, self.pipeline) for p in programs)
        log = io.StringIO()
        options = Options(str(self.path))
        with contextlib.redirect_stderr(log):
            code = Matcher(options, FInput("-", output), Parser.from_opts(options)).run()
        if code:
            raise CheckFailure(
                f"-p '{self.pipeline}':\n{log.getvalue()}\nthe output was:\n{output}"
            )

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        """The checker's message alone for a failed check, else the traceback."""
        if isinstance(excinfo.value, CheckFailure):
            return str(excinfo.value)
        return str(excinfo.getrepr(style="long"))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where this test is, in pytest's terms."""
        return self.path, 0, self.name


class TileFile(pytest.File):
    """A `.tile` file, which must hold at least one run."""

    def collect(self) -> Iterator[TileRun]:
        """One test per `// RUN:` line."""
        text = self.path.read_text()
        pipelines = [match[1].strip() for match in RUN.finditer(text)]
        if not pipelines:
            raise self.CollectError(
                f"{self.path}: no '// RUN: <pipeline>' line, so nothing is tested"
            )
        for index, pipeline in enumerate(pipelines):
            run = TileRun.from_parent(self, name=f"run{index}")
            run.pipeline, run.text = pipeline, text
            yield run


def _outcome(optimize: Callable[[str, str], str], program: str, pipeline: str) -> str:
    try:
        return optimize(program, pipeline).rstrip("\n") + "\n"
    except TileError as error:
        return f"error: {error}\n"


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> TileFile | None:
    if file_path.suffix != ".tile":
        return None
    return TileFile.from_parent(parent, path=file_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with `golden/<name>` beside the test; `--bless` rewrites that file."""

    def check(name: str, actual: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--bless"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual)
        assert path.exists(), f"no golden {path}: run with --bless and read the diff"
        assert actual == path.read_text()

    return check
