"""GPU programs of one driver: code loaded, launches planned, called by the native launcher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.source import Param
from tilec.runtime.arguments import ALIGNMENT, read
from tilec.runtime.driver import Driver, Module
from tilec.runtime.events import EventClock
from tilec.runtime.jit import Machine, load_object
from tilec.runtime.launch import Compiled
from tilec.runtime.plan import Call, Map, Number, Own, Plan, Slot, Source
from tilec.runtime.program import Boxes, Given, Made, Parameter, Program, Size


class Gpu:
    """The GPUs of a driver. `objects` compiles a module of LLVM IR (or a cache does)."""

    def __init__(self, driver: Driver, machine: Machine,
                 objects: Callable[[str, Machine], bytes]) -> None:  # fmt: skip
        self.driver = driver
        text = Path(__file__).with_name("gpu.ll").read_text("utf-8")
        self._code = load_object(objects(text, machine), ("tilec_gpu",))
        self._code.keep_forever()  # functions may be called until the process ends
        self._modules: dict[tuple[int, bytes], Module] = {}

    def load(self, program: Program, device: int, dims: Mapping[str, int],
             arguments: Sequence[object]) -> Compiled:  # fmt: skip
        """A program for arguments of one specialisation: what a dispatcher's slow path returns.

        `dims` are all dimensions of the call. Raises TileError where the GPU can't run it.
        """
        offsets, workspace = _offsets(program, dims)
        addresses = [_address(p, arguments) for p in program.params]

        def source(p: Parameter) -> Source:
            match p:
                case Given(place):
                    return Slot(place)
                case Made(name):
                    return Own(offsets[name])
                case Size(extent):
                    return Number(number(extent, dims))
                case Boxes(boxes, Given(place)):
                    return Map(boxes, Slot(place), addresses[place])
                case Boxes(boxes, Made(name)):
                    return Map(boxes, Own(offsets[name]))
                case _:
                    raise TileError(f"a kernel can't take {p}")

        calls = [
            Call(k.entry, self._module(device, k.image).function(k.entry, k.shared),
                 number(k.blocks, dims), k.threads, k.shared, tuple(map(source, k.parameters)))
            for k in program.kernels
        ]  # fmt: skip
        plan = partial(Plan, self.driver, device, self.driver.streams(), calls, dims, workspace)
        made = self._compiled(program, plan())
        if not workspace:
            return made
        return replace(made, bind=lambda: self._compiled(program, plan(one=True)))

    def clock(self, device: int) -> EventClock | None:
        """What takes the times of work on a GPU, where the driver has events."""
        if not EventClock.there(self.driver):
            return None
        return EventClock(self.driver, device, self.driver.streams())

    def _compiled(self, program: Program, plan: Plan) -> Compiled:
        return Compiled(self._code["tilec_gpu"], program.params, keep=plan, data=plan.address,
                        recover=plan.recover)  # fmt: skip

    def _module(self, device: int, image: bytes) -> Module:
        key = device, hashlib.sha256(image).digest()
        if key not in self._modules:
            self._modules[key] = self.driver.module(device, image)
        return self._modules[key]


def _offsets(program: Program, dims: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Where memory between kernels is in the workspace, and the bytes of that."""
    found: dict[str, int] = {}
    end = 0
    for name, size in program.own.items():
        found[name] = end
        end += -(-number(size, dims) // ALIGNMENT) * ALIGNMENT
    return found, end


def _address(p: Param, arguments: Sequence[object]) -> int:
    """Where an argument is: code for GPUs copies 16 bytes at a time, as the key of a call knows."""
    reading = read(arguments[p.argument])
    assert reading is not None
    address = 0 if p.kind == "scalar" else reading.addresses[p.place]
    if address % ALIGNMENT:
        raise TileError(f"`{p.name}` begins at an address that is no multiple of {ALIGNMENT}",
                        hint="make a copy")  # fmt: skip
    return address
