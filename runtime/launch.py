"""Calling compiled kernels from Python: argument reading, lookup by specialisation, the call.

Two launchers with the same behaviour: NativeLauncher makes functions of machine code, which need
a fraction of a microsecond; PythonLauncher needs nothing but ctypes.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from tilec.ir.dtype import INTEGERS
from tilec.ir.errors import TileError
from tilec.ir.source import Param
from tilec.runtime.arguments import MAX_ARGUMENTS, Reading, launch_key, read, refusal
from tilec.runtime.exchange import READ, exchange_function
from tilec.runtime.jit import Machine, compile_object, load_object
from tilec.runtime.packed import HANDLE_ATTRIBUTE

MAX_SLOTS = 128
_POINTER, _COMPONENT, _INT, _F64, _F32, _CONSTANT = range(6)
_FREE, _ANSWERS = 1, 2  # how an entry is called
_BUCKETS = 256  # table.ll
_INTEGERS = {t.name: (int(t.low), int(t.high)) for t in INTEGERS} | {"bool": (0, 1)}


@dataclass(frozen=True)
class Compiled:
    """What a slow path returns: machine code, and how to call it. `keep` is kept alive with it.

    `release_gil` is worth its 50 ns for any kernel that runs for microseconds. With `recover` the
    code is `i64 entry(ptr args)`, its first slot is `data`, and it returns a status: where that is
    not 0, `recover(status)` raises, or returns for the call to be made again.
    """

    address: int
    params: tuple[Param, ...]
    workspace: int = 0
    release_gil: bool = True
    keep: object = None
    data: int = 0
    recover: Callable[[int], None] | None = None


SlowPath = Callable[[tuple[Any, ...]], Compiled]


class Launcher(Protocol):
    """Makes dispatchers."""

    def dispatcher(self, name: str, slow_path: SlowPath) -> Dispatcher:
        """A callable for the kernel `name`, which asks `slow_path` for unseen arguments."""
        ...


class Dispatcher(Protocol):
    """A kernel's compiled entries. `launch(*arguments)` runs the one for these arguments."""

    name: str
    launch: Callable[..., None]


@dataclass(frozen=True)
class _Slot:
    """How one slot is filled. `low` and `high` bound an integer."""

    operation: int
    argument: int
    component: int = 0
    low: int = 0
    high: int = 0


class PythonLauncher:
    """Launches through ctypes: some ten times slower, for systems without the native launcher."""

    def dispatcher(self, name: str, slow_path: SlowPath) -> Dispatcher:
        """See Launcher."""
        return _PythonDispatcher(name, slow_path)


class NativeLauncher:
    """Launches through functions of machine code. `objects` compiles a module (or a cache does).

    Raises TileError where numpy or the interpreter keep their objects in another form.
    """

    def __init__(
        self, machine: Machine, *, objects: Callable[[str, Machine], bytes] | None = None
    ) -> None:
        _check_object_layout()
        image = (objects or _compile)(launcher_text(), machine)
        self._module = load_object(image, ("tilec_method", "tilec_insert"))
        # Functions made here may be called until the process ends.
        self._module.keep_forever()
        insert = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        self._insert = insert(self._module["tilec_insert"])
        self.registry = _Registry()

    def dispatcher(self, name: str, slow_path: SlowPath) -> Dispatcher:
        """See Launcher."""
        method = self._module["tilec_method"]
        return _NativeDispatcher(name, slow_path, self.registry, method, self._insert)


def launcher_text() -> str:
    """The module of the native launcher."""
    parts = (Path(__file__).with_name(name) for name in ("arguments.ll", "table.ll", "launch.ll"))
    return "\n".join(part.read_text("utf-8") for part in parts)


def _compile(text: str, machine: Machine) -> bytes:
    return compile_object(text, machine)


class _Misses:
    """What both dispatchers do with arguments that they have no entry for."""

    def __init__(self, name: str, slow_path: SlowPath) -> None:
        self.name = name
        self.launch: Callable[..., None] = self._relaunch
        self._slow_path = slow_path
        self._compiled: dict[bytes, tuple[Compiled, tuple[Any, ...]]] = {}

    def _miss(self, key: bytes | None, arguments: tuple[Any, ...], status: int = 0) -> None:
        if key is None:
            self._unreadable(arguments)
            return
        if status:
            self._recover(key, status)
            self.launch(*arguments)
            return
        readings = [_readable(argument) for argument in arguments]
        if key in self._compiled:
            # The entry is there, so a scalar did not fit.
            _fill(_slots(self._compiled[key][0], readings), readings)
        compiled = self._slow_path(arguments)
        # What a packed tensor is may depend on which code has been made for it.
        readings = [_readable(argument) for argument in arguments]
        key = launch_key(readings)
        slots = _slots(compiled, readings)
        _fill(slots, readings)
        # A dtype in the key is an address: it must not be given to another object.
        held = tuple(getattr(argument, "dtype", None) for argument in arguments)
        if key not in self._compiled:
            self._add(key, compiled, slots)
            self._compiled[key] = (compiled, held)
        self.launch(*arguments)

    def _unreadable(self, arguments: tuple[Any, ...]) -> None:
        """Retry with numpy scalars as Python numbers; otherwise say which argument is wrong."""
        if len(arguments) > MAX_ARGUMENTS:
            limit = f"expected at most {MAX_ARGUMENTS}"
            raise TileError(f"{self.name} called with {len(arguments)} arguments: {limit}")
        plain = tuple(_plain(argument) for argument in arguments)
        for place, argument in enumerate(plain, 1):
            if read(argument) is None:
                raise TileError(f"{self.name}: argument {place} is {refusal(argument)}")
        self.launch(*plain)

    def _recover(self, key: bytes, status: int) -> None:
        recover = self._compiled[key][0].recover
        if recover is None:
            raise TileError(f"{self.name} returned {status}")
        recover(status)

    def _relaunch(self, *arguments: Any) -> None:
        raise NotImplementedError

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[_Slot, ...]) -> None:
        raise NotImplementedError


class _PythonDispatcher(_Misses):
    def __init__(self, name: str, slow_path: SlowPath) -> None:
        super().__init__(name, slow_path)
        self._entries: dict[bytes, tuple[Callable[..., int | None], tuple[_Slot, ...], int]] = {}

    def _relaunch(self, *arguments: Any) -> None:
        readings = [read(argument) for argument in arguments]
        known = [reading for reading in readings if reading is not None]
        if len(known) < len(readings) or len(readings) > MAX_ARGUMENTS:
            self._miss(None, arguments)
            return
        key = launch_key(known)
        if key not in self._entries:
            self._miss(key, arguments)
            return
        call, slots, workspace = self._entries[key]
        buffer, address = _aligned(workspace)
        values = (ctypes.c_uint64 * (len(slots) + 1))(*_fill(slots, known), address)
        status = call(values)
        del buffer
        if status:
            self._miss(key, arguments, status)

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[_Slot, ...]) -> None:
        make = ctypes.CFUNCTYPE if compiled.release_gil else ctypes.PYFUNCTYPE
        answer = ctypes.c_int64 if compiled.recover else None
        call = make(answer, ctypes.c_void_p)(compiled.address)
        self._entries[key] = (call, slots, compiled.workspace)


class _NativeDispatcher(_Misses):
    def __init__(
        self,
        name: str,
        slow_path: SlowPath,
        registry: _Registry,
        method: int,
        insert: Callable[[int, int], None],
    ) -> None:
        super().__init__(name, slow_path)
        self._registry, self._insert = registry, insert
        self._callable = self._miss  # the table holds its address
        self._table = (ctypes.c_void_p * (2 + _BUCKETS))(registry.address, id(self._callable))
        self._records: list[object] = []
        new = ctypes.pythonapi.PyCFunction_NewEx
        make = ctypes.PYFUNCTYPE(
            ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
        )
        # The function holds this object through its self, so that the table outlives every call.
        table = (ctypes.addressof(self._table), self)
        self.launch = make(ctypes.cast(new, ctypes.c_void_p).value or 0)(method, table, None)

    def _miss(self, key: bytes | None, arguments: tuple[Any, ...], status: int = 0) -> None:
        if self._registry.find_torch():
            self.launch(*arguments)
            return
        super()._miss(key, arguments, status)

    def _add(self, key: bytes, compiled: Compiled, slots: tuple[_Slot, ...]) -> None:
        words = ctypes.create_string_buffer(key, max(len(key), 1))
        fields = [f for s in slots for f in (s.operation, s.argument, s.component, s.low, s.high)]
        descriptions = (ctypes.c_int64 * max(len(fields), 1))(*fields)
        buffer, workspace = _aligned(compiled.workspace)
        how = _FREE * compiled.release_gil + _ANSWERS * (compiled.recover is not None)
        record = (ctypes.c_int64 * 11)(
            *(0, 0, len(key) // 8, ctypes.addressof(words)),
            *(compiled.address, len(slots), ctypes.addressof(descriptions)),
            *(compiled.workspace, workspace, 0, how),
        )
        self._records.append((record, words, descriptions, buffer))
        self._insert(ctypes.addressof(self._table), ctypes.addressof(record))


class _Registry:
    """The types and functions by which the native launcher recognises arguments."""

    def __init__(self) -> None:
        self._held: list[object] = [sys.intern(HANDLE_ATTRIBUTE)]
        types = (id(np.ndarray), id(np.memmap), 0, 0, 0, id(self._held[0]))
        self._fields = (ctypes.c_void_p * 6)(*types)
        self.address = ctypes.addressof(self._fields)

    def find_torch(self) -> bool:
        """Learn torch's types once it has been imported; returns whether it just did."""
        torch = sys.modules.get("torch")
        tensor = getattr(torch, "Tensor", None)
        parameter = getattr(getattr(torch, "nn", None), "Parameter", None)
        capsule = getattr(tensor, "__dlpack_c_exchange_api__", None)
        if self._fields[2] or parameter is None or capsule is None:
            return False
        self._held += [tensor, parameter, capsule]
        self._fields[4] = exchange_function(capsule, READ)
        self._fields[3], self._fields[2] = id(parameter), id(tensor)
        return True


def _plain(argument: Any) -> Any:
    number = cast(Any, np.generic)
    return argument.item() if isinstance(argument, number) else argument


def _readable(argument: object) -> Reading:
    reading = read(argument)
    if reading is None:
        raise TileError(f"the argument is {refusal(argument)}")
    return reading


def _slots(compiled: Compiled, readings: list[Reading]) -> tuple[_Slot, ...]:
    """How to fill each slot. Raises TileError when the arguments are of other kinds."""
    params = compiled.params
    first = () if compiled.recover is None else (_Slot(_CONSTANT, 0, low=compiled.data),)
    if (count := len(first) + len(params)) > MAX_SLOTS:
        raise TileError(f"a kernel with {count} slots: expected at most {MAX_SLOTS}")
    for param in params:
        if param.argument >= len(readings):
            given = f"called with {len(readings)} arguments"
            raise TileError(f"{param.name} is argument {param.argument + 1}, {given}")
        reading = readings[param.argument]
        if reading.kind != param.kind:
            raise TileError(f"{param.name} is a {param.kind}, called with a {reading.kind}")
        if param.kind == "packed" and param.place >= len(reading.addresses):
            what = f"component {param.place} ({param.component}) of {param.name}"
            raise TileError(f"{what}: the packed tensor has {len(reading.addresses)}")
    return (*first, *(_slot(param, readings[param.argument]) for param in params))


def _slot(param: Param, reading: Reading) -> _Slot:
    match param.kind:
        case "tensor":
            return _Slot(_POINTER, param.argument)
        case "packed":
            return _Slot(_COMPONENT, param.argument, param.place)
        case "scalar":
            if param.dtype in _INTEGERS:
                if reading.is_float:
                    raise TileError(f"{param.name} is an {param.dtype} scalar, called with a float")
                low, high = _INTEGERS[param.dtype]
                return _Slot(_INT, param.argument, low=low, high=high)
            return _Slot(_F64 if param.dtype == "f64" else _F32, param.argument)
        case _:
            raise TileError(f"{param.name} is of unknown kind {param.kind}")


def _fill(slots: tuple[_Slot, ...], readings: list[Reading]) -> list[int]:
    """The 64-bit value of each slot. Raises TileError for an integer out of its type's range."""
    return [
        slot.low if slot.operation == _CONSTANT else _value(slot, readings[slot.argument])
        for slot in slots
    ]


def _value(slot: _Slot, reading: Reading) -> int:
    match slot.operation:
        case 0 | 1:
            return reading.addresses[slot.component]
        case 2:
            value = int(reading.scalar)
            if not slot.low <= value <= slot.high:
                span = f"expected {slot.low} to {slot.high}"
                raise TileError(f"argument {slot.argument + 1} is {value}: {span}")
            return value & (1 << 64) - 1
        case 3:
            return int(np.float64(reading.scalar).view(np.uint64))
        case 4:
            with np.errstate(over="ignore"):
                return int(np.float32(reading.scalar).view(np.uint32))
        case operation:
            raise TileError(f"unknown slot operation {operation}")


def _aligned(size: int) -> tuple[object, int]:
    """A buffer of at least `size` bytes, and a 64-byte aligned address in it."""
    if not size:
        return None, 0
    buffer = np.empty(size + 63, np.uint8)
    return buffer, (buffer.ctypes.data + 63) & ~63


def _check_object_layout() -> None:
    """Raises TileError unless objects lie as launch.ll reads them, tried on one array."""
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
