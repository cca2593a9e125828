"""What the environment says: the only place that reads it, or writes there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tilec.ir.errors import TileError


@dataclass(frozen=True)
class Settings:
    """TILEC_THREADS (0: one per processor), and the environment, in which the cache looks for
    TILEC_CACHE_DIR (else the XDG cache directory), TILEC_CACHE_BYTES (the most that it holds) and
    TILEC_SITE_CACHE (folders that it only reads, as in PATH), and the client of the tuning service
    for TILEC_SERVICE, TILEC_TOKEN, TILEC_TOKEN_FILE and TILEC_SERVICE_CA."""

    environment: dict[str, str]
    threads: int


_TOOLS = ("HOME", "LOGNAME", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USER")
_NOT_CODE = ("TRITON_CACHE_DIR", "TRITON_HOME", "TRITON_DUMP_DIR")


def tool_environment(*more: str) -> dict[str, str]:
    """What compilers and other programs that we start are told, with the variables `more`.

    Only what they need: nothing that loads code into them (LD_PRELOAD), adds to their command line
    (NVCC_APPEND_FLAGS), or leads them to other files (CPATH), which no cache key says. Relative
    folders in PATH are left out.
    """
    found = {n: os.environ[n] for n in (*_TOOLS, *more) if n in os.environ}
    folders = found.get("PATH", os.defpath).split(os.pathsep)
    found["PATH"] = os.pathsep.join(f for f in folders if os.path.isabs(f))
    return {**found, "LC_ALL": "C"}


def tell(**variables: str) -> None:
    """Set variables that libraries and processes of this process will read."""
    os.environ.update(variables)


def triton_environment() -> dict[str, str]:
    """The variables that change what Triton makes of a source."""
    return {n: v for n, v in sorted(os.environ.items())
            if n.startswith(("TRITON_", "PTXAS_", "DISABLE_PTXAS", "MLIR_", "LLVM_"))
            and n not in _NOT_CODE}  # fmt: skip


def log_settings() -> tuple[str, str] | None:
    """What TILEC_LOG and TILEC_LOG_FORMAT (by default text) ask for: see `tilec.observe.log`."""
    asked = os.environ.get("TILEC_LOG", "")
    return (asked, os.environ.get("TILEC_LOG_FORMAT", "") or "text") if asked else None


def settings() -> Settings:
    """The settings of this process. Raises TileError where a variable is not what it should be."""
    text = os.environ.get("TILEC_THREADS", "0")
    if not text.isdecimal():
        raise TileError(f"TILEC_THREADS is {text!r}, expected a whole number")
    return Settings(dict(os.environ), int(text))
