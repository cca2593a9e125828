"""`tilec ptx`: listing, running, arguments, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ptx.running import HEADER
from typer.testing import CliRunner, Result

from tilec.cli import app

GEMM = str(Path(__file__).parent / "data" / "gemm_sm80.ptx")
SIZES = ("--grid", "2,1", "--shared", "24576")
INPUTS = ("--arg", "f16:random:64x96", "--arg", "f16:random:128x96", "--arg", "f32:nan:64x128")
SCALARS = ("--arg", "i32:64", "--arg", "i32:128", "--arg", "i32:96")


def tilec(*words: str) -> Result:
    return CliRunner().invoke(app, ["ptx", *words])


def test_help_teaches():
    assert "Run PTX without a GPU" in tilec("--help").stdout
    for command in ("list", "run"):
        assert "Example:" in tilec(command, "--help").stdout


def test_kernels_are_listed():
    done = tilec("list", GEMM)
    assert done.exit_code == 0
    assert "gemm: 611 instructions, block 128x1x1" in done.stdout
    assert "gemm_param_5: u32, 4 bytes" in done.stdout
    (kernel,) = json.loads(tilec("list", GEMM, "--json").stdout)
    assert kernel["parameters"][0] == {"name": "gemm_param_0", "type": "u64", "bytes": 8}


def test_a_kernel_runs_on_random_arguments(tmp_path):
    done = tilec("run", GEMM, *SIZES, *INPUTS, *SCALARS, "--save", str(tmp_path), "--seed", "3")
    assert done.exit_code == 0, done.output
    assert "nothing wrong was found" in done.stdout
    a, b, c = (np.load(tmp_path / f"gemm_param_{k}.npy") for k in range(3))
    want = a.astype(np.float64) @ b.astype(np.float64).T
    np.testing.assert_allclose(c, want, atol=1e-4)


def test_saved_arrays_are_arguments_again(tmp_path):
    x = np.arange(64 * 96, dtype=np.float16).reshape(64, 96) % 5
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    given = ("--arg", str(tmp_path / "x.npy"), *INPUTS[2:])
    done = tilec("run", GEMM, *SIZES, *given, *SCALARS, "--save", str(tmp_path))
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "gemm_param_0.npy"), x)


def test_reports_as_json_and_by_row():
    done = tilec("run", GEMM, *SIZES, *INPUTS, *SCALARS, "--json")
    report = json.loads(done.stdout)
    assert report["clean"]
    assert report["wavefronts"] == report["ideal_wavefronts"] > 0
    assert any("ldmatrix" in row["text"] for row in report["rows"])
    done = tilec("run", GEMM, *SIZES, *INPUTS, *SCALARS, "--rows")
    assert "wavefronts (1.00 x ideal)" in done.stdout


def test_findings_give_exit_code_1_and_can_be_suppressed():
    wrong = (*INPUTS[:4], "--arg", "f32:nan:64x100", *SCALARS)
    done = tilec("run", GEMM, *SIZES, *wrong)
    assert done.exit_code == 1
    assert "gemm_sm80.cu:90" in done.stdout
    assert "bounds: thread" in done.stdout
    document = json.loads(tilec("run", GEMM, *SIZES, *wrong, "--json").stdout)
    assert document["findings"][0]["kind"] == "bounds"
    assert document["findings"][0]["buffer"] == "gemm_param_2"
    for given in ("bounds", "bounds:gemm_sm80.cu:90"):
        assert tilec("run", GEMM, *SIZES, *wrong, "--suppress", given).exit_code == 0
    assert tilec("run", GEMM, *SIZES, *wrong, "--suppress", "race").exit_code == 1


def test_tensor_maps_and_null_pointers(tmp_path):
    path = tmp_path / "k.ptx"
    path.write_text(
        f"{HEADER}.visible .entry k(.param .align 64 .b8 m[128], .param .u64 p, .param .f32 x)"
        "{ .reg .b64 %rd<2>; ld.param.u64 %rd1, [m]; ret; }"
    )
    words = ("run", str(path), "--block", "32", "--arg", "map:f16:range:64x64:8x32:64")
    done = tilec(*words, "--arg", "null", "--arg", "f32:1.5")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["f16:random"], "'random' is no number of type f16"),
        (["f99:1"], "no type of arguments is called 'f99'"),
        (["i8:300"], "300 is no i8: there are -128 to 127"),
        (["f16:some:3"], "no fill of f16 is called 'some'"),
        (["i32:nan:3"], "no fill of i32 is called 'nan'"),
        (["f16:ones:0x3"], "'0x3' are no sizes"),
        (["a:b:c:d:e:f:g"], "is none of TYPE:VALUE"),
        (["none.npy"], "none.npy can't be read"),
        (["i32:1"], "1 arguments for 6 parameters"),
    ],
)
def test_bad_arguments(words, message):
    given = [w for word in words for w in ("--arg", word)]
    done = tilec("run", GEMM, *SIZES, *given)
    assert done.exit_code == 1
    assert message in done.stderr


def test_other_bad_input(tmp_path):
    (tmp_path / "bad.ptx").write_text(HEADER + ".visible .entry k() { frob.b32 1; }")
    for words, message in (
        (("list", str(tmp_path / "none.ptx")), "can't be read"),
        (("list", str(tmp_path / "bad.ptx")), "'frob' is not an instruction known here"),
        (("run", GEMM, "--grid", "2;2"), "'2;2' is no size"),
        (("run", GEMM, "--entry", "other"), "no kernel is called 'other'; there are gemm"),
        (("run", GEMM, "--suppress", "a:b:c"), "is not KIND, KIND:LINE or KIND:FILE:LINE"),
    ):
        done = tilec(*words)
        assert done.exit_code == 1
        assert message in done.stderr
    (tmp_path / "k.ptx").write_text(HEADER + ".visible .entry k() { ret; }")
    assert "--block is missing" in tilec("run", str(tmp_path / "k.ptx")).stderr
    error = json.loads(tilec("list", str(tmp_path / "bad.ptx"), "--json").stdout)["error"]
    assert "frob" in error["message"]
