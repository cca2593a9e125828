"""Compiled programs for GPUs: what is loaded and launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tilec.ir.extent import Extent
from tilec.ir.source import Param, TensorBoxes


@dataclass(frozen=True)
class Given:
    """A kernel's parameter that the user gives: the program's, counted from 0."""

    place: int


@dataclass(frozen=True)
class Made:
    """Memory between kernels, by name."""

    name: str


@dataclass(frozen=True)
class Size:
    """A number of dimensions, in 4 or 8 bytes; 0 is a null pointer too."""

    extent: Extent


@dataclass(frozen=True)
class Boxes:
    """A tensor map of memory."""

    boxes: TensorBoxes
    of: Given | Made


Parameter = Given | Made | Size | Boxes


@dataclass(frozen=True)
class Kernel:
    """One launch: its kernel in an image (a cubin, or PTX that ends with a zero), how many blocks
    of threads, bytes of dynamic shared memory, and the parameters in order."""

    entry: str
    image: bytes
    blocks: Extent
    threads: int
    shared: int
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Program:
    """A program compiled for a kind of GPU: kernels that run one after the other, the parameters
    that a user gives, and the bytes of memory between kernels by name."""

    kernels: tuple[Kernel, ...]
    params: tuple[Param, ...]
    own: Mapping[str, Extent] = field(default_factory=dict[str, Extent])
