"""The same faults for the cache of Triton, whose kernels are compiled for a GPU that need not be
there. `python -m tilec.bench.faults_triton FOLDER SCALE` measures in a process of its own."""

# pyright: basic

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tilec.bench.faults_victim import FAILED, NOBODY, ended, process

KERNEL = """
import triton
import triton.language as tl

@triton.jit
def copy(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)
"""
PTXAS = """#!/bin/sh
case "$*" in *--gpu-name*) echo run >> {log};; esac
exec {real} "$@"
"""
LIMIT = 600  # seconds


class Peer:
    """What Triton's cache does, as text by the name of a fault."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._found: dict[str, str] | None = None

    def said(self, name: str) -> str:
        """Measured when first asked; empty for what is not measured."""
        if self._found is None:
            with TemporaryDirectory(prefix="tilec-faults-") as folder:
                os.chmod(folder, 0o755)
                command = [sys.executable, "-m", __name__, folder, str(self._scale)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
            if done.returncode:
                raise RuntimeError(f"the trials of Triton failed:\n{done.stderr}")
            self._found = dict(json.loads(done.stdout.splitlines()[-1]))
        return self._found.get(name, "")


class Trials:
    """Triton in this process, with its cache in a folder."""

    def __init__(self, folder: Path) -> None:
        import triton
        from triton.backends.compiler import GPUTarget

        self.triton: Any = triton
        self.folder, self.target = folder, GPUTarget("cuda", 90, 32)
        file = folder / "kernel.py"
        file.write_text(KERNEL, "utf-8")
        spec = importlib.util.spec_from_file_location("kernel", file)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.cubin: bytes = self.compiled("first")

    def compiled(self, name: str, block: int = 128) -> bytes:
        """The machine code of the kernel, by the cache in a folder of this name."""
        self.triton.knobs.cache.dir = str(self.folder / name)
        kinds = {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "constexpr"}
        source = self.triton.compiler.ASTSource(self.module.copy, kinds, {"BLOCK": block}, {})
        return self.triton.compile(source, target=self.target).asm["cubin"]

    def outcome(self, name: str) -> str:
        """What a user sees: right, served wrong, or raises."""
        try:
            return "right" if self.compiled(name) == self.cubin else "served wrong"
        except Exception:
            return "raises"

    def damaged(self, change: Callable[[bytes, int], bytes], tries: int) -> str:
        """Each file of the entry, changed at offsets all over it."""
        found = {"right": 0, "served wrong": 0, "raises": 0}
        for suffix in ("cubin", "json"):
            file = next(p for p in (self.folder / "first").rglob(f"copy.{suffix}"))
            whole = file.read_bytes()
            for at in range(0, len(whole), max(1, len(whole) // tries)):
                file.write_bytes(change(whole, at))
                found[self.outcome("first")] += 1
                file.write_bytes(whole)
        return f"{found['served wrong']} of {sum(found.values())} served wrong, " \
               f"{found['raises']} raise until someone deletes them"  # fmt: skip

    def linked(self) -> str:
        """Machine code that is a link to a file elsewhere."""
        file = next(p for p in (self.folder / "first").rglob("copy.cubin"))
        whole = file.read_bytes()
        outside = self.folder / "outside"
        outside.write_bytes(b"another file")
        file.unlink()
        file.symlink_to(outside)
        said = self.outcome("first")
        file.unlink()
        file.write_bytes(whole)
        return f"a link to another file: {said}"

    def places(self) -> str:
        """Directories that others can write."""
        used = 0
        for name, owner in (("open", 0), ("theirs", 54321)):
            place = self.folder / name
            place.mkdir()
            place.chmod(0o777)
            if os.geteuid() == 0:
                os.chown(place, owner, owner)
            self.outcome(name)
            used += any(place.rglob("*.cubin"))
        return f"{used} of 2 are used, without a word"

    def in_child(self, what: Callable[[], object], user: int | None = None) -> bool:
        """Whether something raises in another process."""

        def run() -> int:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            what()
            return 0

        return ended(process(run, user)) == FAILED

    def full(self) -> str:
        """A file system without room."""
        place = self.folder / "full"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            return "raises (TUNING.md 3.3)"
        try:
            return "raises" if self.in_child(lambda: self.compiled("full")) else "works"
        finally:
            subprocess.run(["umount", str(place)], check=False)

    def read_only(self) -> str:
        """A directory that the user can't write."""
        raises: list[bool] = []
        for name, mode in (("own", 0o700), ("locked", 0o555)):
            place = self.folder / name
            place.mkdir(mode=mode)
            if os.geteuid() == 0:
                os.chown(place, NOBODY, NOBODY)
            raises.append(self.in_child(lambda n=name: self.compiled(n), NOBODY))
        if raises[0]:
            return "not tried: this user can't run Triton at all"
        return "raises" if raises[1] else "works"

    def cold(self, count: int) -> str:
        """Runs of ptxas when processes miss one key together."""
        log, script = self.folder / "log", self.folder / "ptxas"
        real = self.triton.knobs.nvidia.ptxas_blackwell.path  # also for sm_90
        script.write_text(PTXAS.format(log=log, real=real))
        script.chmod(0o755)
        with self.triton.knobs.nvidia.scope():
            self.triton.knobs.nvidia.ptxas_blackwell = str(script)
            children = [process(lambda: 0 * len(self.compiled("cold", 256))) for _ in range(count)]
            failed = sum(ended(c) != 0 for c in children)
        runs = len(log.read_text().split())
        return f"{runs} compiles of one key by {count} processes, {failed} failures"

    def killed(self, times: int) -> str:
        """Processes that compile, each killed at a random moment."""
        chance, start = random.Random(2), time.perf_counter()
        ended(process(lambda: 0 * len(self.compiled("timed", 512))))
        longest = 1.1 * (time.perf_counter() - start)
        for n in range(times):
            child = process(lambda b=n: 0 * len(self.compiled("killed", 32 << b % 5)))
            time.sleep(chance.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            ended(child)
        place = self.folder / "killed"
        left = sum(1 for p in place.rglob("tmp.*") if p.is_dir())
        entries = [p for p in place.iterdir() if p.is_dir()]
        torn = sum(not any(p.glob("__grp__*")) for p in entries)
        wrong = sum(self.outcome_of("killed", 32 << b) for b in range(5))
        return (
            f"{times} trials: {wrong} wrong, {left} temporary folders never removed, "
            f"{torn} of {len(entries)} entries incomplete"
        )

    def outcome_of(self, name: str, block: int) -> bool:
        """Whether a kernel of another size is wrong."""
        return self.compiled(name, block) != self.compiled("again", block)


def measured(folder: Path, scale: float) -> dict[str, str]:
    """All of it."""
    trials, tries = Trials(folder), max(int(200 * scale), 5)
    return {
        "truncated": trials.damaged(lambda data, at: data[:at], tries),
        "flipped": trials.damaged(
            lambda data, at: data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :], tries
        ),
        "links": trials.linked(),
        "places": trials.places(),
        "full": trials.full(),
        "read only": trials.read_only(),
        "cold": trials.cold(max(int(16 * scale), 2)),
        "killed": trials.killed(max(int(60 * scale), 3)),
        "stopped": "no single flight: there is nothing to stop",
        "bounds": "no bound",
    }


if __name__ == "__main__":
    base = Path(sys.argv[1])
    print(json.dumps(measured(base, float(sys.argv[2]))))
    shutil.rmtree(base, ignore_errors=True)
