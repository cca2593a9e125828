"""What the environment says, and that one file reads it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilec.ir.errors import TileError
from tilec.settings import settings

ROOT = Path(__file__).parents[2]
FOLDERS = ("ir", "passes", "codegen", "runtime", "tilec")


def test_threads(monkeypatch):
    monkeypatch.delenv("TILEC_THREADS", raising=False)
    assert settings().threads == 0
    monkeypatch.setenv("TILEC_THREADS", "3")
    assert settings().threads == 3


@pytest.mark.parametrize("text", ["-1", "two", "1.5", ""])
def test_threads_are_a_whole_number(monkeypatch, text):
    monkeypatch.setenv("TILEC_THREADS", text)
    with pytest.raises(TileError, match=f"TILEC_THREADS is '{text}', expected a whole number"):
        settings()


def test_the_runtime_does_what_the_environment_says(tmp_path):
    code = "from tilec.compile import engine; print(engine().pool.threads)"
    given = {"TILEC_THREADS": "1", "TILEC_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
    assert any((tmp_path / "cache").rglob("*"))


def _reads_the_environment(path: Path) -> bool:
    names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    return bool(names & {"environ", "getenv"})


def test_one_file_reads_the_environment():
    paths = {p.relative_to(ROOT) for f in FOLDERS for p in (ROOT / f).rglob("*.py")}
    own = [p for p in paths if not (p.parts[0] == "tilec" and p.parts[1] in FOLDERS)]
    assert len(own) > 50
    found = {str(p) for p in own if _reads_the_environment(ROOT / p)}
    assert found == {"tilec/settings.py"}
