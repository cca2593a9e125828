"""The CPU runtime put together: compile or fetch a kernel, load it, make it callable."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource
from tilec.observe import fell_back, stage
from tilec.runtime.cache import Cache, Entry, Key
from tilec.runtime.jit import Machine, compile_object, host_machine, load_object
from tilec.runtime.launch import (
    ANY,
    Compiled,
    Dispatcher,
    Form,
    Launcher,
    PythonLauncher,
    SlowPath,
)
from tilec.runtime.native import NativeLauncher
from tilec.runtime.pool import Pool
from tilec.runtime.slots import Room


class Engine:
    """Threads, a launcher and a cache, shared by the kernels of one process.

    `machine` is the host by default; `threads` 0 means one per available processor; `native`
    False launches through ctypes.
    """

    def __init__(
        self,
        cache: Cache,
        machine: Machine | None = None,
        *,
        threads: int = 0,
        native: bool = True,
    ) -> None:
        self.machine = machine or host_machine()
        self._cache = cache
        self.pool = Pool(self.machine, threads, objects=self.object)
        self._launcher: Launcher = PythonLauncher()
        if native:
            try:
                self._launcher = NativeLauncher(self.machine, objects=self.object)
            except TileError as error:
                message = f"kernels are called more slowly: {error}"
                fell_back("native launcher", error)
                warnings.warn(message, RuntimeWarning, stacklevel=2)

    def object(self, text: str, machine: Machine, about: Mapping[str, Any] | None = None) -> bytes:
        """The object file of a module, from the cache if it is there."""
        key = object_key(text, machine, about or {})
        return self.kept(key, partial(_made, text, machine)).payload

    def kept(self, key: Key, make: Callable[[], Entry]) -> Entry:
        """An artifact from the cache, made if it is not there."""
        with stage("cache", "cache") as notes:
            notes["made"] = False

            def made() -> Entry:
                notes["made"] = True
                return make()

            return self._cache.get_or_make(key, made)

    def load(self, source: KernelSource, *, release_gil: bool = True) -> Compiled:
        """The kernel as machine code in this process: what a dispatcher's slow path returns.

        Raises TileError when the source is in another language or LLVM refuses it.
        """
        if source.language != "llvm":
            raise TileError(f"the CPU runtime loads llvm, not {source.language}")
        image = self.object(source.text, self.machine, about(source))
        module = load_object(image, (source.entry,), self.pool.symbols)
        address = module[source.entry]
        room = Room(source.workspace) if source.ranges else None
        return Compiled(address, source.params, source.workspace, release_gil, module,
                        ranges=source.ranges, room=room)  # fmt: skip

    def dispatcher(self, name: str, slow_path: SlowPath, form: Form = ANY) -> Dispatcher:
        """A callable for the kernel `name`, which asks `slow_path` for unseen arguments."""
        return self._launcher.dispatcher(name, slow_path, form)


def object_key(text: str, machine: Machine, about: Mapping[str, Any]) -> Key:
    """What the object file of a module is named after."""
    return Key({"kind": "object", **machine.made_by}, {"text": text}, about)


def about(source: KernelSource) -> dict[str, Any]:
    """What people want to know of a kernel's code: its name and what it takes."""
    takes = [f"{p.name}: {p.dtype}[{', '.join(map(str, p.shape))}]" for p in source.params]
    return {"kernel": source.entry, "takes": takes}


def _made(text: str, machine: Machine) -> Entry:
    return Entry(compile_object(text, machine), {"kind": "object"})
