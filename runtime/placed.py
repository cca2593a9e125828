"""Packed tensors on a GPU: components in the orders of the code that reads them."""

from __future__ import annotations

from collections.abc import Callable

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
    carriers, from memory of the host.
    """

    def __init__(self, format: Format, shape: tuple[int, ...], parts: Callable[[], Parts],
                 driver: Driver, number: int) -> None:  # fmt: skip
        self.format, self.shape, self.number = format, shape, number
        self._parts, self._driver = parts, driver
        self._copies: dict[tuple[str, Order | None], Memory] = {}
        driver.device(number)  # there must be one
        self._set_handle()

    @property
    def device(self) -> str:
        """The GPU, as torch names it."""
        return f"{self._driver.kind}:{self.number}"

    @property
    def nbytes(self) -> int:
        """Bytes on the GPU: nothing before the first kernel."""
        return sum(memory.size for memory in self._copies.values())

    def __repr__(self) -> str:
        return f"DeviceTensor({self.format}{list(self.shape)} on {self.device})"

    def place(self, component: str, order: Order | None) -> int:
        """Which address of the handle is that of a component in an order; it is copied there if it
        is not yet."""
        key = component, order
        if key not in self._copies:
            self._copies[key] = self._copy(component, order)
            self._set_handle()
        return list(self._copies).index(key)

    def _copy(self, name: str, order: Order | None) -> Memory:
        parts = self._parts()
        data = order.pack(parts[name]) if order else stored(self._component(name), parts[name])
        memory = self._driver.memory(self.number, data.nbytes)
        memory.write(data)
        return memory

    def _component(self, name: str) -> Component:
        return next(c for c in self.format.components(self.shape) if c.name == name)

    def _set_handle(self) -> None:
        layout = identity(tuple(self._copies))
        addresses = [memory.address for memory in self._copies.values()]
        self._handle = PackedHandle(identity((self.format, self.shape)), layout, addresses)
        self.tilec_handle = self._handle.address
