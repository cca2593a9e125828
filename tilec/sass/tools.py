"""Machine code -> text, by NVIDIA's disassembler. Needs no driver and no GPU."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from tilec.ir.errors import TileError
from tilec.settings import tool_environment


def disassembled(cubin: bytes, *options: str) -> str:
    """The listing of a cubin: `-c` for code only, `-gi` for the lines of source, if it has them.

    Raises TileError where there is no disassembler or it refuses the cubin.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        command = [str(disassembler()), *options, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env=tool_environment())  # fmt: skip
    if done.returncode:
        raise TileError(f"nvdisasm fails: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@cache
def disassembler() -> Path:
    """nvdisasm: pip's, else the one in triton's package, else one on PATH. Raises TileError."""
    for path in (_of_pip(), _of_triton(), _on_path()):
        if path is not None and Path(path).exists():
            return Path(path)
    raise TileError("no disassembler of machine code is installed", hint="pip install tilec[cuda]")


def _on_path() -> str | None:
    return shutil.which("nvdisasm", path=tool_environment()["PATH"])


def _of_pip() -> Path | None:
    try:
        files = distribution("nvidia-cuda-nvdisasm").files or ()
    except PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name == "nvdisasm"), None)


def _of_triton() -> Path | None:
    spec = find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
