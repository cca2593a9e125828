"""Other versions of Triton compile what is printed: goldens and a sample of the conformance cases.

TILEC_TRITONS names a folder with one folder of packages a version, each made so:
`pip install --no-deps --target FOLDER/3.6.0 triton==3.6.0`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conformance import all_cases
from lang import kernels

import tilec as tc
from tilec.artifacts import triton_source
from tilec.codegen.triton import emit
from tilec.ir.core import Block, Func
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.ir.ops import control
from tilec.ir.source import KernelSource
from tilec.lang.text import load
from tilec.runtime.triton import interpreted

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDER = Path(os.environ.get("TILEC_TRITONS", ""))
VERSIONS = sorted(p for p in FOLDER.iterdir() if p.is_dir()) if FOLDER.name else []
EVERY = 60  # of the conformance cases
ENDLESS = ("dot-f64", "carried")  # Triton compiles these without end, see test_conformance
RUN = """
import pickle, sys
import triton
from tilec.runtime.triton import compile_each
failed = []
for name, source, constants in pickle.load(open(sys.argv[1], "rb")):
    e4m3 = any(p.dtype == "e4m3" for p in source.params)  # from sm_89 on
    for target in ("sm_90",) if e4m3 else ("sm_80", "sm_90"):
        try:
            compile_each(source, target, constants)
        except Exception as e:
            failed.append(f"{name} for {target}: {e}")
print(triton.__version__)
print("\\n".join(failed))
"""


def sources() -> list[tuple[str, KernelSource, dict[str, int]]]:
    """What every version must compile, and the constants that only a launch knows."""
    found: list[tuple[str, KernelSource, dict[str, int]]] = []
    for name in ("linear", "softmax", "layernorm", "gelu"):
        whole = {"BLOCK_N": 1024} if name in ("softmax", "layernorm") else {}
        found.append((name, triton_source(load(EXAMPLES / f"{name}.tile")[name], {}), whole))
    dims = {"M": 64, "N": 256, "K": 512}
    for text in ("int4<group=128>", "int3<group=128>", "nf4<group=64>", "e4m3<channel>"):
        types = {"x": tc.f16, "w": named(text), "y": tc.f32}
        found.append((text, triton_source(kernels.linear.definition, dims, types), {}))
    for case in [c for c in all_cases() if not c.name.startswith(ENDLESS)][::EVERY]:
        grid = control.Grid((), (), (), Block((), case.func.body.ops))
        whole = any(isinstance(op, control.Grid) for op in case.func.body.ops)
        func = case.func if whole else Func("k", Block(case.func.params, (grid,)))
        try:
            found.append((case.name, emit(func), {}))
        except TileError:  # that refusals are known ones is tested with the cases
            continue
    return found


@pytest.mark.skipif(not VERSIONS, reason="TILEC_TRITONS names no folder of versions")
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda p: p.name)
@pytest.mark.timeout(1200)
def test_every_version_compiles(folder: Path, tmp_path: Path) -> None:
    jobs = sources()
    assert len(jobs) > 15
    data = tmp_path / "jobs"
    data.write_bytes(pickle.dumps(jobs))
    paths = os.pathsep.join([str(folder), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", RUN, str(data)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    version, *failed = done.stdout.strip().split("\n")
    assert version == folder.name
    assert not failed, "\n".join(failed)


@pytest.mark.skipif(not VERSIONS, reason="TILEC_TRITONS names no folder of versions")
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda p: p.name)
def test_every_version_interprets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
    x = np.random.default_rng(0).standard_normal((5, 77)).astype(np.float32)
    given = {"x": x, "y": np.full_like(x, np.nan)}
    source = triton_source(load(EXAMPLES / "softmax.tile")["softmax"], {})
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(interpreted(source, given)["y"], e / e.sum(1, keepdims=True), 1e-5)
