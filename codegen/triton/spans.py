"""Spans: the coordinates of a tile along a dimension, where they start, and their mask."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilec.codegen.triton.printer import Axis, Printer, bare, block_of
from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops.packed import Groups, Part


@dataclass
class Spans:
    """The spans of a kernel: what holds their first coordinates, and the steps of their loops."""

    p: Printer
    starts: dict[Value, str] = field(default_factory=dict[Value, str])
    steps: dict[Value, int] = field(default_factory=dict[Value, int])

    def part(self, op: Part | Groups) -> str:
        """The coordinates of some of a span, of a size that is a power of two."""
        start = self.starts[op.span]
        if isinstance(op, Groups):
            start = f"{start} // {op.by}"
        elif op.start:
            start = f"{start} + {op.start}"
        name = self.p.fresh(f"offs_{op.name}")
        self.p.line(f"{name} = {start} + tl.arange(0, {op.size})")
        self.p.axes[str(op.size)] = Axis(str(op.size), "")
        return name

    def tile(self, v: Value, size: Extent, dim: Extent, tile: int | None, start: str) -> str:
        """Lines that make the coordinates of a span from where it starts, and their mask."""
        if tile is None:
            raise TileError(f"triton: the tile size `{size}` is not chosen",
                            hint="run the pass `tile` first")  # fmt: skip
        p = self.p
        least = p.large.get(str(size), 1)
        block = block_of(tile, least)
        offsets = p.fresh(f"offs_{size}")
        p.line(f"{offsets} = {start} + tl.arange(0, {block})")
        self.starts[v], self.steps[v] = start, tile
        masks = [f"(tl.arange(0, {block}) < {tile})"] if block != tile else []
        if not (isinstance(dim, int) and dim % tile == 0):
            masks.append(f"({offsets} < {dim})")
        mask = ""
        if masks:
            mask = p.fresh(f"mask_{size}")
            p.line(f"{mask} = {bare(' & '.join(masks))}")
        p.axes[str(size)] = Axis(str(block), mask)
        return offsets
