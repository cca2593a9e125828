"""Plans of launches: all that the native code (gpu.ll) needs to launch a GPU program again."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.source import TensorBoxes
from tilec.runtime.driver import KINDS, Driver, Memory
from tilec.runtime.exchange import current_stream

MAX_PARAMETERS = 160
MAX_MAPS = 16
_ARGUMENT, _CONSTANT, _OWN, _MAP, _OWN_MAP = range(5)
_MAP_BYTES, _MAP_ALIGNMENT = 128, 64
ELEMENTS = {1: 0, 2: 1, 4: 2, 8: 4}  # CUtensorMapDataType of unsigned integers, by bytes
SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}  # CUtensorMapSwizzle, by bytes
_NOT_INTERLEAVED, _PROMOTED_128, _ZEROS = 0, 2, 0
_DOING = {1: "asking for the current stream", 2: "making the context current",
          3: "changing a tensor map"}  # fmt: skip
_NO_WORKSPACE, _FIRST_LAUNCH, _ALL_STREAMS = 4, 16, 2**64 - 1  # gpu.ll


@dataclass(frozen=True)
class Slot:
    """An argument as it is in its slot: an address, or a number."""

    index: int


@dataclass(frozen=True)
class Own:
    """Memory of the program's own: an offset into the workspace."""

    offset: int


@dataclass(frozen=True)
class Number:
    """A 64-bit number whose low bytes a kernel takes: a dimension, or a null pointer."""

    value: int


@dataclass(frozen=True)
class Map:
    """A tensor map of memory. An argument is at `address` in the call that it is made for."""

    boxes: TensorBoxes
    memory: Slot | Own
    address: int = 0


Source = Slot | Own | Number | Map


@dataclass(frozen=True)
class Call:
    """One launch: a kernel's name and handle, sizes, and where its parameters are from."""

    name: str
    function: int
    blocks: int
    threads: int
    shared: int
    parameters: tuple[Source, ...]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("function", ctypes.c_void_p),
        ("blocks", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("shared", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("sources", ctypes.c_void_p),
    ]


class _Plan(ctypes.Structure):
    _fields_ = [
        ("functions", ctypes.c_void_p * 5),
        ("stream", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("context", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("launches", ctypes.c_void_p),
        ("needs_workspace", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
    ]


_FUNCTIONS = ("cuLaunchKernel", "cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent")


class Plan:
    """The launches of a program on one GPU, for arguments of one specialisation.

    `workspace` bytes are memory of the program's own, which each stream has for itself, or with
    `one` the plan has for all streams.
    """

    def __init__(self, driver: Driver, device: int, stream: int, calls: Sequence[Call],
                 dims: Mapping[str, int], workspace: int, one: bool = False) -> None:  # fmt: skip
        self._driver, self._device, self._bytes, self._one = driver, device, workspace, one
        self._calls, self._dims = tuple(calls), dims
        self._held: list[object] = []
        self._workspaces: list[tuple[object, Memory]] = []
        functions = [driver.address(n) for n in _FUNCTIONS]
        maps = any(isinstance(p, Map) for c in calls for p in c.parameters)
        functions.append(driver.address("cuTensorMapReplaceAddress") if maps else 0)
        self._plan = _Plan(
            (ctypes.c_void_p * 5)(*functions), stream, KINDS[driver.kind], device,
            driver.context(device), len(calls), None, workspace, None,
        )  # fmt: skip
        if workspace:
            self._add_workspace()
        launches = (_Launch * len(calls))(*map(self._launch, calls))
        self._held.append(launches)
        self._plan.launches = ctypes.addressof(launches)
        self.address = ctypes.addressof(self._plan)

    def recover(self, status: int) -> None:
        """Give the current stream a workspace where it has none.

        Raises TileError with the driver's words for any other status.
        """
        doing, code = status >> 32, status & 0xFFFFFFFF
        if doing == _NO_WORKSPACE:
            names = ", ".join(dict.fromkeys(call.name for call in self._calls))
            self._driver.refuse_capture(
                self._device, f"{names}: memory between launches is needed, for this stream,"
            )
            self._add_workspace()
            return
        if doing >= _FIRST_LAUNCH:
            call = self._calls[doing - _FIRST_LAUNCH]
            what = (f"launching {call.name} with {call.blocks} blocks of {call.threads} threads "
                    f"and {call.shared} bytes of shared memory")  # fmt: skip
        else:
            what = _DOING[doing]
        raise self._driver.failure(what, code)

    def _add_workspace(self) -> None:
        kind = KINDS[self._driver.kind]
        stream = _ALL_STREAMS if self._one else current_stream(self._plan.stream or 0, kind,
                                                               self._device)  # fmt: skip
        memory = self._driver.memory(self._device, self._bytes)
        node = (ctypes.c_void_p * 3)(self._plan.workspace, stream, memory.address)
        self._workspaces.append((node, memory))
        self._plan.workspace = ctypes.addressof(node)  # last: launches may be looking

    def _launch(self, call: Call) -> _Launch:
        maps = sum(isinstance(p, Map) for p in call.parameters)
        if len(call.parameters) > MAX_PARAMETERS or maps > MAX_MAPS:
            raise TileError(
                f"{call.name} has {len(call.parameters)} parameters, {maps} of them tensor maps: "
                f"expected at most {MAX_PARAMETERS} and {MAX_MAPS}"
            )
        words = [w for p in call.parameters for w in self._source(p)]
        sources = (ctypes.c_int64 * max(len(words), 1))(*words)
        self._held.append(sources)
        return _Launch(call.function, call.blocks, call.threads, call.shared, len(call.parameters),
                       ctypes.addressof(sources))  # fmt: skip

    def _source(self, p: Source) -> tuple[int, int, int]:
        match p:
            case Slot(index):
                return _ARGUMENT, index, 0
            case Own(offset):
                return _OWN, 0, offset
            case Number(value):
                held = ctypes.c_uint64(value)
                self._held.append(held)
                return _CONSTANT, ctypes.addressof(held), 0
            case Map(boxes, Slot(index), address):
                return _MAP, self._map(boxes, address), index
            case Map(boxes, Own(offset)):
                first = self._workspaces[0][1].address
                return _OWN_MAP, self._map(boxes, first + offset), offset
            case _:
                raise TileError(f"a parameter can't be from {p}")

    def _map(self, boxes: TensorBoxes, address: int) -> int:
        """Where a tensor map is that was encoded for an address, with that address behind it."""
        room = ctypes.create_string_buffer(_MAP_BYTES + 8 + _MAP_ALIGNMENT)
        self._held.append(room)
        at = -(-ctypes.addressof(room) // _MAP_ALIGNMENT) * _MAP_ALIGNMENT
        shape = tuple(number(d, self._dims) for d in boxes.shape)
        if math.prod(shape):  # otherwise no block runs
            self._encode(at, boxes, shape, address)
        ctypes.c_uint64.from_address(at + _MAP_BYTES).value = address
        return at

    def _encode(self, at: int, boxes: TensorBoxes, shape: tuple[int, ...], address: int) -> None:
        rank = len(shape)
        sizes = (ctypes.c_uint64 * rank)(*reversed(shape))
        pitches = (ctypes.c_uint64 * rank)(*reversed(boxes.pitches))
        box = (ctypes.c_uint32 * rank)(*reversed(boxes.box))
        steps = (ctypes.c_uint32 * rank)(*[1] * rank)
        with self._driver.on(self._device):
            self._driver.call(
                "cuTensorMapEncodeTiled", at, ELEMENTS[boxes.element], rank, address, sizes,
                pitches, box, steps, _NOT_INTERLEAVED, SWIZZLES[boxes.swizzle], _PROMOTED_128,
                _ZEROS,
            )  # fmt: skip
