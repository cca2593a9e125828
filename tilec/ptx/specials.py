"""The special registers (PTX ISA, 'Special registers'). Clusters have one block each."""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.threads import WARP, Shape

_DIMENSIONED = ("tid", "ntid", "ctaid", "nctaid", "clusterid", "nclusterid", "cluster_ctaid",
                "cluster_nctaid")  # fmt: skip
_LANES = ("lanemask_eq", "lanemask_le", "lanemask_lt", "lanemask_ge", "lanemask_gt")
_SINGLE = ("laneid", "warpid", "nwarpid", "smid", "nsmid", "gridid", "clock", "clock_hi",
           "clock64", "globaltimer", "globaltimer_lo", "globaltimer_hi", "cluster_ctarank",
           "cluster_nctarank", "is_explicit_cluster", "total_smem_size", "aggr_smem_size",
           "dynamic_smem_size")  # fmt: skip
CLOCKS = frozenset(
    {"%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi"}
)
SPECIALS = frozenset(
    [f"%{n}.{d}" for n in _DIMENSIONED for d in "xyz"]
    + [f"%{n}" for n in (*_DIMENSIONED, *_LANES, *_SINGLE)]
)


def specials(shape: Shape, static: int, dynamic: int) -> dict[str, Array]:
    """The special registers of every thread; shared memory is given in bytes of a block."""
    ids = np.arange(shape.total, dtype=np.uint32)
    local = ids % shape.lanes
    found = _positions("tid", local, shape.block) | _positions(
        "ctaid", ids // shape.lanes + shape.first, shape.grid
    )
    for name, size in (("ntid", shape.block), ("nctaid", shape.grid)):
        found |= {f"%{name}.{d}": np.full_like(ids, n) for d, n in zip("xyz", size, strict=True)}
    for d in "xyz":
        found[f"%clusterid.{d}"], found[f"%nclusterid.{d}"] = (
            found[f"%ctaid.{d}"],
            found[f"%nctaid.{d}"],
        )
        found[f"%cluster_ctaid.{d}"] = np.zeros_like(ids)
        found[f"%cluster_nctaid.{d}"] = np.ones_like(ids)
    numbers = {
        "warpid": local // WARP, "laneid": local % WARP, "nwarpid": shape.warps, "smid": 0,
        "nsmid": 1, "gridid": 0, "cluster_ctarank": 0, "cluster_nctarank": 1,
        "is_explicit_cluster": 0, "total_smem_size": static + dynamic,
        "aggr_smem_size": static + dynamic, "dynamic_smem_size": dynamic,
    }  # fmt: skip
    found |= {f"%{n}": np.broadcast_to(np.asarray(v, np.uint32), ids.shape)
              for n, v in numbers.items()}  # fmt: skip
    found |= {name: np.zeros(ids.shape, np.uint64) for name in CLOCKS}
    return found | _masks(local % WARP)


def _positions(name: str, number: Array, size: tuple[int, int, int]) -> dict[str, Array]:
    x, y, _ = (np.uint32(n) for n in size)
    parts = {"x": number % x, "y": number // x % y, "z": number // (x * y)}
    return {f"%{name}.{d}": part.astype(np.uint32) for d, part in parts.items()}


def _masks(lane: Array) -> dict[str, Array]:
    bit = np.uint64(1) << lane.astype(np.uint64)
    found = {
        "eq": bit,
        "lt": bit - np.uint64(1),
        "le": (bit << np.uint64(1)) - np.uint64(1),
        "ge": ~(bit - np.uint64(1)),
        "gt": ~((bit << np.uint64(1)) - np.uint64(1)),
    }
    return {f"%lanemask_{n}": v.astype(np.uint32) for n, v in found.items()}
