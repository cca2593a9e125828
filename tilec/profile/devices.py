"""Processors that need not be here: what they can do at most, as their makers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tilec.ir.errors import TileError
from tilec.profile.work import Work


class Machine(Protocol):
    """What bounds a kernel: bytes a second for data of a size, operations a second for its work."""

    def bandwidth(self, size: int) -> float: ...

    def rate(self, work: Work) -> float: ...


@dataclass(frozen=True)
class Device:
    """Peaks of a device: bytes a second, and operations a second (a multiply-add is two) of dense
    products by the kind of their operands (`Work.operands`), sums kept in f32 or i32."""

    name: str
    title: str
    source: str
    bytes: float
    rates: Mapping[str, float]

    def bandwidth(self, size: int) -> float:
        """Of its memory: what fits into caches is not told apart."""
        return self.bytes

    def rate(self, work: Work) -> float:
        """Of operands as this work has; without a unit for them, of those of 16 bits."""
        return self.rates[work.operands]


def least(machine: Machine, work: Work, size: int) -> tuple[float, str]:
    """The seconds that work with so many bytes needs at least, and what decides them: memory or
    arithmetic. With sparse operands that is memory, as it is not known how many operations are
    needed."""
    moving = size / machine.bandwidth(size)
    computing = (0 if work.sparse else work.operations) / machine.rate(work)
    return max((moving, "memory"), (computing, "arithmetic"))


def _device(name: str, title: str, source: str, gigabytes: float, f32: float, half: float,
            int8: float, fp8: float = 0.0) -> Device:  # fmt: skip
    """One row: GB/s, then 10^12 operations a second."""
    rates = {"f32": f32, "half": half, "int8": int8, "fp8": fp8 or half}
    return Device(name, title, source, gigabytes * 1e9, {n: r * 1e12 for n, r in rates.items()})


# Without sparsity: data sheets that give rates with 2:4 sparsity count twice of these.
_ADA = "NVIDIA, Ada GPU Architecture white paper, appendix A"
_AMD = "AMD, Instinct MI300X data sheet"
DEVICES = {d.name: d for d in (
    _device("a100", "NVIDIA A100 SXM 80 GB", "NVIDIA, A100 Tensor Core GPU data sheet",
            2039, 19.5, 312, 624),
    _device("h100", "NVIDIA H100 SXM", "NVIDIA, H100 Tensor Core GPU data sheet",
            3350, 66.9, 989.4, 1978.9, 1978.9),
    _device("h200", "NVIDIA H200 SXM", "NVIDIA, H200 Tensor Core GPU data sheet",
            4800, 66.9, 989.4, 1978.9, 1978.9),
    _device("b200", "NVIDIA B200 (HGX, 1000 W)", "NVIDIA, Blackwell architecture brief",
            8000, 80, 2250, 4500, 4500),
    _device("l4", "NVIDIA L4", "NVIDIA, L4 Tensor Core GPU data sheet", 300, 30.3, 121, 242.5,
            242.5),
    _device("l40s", "NVIDIA L40S", "NVIDIA, L40S data sheet", 864, 91.6, 362.05, 733, 733),
    _device("rtx4090", "NVIDIA GeForce RTX 4090", _ADA, 1008, 82.6, 165.2, 660.6, 330.3),
    _device("rtx5090", "NVIDIA GeForce RTX 5090",
            "NVIDIA, RTX Blackwell GPU Architecture white paper", 1792, 104.8, 209.5, 838, 419),
    _device("mi300x", "AMD Instinct MI300X", _AMD, 5300, 163.4, 1307.4, 2614.9, 2614.9),
)}  # fmt: skip


def device(name: str) -> Device:
    """A device by its name. Raises TileError for one that is not in the table."""
    if name not in DEVICES:
        raise TileError(f"no device is called {name!r}; there are host, {', '.join(DEVICES)}")
    return DEVICES[name]
