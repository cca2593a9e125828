"""The native launcher: Python functions of machine code for all kernels (launch.ll)."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tilec.ir.errors import TileError
from tilec.runtime.arguments import launch_key
from tilec.runtime.exchange import READ, exchange_function
from tilec.runtime.jit import LoadedModule, Machine, compile_object, load_object
from tilec.runtime.launch import ANY, RESULTS, Binding, Calls, Compiled, Dispatcher, Form, SlowPath
from tilec.runtime.packed import HANDLE_ATTRIBUTE
from tilec.runtime.slots import Room, Slot, filled

_FREE, _ANSWERS, _WATCHED = 1, 2, 4  # how an entry is called
_BUCKETS = 256  # table.ll
_PARTS = ("arguments.ll", "table.ll", "call.ll", "results.ll", "launch.ll")


class NativeLauncher:
    """Launches through functions of machine code. `objects` compiles a module (or a cache does).

    Raises TileError where numpy or the interpreter keep their objects in another form.
    """

    def __init__(
        self, machine: Machine, *, objects: Callable[[str, Machine], bytes] | None = None
    ) -> None:
        _check_object_layout()
        image = (objects or _compile)(launcher_text(), machine)
        self.code = load_object(image, ("tilec_method", "tilec_bound_method", "tilec_insert"))
        # Functions made here may be called until the process ends.
        self.code.keep_forever()
        self.registry = _Registry()

    def dispatcher(self, name: str, slow_path: SlowPath, form: Form = ANY) -> Dispatcher:
        """See Launcher."""
        return _NativeDispatcher(name, slow_path, form, self.registry, self.code)


def launcher_text() -> str:
    """The module of the native launcher."""
    return "\n".join(Path(__file__).with_name(name).read_text("utf-8") for name in _PARTS)


def _compile(text: str, machine: Machine) -> bytes:
    return compile_object(text, machine)


class _NativeDispatcher(Calls):
    def __init__(self, name: str, slow_path: SlowPath, form: Form, registry: _Registry,
                 code: LoadedModule) -> None:  # fmt: skip
        super().__init__(name, slow_path, form)
        self.registry, self._code = registry, code
        self._insert = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(
            code["tilec_insert"]
        )
        self._callable = self._miss  # the table holds its address
        keyword = registry.keyword if self.takes_results else 0
        self._table = (ctypes.c_void_p * (3 + _BUCKETS))(
            registry.address, id(self._callable), keyword
        )
        self._records: list[object] = []
        # The function holds this object through its self, so that the table outlives every call.
        self.launch = _builtin(code["tilec_method"], ctypes.addressof(self._table), self)

    def _miss(self, key: bytes | None, arguments: tuple[Any, ...], status: int,
              names: tuple[str, ...] | None) -> Any:  # fmt: skip
        if self.registry.find_torch():
            return self._again(self._call(arguments, names or ()))
        return super()._miss(key, arguments, status, names)

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[Slot, ...],
             of_torch: bool) -> None:  # fmt: skip
        record = _Record(key, compiled, slots, self.form.recorded is not None and of_torch)
        self._records.append(record)
        self._insert(ctypes.addressof(self._table), record.address)

    def _bound(self, binding: Binding) -> Callable[..., Any]:
        self.registry.find_torch()
        return _Bound(self, binding, self._code["tilec_bound_method"]).run


class _Record:
    """An entry of table.ll: code, its key, how its slots are filled, a workspace."""

    def __init__(self, key: bytes, compiled: Compiled, slots: Sequence[Slot],
                 watched: bool = False, room: Room | None = None) -> None:  # fmt: skip
        words = ctypes.create_string_buffer(key, max(len(key), 1))
        fields = [f for s in slots for f in (s.operation, s.argument, s.component, s.low, s.high)]
        descriptions = (ctypes.c_int64 * max(len(fields), 1))(*fields)
        room = room or compiled.room or Room(compiled.workspace)
        makers = (ctypes.c_void_p * max(len(compiled.results), 1))(*map(id, compiled.results))
        how = _FREE * compiled.release_gil + _ANSWERS * (compiled.recover is not None)
        how += _WATCHED * watched
        self._fields = (ctypes.c_int64 * 13)(
            *(0, 0, len(key) // 8, ctypes.addressof(words)),
            *(compiled.address, len(slots), ctypes.addressof(descriptions)),
            *(compiled.workspace, room.address, room.busy, how),
            *(ctypes.addressof(makers), len(compiled.results)),
        )
        self._held = words, descriptions, room, makers, compiled
        self.address = ctypes.addressof(self._fields)


class _Bound:
    """What a bound function (launch.ll) holds, and what it does not know."""

    def __init__(self, calls: _NativeDispatcher, binding: Binding, method: int) -> None:
        self._calls, self._binding = calls, binding
        given = len(binding.call.arguments)
        own, results = binding.readings[:given], binding.readings[given:]
        room = Room(binding.compiled.workspace)
        record = _Record(launch_key(own), binding.compiled, binding.slots, room=room)
        values = [0] * given + [reading.addresses[0] for reading in results]
        words = filled(binding.slots, binding.readings)
        template = (ctypes.c_uint64 * max(len(values), 1))(*values)
        slots = (ctypes.c_uint64 * max(len(words), 1))(*words)
        self._callable = self._miss
        self._fields = (ctypes.c_void_p * 8)(
            *(calls.registry.address, id(self._callable), 0, record.address),
            *(len(values), ctypes.addressof(template), ctypes.addressof(slots)),
            id(binding.result),
        )
        self._held = record, template, slots
        self.run = _builtin(method, ctypes.addressof(self._fields), self)

    def _miss(self, key: bytes | None, arguments: tuple[Any, ...], status: int,
              names: tuple[str, ...] | None) -> Any:  # fmt: skip
        del key
        if status:
            self._calls.recover(self._binding.compiled, status)
            return self.run(*arguments)
        return self.run(*self._calls.again_bound(self._binding, arguments, names))


def _builtin(method: int, address: int, owner: object) -> Callable[..., Any]:
    """A function of a PyMethodDef, whose self is the tuple of an address and what keeps it."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.cast(new, ctypes.c_void_p).value or 0)(method, (address, owner), None)


class _Registry:
    """The types and functions by which the native launcher recognises arguments."""

    def __init__(self) -> None:
        self._held: list[object] = [sys.intern(HANDLE_ATTRIBUTE), sys.intern(RESULTS)]
        types = (id(np.ndarray), id(np.memmap), 0, 0, 0, id(self._held[0]))
        self._fields = (ctypes.c_void_p * 8)(*types)
        self.address = ctypes.addressof(self._fields)
        self.keyword = id(self._held[1])

    def find_torch(self) -> bool:
        """Learn torch's types once it has been imported; returns whether it just did."""
        torch = sys.modules.get("torch")
        tensor = getattr(torch, "Tensor", None)
        parameter = getattr(getattr(torch, "nn", None), "Parameter", None)
        capsule = getattr(tensor, "__dlpack_c_exchange_api__", None)
        if self._fields[2] or parameter is None or capsule is None:
            return False
        enabled, name = cast(Any, torch).is_grad_enabled, sys.intern("requires_grad")
        self._held += [tensor, parameter, capsule, enabled, name]
        self._fields[6], self._fields[7] = id(enabled), id(name)
        self._fields[4] = exchange_function(capsule, READ)
        self._fields[3], self._fields[2] = id(parameter), id(tensor)
        return True


def _check_object_layout() -> None:
    """Raises TileError unless objects lie as the native code reads them, tried on one array."""
    array = np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::2]
    regular = object.__basicsize__ == 16 and platform.python_implementation() == "CPython"
    if not regular or sys.maxsize < 2**63 - 1:
        raise TileError("the native launcher needs 64-bit CPython with the usual object header")
    seen = (ctypes.c_int64 * 9).from_address(id(array))
    dims = (ctypes.c_int64 * 2).from_address(seen[4])
    strides = (ctypes.c_int64 * 2).from_address(seen[5])
    found = (seen[1], seen[2], seen[3] & 0xFFFFFFFF, dims[:], strides[:], seen[7])
    expected = (id(np.ndarray), array.ctypes.data, 2, [2, 2], [6, 4], id(array.dtype))
    if found != expected or (seen[8] & 0x500) != array.flags.num & 0x500:
        raise TileError("numpy keeps its arrays in a form that the native launcher does not know")
