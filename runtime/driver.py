"""The CUDA driver through ctypes: devices, contexts, modules, memory. Knows no kernel.

Nothing is loaded before `open_driver`. A Driver is a table of addresses, so that any library with
these functions will do. Names and meanings are those of the CUDA driver API.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from tilec.ir.errors import TileError
from tilec.observe import DEBUG, say, stage
from tilec.runtime.exchange import STREAM, current_stream, exchange_function

LIBRARY = "libcuda.so.1"
_TYPES: dict[str, Any] = {
    "i": ctypes.c_int, "u": ctypes.c_uint, "p": ctypes.c_void_p, "n": ctypes.c_size_t,
    "s": ctypes.c_char_p,
}  # fmt: skip
# name: the types of its arguments, and what its symbol has after the name
FUNCTIONS = {
    "cuInit": ("u", ""),
    "cuDriverGetVersion": ("p", ""),
    "cuDeviceGetCount": ("p", ""),
    "cuDeviceGet": ("pi", ""),
    "cuDeviceGetName": ("pii", ""),
    "cuDeviceGetAttribute": ("pii", ""),
    "cuDevicePrimaryCtxRetain": ("pi", ""),
    "cuCtxGetCurrent": ("p", ""),
    "cuCtxPushCurrent": ("p", "_v2"),
    "cuCtxPopCurrent": ("p", "_v2"),
    "cuCtxSynchronize": ("", ""),
    "cuModuleLoadData": ("pp", ""),
    "cuModuleGetFunction": ("pps", ""),
    "cuFuncSetAttribute": ("pii", ""),
    "cuLaunchKernel": ("puuuuuuuppp", ""),
    "cuStreamIsCapturing": ("pp", ""),
    "cuThreadExchangeStreamCaptureMode": ("p", ""),
    "cuMemAlloc": ("pn", "_v2"),
    "cuMemFree": ("n", "_v2"),
    "cuMemcpyHtoD": ("npn", "_v2"),
    "cuTensorMapEncodeTiled": ("piupppppiiii", ""),
    "cuTensorMapReplaceAddress": ("pp", ""),
    "cuEventCreate": ("pu", ""),
    "cuEventRecord": ("pp", ""),
    "cuEventSynchronize": ("p", ""),
    "cuEventElapsedTime": ("ppp", ""),
    "cuEventDestroy": ("p", "_v2"),
    "cuGetErrorName": ("ip", ""),
    "cuGetErrorString": ("ip", ""),
}
_PROCESSORS, _MAJOR, _MINOR, _SHARED = 16, 75, 76, 97  # CUdevice_attribute
_DYNAMIC_SHARED = 8  # CUfunction_attribute
_FREE_SHARED = 48 << 10  # bytes of shared memory that every function may use
_NO_MEMORY, _NO_BINARY, _NEWER_PTX = 2, 209, 222  # CUresult
_CAPTURE = range(900, 910)  # CUresult: what capture does not allow
_RELAXED = 2  # CUstreamCaptureMode
KINDS = {"cpu": 1, "cuda": 2}  # of devices, as DLPack numbers them
# After these a process can do no more with the GPU (CUDA driver API, CUresult: "must be terminated
# and relaunched"): memory, NVLink, and what a kernel did wrong.
_LOST = {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719}
_HINTS = {
    _NO_MEMORY: "free tensors on the GPU, or give the kernel smaller ones",
    _NO_BINARY: "compile for the GPU that is there",
    _NEWER_PTX: "install a newer driver, or give it cubins",
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A GPU: its number, its name, its compute capability, processors, and the most shared memory
    of a block in bytes."""

    number: int
    name: str
    capability: tuple[int, int]
    processors: int
    shared: int


@dataclass(frozen=True, eq=False)
class Driver:
    """Functions by name. `kind` is the kind of device, as tensors say it, that the memory is on;
    `stream` the address of DLPack's function for the current stream, 0 for that of torch."""

    addresses: Mapping[str, int]
    kind: str = "cuda"
    stream: int = 0
    contexts: dict[int, int] = field(default_factory=dict[int, int], repr=False)

    def __post_init__(self) -> None:
        self.call("cuInit", 0)

    @property
    def version(self) -> str:
        """The version of CUDA that the driver has, such as 13.0."""
        found = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(found))
        return f"{found.value // 1000}.{found.value % 1000 // 10}"

    def address(self, name: str) -> int:
        """Where a function is. Raises TileError where the driver has it not."""
        if name not in self.addresses:
            raise TileError(f"the NVIDIA driver has no {name}", hint="install a newer driver")
        return self.addresses[name]

    def call(self, name: str, *arguments: Any, doing: str = "") -> None:
        """Call a function. Raises TileError with the driver's name of the error."""
        types = (_TYPES[t] for t in FUNCTIONS[name][0])
        code = ctypes.CFUNCTYPE(ctypes.c_int, *types)(self.address(name))(*arguments)
        if code:
            raise self.failure(f"{name} of {doing}" if doing else name, code)

    def failure(self, doing: str, code: int) -> TileError:
        """The driver's error in what was being done, and what to do about it."""
        if code in _LOST:
            hint = ("an earlier kernel of this process, of tilec or not, left the GPU in this "
                    "state: start a new process")  # fmt: skip
        else:
            hint = _HINTS.get(code, "")
        return TileError(f"{doing}: {self.error(code)}", hint=hint)

    def error(self, code: int) -> str:
        """What the driver says of an error."""
        said: list[str] = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
            if not function(self.address(name))(code, ctypes.byref(text)) and text.value:
                said.append(text.value.decode())
        return " (".join(said) + ")" * (len(said) - 1) if said else f"error {code}"

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The GPUs, by number."""
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return tuple(self._device(i) for i in range(count.value))

    def device(self, number: int) -> Device:
        """A GPU. Raises TileError for a number that no GPU has."""
        if not 0 <= number < len(self.devices):
            raise TileError(f"no GPU has the number {number}: there are {len(self.devices)}")
        return self.devices[number]

    def _handle(self, number: int) -> int:
        found = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(found), number)
        return found.value

    def _device(self, number: int) -> Device:
        name, handle = ctypes.create_string_buffer(256), self._handle(number)
        self.call("cuDeviceGetName", name, len(name), handle)
        found: list[int] = []
        for attribute in (_MAJOR, _MINOR, _PROCESSORS, _SHARED):
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
            found.append(value.value)
        major, minor, processors, shared = found
        return Device(number, name.value.decode(), (major, minor), processors, shared)

    def context(self, device: int) -> int:
        """The primary context of a GPU, which other libraries use too."""
        if device not in self.contexts:
            self.device(device)
            found = ctypes.c_void_p()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(found), self._handle(device))
            self.contexts[device] = found.value or 0
        return self.contexts[device]

    @contextmanager
    def on(self, device: int) -> Generator[None]:
        """With the primary context of a GPU as the current one of this thread."""
        self.call("cuCtxPushCurrent", self.context(device))
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent", ctypes.byref(ctypes.c_void_p()))

    def refuse_capture(self, device: int, what: str) -> None:
        """Raises TileError where the current stream is being captured: a CUDA graph holds launches,
        and to load code or take memory then would spoil it."""
        if "cuStreamIsCapturing" not in self.addresses:
            return
        state, stream = ctypes.c_int(), current_stream(self.streams(), KINDS[self.kind], device)
        function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        with self.on(device):
            asked = function(self.address("cuStreamIsCapturing"))(stream, ctypes.byref(state))
        if state.value or asked in _CAPTURE:
            raise TileError(f"{what} while the current stream is captured into a CUDA graph, which "
                            "takes nothing but launches", hint="make this call once before the "
                            "capture, with the same tensors or others like them")  # fmt: skip

    @contextmanager
    def relaxed(self) -> Generator[None]:
        """With what is no part of a graph allowed in this thread while some stream is captured: the
        collector of garbage frees memory whenever it runs."""
        name, mode = "cuThreadExchangeStreamCaptureMode", ctypes.c_int(_RELAXED)
        if name not in self.addresses:
            yield
            return
        self.call(name, ctypes.byref(mode))
        try:
            yield
        finally:
            self.call(name, ctypes.byref(mode))

    def streams(self) -> int:
        """The function for the current stream, `stream` or that of torch; 0 where there is none."""
        if self.stream:
            return self.stream
        tensor = getattr(sys.modules.get("torch"), "Tensor", None)
        capsule = getattr(tensor, "__dlpack_c_exchange_api__", None)
        return 0 if capsule is None else exchange_function(capsule, STREAM)

    def module(self, device: int, image: bytes) -> Module:
        """Load a cubin, or PTX that ends with a zero."""
        found = ctypes.c_void_p()
        with stage("load", "load"), self.on(device):
            self.call("cuModuleLoadData", ctypes.byref(found), image)
        say("gpu", DEBUG, "code loaded", device=device, bytes=len(image))
        return Module(self, device, found.value or 0)

    def memory(self, device: int, size: int) -> Memory:
        """Memory of a GPU that is freed when the object is dropped, aligned to 256 bytes."""
        found = ctypes.c_size_t()
        with self.on(device):
            self.call("cuMemAlloc", ctypes.byref(found), max(size, 1), doing=f"{size} bytes")
        return Memory(self, device, found.value, size)


class Module:
    """Code on a GPU. It stays loaded: launches of it may be under way when its user is gone."""

    def __init__(self, driver: Driver, device: int, handle: int) -> None:
        self._driver, self._device, self._handle = driver, device, handle

    def function(self, name: str, shared: int) -> int:
        """The handle of a kernel, which may use so many bytes of dynamic shared memory."""
        found = ctypes.c_void_p()
        most = self._driver.device(self._device).shared
        if shared > most:
            raise TileError(f"{name} needs {shared} bytes of shared memory, and "
                            f"{self._driver.device(self._device).name} has {most}")  # fmt: skip
        with self._driver.on(self._device):
            self._driver.call("cuModuleGetFunction", ctypes.byref(found), self._handle,
                              name.encode())  # fmt: skip
            if shared > _FREE_SHARED:
                self._driver.call("cuFuncSetAttribute", found.value, _DYNAMIC_SHARED, shared)
        return found.value or 0


class Memory:
    """Bytes of a GPU."""

    def __init__(self, driver: Driver, device: int, address: int, size: int) -> None:
        self._driver, self.device, self.address, self.size = driver, device, address, size
        weakref.finalize(self, _free, driver, device, address).atexit = False

    def write(self, data: Any) -> None:
        """Copy an array's bytes there; done on return."""
        if data.nbytes != self.size:
            raise TileError(f"{data.nbytes} bytes for a memory of {self.size}")
        with self._driver.on(self.device):
            self._driver.call("cuMemcpyHtoD", self.address, data.ctypes.data, self.size)
            self._driver.call("cuCtxSynchronize")  # some streams do not wait for the copy


def _free(driver: Driver, device: int, address: int) -> None:
    with driver.on(device), driver.relaxed():
        driver.call("cuMemFree", address)


@cache
def open_driver() -> Driver:
    """The driver of this machine. Raises TileError where there is none, or no GPU."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as e:
        raise TileError(f"no NVIDIA driver is installed: {e}",
                        hint="run on a machine with an NVIDIA GPU, or use arrays on the CPU"
                        ) from None  # fmt: skip
    found: dict[str, int] = {}
    for name, (_, version) in FUNCTIONS.items():
        function = getattr(library, name + version, None)
        if function is not None:
            found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return Driver(found)
