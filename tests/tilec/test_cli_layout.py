"""`tilec layout`: what is drawn, as text, picture and data."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tilec.cli import app
from tilec.ir.layout.atoms import fragment
from tilec.ir.layout.shared import SharedLayout
from tilec.ir.layout.text import parse

SHARED = "shared(16, (16,64):(64,1), swizzle(3, 4, 3))"
PLAIN = "shared(16, (16,64):(64,1))"
OPERAND = "local(1, 4) * mma.m16n8k16.bf16.A"


def tilec(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def cells(text: str) -> list[list[str]]:
    """The cells of the first table, without its labels."""
    rows = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.strip("│").split("│")][1:] for row in rows]


def test_registers():
    done = tilec("layout", "mma.m16n8k16.bf16.C")
    assert done.exit_code == 0, done.stderr
    assert "local(2, 1).spatial(8, 4).local(1, 2)" in done.stdout
    assert "32 threads of 4, 1 with each element" in done.stdout
    layout, drawn = fragment("mma.m16n8k16.bf16.C"), cells(done.stdout)
    assert len(drawn) == 16
    for (row, column), cell in np.ndenumerate(np.array(drawn)):
        threads, local = layout.holders(row, column)
        assert cell == f"{threads[0]}:{local}"


def test_copies_are_ranges():
    drawn = cells(tilec("layout", "replicated(2).spatial(2).replicated(3)").stdout)
    assert drawn == [["0-2,6-8:0", "3-5,9-11:0"]]
    assert cells(tilec("layout", "replicated(2)").stdout) == [["0-1:0"]]


def test_offsets():
    done = tilec("layout", "(2,(2,3)):(6,(3,1))")
    assert cells(done.stdout) == [list("031425"), ["6", "9", "7", "10", "8", "11"]]


def test_banks_and_addresses():
    done = tilec("layout", SHARED)
    shared = parse(SHARED)
    assert isinstance(shared, SharedLayout)
    assert "of 16 bits; 2048 bytes" in done.stdout
    assert np.array(cells(done.stdout), int).tolist() == shared.bank(*np.indices((16, 64))).tolist()
    data = json.loads(tilec("layout", SHARED, "--json").stdout)
    assert data["layout"] == SHARED
    assert data["shape"] == [16, 64]
    assert data["address"][64:66] == [144, 146]


def test_three_axes_and_large_tiles():
    done = tilec("layout", "local(2, 2, 3)")
    assert "│0, 1" in done.stdout
    done = tilec("layout", "wgmma.m64n256k16.f16.C")
    assert "the first 64 of 64 rows and 64 of 256 columns" in done.stdout
    assert len(cells(done.stdout)[0]) == 64


@pytest.mark.parametrize(("layout", "wavefronts"), [(SHARED, 16), (PLAIN, 128)])
def test_wavefronts(layout: str, wavefronts: int):
    done = tilec("layout", layout, "--access", OPERAND)
    assert done.exit_code == 0, done.stderr
    verdict = "no conflict" if wavefronts == 16 else "conflicts"
    (row,) = [line for line in done.stdout.splitlines() if "ldmatrix.x4 " in line]
    words = row.replace("│", " ").split()
    assert words == ["ldmatrix.x4", "4", str(wavefronts), "16", *verdict.split()]
    assert "not possible (--json says why): 16-byte, 8-byte" in done.stdout
    data = json.loads(tilec("layout", layout, "--access", OPERAND, "--json").stdout)
    by_name = {way["access"]: way for way in data["access"]}
    assert by_name["ldmatrix.x4"]["wavefronts"] == wavefronts
    assert "not together" in by_name["8-byte"]["why"]


def test_svg(tmp_path: Path):
    path = tmp_path / "layout.svg"
    done = tilec("layout", "spatial(2, 4).local(1, 2)", "--svg", str(path))
    assert done.exit_code == 0, done.stderr
    root = ElementTree.parse(path).getroot()
    boxes = root.findall("{*}rect")
    texts = [t.text for t in root.findall("{*}text")]
    assert len(boxes) == 16
    assert len({box.get("fill") for box in boxes}) == 8
    assert texts[0] == "spatial(2, 4).local(1, 2)"
    assert [f"{t}:{i}" for t in range(8) for i in range(2)] == [t for t in texts if t and ":" in t][
        1:
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("spatial(8",), "expected ',', not 'the end'"),
        (("mma.m16n8k16.bf17.A",), "did you mean 'mma.m16n8k16.bf16'?"),
        (("():()",), "():() has no axis to draw"),
        (("local(512, 512)",), "has 262144 elements; at most 65536 are drawn"),
        (("spatial(8)", "--access", "spatial(8)"), "a register layout over a shared layout"),
        ((PLAIN, "--access", "8:1"), "a register layout over a shared layout"),
        (("spatial(2)", "--svg", "absent/x.svg"), "absent/x.svg can't be written"),
    ],
)
def test_errors(words, message):
    done = tilec("layout", *words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert message in json.loads(tilec("layout", *words, "--json").stdout)["error"]["text"]


def test_help_teaches():
    done = tilec("layout", "--help")
    assert "Example: tilec layout" in done.stdout
