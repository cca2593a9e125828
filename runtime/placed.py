"""Packed tensors on a GPU: components in the orders of the code that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tilec.ir.bits import stored
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts
from tilec.ir.source import Order
from tilec.runtime.driver import Driver, Memory
from tilec.runtime.packed import PackedHandle, identity


class DeviceTensor:
    """A packed tensor [..., K] on a GPU; kernels take it where a tensor is expected.

    Which order a component lies in is only known when a kernel is made that reads it: each order
    that a kernel wants is a copy of the component on the GPU. `parts` gives the components in their
    carriers, from memory of the host. `rows` has the addresses of components that lie there row by
    row already, in memory that is somebody else's.
    """

    def __init__(self, format: Format, shape: tuple[int, ...], parts: Callable[[], Parts],
                 driver: Driver, number: int, rows: Mapping[str, int] | None = None
                 ) -> None:  # fmt: skip
        self.format, self.shape, self.number = format, shape, number
        self._parts, self._driver, self._rows = parts, driver, rows or {}
        self._places: dict[tuple[str, Order | None], int] = {}
        self._copies: list[Memory] = []
        driver.device(number)  # there must be one
        self._set_handle()

    @property
    def device(self) -> str:
        """The GPU, as torch names it."""
        return f"{self._driver.kind}:{self.number}"

    @property
    def nbytes(self) -> int:
        """Bytes of its own on the GPU: nothing before the first kernel."""
        return sum(memory.size for memory in self._copies)

    def __repr__(self) -> str:
        return f"DeviceTensor({self.format}{list(self.shape)} on {self.device})"

    def place(self, component: str, order: Order | None) -> int:
        """Which address of the handle is that of a component in an order; it is copied there if it
        is not yet."""
        key = component, order
        if key not in self._places:
            there = self._rows.get(component) if order is None else None
            self._places[key] = self._copy(component, order) if there is None else there
            self._set_handle()
        return list(self._places).index(key)

    def _copy(self, name: str, order: Order | None) -> int:
        parts = self._parts()
        data = order.pack(parts[name]) if order else stored(self._component(name), parts[name])
        memory = self._driver.memory(self.number, data.nbytes)
        memory.write(data)
        self._copies.append(memory)
        return memory.address

    def _component(self, name: str) -> Component:
        return next(c for c in self.format.components(self.shape) if c.name == name)

    def _set_handle(self) -> None:
        layout, addresses = identity(tuple(self._places)), list(self._places.values())
        self._handle = PackedHandle(identity((self.format, self.shape)), layout, addresses)
        self.tilec_handle = self._handle.address
