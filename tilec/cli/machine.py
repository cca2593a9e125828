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
from tilec.observe import TOPICS, counters
from tilec.observe.log import checked
from tilec.profile.roofline import SIZES, known
from tilec.profile.table import seconds
from tilec.runtime.cache import Entry, Key, default_directory, open_cache
from tilec.runtime.cache.place import network
from tilec.runtime.cache.store import entry_path
from tilec.runtime.cache.sweep import files
from tilec.runtime.driver import open_driver
from tilec.runtime.host_compiler import find_host_compiler
from tilec.runtime.nvrtc import toolchain
from tilec.sass.tools import disassembler
from tilec.settings import log_settings, settings

NEEDED = ("numpy", "ml_dtypes", "lark", "sympy", "llvmlite", "typer", "rich")
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
        ("its compile", _compile, runs),
        ("ceilings", _ceilings, runs),
        ("log", _log, "see the levels and topics in the finding"),
        ("fallbacks", _fallbacks, runs),
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


def _called() -> Kernel:
    """A kernel that was compiled, or found in the cache, and run."""
    x, y = np.arange(1000, dtype=np.float32), np.full(1000, np.nan, np.float32)
    kernel = Kernel(parse(TEXT)["double"])
    kernel(x, y)
    if not (y == 2 * x).all():
        raise TileError("a compiled kernel gives a wrong result")
    return kernel


def _kernel() -> str:
    _called()
    return "compiled and right"


def _compile() -> str:
    """How long that takes once it is in the cache, and what takes longest."""
    (made,) = _called().compiles()
    longest = sorted(made.totals, key=lambda t: -t.seconds)[:3]
    parts = ", ".join(f"{t.name} {seconds(t.seconds)}" for t in longest)
    return f"{seconds(made.seconds)} {'' if made.cached else 'not '}from the cache ({parts})"


def _ceilings() -> str:
    with warnings.catch_warnings():  # what is wrong with the cache was said already
        warnings.simplefilter("ignore")
        found = known(open_cache(settings().environment))
    if found is None:
        return "not measured yet: tilec profile does it"
    reading = found.bandwidth(SIZES[-1])
    rate = found.rates["f32"]
    return (f"{reading / 1e9:.3g} GB/s of memory, {rate / 1e9:.4g} G operations/s of f32 "
            f"(measured {found.measured})")  # fmt: skip


def _log() -> str:
    """What is logged. Raises TileError where the environment asks for what there is not."""
    asked = log_settings()
    if asked is None:
        return f"off; TILEC_LOG=info, or topics: {', '.join(TOPICS)}"
    checked(*asked)
    return f"{asked[0]} as {asked[1]}"


def _fallbacks() -> str:
    """What something slower was taken for so far, by this command."""
    found = counters().fallbacks
    return ", ".join(f"{what} ({times})" for what, times in found.items()) or "none"
