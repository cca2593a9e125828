"""Loads and stores of all state spaces (PTX ISA, `ld`, `ldu`, `st`, `prefetch`)."""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import INT, UINT
from tilec.ptx.instruction import Instruction
from tilec.ptx.operand import Address, Symbol
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import STORED

SPACES = ("global", "shared", "local", "param", "const")
SCOPES = ("cta", "cluster", "gpu", "sys")
ORDERS = ("weak", "volatile", "relaxed", "acquire", "release", "mmio", "nc")
CACHES = ("ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged",
          "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::cache_hint",
          "L2::evict_last", "L2::evict_first", "L2::evict_normal", "L2::64B", "L2::128B",
          "L2::256B")  # fmt: skip
SUBSPACES = ("shared::cta", "shared::cluster", "param::entry", "param::func")
STRONG = frozenset({"volatile", "relaxed", "acquire", "release"})
ACCESS = (*SPACES, *SUBSPACES, *SCOPES, *ORDERS, *CACHES, "v2", "v4", "v8", "unified")


def space(i: Instruction, n: int) -> str:
    """The state space of an access; that of a parameter is in its symbol."""
    o = i.operands[n]
    if isinstance(o, Address) and isinstance(o.base, Symbol) and o.base.space in ("param", "local"):
        return o.base.space
    found = i.one_of(*SPACES)
    return found or ("shared" if i.one_of(*SUBSPACES[:2]) else "generic")


def width(name: str) -> int:
    """The bits of an address in a space."""
    return 32 if name in ("shared", "local") else 64


@instruction("ld ldu", ACCESS, types=(STORED,), operands=(2, 3))
def ld(x: Step) -> None:
    """d = memory at an address; a vector takes what follows too."""
    t = x.i.types[0]
    parts = x.parts(0)
    where = space(x.i, 1)
    address = x.address(1)
    size = t.bytes * len(parts)
    if where == "shared":
        rows = x.m.spaces.shared.load(x.t, x.i, address, size, bool(x.i.modifiers & STRONG))
    else:
        rows = x.m.spaces.load(x.t, x.i, where, address, size)
    elements = rows.view((INT if t.kind == "int" else UINT)[t.width])
    for k, o in enumerate(parts):
        o.put(x.t, elements[:, k])


@instruction("st", ACCESS, types=(STORED,), operands=(2, 3))
def st(x: Step) -> None:
    """Memory at an address = a; a vector also fills what follows."""
    t = x.i.types[0]
    rows = np.ascontiguousarray(x.rows(1, t.width).T).view(np.uint8)
    where = space(x.i, 0)
    address = x.address(0)
    x.m.progress += 1
    if where == "shared":
        strong = bool(x.i.modifiers & STRONG)
        x.m.spaces.shared.store(x.t, x.i, address, rows, strong)
    else:
        x.m.spaces.store(x.t, x.i, where, address, rows)
