"""Logic, shifts, fields and bytes (PTX ISA, 'Logic and shift instructions' and its neighbours)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx.formats import UINT, Array
from tilec.ptx.operand import Pair
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import B32, BITS, PRED, types

WORDS = types("b32 b64")
NUMBERED = types("u32 s32 u64 s64")


@instruction("and", types=(BITS | {PRED},))
def and_(x: Step) -> None:
    """d = a & b."""
    x.put(x.bits(1) & x.bits(2))


@instruction("or", types=(BITS | {PRED},))
def or_(x: Step) -> None:
    """d = a | b."""
    x.put(x.bits(1) | x.bits(2))


@instruction("xor", types=(BITS | {PRED},))
def xor(x: Step) -> None:
    """d = a ^ b."""
    x.put(x.bits(1) ^ x.bits(2))


@instruction("not", types=(BITS | {PRED},), operands=2)
def not_(x: Step) -> None:
    """d = ~a."""
    x.put(~x.bits(1))


@instruction("cnot", types=(BITS,), operands=2)
def cnot(x: Step) -> None:
    """d = 1 where a is 0, else 0."""
    x.put(x.bits(1) == 0)


def _lop3(a: Any, b: Any, c: Any, table: int) -> Any:
    """Each bit of the result is the bit of `table` that the bits of a, b and c number."""
    d = np.zeros_like(a & b & c)
    for k in range(8):
        if table >> k & 1:
            d |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return d


@instruction("lop3", types=((B32,),), operands=5)
def lop3(x: Step) -> None:
    """Any logic of three operands, by a table of 8 bits."""
    x.put(_lop3(x.bits(1), x.bits(2), x.bits(3), x.constant(4)))


@instruction("lop3", "or and", types=((B32,),), operands=6)
def lop3_predicate(x: Step) -> None:
    """lop3 that also combines (d != 0) with a predicate."""
    d = _lop3(x.bits(1), x.bits(2), x.bits(3), x.constant(4))
    both = x.operand(0)
    q = x.bits(5, 1)
    p = (d != 0) | q if "or" in x.i.modifiers else (d != 0) & q
    if isinstance(both, Pair):
        both.first.put(x.t, d)
        both.second.put(x.t, p)


@instruction("shl", types=(BITS,))
def shl(x: Step) -> None:
    """d = a << b; 0 from the width on."""
    width = x.i.types[0].bits
    a, b = x.bits(1), x.bits(2, 32)
    d = a << np.minimum(b, width - 1).astype(UINT[width])
    x.put(np.where(b < width, d, UINT[width](0)))


@instruction("shr", types=(BITS | types("u16 u32 u64 s16 s32 s64"),))
def shr(x: Step) -> None:
    """d = a >> b, filled with the sign or with 0."""
    t = x.i.types[0]
    a, b = x.number(1), x.bits(2, 32)
    d = a >> np.minimum(b, t.bits - 1).astype(a.dtype)
    x.put(d if t.kind == "int" else np.where(b < t.bits, d, a.dtype.type(0)))


@instruction("shf", "l r clamp wrap", types=((B32,),), operands=4)
def shf(x: Step) -> None:
    """A shift of the 64 bits b:a: the upper half of one to the left, the lower of one right."""
    low, up, by = (np.asarray(x.bits(n)).astype(np.uint64) for n in (1, 2, 3))
    by = by & np.uint64(31) if "wrap" in x.i.modifiers else np.minimum(by, np.uint64(32))
    both = up << np.uint64(32) | low
    x.put((both << by >> np.uint64(32) if "l" in x.i.modifiers else both >> by).astype(np.uint32))


def _field(x: Step, first: int, width: int) -> tuple[Any, Any]:
    """Position and length of a bit field, both limited to 8 bits; the length to the width too."""
    position = np.asarray(x.bits(first, 32)).astype(np.int64) & 0xFF
    length = np.minimum(np.asarray(x.bits(first + 1, 32)).astype(np.int64) & 0xFF, width)
    return position, length


def _low_mask(length: Array) -> Array:
    """That many ones in 64 bits."""
    ones = ~np.uint64(0)
    return np.where(length > 0, ones >> np.clip(64 - length, 0, 63).astype(np.uint64), np.uint64(0))


def _shifted(a: Array, by: Array, left: bool) -> Array:
    """A shift of 64 bits; 0 from 64 on."""
    step = np.clip(by, 0, 63).astype(np.uint64)
    return np.where(by < 64, a << step if left else a >> step, np.uint64(0))


@instruction("bfe", types=(NUMBERED,), operands=4)
def bfe(x: Step) -> None:
    """The field of `length` bits at `position`, extended by its sign for signed types."""
    t = x.i.types[0]
    position, length = _field(x, 2, t.bits)
    a = np.asarray(x.bits(1)).astype(np.uint64)
    d = _shifted(a, position, left=False) & _low_mask(length)
    if t.kind == "int":
        last = np.minimum(position + length - 1, t.bits - 1)
        sign = (_shifted(a, last, left=False) & np.uint64(1)).astype(bool) & (length > 0)
        inside = np.clip(t.bits - position, 0, length)
        d = np.where(sign, d | ~_low_mask(inside), d)
    x.put(d.astype(UINT[t.bits]))


@instruction("bfi", types=(WORDS,), operands=5)
def bfi(x: Step) -> None:
    """b with the field of `length` bits at `position` taken from a."""
    width = x.i.types[0].bits
    position, length = _field(x, 3, width)
    a, b = (np.asarray(x.bits(n)).astype(np.uint64) for n in (1, 2))
    mask = _shifted(_low_mask(length), position, left=True)
    x.put(((b & ~mask) | (_shifted(a, position, left=True) & mask)).astype(UINT[width]))


@instruction("bmsk", "clamp wrap", types=((B32,),))
def bmsk(x: Step) -> None:
    """A mask of b ones from bit a on."""
    a, b = (np.asarray(x.bits(n)).astype(np.int64) for n in (1, 2))
    if "wrap" in x.i.modifiers:
        a, b = a & 31, b & 31
    mask = _shifted(_low_mask(np.minimum(b, 32)), a, left=True)
    x.put(np.where(a < 32, mask, np.uint64(0)).astype(np.uint32))


@instruction("szext", "clamp wrap", types=(types("u32 s32"),))
def szext(x: Step) -> None:
    """The lower b bits of a, extended by sign or by 0."""
    t = x.i.types[0]
    a, b = (np.asarray(x.bits(n, 32)).astype(np.int64) for n in (1, 2))
    b = b & 31 if "wrap" in x.i.modifiers else np.minimum(b, 32)
    d = a & ((np.int64(1) << b) - 1)
    if t.kind == "int":
        d = d - ((d >> np.maximum(b - 1, 0) & 1) << b) * (b > 0)
    x.put(d.astype(np.uint32))


@instruction("popc", types=(WORDS,), operands=2)
def popc(x: Step) -> None:
    """The number of ones."""
    x.put(np.bitwise_count(x.bits(1)))


@instruction("clz", types=(WORDS,), operands=2)
def clz(x: Step) -> None:
    """The number of zeros above the highest one."""
    width = x.i.types[0].bits
    x.put((width - 1 - _highest(np.asarray(x.bits(1)))).astype(np.uint32))


def _highest(a: Array) -> Array:
    """The position of the highest one, -1 for 0."""
    a = a.astype(np.uint64)
    for step in (1, 2, 4, 8, 16, 32):
        a = a | a >> np.uint64(step)
    return np.bitwise_count(a).astype(np.int64) - 1


@instruction("bfind", "shiftamt", types=(NUMBERED,), operands=2)
def bfind(x: Step) -> None:
    """The position of the highest bit that is not the sign; `.shiftamt`: the shift to the top."""
    t = x.i.types[0]
    a = np.asarray(x.number(1))
    a = np.where(a < 0, ~a, a) if t.kind == "int" else a
    d = _highest(a.view(UINT[t.bits]))
    if "shiftamt" in x.i.modifiers:
        d = np.where(d < 0, -1, t.bits - 1 - d)
    x.put(d.astype(np.uint32))


@instruction("fns", types=((B32,),), operands=4)
def fns(x: Step) -> None:
    """The position of the n-th one from `base` on, up or down; all ones where there is none."""
    mask, base = x.row(1, 32), x.row(2, 32).astype(np.int64)
    offset = x.row(3, 32).astype(np.int32).astype(np.int64)
    bit = (mask[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)).astype(bool)
    place = np.arange(32)
    up = np.cumsum(bit & (place >= base[:, None]), axis=1)
    down = np.cumsum((bit & (place <= base[:, None]))[:, ::-1], axis=1)[:, ::-1]
    n: Array = offset[:, None]
    hit: Array = np.where(n > 0, np.equal(up, n), np.equal(down, -n))
    wanted = np.logical_and(np.where(n == 0, np.equal(place, base[:, None]), hit), bit)
    x.put(np.where(wanted.any(axis=1), wanted.argmax(axis=1), 0xFFFFFFFF).astype(np.uint32))


@instruction("brev", types=(WORDS,), operands=2)
def brev(x: Step) -> None:
    """The bits in reverse order."""
    width = x.i.types[0].bits
    a = np.atleast_1d(x.bits(1)).copy()
    swapped = a.byteswap().view(np.uint8).reshape(-1, width // 8)
    table = np.array([int(f"{k:08b}"[::-1], 2) for k in range(256)], np.uint8)
    x.put(np.ascontiguousarray(table[swapped]).view(UINT[width])[:, 0])


_MODES = {
    "f4e": [[k, k + 1, k + 2, k + 3] for k in range(4)],
    "b4e": [[k, (k + 7) % 8, (k + 6) % 8, (k + 5) % 8] for k in range(4)],
    "rc8": [[k] * 4 for k in range(4)],
    "ecl": [[max(k, n) for n in range(4)] for k in range(4)],
    "ecr": [[min(k, n) for n in range(4)] for k in range(4)],
    "rc16": [[2 * (k & 1), 2 * (k & 1) + 1] * 2 for k in range(4)],
}


@instruction("prmt", list(_MODES), types=((B32,),), operands=4)
def prmt(x: Step) -> None:
    """Four bytes picked from the eight of b:a; without a mode, bit 3 of a pick copies the sign."""
    low, up = (np.asarray(x.bits(n)).astype(np.uint64) for n in (1, 2))
    both = up << np.uint64(32) | low
    c = np.asarray(x.bits(3)).astype(np.uint64)
    mode = x.i.one_of(*_MODES)
    d = np.zeros_like(both & c)
    for n in range(4):
        if mode:
            pick = np.array(_MODES[mode], np.uint64)[c & np.uint64(3), n]
        else:
            pick = c >> np.uint64(4 * n) & np.uint64(15)
        byte = both >> (pick & np.uint64(7)) * np.uint64(8) & np.uint64(0xFF)
        sign = np.where(byte >= 128, np.uint64(0xFF), np.uint64(0))
        d |= np.where(pick > 7, sign, byte) << np.uint64(8 * n)
    x.put(d.astype(np.uint32))
