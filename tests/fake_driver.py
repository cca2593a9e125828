"""A CUDA driver without a GPU: device memory is the host's, and kernels run in the PTX interpreter.

Its functions are callbacks of ctypes in a table of addresses. An image is the text of PTX.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilec import ptx
from tilec.ir.dtype import Array
from tilec.runtime.arguments import read
from tilec.runtime.driver import FUNCTIONS, Driver

INVALID_VALUE, OUT_OF_MEMORY, NOT_FOUND, ILLEGAL, UNKNOWN = 1, 2, 500, 700, 999
CAPTURED, RELAXED = 900, 2
# What a driver may refuse or do at once, not in a graph, while a stream is captured.
UNSAFE = ("cuModuleLoadData", "cuMemAlloc", "cuMemFree", "cuMemcpyHtoD", "cuCtxSynchronize",
          "cuEventSynchronize")  # fmt: skip
ERRORS = {
    INVALID_VALUE: (b"CUDA_ERROR_INVALID_VALUE", b"invalid argument"),
    OUT_OF_MEMORY: (b"CUDA_ERROR_OUT_OF_MEMORY", b"out of memory"),
    NOT_FOUND: (b"CUDA_ERROR_NOT_FOUND", b"named symbol not found"),
    CAPTURED: (b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", b"operation not permitted"),
    ILLEGAL: (b"CUDA_ERROR_ILLEGAL_ADDRESS", b"an illegal memory access was encountered"),
}
ATTRIBUTES = {16: 4, 97: 227 << 10}  # processors, shared memory of a block
MAP = struct.Struct("<8sQII5I4Q5HH")  # magic, address, element, rank, sizes, pitches, box, swizzle
MAGIC = b"fake map"
ELEMENTS = {0: 1, 1: 2, 2: 4, 4: 8}
LETTERS = {"i": ctypes.c_int, "u": ctypes.c_uint, "p": ctypes.c_void_p, "n": ctypes.c_size_t,
           "s": ctypes.c_char_p}  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """A launch that the driver saw."""

    name: str
    blocks: int
    threads: int
    shared: int
    stream: int
    device: int
    parameters: tuple[bytes, ...]


@dataclass
class FakeDriver:
    """GPUs of a capability. `fails` gives functions the error that they return. By its clock, which
    events read, each launch takes `each` milliseconds, and nothing else takes any. Streams that are
    `captured` let nothing be done but launches."""

    capability: tuple[int, int] = (9, 0)
    count: int = 2
    stream: int = 0
    fails: dict[str, int] = field(default_factory=dict[str, int])
    launched: list[Launched] = field(default_factory=list[Launched])
    calls: list[str] = field(default_factory=list[str])
    contexts: list[int] = field(default_factory=lambda: [1])
    trouble: list[BaseException] = field(default_factory=list[BaseException])
    execute: bool = True
    each: float = 0.25
    milliseconds: float = 0.0
    captured: set[int] = field(default_factory=set[int])
    mode: int = 0
    events: dict[int, float | None] = field(default_factory=dict[int, "float | None"])

    def __post_init__(self) -> None:
        self._memory: dict[int, tuple[int, object]] = {}
        self._modules: list[ptx.Module] = []
        self._functions: list[tuple[ptx.Module, str]] = []
        self._callbacks: list[object] = []
        self._numbers = itertools.count(1)
        table: dict[str, int] = {}
        for name, (letters, _) in FUNCTIONS.items():
            table[name] = self._callback(letters, self._guarded(name, getattr(self, f"_{name}")))
        stream = self._callback("iip", self._guarded("stream", self._stream))
        self.driver = Driver(table, "cpu", stream)
        vars(self.driver)["behind"] = self  # memory may be freed late, by the collector

    def lose(self, code: int) -> None:
        """From now on every function returns an error, as after a fault of a kernel."""
        said = ("cuGetErrorName", "cuGetErrorString")
        self.fails |= {name: code for name in FUNCTIONS if name not in said}

    def hold(self, *arrays: Any) -> None:
        """These are in device memory: numpy arrays or tensors of torch."""
        for a in arrays:
            reading = read(a)
            assert reading is not None
            self._memory[reading.addresses[0]] = (a.nbytes, a)

    def forget(self, *arrays: Any) -> None:
        """These are in device memory no more."""
        for a in arrays:
            reading = read(a)
            assert reading is not None
            del self._memory[reading.addresses[0]]

    def held(self) -> int:
        """How many allocations of the driver's own are not freed."""
        return sum(isinstance(x, bytearray) for _, x in self._memory.values())

    def _callback(self, letters: str, function: Callable[..., int]) -> int:
        made = ctypes.CFUNCTYPE(ctypes.c_int, *(LETTERS[t] for t in letters))(function)
        self._callbacks.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0

    def _guarded(self, name: str, function: Callable[..., None]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.fails:
                return self.fails[name]
            if self.captured and name in UNSAFE and self.mode != RELAXED:
                return CAPTURED
            try:
                return function(*arguments) or 0
            except BaseException as e:  # which ctypes would only print
                self.trouble.append(e)
                return UNKNOWN

        return call

    def _stream(self, kind: int, device: int, out: int) -> None:
        assert kind == 1
        assert 0 <= device < self.count
        _put(out, self.stream)

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDriverGetVersion(self, out: int) -> None:
        ctypes.c_int.from_address(out).value = 13_010

    def _cuDeviceGetCount(self, out: int) -> None:
        ctypes.c_int.from_address(out).value = self.count

    def _cuDeviceGet(self, out: int, number: int) -> None:
        ctypes.c_int.from_address(out).value = number

    def _cuDeviceGetName(self, out: int, size: int, number: int) -> None:
        ctypes.memmove(out, f"fake {number}\0".encode(), 7)

    def _cuDeviceGetAttribute(self, out: int, attribute: int, number: int) -> None:
        major, minor = self.capability
        known = ATTRIBUTES | {75: major, 76: minor}
        ctypes.c_int.from_address(out).value = known[attribute]

    def _cuDevicePrimaryCtxRetain(self, out: int, number: int) -> None:
        _put(out, number + 1)

    def _cuCtxGetCurrent(self, out: int) -> None:
        _put(out, self.contexts[-1])

    def _cuCtxPushCurrent(self, context: int) -> None:
        self.contexts.append(context)

    def _cuCtxPopCurrent(self, out: int) -> None:
        _put(out, self.contexts.pop())

    def _cuCtxSynchronize(self) -> None:
        pass

    def _cuModuleLoadData(self, out: int, image: int) -> None:
        self._modules.append(ptx.load(ctypes.string_at(image).decode()))
        _put(out, len(self._modules))

    def _cuModuleGetFunction(self, out: int, module: int, name: bytes) -> int:
        found = self._modules[module - 1]
        if name.decode() not in found.names:
            return NOT_FOUND
        self._functions.append((found, name.decode()))
        _put(out, len(self._functions))
        return 0

    def _cuFuncSetAttribute(self, function: int, attribute: int, value: int) -> int:
        return 0 if attribute == 8 and value <= ATTRIBUTES[97] else INVALID_VALUE

    def _cuMemAlloc(self, out: int, size: int) -> None:
        made = bytearray(b"\xff" * (size + 256))
        address = ctypes.addressof(ctypes.c_char.from_buffer(made))
        at = -(-address // 256) * 256
        self._memory[at] = (size, made)
        _put(out, at)

    def _cuMemFree(self, address: int) -> None:
        del self._memory[address]

    def _cuMemcpyHtoD(self, to: int, source: int, size: int) -> None:
        assert size <= self._memory[to][0]
        ctypes.memmove(to, source, size)

    def _cuTensorMapEncodeTiled(
        self, out: int, element: int, rank: int, address: int, sizes: int, pitches: int, box: int,
        steps: int, interleave: int, swizzle: int, promotion: int, fill: int,
    ) -> int:  # fmt: skip
        def words(at: int, kind: Any, count: int, full: int) -> list[int]:
            return [*(kind * count).from_address(at), *[0] * (full - count)]

        if out % 64 or address % 16 or set((ctypes.c_uint32 * rank).from_address(steps)) != {1}:
            return INVALID_VALUE
        assert (interleave, promotion, fill) == (0, 2, 0)
        packed = MAP.pack(
            MAGIC, address, element, rank, *words(sizes, ctypes.c_uint64, rank, 5),
            *words(pitches, ctypes.c_uint64, rank - 1, 4), *words(box, ctypes.c_uint32, rank, 5),
            swizzle,
        )  # fmt: skip
        ctypes.memmove(out, packed, len(packed))
        return 0

    def _cuTensorMapReplaceAddress(self, out: int, address: int) -> int:
        assert ctypes.string_at(out, 8) == MAGIC
        _put(out + 8, address)
        return INVALID_VALUE if address % 16 or out % 64 else 0

    def _cuStreamIsCapturing(self, stream: int | None, out: int) -> None:
        ctypes.c_int.from_address(out).value = (stream or 0) in self.captured

    def _cuThreadExchangeStreamCaptureMode(self, at: int) -> None:
        mode = ctypes.c_int.from_address(at)
        self.mode, mode.value = mode.value, self.mode

    def _cuEventCreate(self, out: int, flags: int) -> None:
        assert flags == 0
        self.events[next(self._numbers)] = None
        _put(out, max(self.events))

    def _cuEventRecord(self, event: int, stream: int | None) -> None:
        assert (stream or 0) == self.stream
        self.events[event] = self.milliseconds

    def _cuEventSynchronize(self, event: int) -> int:
        return 0 if self.events[event] is not None else INVALID_VALUE

    def _cuEventElapsedTime(self, out: int, first: int, last: int) -> int:
        start, end = self.events[first], self.events[last]
        if start is None or end is None:
            return INVALID_VALUE
        ctypes.c_float.from_address(out).value = end - start
        return 0

    def _cuEventDestroy(self, event: int) -> None:
        del self.events[event]

    def _cuGetErrorName(self, code: int, out: int) -> int:
        return self._said(code, out, 0)

    def _cuGetErrorString(self, code: int, out: int) -> int:
        return self._said(code, out, 1)

    def _said(self, code: int, out: int, which: int) -> int:
        if code not in ERRORS:
            return INVALID_VALUE
        kept = ctypes.create_string_buffer(ERRORS[code][which])
        self._callbacks.append(kept)
        _put(out, ctypes.addressof(kept))
        return 0

    def _cuLaunchKernel(
        self, function: int, blocks: int, y: int, z: int, threads: int, ty: int, tz: int,
        shared: int, stream: int | None, parameters: int, extra: int | None,
    ) -> int:  # fmt: skip
        assert (y, z, ty, tz, extra) == (1, 1, 1, 1, None)
        if not blocks:
            return INVALID_VALUE
        module, name = self._functions[function - 1]
        variables = module.kernel(name).parameters
        addresses = (ctypes.c_void_p * len(variables)).from_address(parameters)
        raw = tuple(
            ctypes.string_at(a or 0, p.size) for a, p in zip(addresses, variables, strict=True)
        )
        self.milliseconds += self.each
        self.launched.append(
            Launched(name, blocks, threads, shared, stream or 0, self.contexts[-1] - 1, raw)
        )
        if self.execute:
            report = module.run(name, blocks, threads, self._arguments(raw), shared=shared)
            assert report.finished
            assert not report.findings, "\n".join(map(str, report.findings))
        return 0

    def _arguments(self, raw: tuple[bytes, ...]) -> list[Any]:
        """Pointers as arrays, up to where another one begins; tensor maps; other bytes."""
        words = {int.from_bytes(x, "little") for x in raw if len(x) == 8}
        arrays: dict[int, Array] = {}
        for word in words:
            for start, (size, _) in self._memory.items():
                if start <= word < start + size:
                    end = min([w for w in words if word < w < start + size], default=start + size)
                    arrays[word] = _view(word, end - word)
        found: list[Any] = []
        for x in raw:
            if x[:8] == MAGIC:
                found.append(_map(x, arrays))
            else:
                word = int.from_bytes(x, "little") if len(x) == 8 else 0
                found.append(arrays.get(word, x))
        return found


def _put(out: int, value: int) -> None:
    ctypes.c_uint64.from_address(out).value = value


def _view(address: int, size: int) -> Array:
    return np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)


def _map(raw: bytes, arrays: dict[int, Array]) -> ptx.TensorMap:
    """A tensor map of an array that is an argument too, of the same bytes."""
    _, address, element, rank, *rest = MAP.unpack(raw[: MAP.size])
    sizes, box, swizzle = rest[:rank][::-1], rest[9 : 9 + rank][::-1], rest[14]
    size = ELEMENTS[element] * int(np.prod(sizes))
    array = arrays.setdefault(address, _view(address, size))
    assert array.nbytes == size
    return ptx.TensorMap(array.view(f"u{ELEMENTS[element]}").reshape(sizes), tuple(box),
                         {0: 0, 1: 32, 2: 64, 3: 128}[swizzle])  # fmt: skip


__all__ = ["ERRORS", "FakeDriver", "Launched"]
