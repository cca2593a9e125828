"""A persistent thread pool made of LLVM IR: parallel launches without a C compiler or a runtime
library. Knows threads and chunks; knows nothing of kernels."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template

from tilec.ir.errors import TileError
from tilec.runtime.jit import LoadedModule, Machine, compile_object, load_object

MAX_THREADS = 256
_EXPORTS = ("tilec_parallel", "tilec_threads", "tilec_pool_init", "tilec_pool_bytes")
# Linux: the number of the futex call and the instruction that eases a spin loop.
_PROCESSORS = {"x86_64": ("202", "pause"), "aarch64": ("98", "isb")}
_MADV_WIPEONFORK = 18
_SPINS = 2000  # about 20 to 50 microseconds before a worker goes to sleep

Objects = Callable[[str, Machine], bytes]


def available_threads() -> int:
    """How many processors this process may run on."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS)


def pool_text() -> str:
    """The pool's module for this computer. Raises TileError where there is no futex."""
    found = _PROCESSORS.get(platform.machine())
    if found is None or platform.system() != "Linux":
        where = f"{platform.system()} on {platform.machine()}"
        raise TileError(
            f"the CPU thread pool needs Linux on {' or '.join(_PROCESSORS)}, not {where}"
        )
    text = Path(__file__).with_name("pool.ll").read_text("utf-8")
    return Template(text).substitute(SYS_FUTEX=found[0], PAUSE=found[1])


def _compile_pool(text: str, machine: Machine) -> bytes:
    return compile_object(text, machine)


class Pool:
    """Threads that share the chunks of a launch. Workers start at the first parallel launch.

    `threads` counts the caller; 0 means one per available processor. `objects` compiles a module
    (a cache may stand in). A pool lives as long as the process, since its threads do.
    """

    def __init__(
        self,
        machine: Machine,
        threads: int = 0,
        *,
        objects: Objects = _compile_pool,
        spins: int = _SPINS,
    ) -> None:
        threads = threads or available_threads()
        if not 1 <= threads <= MAX_THREADS:
            raise TileError(f"a pool of {threads} threads: expected 1 to {MAX_THREADS}")
        self.threads = threads
        self._module = load_object(objects(pool_text(), machine), _EXPORTS)
        self._module.keep_forever()
        size = ctypes.CFUNCTYPE(ctypes.c_int64)(self._module["tilec_pool_bytes"])()
        initialize = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        initialize(self._module["tilec_pool_init"])(_wiped_on_fork(size), threads, spins)

    @property
    def symbols(self) -> Mapping[str, int]:
        """What kernels import: `tilec_parallel` and `tilec_threads`."""
        return {name: self._module[name] for name in ("tilec_parallel", "tilec_threads")}

    @property
    def module(self) -> LoadedModule:
        """The pool's machine code."""
        return self._module

    def run(self, function: int, arguments: int, chunks: int) -> None:
        """Call `function(arguments, chunk, tid)` for every chunk; returns when all are done."""
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        prototype(self._module["tilec_parallel"])(function, arguments, chunks)


def _wiped_on_fork(size: int) -> int:
    """The address of zeroed memory that is zero again in a forked child and is never unmapped."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise TileError(f"the system gives no {size} bytes for the thread pool")
    if libc.madvise(address, size, _MADV_WIPEONFORK):
        # Before Linux 4.14; the hook only sees forks that Python makes.
        os.register_at_fork(after_in_child=lambda: ctypes.memset(address, 0, size))
    return address
