"""`tilec doctor`: what this machine has, and what is missing for which purpose."""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import typer

from tilec.cli.report import Json, answer, progress, reported
from tilec.compile import Kernel, engine
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.runtime.cache import Entry, Key, default_directory, open_cache
from tilec.runtime.cache.place import network
from tilec.runtime.cache.store import entry_path
from tilec.runtime.cache.sweep import files
from tilec.runtime.driver import open_driver
from tilec.runtime.host_compiler import find_host_compiler
from tilec.runtime.nvrtc import toolchain
from tilec.sass.tools import disassembler
from tilec.settings import settings

NEEDED = ("numpy", "ml_dtypes", "lark", "sympy", "llvmlite", "filelock", "typer", "rich")
OPTIONAL = {"torch": "tensors of torch", "triton": "the Triton back end"}
TOOLS = {
    "CUDA compiler": ("PTX and machine code of the CUDA back end", lambda: toolchain().identity),
    "disassembler": ("sass and stats", lambda: str(disassembler())),
    "C++ compiler": ("tilec check", lambda: find_host_compiler().version.splitlines()[0]),
}  # of the CUDA back end: for what, and which one there is
TEXT = """kernel double(x: f32[M], y: f32[M]) {
  for m in tiles(M) { y[m] = x[m] * 2.0 }
}"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` says what to do where it is not well."""

    what: str
    value: str
    ok: bool = True
    fix: str = ""


@reported
def doctor(json_: Json = False) -> None:
    """Look at this machine: versions, processor, cache, and a kernel compiled and run.

    Example: tilec doctor --json
    """
    with progress("looking at this machine"):
        found = [Finding("python", platform.python_version()), *_packages(), *_tools(), *_machine()]
    if json_:
        answer([asdict(f) for f in found])
    else:
        for f in found:
            mark = "ok " if f.ok else "BAD"
            typer.echo(f"{mark} {f.what:16} {f.value}" + (f"\n    fix: {f.fix}" if f.fix else ""))
    if not all(f.ok for f in found):
        raise typer.Exit(1)


def _packages() -> list[Finding]:
    found: list[Finding] = []
    for name in (*NEEDED, *OPTIONAL):
        try:
            found.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            use = OPTIONAL.get(name, "everything")
            fix = f"pip install {name}" if name in NEEDED else ""
            found.append(Finding(name, f"absent (for {use})", name in OPTIONAL, fix))
    return found


def _tools() -> list[Finding]:
    """Programs and libraries without which some commands do less."""
    found: list[Finding] = []
    for what, (use, look) in TOOLS.items():
        try:
            found.append(Finding(what, look()))
        except TileError as e:
            found.append(Finding(what, f"absent (for {use})", True, e.hint))
    return found


def _machine() -> list[Finding]:
    runs = "pip install llvmlite, and see the findings below"
    checks: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("processor", lambda: engine().machine.cpu, runs),
        ("vector units", _vectors, runs),
        ("threads", lambda: str(engine().pool.threads), "set TILEC_THREADS to a whole number"),
        ("cache", _cache, "set TILEC_CACHE_DIR to a folder of this machine that is yours alone"),
        ("a kernel", _kernel, "report this with the output of tilec doctor --json"),
    )
    found = [_checked(*check) for check in checks]
    return [*found, Finding("gpu", _gpus())]


def _checked(what: str, look: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(what, look())
    except (TileError, OSError, ImportError) as e:
        return Finding(what, str(e), False, fix)


def _vectors() -> str:
    wanted = ("avx2", "avx512bw", "avx512vnni", "avx512bf16", "amx-tile", "neon")
    has = engine().machine.features.split(",")
    return ", ".join(w for w in wanted if f"+{w}" in has) or "none that code is made for"


def _gpus() -> str:
    try:
        devices = open_driver().devices
    except TileError:
        return "none found"
    names = (f"{d.name} (sm_{d.capability[0]}{d.capability[1]})" for d in devices)
    return ", ".join(names) or "a driver is installed, and no GPU"


def _cache() -> str:
    """Where the cache is. Raises TileError where it is not where it should be, or on a network."""
    environment = settings().environment
    wanted = default_directory(environment)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cache = open_cache(environment)
    if said or cache.root is None:
        raise TileError(str(said[0].message) if said else f"no cache in {wanted}")
    kind = network(wanted)
    if kind:
        raise TileError(f"{wanted} is on {kind}: each start of a process waits for it",
                        hint="a folder of this machine")  # fmt: skip
    trial = Key({"kind": "doctor"}, {})
    if not cache.put(trial, Entry(b"")) or cache.get(trial) is None:
        raise TileError(f"{cache.root} can't be written, or is full")
    entry_path(cache.root, trial).unlink(missing_ok=True)
    found = list(files(cache.root))
    size = sum(f.size for f in found) >> 20
    below = "".join(f", then {p}" for p in cache.layers[1:])
    return f"{cache.root}{below} ({len(found)} entries, {size} of {cache.bounds.bytes >> 20} MB)"


def _kernel() -> str:
    x, y = np.arange(1000, dtype=np.float32), np.full(1000, np.nan, np.float32)
    Kernel(parse(TEXT)["double"])(x, y)
    if not (y == 2 * x).all():
        raise TileError("a compiled kernel gives a wrong result")
    return "compiled and right"
