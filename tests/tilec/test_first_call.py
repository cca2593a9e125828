"""The first call of a process, when what it compiles is on disk: little is imported for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """
import json, sys
import numpy as np
import tilec as tc

@tc.kernel
def double(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] * 2.0

@tc.program
def scores(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"]):
    return tc.softmax(x @ w.T)

x, w, y = np.ones((64, 64), np.float32), np.ones((32, 64), np.float32), np.zeros((64, 64), "f")
before = set(sys.modules)
if sys.argv[1] == "kernel":
    double(x, y)
    assert (y == 2).all()
else:
    assert np.allclose(scores(x, w), 1 / 32)
print(json.dumps([sorted(set(sys.modules) - before), tc.counters().cache.made]))
"""
# What parses text, knows every pass, tunes, or is for GPUs.
NOT_NEEDED = {
    "lark", "sympy", "rich", "torch", "triton", "tilec.lang.text", "tilec.ir.parse",
    "tilec.passes.registered", "tilec.tune.job", "tilec.tune.store", "tilec.gpu", "tilec.cuda",
}  # fmt: skip
MOST = 140  # modules; each takes about half a millisecond


@pytest.mark.parametrize("what", [pytest.param("kernel", marks=pytest.mark.slow), "program"])
def test_a_cached_first_call_imports_little(tmp_path: Path, what: str) -> None:
    file = tmp_path / "first.py"
    file.write_text(TEXT)
    environment = {**os.environ, "TILEC_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("TILEC_SERVICE", None)
    runs: list[tuple[list[str], int]] = []
    for _ in range(2):
        done = subprocess.run([sys.executable, str(file), what], env=environment, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        runs.append(tuple(json.loads(done.stdout)))
    (_, made), (imported, again) = runs
    assert made > 0
    assert again == 0
    assert not NOT_NEEDED & set(imported)
    assert len(imported) <= MOST
