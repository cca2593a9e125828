"""Changing tensor maps in memory (PTX ISA, `tensormap.replace`, `tensormap.cp_fenceproxy`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import UINT
from tilec.ptx.instructions.memory import SCOPES, space
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.tensormap import LAYOUT, OFFSETS, SIZE
from tilec.ptx.types import types

FIELDS: dict[str, Any] = {
    "global_address": "address", "rank": "rank", "elemtype": "element", "swizzle_mode": "swizzle",
    "interleave_layout": "interleave", "fill_mode": "fill", "global_dim": "size",
    "global_stride": "stride", "box_dim": "box", "element_stride": "step",
}  # fmt: skip
WHERE = ("global", "shared", "shared::cta")


@instruction("tensormap.replace.tile", [*FIELDS, *WHERE],
             types=(types("b1024"), types("b32 b64")), operands=(2, 3))  # fmt: skip
def replace(x: Step) -> None:
    """One field of a map, or one number of a field."""
    name = FIELDS[x.i.one_of(*FIELDS)]
    kind, start = LAYOUT[name], OFFSETS[name]
    base = kind.base.itemsize
    last = len(x.i.operands) - 1
    index = int(np.atleast_1d(x.bits(1, 32))[0]) if last == 2 else 0
    if index >= kind.itemsize // base:
        raise TileError(f"ptx: {x.i.place}: a tensor map has no {name} {index}: {x.i.text}")
    value = x.row(last, x.i.types[1].bits).astype(UINT[8 * base])
    where = space(x.i, 0)
    address = x.address(0) + start + index * base
    x.m.spaces.store(x.t, x.i, where, address, value[:, None].view(np.uint8))


@instruction("tensormap.cp_fenceproxy",
             ["global", "shared::cta", "tensormap::generic", "release", "sync", "aligned", *SCOPES],
             operands=3, sync="warp")  # fmt: skip
def copy(x: Step) -> None:
    """Copy a map from shared to global memory, where bulk copies may then use it."""
    if x.constant(2) != SIZE:
        raise TileError(f"ptx: {x.i.place}: a tensor map has {SIZE} bytes: {x.i.text}")
    first = x.t.subset(np.r_[True, np.diff(x.t.ids // 32) > 0])  # one lane speaks for its warp
    to, source = (x.address(n)[np.isin(x.t.ids, first.ids)] for n in (0, 1))
    for step in range(0, SIZE, 16):
        rows = x.m.spaces.load(first, x.i, "shared", source + step, 16)
        x.m.spaces.store(first, x.i, "global", to + step, rows)
