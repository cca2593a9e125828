"""Operands of a case on a GPU at full size: made once, copied so that calls find them cold."""

# torch types what it returns loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from tilec.bench.gpu.case import Case
from tilec.bench.gpu.operands import operand
from tilec.compile import gpu
from tilec.ir.bits import stored
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ir.source import Order
from tilec.lang.kernel import TensorSpec
from tilec.runtime.arguments import torch_name
from tilec.runtime.driver import Driver
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor

COLD = 160 << 20  # bytes that calls rotate over: three times the cache of an H100
BLOCK = 1 << 22  # elements that are rounded to a format; a tensor repeats them along its first axis
ROWS = 256  # the rows of a block are a multiple of these, as tiles of codes have no more


@dataclass(frozen=True)
class Place:
    """Where contenders run: the device as torch names it, the driver (None: this machine's), which
    image it takes, who must be told of tensors that are made, and bytes that calls rotate over."""

    device: str = "cuda"
    gpu: Any = None
    image: str = "cubin"
    hold: Callable[..., None] = lambda *_: None
    cold: int = COLD

    @property
    def driver(self) -> Driver:
        """The driver of packed tensors. Raises TileError without one."""
        return (self.gpu or gpu()).driver


class RepeatedTensor(DeviceTensor):
    """A packed tensor whose rows are those of a block, again and again: only that is packed.

    Every component has the axis of the rows first, in whichever order it lies, or has it not.
    Tensors of one block share what was packed of it.
    """

    def __init__(self, block: PackedTensor, times: int, driver: Driver,
                 packs: dict[tuple[str, Order | None], Array]) -> None:  # fmt: skip
        shape = (block.shape[0] * times, *block.shape[1:])
        super().__init__(block.format, shape, block.parts, driver, 0)
        self._block, self._packs = block, packs

    def _copy(self, name: str, order: Order | None) -> int:
        (part,) = (c for c in self.format.components(self._block.shape) if c.name == name)
        (full,) = (c for c in self.format.components(self.shape) if c.name == name)
        if (name, order) not in self._packs:
            numbers = self._block.parts()[name]
            data = order.pack(numbers) if order else stored(part, numbers)
            self._packs[name, order] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        raw = self._packs[name, order]
        times = prod(map(_whole, full.shape)) // max(1, prod(map(_whole, part.shape)))
        memory = self._driver.memory(self.number, raw.nbytes * times)
        memory.write(np.tile(raw, times))
        self._copies.append(memory)
        return memory.address


def _whole(extent: object) -> int:
    return int(str(extent))


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor on a GPU: of torch, or a block of a packed one and how often it is repeated."""

    name: str
    shape: tuple[int, ...]
    torch: Any
    place: Place
    tensor: Any = None
    block: PackedTensor | None = None
    packs: dict[tuple[str, Order | None], Array] = field(
        default_factory=dict[tuple[str, "Order | None"], Array]
    )

    @property
    def times(self) -> int:
        """How often the block is repeated."""
        assert self.block is not None
        return self.shape[0] // self.block.shape[0]

    def copy(self) -> Any:
        """Another tensor of the same elements, as tilec's kernels take it."""
        if self.block is not None:
            return RepeatedTensor(self.block, self.times, self.place.driver, self.packs)
        made = self.tensor.clone()
        self.place.hold(made)
        return made

    def values(self, cut: Sequence[slice]) -> Array:
        """A part of the elements in doubles, or whole numbers."""
        if self.block is not None:
            rows = np.arange(self.shape[0])[cut[0]] % self.block.shape[0]
            whole = self.block.dequantize()[rows]
            return whole[(slice(None), *cut[1:])].astype(np.float64)
        part = self.tensor[tuple(_from_start(c, n) for c, n in zip(cut, self.shape, strict=True))]
        wide = part.to(self.torch.float64) if part.dtype.is_floating_point else part
        return wide.cpu().numpy()

    def dense(self, dtype: Any) -> Any:
        """All elements in a dtype of torch."""
        if self.block is None:
            return self.tensor.to(dtype)
        block = self.torch.from_numpy(self.block.dequantize()).to(self.place.device, dtype)
        return block.repeat(self.times, *[1] * (len(self.shape) - 1))


def _from_start(cut: slice, size: int) -> slice:
    """A slice without negative numbers, as torch takes it."""
    return slice(*cut.indices(size))


@dataclass(frozen=True, eq=False)
class Operands:
    """What a case is given on a GPU: tensors by name, numbers, and in how many copies each call
    finds them."""

    case: Case
    torch: Any
    place: Place
    held: Mapping[str, Held]
    copies: int
    kept: list[Any] = field(default_factory=list[Any])

    def arguments(self, copy: int) -> list[Any]:
        """The arguments of tilec's kernel in order; results are the same in every copy."""
        found: list[Any] = []
        for p in self.case.definition.signature.params:
            if not isinstance(p.spec, TensorSpec):
                found.append(self.case.numbers[p.name])
                continue
            h = self.held[p.name]
            again = (copy and p.name not in self.case.results) or h.block is not None
            found.append(h.copy() if again else h.tensor)
        return found

    def dense(self, name: str, dtype: str) -> Any:
        """An operand for a peer, its elements in a dtype of torch."""
        return self.held[name].dense(getattr(self.torch, dtype))

    def rotated(self, *tensors: Any) -> list[tuple[Any, ...]]:
        """These tensors and copies of them, so that calls that take one after the other find them
        cold."""
        size = sum(t.numel() * t.element_size() for t in tensors)
        many = min(64, max(1, -(-self.place.cold // max(size, 1))))
        return [tensors, *(tuple(t.clone() for t in tensors) for _ in range(many - 1))]

    def cut(self, dims: Sequence[Any]) -> list[slice]:
        """The part of a tensor of these dims that is compared."""
        return [self.case.sample.get(str(d), slice(None)) for d in dims]

    def want(self) -> dict[str, Array]:
        """The results of the part that is compared, in doubles."""
        values: dict[str, Array] = {n: np.asarray(x) for n, x in self.case.numbers.items()}
        dims = dict(self.case.dims)
        for p in self.case.definition.signature.params:
            if isinstance(p.spec, TensorSpec) and p.name not in self.case.results:
                values[p.name] = self.held[p.name].values(self.cut(p.spec.dims))
        for name, cut in self.case.sample.items():
            dims[name] = len(range(*cut.indices(dims[name])))
        return self.case.meaning(values, dims)

    def part(self, name: str, tensor: Any) -> Array:
        """The part of a result that is compared."""
        spec = {p.name: p.spec for p in self.case.definition.signature.params}[name]
        assert isinstance(spec, TensorSpec)
        cut = [_from_start(c, n) for c, n in zip(self.cut(spec.dims), tensor.shape, strict=True)]
        return tensor[tuple(cut)].double().cpu().numpy()


def made(case: Case, place: Place, seed: int = 0) -> Operands:
    """The operands of a case on a GPU. Raises TileError without torch, or for formats whose random
    tensors can't be made of blocks."""
    torch: Any = importlib.import_module("torch")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    special = case.given(case.dims, rng) if case.given is not None else {}
    held: dict[str, Held] = {}
    for name, format, shape in case.shapes(case.dims):
        if name in special:
            held[name] = _special(name, special[name], torch, place)
        elif isinstance(format, Dense):
            held[name] = _dense(name, format, shape, torch, place, name in case.results)
        else:
            block = operand(format, _block(shape), rng, case.density)
            assert isinstance(block, PackedTensor)
            held[name] = Held(name, shape, torch, place, block=block)
    size = sum(case.bytes_of(n) for n in held if n not in case.results)
    return Operands(case, torch, place, held, min(32, max(1, -(-place.cold // max(int(size), 1)))))


def _special(name: str, x: Array | PackedTensor, torch: Any, place: Place) -> Held:
    if isinstance(x, PackedTensor):
        return Held(name, x.shape, torch, place, block=x)
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(place.device)
    place.hold(tensor)
    return Held(name, x.shape, torch, place, tensor)


def _dense(name: str, format: Dense, shape: tuple[int, ...], torch: Any, place: Place, result: bool
           ) -> Held:  # fmt: skip
    dtype = getattr(torch, torch_name(format.dtype))
    if result:
        tensor = torch.empty(shape, dtype=dtype, device=place.device)
    elif format.dtype.is_float:
        tensor = torch.randn(shape, device=place.device, dtype=torch.bfloat16).to(dtype)
    else:
        tensor = torch.randint(-100, 101, shape, device=place.device, dtype=dtype)
    place.hold(tensor)
    return Held(name, shape, torch, place, tensor)


def _block(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the block that a tensor repeats: all of it where no part of it can be."""
    rows, each = shape[0], prod(shape[1:])
    unit = ROWS if len(shape) == 2 else 1
    fits = [n for n in range(unit, rows, unit) if rows % n == 0 and n * each <= max(BLOCK, each)]
    return (max(fits), *shape[1:]) if fits and rows * each > BLOCK else shape
