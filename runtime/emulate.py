"""CUDA source -> a run of it on the CPU, checked. Knows compilers, libraries and arguments; what
the functions of the source mean is in the headers that it includes, which are given.

    emulator = Emulator(headers, Cache(default_directory(environment)))
    report = emulator.run(source, "gemm", (4, 4), (128,), {"a": a, "c": c, "m": 64}, 49152)
    assert not report.findings
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tilec.runtime.cache import Cache, Entry, Key
from tilec.runtime.emulated_kernel import Argument, EmulatedKernel, Shape, load_library
from tilec.runtime.host_compiler import HostCompiler, find_host_compiler
from tilec.runtime.report import Report

# Rounding as written, and pointers to any type: both as on the device.
_OPTIONS = (
    "-std=c++17", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffp-contract=off",
    "-fno-strict-aliasing", "-Wno-psabi", "-I.",
)  # fmt: skip
# Stack slots must not be shared: fragments that a wgmma still reads are watched where they lie.
# g++ 12.2 takes min(1, x) for 0 where it knows that x is even, and runs loops that have no turns.
_KERNELS = {
    False: ("-O1", "-fstack-reuse=none", "-fno-tree-bit-ccp"),
    True: ("-O1", "-mllvm", "-no-stack-coloring"),
}  # by whether the compiler is clang
_MACHINE = '#include "emulate/machine.h"\n'
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)


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
        self._kernels: dict[tuple[str, str, bool], EmulatedKernel] = {}
        self._machines: dict[bool, tuple[str, bytes]] = {}
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
        order: int = 0,
    ) -> Report:
        """Launch a kernel; it changes its arrays in place.

        `arguments` are the kernel's, in order, under the names that findings use. `check` False
        runs faster and finds only what makes going on impossible or lies outside memory. `seed`
        other than 0 lets chance order the threads. `resident` blocks run at a time, more than one
        where blocks wait for others; they start in the order of their index, or one by chance with
        an `order` other than 0. Raises TileError when the source does not compile or the arguments
        are not the kernel's.
        """
        kernel = self.load(source, entry, check=check)
        return kernel.launch(grid, block, arguments, shared_bytes, seed, resident, order)

    def load(self, source: str, entry: str, *, check: bool = True) -> EmulatedKernel:
        """The kernel, compiled for the host. Raises TileError when the compiler refuses it."""
        with self._lock:
            kernel = self._kernels.get((source, entry, check))
            if kernel is None:
                name, machine = self._machine(check)
                files = {
                    "kernel.cc": f'#line 1 "{entry}.cu"\n{source}\nTILEC_ENTRY({entry})\n'.encode(),
                    name: machine,
                }
                options = (*_KERNELS[self._compiler.is_clang], "kernel.cc", name)
                key = self._key(source, entry=entry, machine=name, options=options)
                kernel = EmulatedKernel(entry, self._library(key, options, files))
                self._kernels[source, entry, check] = kernel
            return kernel

    def _machine(self, check: bool) -> tuple[str, bytes]:
        """The library that all kernels use, loaded, and the name under which they find it."""
        if check not in self._machines:
            options = ("-O3", f"-DTILEC_CHECK={int(check)}", "machine.cc")
            key = self._key(_MACHINE, options=options)
            name = f"libtilec-machine-{key.name[:16]}.so"
            named = (*options, f"-Wl,-soname,{name}")
            image = self._library(key, named, {"machine.cc": _MACHINE.encode()})
            load_library(image)
            self._machines[check] = name, image
        return self._machines[check]

    def _key(self, source: str, **parts: str | Sequence[str]) -> Key:
        """The name of what a source is compiled to."""
        made_by = {"kind": "emulated", "compiler": self._compiler.version, "common": _OPTIONS}
        headers = self._reached(source)
        about = {"kernel": parts.get("entry", "")}
        return Key(made_by, {"source": source, "headers": headers, **parts}, about)

    def _reached(self, source: str) -> dict[str, str]:
        """The headers that a source includes, and those that they include."""
        found: dict[str, str] = {}
        waiting = [("", source)]
        while waiting:
            folder, text = waiting.pop()
            for name in _INCLUDE.findall(text):
                beside = posixpath.normpath(posixpath.join(folder, name))
                path = beside if beside in self._headers else name
                if path in self._headers and path not in found:
                    found[path] = self._headers[path]
                    waiting.append((posixpath.dirname(path), found[path]))
        return found

    def _library(self, key: Key, options: Sequence[str], files: Mapping[str, bytes]) -> bytes:
        return self._cache.get_or_make(key, partial(self._compiled, options, files)).payload

    def _compiled(self, options: Sequence[str], files: Mapping[str, bytes]) -> Entry:
        """What the compiler makes of these files, beside the headers."""
        with tempfile.TemporaryDirectory(prefix="tilec-") as name:
            folder = Path(name)
            texts = {name: text.encode() for name, text in self._headers.items()}
            for file, content in {**texts, **files}.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
            self._compiler.run([*_OPTIONS, *options, "-o", "made.so"], folder)
            return Entry((folder / "made.so").read_bytes(), {"kind": "emulated"})
