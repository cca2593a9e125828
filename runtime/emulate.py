"""CUDA source -> a run of it on the CPU, checked. Knows compilers, libraries and arguments; what
the functions of the source mean is in the headers that it includes, which are given.

    emulator = Emulator(headers, Cache(default_directory(environment)))
    report = emulator.run(source, "gemm", (4, 4), (128,), {"a": a, "c": c, "m": 64}, 49152)
    assert not report.findings
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from tilec.runtime.cache import Cache, Entry, cache_key
from tilec.runtime.emulated_kernel import Argument, EmulatedKernel, Shape
from tilec.runtime.host_compiler import HostCompiler, find_host_compiler
from tilec.runtime.report import Report

# Rounding as written, and pointers to any type: both as on the device.
_COMMON = (
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-Wno-psabi",
)
# Stack slots must not be shared: fragments that a wgmma still reads are watched where they lie.
_SLOTS = {False: ("-fstack-reuse=none",), True: ("-mllvm", "-no-stack-coloring")}
_MACHINE = "emulate/machine.h"


class Emulator:
    """Compiles kernels for the host and runs them.

    `headers` are texts by the names that `#include` gives them, among them `tilec.cuh`. What is
    compiled is kept in `cache`. Raises TileError without a C++ compiler.
    """

    def __init__(
        self, headers: Mapping[str, str], cache: Cache, compiler: HostCompiler | None = None
    ) -> None:
        self._headers = dict(headers)
        self._cache = cache
        self._compiler = compiler or find_host_compiler()
        self._kernels: dict[str, EmulatedKernel] = {}
        self._lock = threading.Lock()

    def run(
        self,
        source: str,
        entry: str,
        grid: Shape,
        block: Shape,
        arguments: Mapping[str, Argument],
        shared_bytes: int = 0,
        *,
        check: bool = True,
        seed: int = 0,
        resident: int = 1,
    ) -> Report:
        """Launch a kernel; it changes its arrays in place.

        `arguments` are the kernel's, in order, under the names that findings use. `check` False
        runs faster and finds only what makes going on impossible or lies outside memory. `seed`
        other than 0 lets chance order the threads. `resident` blocks run at a time, in the order
        of their index: more than one where blocks wait for others. Raises TileError when the
        source does not compile or the arguments are not the kernel's.
        """
        kernel = self.load(source, entry, check=check)
        return kernel.launch(grid, block, arguments, shared_bytes, seed, resident)

    def load(self, source: str, entry: str, *, check: bool = True) -> EmulatedKernel:
        """The kernel, compiled for the host. Raises TileError when the compiler refuses it."""
        key = cache_key(
            kind="emulated", source=source, entry=entry, check=check, machine=self._identity
        )
        with self._lock:
            if key not in self._kernels:
                made = partial(self._library, source, entry, check)
                image = self._cache.get_or_make(key, made).payload
                self._kernels[key] = EmulatedKernel(entry, image)
            return self._kernels[key]

    @cached_property
    def _identity(self) -> str:
        """All that a library depends on, besides its kernel."""
        options = [*_COMMON, *_SLOTS[self._compiler.is_clang]]
        return cache_key(headers=self._headers, compiler=self._compiler.version, options=options)

    def _machine(self, check: bool) -> bytes:
        """The object file of the machine, which all kernels share."""
        key = cache_key(kind="emulator", check=check, machine=self._identity)
        return self._cache.get_or_make(key, partial(self._compile_machine, check)).payload

    def _compile_machine(self, check: bool) -> Entry:
        flags = ("-O3", f"-DTILEC_CHECK={int(check)}", "-c", "machine.cc")
        object_file = self._compiled(flags, {"machine.cc": f'#include "{_MACHINE}"\n'.encode()})
        return Entry(object_file, {"kind": "emulator"})

    def _library(self, source: str, entry: str, check: bool) -> Entry:
        text = f'#line 1 "{entry}.cu"\n{source}\nTILEC_ENTRY({entry})\n'
        files = {"kernel.cc": text.encode(), "machine.o": self._machine(check)}
        slots = _SLOTS[self._compiler.is_clang]
        flags = ("-O1", *slots, "-shared", "kernel.cc", "machine.o")
        return Entry(self._compiled(flags, files), {"kind": "emulated"})

    def _compiled(self, flags: Sequence[str], files: Mapping[str, bytes]) -> bytes:
        """What the compiler makes of these files, beside the headers."""
        with tempfile.TemporaryDirectory(prefix="tilec-") as name:
            folder = Path(name)
            texts = {name: text.encode() for name, text in self._headers.items()}
            for file, content in {**texts, **files}.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
            self._compiler.run([*_COMMON, "-I.", *flags, "-o", "made"], folder)
            return (folder / "made").read_bytes()
