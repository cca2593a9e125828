"""Planes: the bits of codes taken apart, each plane a tensor of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.bits import from_raw, raw
from tilec.ir.dtype import Array, DType, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts, Scaled


@dataclass(frozen=True)
class Planes(Format):
    """The codes of a scaled format in planes; its scales and zeros are stored as it stores them.

    Plane i has `widths[i]` bits of every code, the lowest first. Without widths each bit is a
    plane, as products of bit planes take them (APNN-TC, arXiv 2106.12169); 4 and 2 are how FP6-LLM
    stores six bits (arXiv 2401.14112), and 4, 2 and 1 make seven.
    """

    inner: Format
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Scaled):
            raise TileError(f"planes: expected a scaled format, whose codes have bits, "
                            f"not {self.inner}", hint="planes<int3<group=64>, 2, 1>")  # fmt: skip
        bits = self.codes.bits
        if not self.widths:
            object.__setattr__(self, "widths", (1,) * bits)
        if min(self.widths) < 1 or sum(self.widths) != bits:
            raise TileError(f"planes: expected widths that add up to the {bits} bits of "
                            f"{self.codes}, not {', '.join(map(str, self.widths))}")  # fmt: skip

    def __str__(self) -> str:
        widths = () if set(self.widths) == {1} else self.widths
        return f"planes<{', '.join(map(str, (self.inner, *widths)))}>"

    @property
    def scaled(self) -> Scaled:
        """The format of the codes."""
        assert isinstance(self.inner, Scaled)
        return self.inner

    @property
    def codes(self) -> DType:
        """The element type that is taken apart."""
        return self.scaled.codes

    @property
    def value(self) -> DType:
        return self.inner.value

    @property
    def group(self) -> int | None:
        return self.inner.group

    @property
    def lows(self) -> tuple[int, ...]:
        """The place in a code of each plane's lowest bit."""
        return tuple(sum(self.widths[:i]) for i in range(len(self.widths)))

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        rest = self.inner.components(shape)[1:]
        return (*(Component(name(i), integer(w, signed=False), shape)
                  for i, w in enumerate(self.widths)), *rest)  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        return self.inner.values(self.joined(parts), shape)

    def apart(self, parts: Parts) -> Parts:
        """The components of a tensor in the scaled format, its codes in planes."""
        codes = raw(self.codes, parts["codes"])
        planes: Parts = {}
        for i, (low, width) in enumerate(zip(self.lows, self.widths, strict=True)):
            planes[name(i)] = (codes >> low & (1 << width) - 1).astype(np.int64)
        return planes | {k: v for k, v in parts.items() if k != "codes"}

    def joined(self, parts: Parts) -> Parts:
        """The inverse of `apart`."""
        names = [name(i) for i in range(len(self.widths))]
        planes = [parts[n].astype(np.int64) << low for n, low in zip(names, self.lows, strict=True)]
        codes = from_raw(self.codes, np.bitwise_or.reduce(planes))
        return {"codes": codes} | {k: v for k, v in parts.items() if k not in names}


def name(i: int) -> str:
    """The component of a plane."""
    return f"plane{i}"


@fit.encode.register
def _(format: Planes, x: Array, how: fit.Fit) -> Parts:
    return format.apart(fit.encode(format.inner, x, how))
