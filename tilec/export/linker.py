"""Shared objects from object files, by the linker of this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tilec.ir.errors import TileError
from tilec.settings import tool_environment

LINKERS = ("ld", "ld.lld", "ld.gold", "ld.bfd")
# Threads of the pool run in the library, so that it must stay.
_OPTIONS = ("-shared", "--build-id=none", "-z", "noexecstack", "-z", "nodelete", "-z", "now",
            "-z", "relro")  # fmt: skip


def shared_object(name: str, objects: Sequence[bytes], symbols: Sequence[str]) -> bytes:
    """A shared object of this name that has these symbols and no other.

    It needs no library by name: what it imports is of the C library, which every process has.
    Raises TileError without a linker.
    """
    linker = next(filter(None, map(shutil.which, LINKERS)), None)
    if linker is None:
        raise TileError(f"no linker is on PATH: {' or '.join(LINKERS)}",
                        hint="install one: on Debian and Ubuntu the package binutils")  # fmt: skip
    with TemporaryDirectory() as folder:
        at = Path(folder)
        paths = [at / f"{i}.o" for i in range(len(objects))]
        for path, data in zip(paths, objects, strict=True):
            path.write_bytes(data)
        script = f"{{ global: {' '.join(f'{n};' for n in symbols)} local: *; }};\n"
        (at / "exports").write_text(script, "utf-8")
        command = [linker, *_OPTIONS, "-soname", name, "--version-script", "exports", "-o", "out",
                   *(p.name for p in paths)]  # fmt: skip
        done = subprocess.run(command, cwd=at, env=tool_environment(), check=False,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            raise TileError(f"{linker} refuses the code of {name}:\n{done.stderr.strip()}")
        return (at / "out").read_bytes()
