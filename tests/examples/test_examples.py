"""Every example runs as a user runs it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SLOW = ("minilm", "quantise_llama")
PARTS = ("minilm_model", "minilm_sentences")  # imported by minilm


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(p.stem, marks=pytest.mark.slow if p.stem in SLOW else ())
        for p in sorted(EXAMPLES.glob("*.py"))
        if p.stem not in PARTS
    ],
)
def test_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True, text=True, cwd=tmp_path, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
