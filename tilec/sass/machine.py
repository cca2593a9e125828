"""What a multiprocessor holds at once, and what some devices can issue and read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tilec.ir.errors import TileError

REGISTERS = 1 << 16  # 32-bit ones of a multiprocessor
SCHEDULERS = 4  # of a multiprocessor: each issues one instruction of one warp per clock
_KIB = 1024
_RESERVED = 1 * _KIB  # shared memory that the driver keeps for each CTA
_SHARED_UNIT = 128  # bytes
_REGISTER_UNIT = 256  # registers of a warp


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor: resident warps and CTAs, and bytes of shared memory, in all and for
    one CTA."""

    warps: int
    ctas: int
    shared: int
    shared_of_cta: int


# CUDA Programming Guide 13, "Technical Specifications per Compute Capability"; the numbers of CTAs
# also in cuda_occupancy.h of the toolkit (13.0), whose units of allocation are those above.
LIMITS = {
    80: Limits(64, 32, 164 * _KIB, 163 * _KIB),
    86: Limits(48, 16, 100 * _KIB, 99 * _KIB),
    87: Limits(48, 16, 164 * _KIB, 163 * _KIB),
    89: Limits(48, 24, 100 * _KIB, 99 * _KIB),
    90: Limits(64, 32, 228 * _KIB, 227 * _KIB),
    100: Limits(64, 32, 228 * _KIB, 227 * _KIB),
    103: Limits(64, 32, 228 * _KIB, 227 * _KIB),
    120: Limits(48, 24, 100 * _KIB, 99 * _KIB),
    121: Limits(48, 24, 100 * _KIB, 99 * _KIB),
}


@dataclass(frozen=True)
class Device:
    """A product: multiprocessors, clocks per second, bytes per second of its memory."""

    name: str
    target: str
    multiprocessors: int
    clock: float
    bandwidth: float

    @property
    def bytes_per_clock(self) -> float:
        """What its memory gives one multiprocessor."""
        return self.bandwidth / self.multiprocessors / self.clock


# Boost clocks and bandwidths of NVIDIA's data sheets, but for the H100's clock, which its sheet
# does not give: 1.755 GHz is an assumption.
A100 = Device("A100 SXM 80 GB", "sm_80", 108, 1.41e9, 2.039e12)
H100 = Device("H100 SXM", "sm_90", 132, 1.755e9, 3.35e12)
RTX_4090 = Device("RTX 4090", "sm_89", 128, 2.52e9, 1.008e12)
DEVICES = (A100, H100, RTX_4090)


@dataclass(frozen=True)
class Residency:
    """How many CTAs and warps a multiprocessor holds at once, and what stops more: warps, CTAs,
    registers or shared memory."""

    ctas: int
    warps: int
    limit: str


def capability(target: str) -> int:
    """90 for sm_90 and sm_90a. Raises TileError for what is no target of CUDA."""
    found = re.fullmatch(r"sm_(\d+)[af]?", target)
    if found is None:
        raise TileError(f"{target!r} is no target of CUDA: expected one like sm_80 or sm_90a")
    return int(found[1])


def limits_of(target: str) -> Limits:
    """The limits of a target's multiprocessor. Raises TileError where they are not known."""
    number = capability(target)
    if number not in LIMITS:
        known = ", ".join(f"sm_{n}" for n in LIMITS)
        raise TileError(f"no limits are known of {target}; known are {known}")
    return LIMITS[number]


def residency(target: str, registers: int, threads: int, shared: int) -> Residency:
    """How many CTAs of a kernel fit, by cuda_occupancy.h of the toolkit; shared memory is static
    and dynamic bytes of a CTA, and all that can be is taken to be configured as shared memory."""
    limits = limits_of(target)
    warps = -(-threads // 32)
    of_warp = _rounded(registers * 32, _REGISTER_UNIT)
    at_once = REGISTERS // SCHEDULERS // of_warp * SCHEDULERS  # each scheduler has a quarter
    fits = {
        "warps": limits.warps // warps,
        "CTAs": limits.ctas,
        "registers": at_once // warps,
        "shared memory": limits.shared // _rounded(shared + _RESERVED, _SHARED_UNIT)
        if shared <= limits.shared_of_cta
        else 0,
    }
    limit = min(fits, key=fits.__getitem__)
    return Residency(fits[limit], fits[limit] * warps, limit)


def _rounded(amount: int, unit: int) -> int:
    return -(-amount // unit) * unit
