"""How compilers and other programs are started: by lists of words, under an environment of few."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tilec.ir.errors import TileError
from tilec.runtime.host_compiler import HostCompiler, find_host_compiler
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass.tools import disassembler
from tilec.settings import tool_environment, triton_environment

ROOT = Path(__file__).parents[2]
STARTS = {"run", "Popen", "call", "check_call", "check_output"}
FORBIDDEN = {"system", "popen", "spawnl", "spawnlp", "spawnvp", "execvp", "execlp", "getoutput"}
KERNEL = 'extern "C" __global__ void k(float *x) { x[0] = 1; }'


def sources() -> list[Path]:
    folders = [ROOT / f for f in ("ir", "passes", "codegen", "runtime", "tilec")]
    found = [p for f in folders for p in f.rglob("*.py")]
    links = {"ir", "passes", "codegen", "runtime"}
    return [
        p for p in found if p.relative_to(ROOT).parts[1] not in links and "bench" not in p.parts
    ]


def test_programs_are_started_by_lists_and_with_a_chosen_environment() -> None:
    seen = 0
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            module = ast.unparse(node.func.value)
            assert module != "os" or node.func.attr not in FORBIDDEN, path
            if module != "subprocess" or node.func.attr not in STARTS:
                continue
            seen += 1
            given = {k.arg for k in node.keywords}
            assert "shell" not in given, f"{path}:{node.lineno}"
            assert "env" in given, f"{path}:{node.lineno}"
            assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), path
    assert seen >= 7


@pytest.mark.parametrize(
    "option",
    ["-Xlinker", "-Xcompiler=-fplugin=x.so", "-fplugin=x.so", "@file", "-B/x", "-I/x", "-include=x",
     "--compiler-bindir=/x", "-ccbin", "-o", "--keep-dir=/x", "-DX=1;rm", "-DX=a b", "-DX=$(x)",
     "-DX\n-o/x", "--use_fast_math -o/x", "--options-file=x", "-L/x", "--pre-include=x", ""],
)  # fmt: skip
def test_compilers_are_given_known_options_only(option: str) -> None:
    with pytest.raises(TileError, match=r"is not given .*: expected -DNAME=VALUE"):
        compile_cuda(KERNEL, "sm_80", options=[option])


@pytest.mark.parametrize("target", ["sm_80 -o/x", "-o/x", "sm_80\n", "../../x", "sm_80;rm"])
def test_targets_are_no_options(target: str) -> None:
    with pytest.raises(TileError, match="is no target of CUDA"):
        compile_cuda(KERNEL, target)


def test_known_options_work() -> None:
    assert compile_cuda(KERNEL, "sm_80", options=["-DA", "-DB=-1.5e+3f", "--use_fast_math",
                                                  "--maxrregcount=64", "--fmad=false"])  # fmt: skip


LOADS = {
    "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/x", "LD_AUDIT": "", "CPATH": "/x", "LIBRARY_PATH": "/x",
    "GCC_EXEC_PREFIX": "/x", "COMPILER_PATH": "/x", "NVCC_APPEND_FLAGS": "-x",
    "NVCC_PREPEND_FLAGS": "-x", "PYTHONPATH": "/x", "PYTHONSTARTUP": "/x", "BASH_ENV": "/x",
}  # fmt: skip


def test_what_leads_tools_elsewhere_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "g++"
    tool.write_text('#!/bin/sh\nenv > "$1"\n')
    tool.chmod(0o755)
    for name, value in LOADS.items():
        monkeypatch.setenv(name, value)
    HostCompiler(str(tool), "").run(["seen"], tmp_path)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert not LOADS.keys() & seen.keys()
    assert seen["HOME"] == os.environ["HOME"]
    assert tool_environment("PYTHONPATH")["PYTHONPATH"] == "/x"


def test_tools_are_not_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("g++", "nvdisasm"):
        (tmp_path / name).write_text("#!/bin/sh\necho evil\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    assert tmp_path not in Path(find_host_compiler().command).parents
    disassembler.cache_clear()
    assert tmp_path not in disassembler().absolute().parents
    assert "" not in tool_environment()["PATH"].split(os.pathsep)


def test_what_changes_tritons_code_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/x")
    before = triton_environment()
    monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    monkeypatch.setenv("TRITON_F32_DEFAULT", "ieee")
    assert triton_environment() == {
        **before, "DISABLE_PTXAS_OPT": "1", "TRITON_F32_DEFAULT": "ieee"
    }  # fmt: skip
