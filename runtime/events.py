"""How long work on a GPU takes, by events of its driver in the current stream."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tilec.ir.errors import TileError
from tilec.runtime.driver import KINDS, Driver
from tilec.runtime.exchange import current_stream

_NEEDED = ("cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime",
           "cuEventDestroy")  # fmt: skip
_DEFAULT = 0  # the flags of an event that has a time


@dataclass(frozen=True)
class Event:
    """A moment in a stream: when the work before it is done."""

    handle: int
    stream: int


class EventClock:
    """Events of one GPU. `stream` is the address of DLPack's function for the current stream, 0 for
    the default stream."""

    def __init__(self, driver: Driver, device: int, stream: int) -> None:
        self._driver, self.device, self._stream = driver, device, stream

    @staticmethod
    def there(driver: Driver) -> bool:
        """Whether a driver has events."""
        return all(driver.addresses.get(name) for name in _NEEDED)

    def mark(self) -> Event:
        """An event after the work that the current stream was given so far. Raises TileError with
        the driver's words."""
        found = ctypes.c_void_p()
        stream = current_stream(self._stream, KINDS[self._driver.kind], self.device) or 0
        with self._driver.on(self.device):
            self._driver.call("cuEventCreate", ctypes.byref(found), _DEFAULT)
        event = Event(found.value or 0, stream)
        try:
            with self._driver.on(self.device):
                self._driver.call("cuEventRecord", event.handle, stream or None)
        except TileError:
            self.drop(event)
            raise
        return event

    def seconds(self, first: Event, last: Event) -> float:
        """The time between two events of this GPU; waits for the last. Raises TileError."""
        milliseconds = ctypes.c_float()
        with self._driver.on(self.device):
            self._driver.call("cuEventSynchronize", last.handle)
            self._driver.call("cuEventElapsedTime", ctypes.byref(milliseconds), first.handle,
                              last.handle)  # fmt: skip
        return milliseconds.value / 1e3

    def drop(self, event: Event) -> None:
        """Give an event back to the driver."""
        with self._driver.on(self.device):
            self._driver.call("cuEventDestroy", event.handle)
