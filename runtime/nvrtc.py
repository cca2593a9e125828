"""CUDA C++ -> PTX and machine code: in this process by NVRTC, or by nvcc where that is absent.

Needs no GPU, no driver and no toolkit: NVRTC is the package nvidia-cuda-nvrtc. Knows no kernel.
Some sources for sm_100a make the compiler crash (up to CUDA 13.4): those targets are compiled in a
process of their own.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

from tilec.ir.errors import Loc, TileError
from tilec.observe import reported, stage
from tilec.runtime.cache.key import package_digest
from tilec.runtime.cache.refusal import Refusal
from tilec.runtime.nvrtc_program import NAME, Request, compiled, compiled_apart, library
from tilec.settings import tool_environment

PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")  # of CUDA 13 and of CUDA 12
FLAGS = ("--std=c++17", "--ptxas-options=-v")  # of all sources
CRASHES = 100  # the first architecture for which the compiler is known to crash
ALLOWED = "-DNAME=VALUE or --use_fast_math, --fmad, --ftz, --prec-div, --prec-sqrt, --maxrregcount"
# Nothing that names a file, a program or a library, or is handed on to a linker.
_OPTION = re.compile(
    r"-D[A-Za-z_][A-Za-z0-9_]*(=[A-Za-z0-9_.+-]*)?|--use_fast_math|--maxrregcount=[0-9]{1,3}"
    r"|--(fmad|ftz|prec-div|prec-sqrt)=(true|false)"
)
_TARGET = re.compile(r"sm_(\d+)[af]?")
_LIBRARY = re.compile(r"libnvrtc\.so\.\d+")
_ERROR = re.compile(
    r"^(?P<file>[^\s(][^\n(]*)\((?P<line>\d+)\): (?:\w+ )?error(?: #[\w-]+)?: (?P<message>.*)$",
    re.MULTILINE,
)
_PTX_ERROR = re.compile(r"^ptxas .*line (\d+); (?:error|fatal)\s*: (.*)$", re.MULTILINE)
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', re.MULTILINE)
_LOC = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:.*inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?")
Place = tuple[str, str, str]  # the number of a file, a line and a column, as PTX says them
_MILLISECONDS = re.compile(r"Compile time = ([\d.]+) ms")
_NOTE = re.compile(r"\((C75\d\d)\) (.*)$", re.MULTILINE)
_ENTRY = re.compile(r"Compiling entry function '([^']*)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel and the functions that it calls: registers of a thread; bytes
    of its stack, and of registers stored there and loaded; bytes of static shared memory of a CTA.
    """

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


@dataclass(frozen=True)
class Note:
    """One of ptxas' C75xx messages: what it did to multiplications of warp groups that cannot run
    ahead (C7511: one after the other)."""

    code: str
    message: str


@dataclass(frozen=True)
class CudaBuild:
    """A compiled source: PTX, machine code, what ptxas said of it, and all that was printed."""

    ptx: str
    cubin: bytes
    usage: tuple[Usage, ...]
    notes: tuple[Note, ...]
    log: str


@dataclass(frozen=True)
class Toolchain:
    """A compiler of CUDA C++: its version, and where its library or command is."""

    name: Literal["nvrtc", "nvcc"]
    version: str
    path: Path

    @property
    def identity(self) -> str:
        """Its name and version."""
        return f"{self.name} {self.version}"

    @property
    def digest(self) -> str:
        """All that decides which code it makes, for use in cache keys."""
        found = map(package_digest, PACKAGES if self.name == "nvrtc" else ())
        return ", ".join([self.identity, *(d for d in found if d != "absent"), *FLAGS])


@cache
def toolchain() -> Toolchain:
    """NVRTC, else nvcc on PATH. Raises TileError where there is neither."""
    found = nvrtc() or nvcc()
    if found is None:
        raise TileError("CUDA code needs NVRTC or nvcc, and this machine has neither",
                        hint="pip install tilec[cuda]")  # fmt: skip
    return found


def nvrtc() -> Toolchain | None:
    """NVRTC as pip installed it."""
    for package in PACKAGES:
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            continue
        for file in installed.files or ():
            if _LIBRARY.fullmatch(file.name):
                return Toolchain("nvrtc", installed.version, Path(str(installed.locate_file(file))))
    return None


def nvcc() -> Toolchain | None:
    """The nvcc on PATH."""
    environment = tool_environment()
    path = shutil.which("nvcc", path=environment["PATH"])
    if path is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False,
                          env=environment)  # fmt: skip
    version = re.search(r"\bV([\d.]+)", done.stdout)
    return Toolchain("nvcc", version[1], Path(path)) if version else None


def compile_cuda(
    source: str, target: str, *, headers: Mapping[str, str] | None = None,
    options: Sequence[str] = (), line_info: bool = True, tools: Toolchain | None = None,
    apart: bool | None = None,
) -> CudaBuild:  # fmt: skip
    """A source compiled as C++17 for a target such as sm_90a.

    `headers` are texts by the names that `#include` gives them; `options` are some of those that
    NVRTC and nvcc share, ALLOWED, such as `-DSTAGES=4` or `--use_fast_math`. With `line_info`
    machine code and errors in inline assembly know their lines. `apart` compiles in a process of
    its own, which a crash of the compiler ends and not this one; by default where crashes are
    known, for sm_100 and later.

    Raises TileError where no compiler is installed, or does not know the target, or crashes, or
    refuses the source: then with its first message, at the line that `#line` gives, and all of its
    log as a note.
    """
    found = tools or toolchain()
    number = _checked(target, found)
    for option in options:
        if not _OPTION.fullmatch(option):
            raise TileError(f"{found.identity} is not given {option!r}: expected {ALLOWED}")
    flags = [f"--gpu-architecture={target}", *FLAGS]
    flags += ["--generate-line-info"] if line_info else []
    run = _by_nvrtc if found.name == "nvrtc" else _by_nvcc
    risky = number >= CRASHES if apart is None else apart
    with stage(found.name, "compiler"):
        made = run(found, source, headers or {}, [*flags, *options], risky)
        reported("compiler", {"ptxas": sum(map(float, _MILLISECONDS.findall(made.log))) / 1e3})
    if made.code:
        raise _refusal(made, target, found)
    return CudaBuild(made.ptx, made.cubin, _usage(made.log), _notes(made.log), made.log)


def _checked(target: str, tools: Toolchain) -> int:
    """The number of an architecture that the compiler knows."""
    found = _TARGET.fullmatch(target)
    if found is None:
        raise TileError(f"{target!r} is no target of CUDA: expected one like sm_80 or sm_90a")
    known = _architectures(tools)
    if int(found[1]) not in known:
        names = ", ".join(f"sm_{n}" for n in known)
        raise TileError(f"{tools.identity} makes no code for {target}; it does for {names}")
    return int(found[1])


@dataclass(frozen=True)
class _Made:
    """What a compiler left: an exit code, a log, where relative paths begin, and its products."""

    code: int
    log: str
    folder: str
    ptx: str = ""
    cubin: bytes = b""


@cache
def _architectures(tools: Toolchain) -> tuple[int, ...]:
    if tools.name == "nvcc":
        command = [str(tools.path), "--list-gpu-code"]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env=tool_environment())  # fmt: skip
        return tuple(int(n) for n in re.findall(r"sm_(\d+)$", done.stdout, re.MULTILINE))
    library, count = _library(tools), ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return tuple(numbers)


@cache
def _library(tools: Toolchain) -> ctypes.CDLL:
    try:
        return library(str(tools.path))
    except OSError as e:
        raise TileError(f"{tools.identity} can't be loaded: {e}") from None


def _by_nvrtc(
    tools: Toolchain, source: str, headers: Mapping[str, str], flags: Sequence[str], apart: bool
) -> _Made:
    request = Request(str(tools.path), source, headers, flags)
    if not apart:
        _library(tools)
    try:
        made = compiled_apart(request, tool_environment()) if apart else compiled(request)
    except ChildProcessError as e:
        raise TileError(f"{tools.identity} crashes on the source ({e})",
                        hint="a newer nvidia-cuda-nvrtc, or another target") from None  # fmt: skip
    return _Made(made.code, made.log, os.getcwd(), made.ptx, made.cubin)


def _by_nvcc(
    tools: Toolchain, source: str, headers: Mapping[str, str], flags: Sequence[str], apart: bool
) -> _Made:
    del apart  # it always is
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**headers, NAME: source}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        command = [str(tools.path), "-cubin", "--keep", "-I.", *flags, NAME]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              env=tool_environment())  # fmt: skip
        ptx, cubin = (Path(folder, NAME).with_suffix(s) for s in (".ptx", ".cubin"))
        return _Made(
            done.returncode, done.stdout + done.stderr, folder,
            ptx.read_text("utf-8") if ptx.exists() else "",
            cubin.read_bytes() if cubin.exists() else b"",
        )  # fmt: skip


def _usage(log: str) -> tuple[Usage, ...]:
    """The part of each kernel begins with its name; functions that it calls have frames too."""
    parts = _ENTRY.split(log)[1:]
    found: list[Usage] = []
    for kernel, said in zip(parts[::2], parts[1::2], strict=True):
        registers = re.search(r"Used (\d+) registers", said)
        shared = re.search(r"(\d+) bytes smem", said)
        frames = [[int(n) for n in frame] for frame in _FRAME.findall(said)]
        stack, stores, loads = (sum(frame[i] for frame in frames) for i in range(3))
        found.append(Usage(kernel, _number(registers), stack, stores, loads, _number(shared)))
    return tuple(found)


def _number(found: re.Match[str] | None) -> int:
    return int(found[1]) if found else 0


def _notes(log: str) -> tuple[Note, ...]:
    return tuple(Note(code, message) for code, message in _NOTE.findall(log))


def _refusal(made: _Made, target: str, tools: Toolchain) -> TileError:
    """The first message of a log, at its place; C++ knows its line, PTX that of what it is from."""
    if found := _ERROR.search(made.log):
        message, loc = _of_source(found, made)
    elif found := _PTX_ERROR.search(made.log):
        message, loc = found[2], _of_ptx(made, int(found[1]))
    else:
        message, loc = made.log.strip() or f"error {made.code} without a message", None
    error = Refusal(f"{tools.identity} does not compile for {target}: {message}", loc)
    error.add_note(made.log)
    return error


def _of_source(found: re.Match[str], made: _Made) -> tuple[str, Loc]:
    """The message goes on until the line of source, indented by two, that has a caret below it."""
    message, text, column = found["message"], "", 0
    following = made.log[found.end() + 1 :].split("\n\n")[0].splitlines()
    carets = [i for i, line in enumerate(following) if line.strip() == "^"]
    if carets and carets[0] > 0:
        at = carets[0]
        message = " ".join([message, *(line.strip() for line in following[: at - 1])])
        text, column = following[at - 1][2:], following[at].index("^") - 2
    return message, Loc(_name(found["file"], made), int(found["line"]), column, column + 1, text)


def _of_ptx(made: _Made, number: int) -> Loc | None:
    """The line of source of a line of PTX, by the `.loc` before it; a call's place is where the
    code around it is from, by the last `.loc` of that."""
    callers: dict[Place, Place | None] = {}
    at: Place | None = None
    for line in made.ptx.splitlines()[:number]:
        if found := _LOC.match(line):
            at = found[1], found[2], found[3]
            callers[at] = (found[4], found[5], found[6]) if found[4] else None
    chain: list[Place] = []
    while at is not None and at not in chain:
        chain.append(at)
        at = callers.get(at)
    files = {n: _name(file, made) for n, file in _FILE.findall(made.ptx)}
    loc: Loc | None = None
    for file, line, column in reversed(chain):
        start = max(int(column) - 1, 0)
        loc = Loc(files.get(file, NAME), int(line), start, start + 1, caller=loc)
    return loc


def _name(file: str, made: _Made) -> str:
    return file.removeprefix(made.folder + "/")
