"""The trace: what the Trace Event Format asks for, and that stages lie in their compiles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.compile import Kernel
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.observe import KINDS
from tilec.profile import Profile, profile

TEXT = """kernel traced(x: f32[M], y: f32[M]) {
  for m in tiles(M) { y[m] = x[m] * 3.0 }
}"""


@pytest.fixture
def found(tmp_path: Path) -> tuple[Profile, list[dict[str, Any]]]:
    """A profile of three calls, of which the first compiles, and its events."""
    k, x = Kernel(parse(TEXT)["traced"]), np.ones(50, np.float32)
    with profile() as p:
        for _ in range(3):
            k(x, np.empty_like(x))
    p.trace(tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    assert document["displayTimeUnit"] in ("ms", "ns")
    return p, document["traceEvents"]


def test_every_event_has_what_the_format_asks_for(found):
    p, events = found
    for e in events:
        assert e["ph"] in ("X", "M")
        assert e["pid"] == os.getpid()
        assert isinstance(e["tid"], int)
        assert isinstance(e["name"], str)
    complete = [e for e in events if e["ph"] == "X"]
    assert all(e["ts"] >= 0 and e["dur"] >= 0 for e in complete)
    assert all(e["ts"] + e["dur"] <= (p.end - p.start) * 1e6 + 1 for e in complete)
    assert [e["ts"] for e in complete] == sorted(e["ts"] for e in complete)
    assert {e["cat"] for e in complete} <= {*KINDS, "call", "compile"}
    assert {"call", "compile", "pass", "codegen", "load"} <= {e["cat"] for e in complete}


def test_stages_lie_in_their_compile_and_that_in_its_call(found):
    _, events = found
    complete = [e for e in events if e["ph"] == "X"]

    def inside(a: dict[str, Any], b: dict[str, Any]) -> bool:
        same = a["tid"] == b["tid"]
        return same and b["ts"] - 1 <= a["ts"] and a["ts"] + a["dur"] <= b["ts"] + b["dur"] + 1

    (made,) = [e for e in complete if e["name"] == "compile traced"]
    calls = [e for e in complete if e["cat"] == "call"]
    assert len(calls) == 3
    assert inside(made, calls[0])
    stages = [e for e in complete if e["args"].get("kernel") == "traced"]
    assert len(stages) > 8
    assert all(inside(e, made) for e in stages)
    assert made["args"]["dims"] == {"M": 50}


def test_a_file_that_can_not_be_written(found, tmp_path):
    with pytest.raises(TileError, match="can't be written"):
        found[0].trace(tmp_path / "absent" / "trace.json")
