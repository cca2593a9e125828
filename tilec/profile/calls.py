"""A call of a kernel as a profile records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor


@dataclass(frozen=True)
class Tensor:
    """What a tensor argument is: its dtype or format, its shape, its device as torch says it."""

    type: str | Format
    shape: tuple[int, ...]
    device: str


Kinds = tuple[tuple[str, Tensor], ...]  # the tensors of a call by parameter


@dataclass(frozen=True)
class Call:
    """One call. Times are in seconds, `start` is of time.perf_counter and `thread` the thread's
    number; `depth` counts the profiled calls around it.

    `seconds` is what the call took on the host: all of a kernel for processors, the launch of one
    for a GPU. That has `device`, and where the driver has events, when it ran there.
    """

    kernel: Any
    tensors: Kinds
    start: float
    seconds: float
    thread: int
    depth: int
    failed: bool
    device: str = ""
    gpu_start: float | None = None
    gpu_seconds: float | None = None

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel.name

    @property
    def time(self) -> float:
        """On the GPU where that is known, else on the host."""
        return self.seconds if self.gpu_seconds is None else self.gpu_seconds

    @property
    def clock(self) -> str:
        """What its time is by: `host`; `events` of a GPU; `host, launch only` without them."""
        if not self.device:
            return "host"
        return "host, launch only" if self.gpu_seconds is None else "events"


def kinds(names: Sequence[str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Kinds:
    """What the tensors of a call are; what is no tensor is left out."""
    given = [*zip(names, arguments, strict=False), *keywords.items()]
    return tuple((name, found) for name, x in given if (found := _kind(x)) is not None)


def _kind(x: Any) -> Tensor | None:
    if isinstance(x, PackedTensor | DeviceTensor):
        return Tensor(x.format, x.shape, x.device)
    try:
        seen = describe(x)
    except TileError:  # the call itself says what is wrong with it
        return None
    if not isinstance(seen, TensorArgument):
        return None
    return Tensor(seen.dtype, tuple(seen.shape), seen.device)
