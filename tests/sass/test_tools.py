"""The disassembler: where it is looked for, and what it refuses."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from sass.kernels import PIPELINE, built

from tilec.ir.errors import TileError
from tilec.sass import disassembled, stats_of, tools


def absent(name: str) -> None:
    raise PackageNotFoundError(name)


def test_places_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("triton")
    find = tools.disassembler.__wrapped__
    assert "triton" not in find().parts
    monkeypatch.setattr(tools, "distribution", absent)
    assert "triton" in find().parts
    monkeypatch.setattr(tools, "find_spec", lambda _: None)
    own = tmp_path / "nvdisasm"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() == own
    own.unlink()
    with pytest.raises(TileError, match="no disassembler of machine code") as e:
        find()
    assert e.value.hint == "pip install tilec[cuda]"


def test_code_only():
    cubin = built(PIPELINE, "sm_90a").cubin
    assert "HMMA.16816.F32" in disassembled(cubin, "-c")
    assert "nvinfo" not in disassembled(cubin, "-c")


def test_what_is_no_machine_code():
    with pytest.raises(TileError, match="nvdisasm fails: "):
        disassembled(b"not a cubin")
    with pytest.raises(TileError, match="holds no code"):
        stats_of(built("__device__ int unused;", "sm_90a").cubin)
