"""Keys of the cache are the same wherever the files of a kernel are."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tilec as tc
from tilec.gpu import Choice, program
from tilec.runtime.cache import Entry, Key

TEXT = """
import tilec as tc

@tc.kernel
def scale(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] * 2.0
"""


def keys(folder: Path, choice: Choice, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of a kernel of `parts/kernels.py` in a folder where Python finds modules."""
    file = folder / "parts" / "kernels.py"
    file.parent.mkdir(parents=True)
    file.write_text(TEXT)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    spec = importlib.util.spec_from_file_location(f"kernels_{folder.name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = []

    def kept(key: Key, make: Callable[[], Entry]) -> Entry:
        assert str(folder) not in str(key.parts)
        found.append(key.name)
        return Entry(b"code", {"builds": [[4, 0, []]]})

    types = {"x": tc.f32, "y": tc.f32}
    program(module.scale.definition, types, {"M": 64, "N": 64}, (), "sm_90a", choice, kept)
    return found


@pytest.mark.parametrize("choice", [Choice(), Choice(lines=False), Choice("triton")], ids=str)
def test_two_folders_have_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: Choice
) -> None:
    first, second = (keys(tmp_path / name, choice, monkeypatch) for name in ("one", "two"))
    assert first == second
    assert len(first) == 1


def test_lines_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lines = keys(tmp_path / "one", Choice(), monkeypatch)
    assert with_lines != keys(tmp_path / "two", Choice(lines=False), monkeypatch)
