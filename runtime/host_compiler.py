"""The C++ compiler of this machine. Knows commands and files; knows nothing of what it compiles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilec.ir.errors import TileError
from tilec.settings import tool_environment

NAMES = ("g++", "clang++", "c++")
_SECONDS = 300
_LINES = 20  # of what a compiler says, as the first tell most


@dataclass(frozen=True)
class HostCompiler:
    """A command that compiles C++, and what it says of itself, for use in cache keys."""

    command: str
    version: str

    @property
    def is_clang(self) -> bool:
        """Whether the options that are not common to all are those of clang."""
        return "clang" in self.version

    def run(self, options: Sequence[str], folder: Path) -> None:
        """Run the compiler in a folder. Raises TileError with what it says if it fails."""
        command = [self.command, *options]
        done = subprocess.run(
            command, cwd=folder, check=False, capture_output=True, text=True, timeout=_SECONDS,
            env=tool_environment(),
        )  # fmt: skip
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[:_LINES])
            raise TileError(f"{self.command} refuses the source:\n{said}")


def find_host_compiler(path: str | None = None) -> HostCompiler:
    """The first of g++, clang++ and c++ on `path`, by default this process's PATH.

    Raises TileError when there is none.
    """
    for name in NAMES:
        command = shutil.which(name, path=path or tool_environment()["PATH"])
        if command is not None:
            said = [_says(command, option) for option in ("--version", "-dumpmachine")]
            return HostCompiler(command, "\n".join(said))
    raise TileError(
        f"running CUDA code on the CPU needs a C++17 compiler, and none of {', '.join(NAMES)} "
        "is on PATH",
        hint="install one: on Debian and Ubuntu the package g++, on Fedora gcc-c++",
    )


def _says(command: str, option: str) -> str:
    done = subprocess.run(
        [command, option], check=False, capture_output=True, text=True, timeout=_SECONDS,
        env=tool_environment(),
    )  # fmt: skip
    return done.stdout.strip()
