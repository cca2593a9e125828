"""One compilation by NVRTC: in the process that imports this, or in one of its own.

Run as a file it reads a request from stdin and writes the products to stdout, so that a crash of
the compiler ends only that process. It imports nothing of ours: Python starts it in a moment.
"""

from __future__ import annotations

import base64
import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

NAME = "kernel.cu"  # what messages call the source, but where it has `#line`
_BUILTINS = re.compile(r"libnvrtc-builtins\.so\.[\d.]+")


@dataclass(frozen=True)
class Request:
    """A source with the headers that it includes by name, and options for the library at a path."""

    library: str
    source: str
    headers: Mapping[str, str]
    options: Sequence[str]


@dataclass(frozen=True)
class Products:
    """An exit code, what was printed, and what was made, empty where nothing was."""

    code: int
    log: str
    ptx: str
    cubin: bytes


@cache
def library(path: str) -> ctypes.CDLL:
    """NVRTC, loaded. Raises OSError where it can't be."""
    # NVRTC opens this one by its bare name, which the loader finds only if it is loaded.
    for file in Path(path).parent.iterdir():
        if _BUILTINS.fullmatch(file.name):
            ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(path)


def compiled(request: Request) -> Products:
    """What NVRTC makes of a source, in this process."""
    nvrtc, program = library(request.library), ctypes.c_void_p()
    texts, names, options = map(
        _strings, (request.headers.values(), request.headers, request.options)
    )
    source, name = request.source.encode(), NAME.encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, len(names), texts, names)
    try:
        code: int = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log, ptx, cubin = (_got(nvrtc, program, w) for w in ("ProgramLog", "PTX", "CUBIN"))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return Products(code, _text(log), _text(ptx), cubin)


def compiled_apart(request: Request, environment: Mapping[str, str]) -> Products:
    """The same in a process of its own, under this environment. Raises ChildProcessError where that
    ends before it is done: the compiler crashed."""
    command = [sys.executable, "-I", __file__]
    given = json.dumps(asdict(request))
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False,
                          env=dict(environment))  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()
        signal = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise ChildProcessError(": ".join([signal, *said[-1:]]))
    made = json.loads(done.stdout)
    return Products(made["code"], made["log"], made["ptx"], base64.b64decode(made["cubin"]))


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _got(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    """One product of a program, empty where there is none."""
    size = ctypes.c_size_t()
    if nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size)):
        return b""
    data = ctypes.create_string_buffer(size.value)
    return b"" if nvrtc[f"nvrtcGet{what}"](program, data) else data.raw


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def main() -> None:
    """Answer the request on stdin."""
    made = compiled(Request(**json.loads(sys.stdin.read())))
    cubin = base64.b64encode(made.cubin).decode()
    json.dump({"code": made.code, "log": made.log, "ptx": made.ptx, "cubin": cubin}, sys.stdout)


if __name__ == "__main__":
    main()
