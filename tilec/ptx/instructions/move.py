"""Moves between registers, selection, address spaces (PTX ISA, `mov`, `selp`, `slct`, `cvta`)."""

from __future__ import annotations

import numpy as np

from tilec.ptx.arithmetic import flush
from tilec.ptx.formats import F32, UINT
from tilec.ptx.memory import WINDOW
from tilec.ptx.operand import Constant, Register, Vector
from tilec.ptx.registry import instruction
from tilec.ptx.spaces import WINDOWS, generic
from tilec.ptx.step import Step
from tilec.ptx.types import BITS, FLOATS, HALVES, INTEGERS, PRED, S32, types

MOVED = BITS | INTEGERS | FLOATS | HALVES | {PRED} | types("b8")


@instruction("mov", types=(MOVED,), operands=2)
def mov(x: Step) -> None:
    """d = a; a vector on either side is the parts of the other, lowest first."""
    d, a = x.i.operands
    width = x.i.types[0].width
    if isinstance(d, Vector):
        whole = a.bits(x.t, width)
        part = width // len(d.parts)
        for k, o in enumerate(d.parts):
            o.put(x.t, (whole >> UINT[width](k * part)).astype(UINT[part]))
    elif isinstance(a, Vector):
        part = width // len(a.parts)
        whole = UINT[width](0)
        for k, o in enumerate(a.parts):
            whole = whole | o.bits(x.t, part).astype(UINT[width]) << UINT[width](k * part)
        d.put(x.t, whole)
    else:
        d.put(x.t, a.bits(x.t, width))
        _copied(x)
    if x.t.registers.touched:
        _follow(x)


def _copied(x: Step) -> None:
    """Between wgmma.fence and commit_group, a copy of what was there before counts as fenced.

    By the letter of wgmma.fence nothing may write the registers there. But where two of them begin
    with one value, LLVM copies it right before the inline assembly that uses them, behind the
    fence; ptxas puts such copies before its WARPGROUP.ARRIVE, or (CUDA 12, message C7519) one more
    of these behind them.
    """
    d, a = x.i.operands
    r = x.t.registers
    if isinstance(d, Register) and d.slot in r.unfenced and isinstance(a, Register | Constant):
        late = r.unfenced[a.slot][x.t.index] if isinstance(a, Register) else False
        r.unfenced[d.slot][x.t.index] = late | ~r.fenced[x.t.index]


def _follow(x: Step) -> None:
    """Copies of registers that a wgmma has yet to write wait for the same wgmma.

    Compilers make such copies and assemblers remove them, so that they are no use of a result.
    """
    r = x.t.registers
    numbers = np.max([r.flying[slot][x.t.index] for slot in r.touched], axis=0)
    r.touched.clear()
    for o in x.parts(0):
        if isinstance(o, Register):
            mine = r.flying.setdefault(o.slot, np.zeros(x.t.shape.total, np.int64))
            mine[x.t.index] = numbers


@instruction("selp", types=(BITS | INTEGERS | FLOATS,), operands=4)
def selp(x: Step) -> None:
    """d = p ? a : b."""
    x.put(np.where(x.bits(3, 1), x.bits(1), x.bits(2)))


@instruction("slct", "ftz", types=(BITS | INTEGERS | FLOATS, types("s32 f32")), operands=4)
def slct(x: Step) -> None:
    """d = c >= 0 ? a : b."""
    c = x.number(3, x.i.types[1])
    if x.i.types[1] is not S32 and "ftz" in x.i.modifiers:
        c = flush(np.asarray(c), F32)
    x.put(np.where(c >= 0, x.bits(1), x.bits(2)))


@instruction("cvta", "to global shared const local param shared::cta shared::cluster",
             types=(types("u32 u64"),), operands=2)  # fmt: skip
def cvta(x: Step) -> None:
    """An address of a space as a generic one, or (`.to`) the reverse."""
    space = x.i.one_of("global", "const", "local", "param") or "shared"
    a = x.bits(1, 64)
    if space in ("global", "const"):
        x.put(a)
    elif "to" in x.i.modifiers:
        x.put(a - np.uint64(WINDOWS[space] << WINDOW))
    else:
        x.put(a + np.uint64(generic(space, 0)))


@instruction("isspacep", "global shared const local param shared::cta shared::cluster",
             operands=2)  # fmt: skip
def isspacep(x: Step) -> None:
    """Whether a generic address lies in a space."""
    space = x.i.one_of("global", "const", "local", "param") or "shared"
    number = x.bits(1, 64) >> np.uint64(WINDOW)
    x.put(number == WINDOWS["global" if space == "const" else space])


@instruction("mapa", "shared::cluster", types=(types("u32 u64"),))
def mapa(x: Step) -> None:
    """The address in another block of the cluster: clusters have one block."""
    x.put(x.bits(1))


@instruction("getctarank", "shared::cluster", types=(types("u32 u64"),), operands=2)
def getctarank(x: Step) -> None:
    """The rank of the block that an address belongs to: 0."""
    x.put(np.uint32(0))
