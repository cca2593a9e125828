"""The command line: every command, its JSON, its errors and exit codes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tilec import cuda as tilec_cuda
from tilec.cli import app
from tilec.ir.core import Func

EXAMPLES = Path(__file__).parents[2] / "examples"
LINEAR = str(EXAMPLES / "linear.tile")
DIMS = ("--dims", "M=3,N=40,K=64")
CUDA = ("compile", LINEAR, *DIMS, "--backend", "cuda", "--emit", "sass", "--target")
QUANTISED = """kernel linear(x: bf16[M, K], w: int4<group=32>[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros(f32, [m, n])
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""


def tilec(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


@pytest.fixture
def quantised(tmp_path: Path) -> str:
    path = tmp_path / "quantised.tile"
    path.write_text(QUANTISED)
    return str(path)


def test_help_teaches():
    for command in ("compile", "pack", "run", "check", "opt", "explain", "op", "formats", "layout",
                    "doctor", "ptx list", "ptx run"):  # fmt: skip
        done = tilec(*command.split(), "--help")
        assert done.exit_code == 0
        assert f"tilec {command}" in done.stdout
        assert "Example:" in done.stdout
    assert "tilec ptx list" in tilec("ptx", "--help").stdout
    assert "Usage" in tilec("--help").stdout


def test_compile_shows_each_stage(quantised):
    done = tilec("compile", quantised, *DIMS, "--emit", "ir,source,asm,remarks")
    assert done.exit_code == 0, done.stderr
    sections = done.stdout.split("== ")[1:]
    assert [s.split(" ==")[0] for s in sections] == ["ir", "source", "asm", "remarks"]
    assert "%w.codes: *i4[40, 64]" in sections[0]
    assert "define void @linear.0" in sections[1]
    assert "linear.0:" in sections[2]
    assert "the scale on the accumulator" in sections[3]
    assert "dot(x[m, k], w[n, k].T)" in sections[3]
    assert "^^^^" in sections[3]


def test_compile_takes_other_formats():
    given = ("--types", "w=uint3<group=32, zero=int>,x=bf16")
    done = tilec("compile", LINEAR, *DIMS, *given, "--emit", "ir")
    assert done.exit_code == 0, done.stderr
    assert "%x: *bf16[3, 64], %w.codes: *u3[40, 64]" in done.stdout
    assert "%w.zero: *u3[40, 2]" in done.stdout


@pytest.mark.parametrize(("emit", "holds"), [("source", "tl.dot("), ("ttir", "tt.dot")])
def test_compile_for_a_gpu_that_is_not_there(emit, holds):
    pytest.importorskip("triton")
    done = tilec("compile", LINEAR, *DIMS, "--backend", "triton", "--emit", emit)
    assert done.exit_code == 0, done.stderr
    assert holds in done.stdout


def test_compile_for_a_gpu_with_groups_of_a_dimension_without_a_number():
    pytest.importorskip("triton")
    given = ("--backend", "triton", "--types", "w=int4<group=32>", "--emit", "source,ttir")
    done = tilec("compile", LINEAR, *given)
    assert done.exit_code == 0, done.stderr
    assert "* tl.cdiv(K, 32)" in done.stdout


def test_compile_leaves_dimensions_open():
    given = ("--backend", "cuda", "--types", "x=f16,w=f16", "--emit", "source")
    done = tilec("compile", LINEAR, "--dims", "N=64,K=256", *given)
    assert done.exit_code == 0, done.stderr
    assert "u32 M) {" in done.stdout
    done = tilec("compile", LINEAR, "--dims", "Q=64", *given)
    assert "linear has no dimension `Q`" in done.stderr


@pytest.mark.parametrize(("backend", "holds"), [("cpu", "dims = [M, 64]"), ("cuda", "[M, 64]")])
def test_compile_for_a_range_of_sizes(backend, holds):
    done = tilec("compile", LINEAR, "--dims", "M=17-64,N=64,K=64", "--emit", "ir", "--backend",
                 backend)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert holds in done.stdout


def test_compile_by_a_schedule():
    given = ("--backend", "cuda", "--types", "x=f16,w=f16", "--emit", "ir,remarks")
    chosen = ("--schedule", "swap=small,split=2,m=16,n=32")
    done = tilec("compile", LINEAR, "--dims", "M=5,N=64,K=256", *given, *chosen)
    assert done.exit_code == 0, done.stderr
    assert "the product of 5 x 32 is computed as 32 x 5" in done.stdout
    assert "2 tiles of 4 steps along k in 2 parts" in done.stdout
    assert "%y.sums0: *f32[2, 2, 32, 16]" in done.stdout


def test_compile_writes_files(quantised, tmp_path):
    out = tmp_path / "out"
    done = tilec("compile", quantised, *DIMS, "--emit", "ir,source", "-o", str(out), "--json")
    assert json.loads(done.stdout)["files"]["source"] == str(out / "linear.ll")
    assert (out / "linear.tileir").read_text().startswith("func @linear")


def test_compile_for_another_processor():
    done = tilec("compile", LINEAR, *DIMS, "--target", "x86-64-v3", "--emit", "asm")
    assert done.exit_code == 0, done.stderr
    assert "zmm" not in done.stdout
    assert "ymm" in done.stdout


def test_run_compares_and_times(quantised):
    done = tilec("run", quantised, *DIMS, "--repeat", "3", "--json")
    found = json.loads(done.stdout)
    assert found["dims"] == {"M": 3, "N": 40, "K": 64}
    assert 0 < found["median_seconds"] < found["first_call_seconds"]
    assert found["relative_errors"]["y"] < 1e-5
    assert "relative difference" in tilec("run", LINEAR, *DIMS, "--repeat", "3").stdout


@pytest.mark.parametrize("weight", ["plus<lowrank<8>, int4<group=64>>", "nvfp4", "q4_k",
                                    "mixed<4, int8, int4<group=64>>"])  # fmt: skip
def test_run_takes_composed_formats(weight):
    done = tilec("run", LINEAR, "--dims", "M=3,N=70,K=256", "--types", f"w={weight},x=bf16")
    assert done.exit_code == 0, done.output
    assert "relative difference" in done.output


def test_what_triton_has_no_code_for():
    done = tilec("compile", LINEAR, "--dims", "M=4,N=64,K=64", "--types", "x=tf32,w=tf32",
                 "--backend", "triton")  # fmt: skip
    assert done.exit_code == 1
    assert "triton: no code for values of tf32 yet" in done.output


def test_compile_for_triton_by_a_schedule(tmp_path):
    """Split along k it is two kernels, which have a cubin each."""
    given = ("--backend", "triton", "--dims", "M=5,N=64,K=256", "--schedule", "split=2,warps=8")
    done = tilec("compile", LINEAR, *given, "--emit", "source,remarks")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("num_warps=8") == 2
    assert "1 tiles of 4 steps along k in 2 parts" in done.stdout
    out = tmp_path / "out"
    done = tilec("compile", LINEAR, *given, "--emit", "cubin,ptx", "-o", str(out))
    assert done.exit_code == 0, done.stderr
    assert all((out / f"linear.{i}.cubin").read_bytes()[:4] == b"\x7fELF" for i in range(2))
    assert (out / "linear.ptx").read_text().count(".entry") == 2
    done = tilec("compile", LINEAR, *given, "--target", "sm_80", "--schedule", "descriptors=1")
    assert "descriptors=1 needs sm_90 or later" in done.stderr


def test_run_takes_other_formats():
    done = tilec("run", LINEAR, *DIMS, "--types", "w=int4<group=32>", "--repeat", "1", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["compared"]
    assert found["types"] == {"w": "int4<group=32, scale=f16>"}
    assert found["relative_errors"]["y"] < 1e-5


SCALARS = """kernel blend(x: f32[M, N], s: f32, h: f16, i: i32, b: bool, y: f32[M, N]) {
  for m, n in tiles(M, N) {
    t = x[m, n] * s + cast(h, f32) + cast(i, f32)
    y[m, n] = where(b, t, x[m, n])
  }
}
"""


@pytest.mark.parametrize("seed", ["0", "1"])  # of which one gives true and one false
def test_run_and_check_without_a_gpu(tmp_path, seed):
    path = tmp_path / "blend.tile"
    path.write_text(SCALARS)
    given = (str(path), "--dims", "M=7,N=33", "--seed", seed)
    found = json.loads(tilec("check", *given, "--json").stdout)
    assert (found["relative_errors"], found["findings"]) == ({"y": 0.0}, [])
    done = tilec("run", *given, "--backend", "cuda", "--emulate")
    assert done.exit_code == 0, done.output
    assert "y: relative difference from the interpreter 0.0e+00" in done.stdout
    assert "no findings" in done.stdout


def test_findings_are_at_the_line_of_the_program(monkeypatch):
    """A kernel without its barriers."""
    emitted = tilec_cuda.cuda_program

    def broken(func: Func, *rest: Any) -> tilec_cuda.Program:
        program = emitted(func, *rest)
        text = program.source.text.replace("    barrier();\n", "")
        return replace(program, source=replace(program.source, text=text))

    monkeypatch.setattr("tilec.artifacts.cuda_program", broken)
    done = tilec("check", LINEAR, "--dims", "M=16,N=64,K=256", "--types", "x=f16,w=f16")
    assert done.exit_code == 1
    assert re.search(r"linear\.tile:\d+: \w[\w-]+: ", done.stdout)
    assert "for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }" in done.stdout


def test_run_fails_where_results_differ(monkeypatch):
    """Also for what is no number: NaN is not below a tolerance."""
    for wrong in (0.5, float("nan")):
        monkeypatch.setattr("tilec.artifacts.Trial.errors", lambda _, e=wrong: {"y": e})
        done = tilec("run", LINEAR, *DIMS, "--repeat", "1", "--json")
        assert done.exit_code == 1
        assert "not what the interpreter says: y" in done.stderr
        assert json.loads(done.stdout)["kernel"] == "linear"


def test_run_says_what_it_does_not_compare(monkeypatch):
    monkeypatch.setattr("tilec.cli.build.LARGEST", 100)
    done = tilec("run", LINEAR, *DIMS, "--repeat", "1")
    assert done.exit_code == 0
    assert "not compared with the interpreter: too large" in done.stdout


def test_opt_runs_passes():
    done = tilec("opt", "-p", "specialise{M=3 N=40 K=64},tile", LINEAR)
    assert "tiles = [3, 40]" in done.stdout
    again = tilec("opt", "-", "-p", "canonicalize", given=done.stdout)
    assert again.exit_code == 0
    assert again.stdout.startswith("func @linear")
    dumped = tilec("opt", "-p", "canonicalize,canonicalize", LINEAR, "--dump")
    assert dumped.stdout.count("// after canonicalize") == 2
    assert dumped.stderr.count(" ms") == 2
    stages = json.loads(tilec("opt", "-p", "canonicalize", LINEAR, "--json").stdout)["stages"]
    assert [s["pass"] for s in stages] == ["canonicalize"]


def test_opt_says_which_file_is_wrong(tmp_path):
    text = "kernel k(x: f32[M]) { for m in tiles(M) { x[m] = q } }"
    (tmp_path / "wrong.tile").write_text(text)
    for words, given, name in (
        (("opt", str(tmp_path / "wrong.tile")), None, "wrong.tile"),
        (("opt",), text, "<stdin>"),
    ):
        done = tilec(*words, given=given)
        assert done.exit_code == 1
        assert f'{name}", line 1, column {text.index("q") + 1} in k' in done.stderr


def test_opt_shows_what_passes_say():
    passes = "specialise{M=16 N=60 K=64},tile,pad,lay-out"
    done = tilec("opt", "-p", passes, LINEAR, "--remarks")
    assert done.exit_code == 0, done.stderr
    assert "func @linear" in done.stdout
    assert "lay-out: `b` is read" in done.stdout
    assert "missing: " in done.stdout
    found = json.loads(tilec("opt", "-p", passes, LINEAR, "--json").stdout)
    assert any("`b` is read" in r for r in found["remarks"]["linear"])


def test_op_reference():
    done = tilec("op", "--all")
    assert done.exit_code == 0
    assert done.stdout.count("\n  evaluated ") == len(json.loads(tilec("op", "--json").stdout))


def test_op_and_formats():
    assert "ir/ops/reduce.py:" in tilec("op", "dot").stdout
    assert len(json.loads(tilec("op", "--json").stdout)) > 50
    described = json.loads(tilec("formats", "uint4<group=64, zero=int>", "--json").stdout)
    assert described["bits/weight"] == 4 + (16 + 4) / 64
    listed = json.loads(tilec("formats", "--json").stdout)
    assert {f["name"] for f in listed["scaled"]} >= {"int1", "int4", "uint8"}
    assert {f["name"] for f in listed["published"]} >= {"mxfp4", "nvfp4", "q4_k"}
    assert {e["name"] for e in listed["elements"]} >= {"f16", "u3", "e2m1", "nf4"}
    four = json.loads(tilec("formats", "mxfp4", "--json").stdout)
    assert four["runs"]["sm_100a"] == "e2m1 with its scales"
    assert four["runs"]["sm_90a"] == "codes decoded"
    assert 0.05 < four["error"] < 0.15
    assert "bf16" in tilec("formats").stdout


def test_formats_describes_what_is_not_scaled():
    coded = json.loads(tilec("formats", "coded<bf16>", "--json").stdout)
    assert (coded["format"], coded["value"]) == ("coded<bf16, 3, 40>", "bf16")
    assert coded["components"]["codes"] == "u3[N, K]"
    assert 11.7 < coded["bits/weight"] < 11.8
    assert coded["error"] < 0.002
    apart = json.loads(tilec("formats", "fp6_llm", "--json").stdout)
    assert apart["components"] == {"plane0": "u4[N, K]", "plane1": "u2[N, K]", "scale": "f16[N]"}
    several = json.loads(tilec("formats", "experts<2, int4<group=128>, int2>", "--json").stdout)
    assert several["components"]["1.codes"] == "i2[N*(E - 2), K]"
    assert 3 < several["bits/weight"] < 3.6


def test_doctor_finds_this_machine_well():
    done = tilec("doctor", "--json")
    assert done.exit_code == 0, done.stdout
    found = {f["what"]: f for f in json.loads(done.stdout)}
    assert found["a kernel"]["value"] == "compiled and right"
    assert all(f["ok"] for f in found.values())
    assert {"torch", "triton", "CUDA compiler", "disassembler", "C++ compiler"} <= set(found)


def test_doctor_says_what_is_absent_and_for_what(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {f["what"]: f for f in json.loads(tilec("doctor", "--json").stdout)}
    assert found["C++ compiler"]["value"] == "absent (for tilec check)"
    assert "g++" in found["C++ compiler"]["fix"]
    assert found["C++ compiler"]["ok"]


def test_doctor_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path / "file" / "cache"))
    done = tilec("doctor")
    assert done.exit_code == 1
    assert "fix: set TILEC_CACHE_DIR" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compile", "absent.tile"), "absent.tile can't be read"),
        (("compile", LINEAR), "no number for the dimensions M, K, N"),
        (("compile", LINEAR, "--dims", "M=3,N=4,K=5,Q=6"), "has no dimension `Q`"),
        (("compile", LINEAR, "--dims", "M=x"), "'M=x' is not NAME=NUMBER"),
        (("compile", LINEAR, "--dims", "M=0"), "a number of at least 1"),
        (("compile", LINEAR, "--dims", "M=9-x"), "'M=9-x' is not NAME=NUMBER"),
        (("compile", LINEAR, "--dims", "M=9-2,N=8,K=8"), "M has no size: 9 is more than 2"),
        (("compile", LINEAR, *DIMS, "--emit", "ptx"), "emits ir, source, asm, remarks, not 'ptx'"),
        (("compile", LINEAR, *DIMS, "--backend", "metal"), "no back end is called 'metal'"),
        (("compile", LINEAR, *DIMS, "--schedule", "swap=small"), "is not CHOICE=VALUE or TILE"),
        (("compile", LINEAR, *DIMS, "--backend", "cuda", "--schedule", "n"), "'n' is not CHOICE="),
        ((*CUDA, "sm_89", "--schedule", "copies=bulk"), "copies=bulk needs sm_90 or later"),
        ((*CUDA, "sm_90", "--schedule", "instruction=wgmma"), "wgmma needs sm_90a, not sm_90"),
        (("compile", LINEAR, *DIMS, "--kernel", "gelu"), "no kernel `gelu`: choose one of linear"),
        (("opt", "-p", "canonicalise", LINEAR), "no pass is called 'canonicalise'"),
        (("op", "dott"), "did you mean 'dot'?"),
        (("compile", LINEAR, *DIMS, "--target", "i386"), "'i386' is no target of the CPU back end"),
        (("run", LINEAR, "--types", "v=f16"), "linear has no tensor `v`; it has x, w, b, y"),
        (("run", LINEAR, "--backend", "cuda"), "there are cpu, and cuda with --emulate"),
        (("run", LINEAR, "--emulate"), "--backend cpu --emulate can't be run"),
        (("run", LINEAR, "--types", "w=f17"), "no format is called `f17`"),
        (("run", LINEAR, "--types", "w"), "'w' is not NAME=FORMAT"),
        (("run", LINEAR, "--types", "w=f16,w=f32"), "w is given twice"),
        (("formats", "int4<grop=3>"), "did you mean `group`?"),
    ],
)
def test_errors(words, message):
    done = tilec(*words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    as_json = tilec(*words, "--json")
    assert as_json.exit_code == 1
    assert message in json.loads(as_json.stdout)["error"]["text"]


def test_errors_point_at_the_line(tmp_path):
    path = tmp_path / "bad.tile"
    path.write_text(QUANTISED.replace("w[n, k].T", "w[n, k]"))
    done = tilec("compile", str(path), *DIMS)
    assert done.exit_code == 1
    assert "line 4" in done.stderr
    assert "^^^" in done.stderr
    assert "transpose the second operand with .T" in done.stderr
    path.write_text(QUANTISED.replace("int4<group=32>", "int9"))
    assert "no format is called `int9`" in tilec("compile", str(path), *DIMS).stderr


def test_wrong_options_are_usage_errors():
    assert tilec("run", LINEAR, "--repeat", "0").exit_code == 2
    assert tilec("compile", LINEAR, "--nonsense").exit_code == 2
