"""Matrix multiplication by warpgroups (PTX ISA, `wgmma`): four warps, B and perhaps A in shared.

The result is computed at once, with the rounding of `mma`. Until the group is waited for, the
bytes read and the registers written count as in use.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx import fragments, sparse
from tilec.ptx.clocks import MATRICES, ORDER
from tilec.ptx.descriptors import ROW, fields, units
from tilec.ptx.formats import Array, encode
from tilec.ptx.instructions.floating import format_of
from tilec.ptx.instructions.integer import clipped
from tilec.ptx.instructions.mma import (
    check_metadata,
    fits,
    multiplied,
    repacked,
    shape,
    unpacked,
)
from tilec.ptx.operand import Register, Vector
from tilec.ptx.registry import instruction
from tilec.ptx.shadow import Span
from tilec.ptx.step import Step
from tilec.ptx.threads import WARP, Threads
from tilec.ptx.types import S32, Type, types

WARPS = 4
ROWS = 64
SHAPES = [f"m64n{n}k{k}" for n in range(8, 257, 8) for k in (8, 16, 32, 64, 256)]
OPTIONS = ("sync", "aligned", "satfinite", "and", "popc", *SHAPES)
FACTORS = types("f16 bf16 tf32 e4m3 e5m2 s8 u8 b1")
ALL = (types("f16 f32 s32"), FACTORS, FACTORS)


@instruction("wgmma.fence", "sync aligned", operands=0, sync="warp")
def fence(x: Step) -> None:
    """Registers written before may be used by the wgmma that follow."""
    for mask in x.t.registers.unfenced.values():
        mask[x.t.index] = False
    x.t.registers.fenced[x.t.index] = True


@instruction("wgmma.commit_group", "sync aligned", operands=0, sync="warp")
def commit(x: Step) -> None:
    """Close the group of the wgmma so far."""
    x.t.registers.fenced[x.t.index] = False
    x.m.matrices.commit(x.t.warps)


@instruction("wgmma.wait_group", "sync aligned", operands=1, sync="warp")
def wait(x: Step) -> None:
    """Wait for all groups but the newest n."""
    x.m.matrices.wait(x.t.warps, x.constant(0))


@instruction("wgmma.mma_async", OPTIONS, types=ALL, operands=(4, 6, 7, 8), sync="warpgroup")
def mma_async(x: Step) -> None:
    """d = a b + d, or a b where the scale of d is 0."""
    _multiply(x, 0)


@instruction("wgmma.mma_async.sp", OPTIONS, types=ALL, operands=(6, 8, 9, 10), sync="warpgroup")
def mma_async_sparse(x: Step) -> None:
    """`wgmma.mma_async` where half of every chunk of a is stored."""
    _multiply(x, 2)


def _multiply(x: Step, extra: int) -> None:
    """`extra` operands describe sparsity, behind B."""
    _, columns, depth = shape(x.i.modifiers)
    _, a_type, b_type = x.i.types
    scale = 3 + extra
    signs, turns = _immediates(x, scale, a_type)
    stored = depth // 2 if extra else depth
    read: list[Array] = []
    if isinstance(x.operand(1), Vector):
        a = _from_registers(x, a_type, stored)
    else:
        a = _from_shared(x, 1, a_type, ROWS, stored, turns[0], read)
    b = _from_shared(x, 2, b_type, columns, depth, turns[-1], read)
    if extra:
        a = _spread(x, a, a_type, depth)
    product = multiplied(x, a, b) * signs
    _accumulate(x, product, x.row(scale, 1))
    _fly(x, read)


def _immediates(x: Step, scale: int, t: Type) -> tuple[int, tuple[bool, bool]]:
    """The sign of the product, and which operands are transposed."""
    left = [x.constant(n) for n in range(scale + 1, len(x.i.operands))]
    if t.kind != "float":
        return 1, (False, False)
    sign = left[0] * left[1] if len(left) > 1 else 1
    turns = [bool(k) for k in left[2:]] if t.bits == 16 else []
    a, b = [False, False, *turns][-2:] if len(turns) != 1 else (False, turns[0])
    return sign, (a, b)


def _from_registers(x: Step, t: Type, depth: int) -> Array:
    """A of every warpgroup from registers: each warp holds 16 rows."""
    words = x.rows(1, 32)
    fits(x, 1, words, 16 * depth * t.bits // 1024)
    return fragments.left(words, t, 16).reshape(-1, ROWS, depth)


def _from_shared(
    x: Step, n: int, t: Type, rows: int, depth: int, turned: bool, read: list[Array]
) -> Array:
    """An operand of every warpgroup from shared memory: warpgroups x rows x depth."""
    words = x.row(n, 64).reshape(-1, WARPS * WARP)[:, 0]
    _, _, _, base, mode = fields(words)
    if (base != 0).any():
        raise TileError(f"ptx: {x.i.place}: base offsets of descriptors are not supported")
    if (mode != mode[0]).any():
        raise TileError(f"ptx: {x.i.place}: warpgroups use descriptors of different swizzles")
    extent = depth if turned else depth * t.bits // 8
    address = units(words, ROW[int(mode[0])], rows, extent, turned)
    groups = len(words)
    shared = x.m.spaces.shared
    many = address[0].size
    everyone = _firsts(x).repeated(many)
    offsets, _ = shared.check(everyone, x.i, address.reshape(-1), 16, "reads")
    taken = shared.memory.reshape(-1, 16)[offsets // 16]
    read.append(offsets.reshape(groups, many))
    if turned:
        halves = taken.view(np.uint16).reshape(groups, depth, rows).transpose(0, 2, 1)
        taken = np.ascontiguousarray(halves).view(np.uint8)
    words32 = np.ascontiguousarray(taken).reshape(-1, 4).view(np.uint32).reshape(1, -1)
    return fragments.plain(words32, t).reshape(groups, rows, depth)


def _firsts(x: Step) -> Threads:
    """The first thread of every warpgroup, which stands for it."""
    return x.t.subset(np.arange(x.t.count) % (WARPS * WARP) == 0)


def _spread(x: Step, a: Array, t: Type, depth: int) -> Array:
    """The stored elements of A in their columns; each warp has the metadata of its 16 rows."""
    code = sparse.codes(x.row(3, 32).reshape(-1, WARP), t, depth, x.constant(4))
    check_metadata(x, code, t, ordered=False)
    return sparse.spread(a.reshape(-1, 16, depth // 2), code, t).reshape(-1, ROWS, depth)


def _accumulate(x: Step, product: Array, keep: Array) -> None:
    """d = d + product where `keep`, else product."""
    to = x.i.types[0]
    added = fragments.numbers_of(product.reshape(-1, 16, product.shape[2]))
    registers = [o for o in x.parts(0) if isinstance(o, Register)]
    old = np.stack([x.t.rows[o.slot][x.t.index] for o in registers])
    fits(x, 0, old, len(added) * max(to.bits, 16) // 32)
    if to is S32:
        total = added.astype(np.int64) + np.where(keep, old.view(np.int32), 0)
        if "satfinite" in x.i.modifiers:
            total = clipped(total, S32)
        results = total.astype(np.uint32)
    else:
        total = added + np.where(keep, unpacked(old, to), 0.0)
        results = repacked(encode(total, format_of(to)), to)
    for o, d in zip(registers, results, strict=True):
        x.t.rows[o.slot][x.t.index] = d


def _fly(x: Step, read: list[Array]) -> None:
    """From now until the wait, what was read and what is written is in use."""
    places = np.concatenate(read, axis=1)
    shadow, clocks = x.m.shadow, x.m.clocks
    warps = x.t.warps
    groups = len(warps) // WARPS
    agent = MATRICES + warps[::WARPS] % x.t.shape.warps // WARPS
    block = warps[::WARPS] // x.t.shape.warps
    number = _written(x)
    granules = np.zeros((groups, 0), np.int64)
    if shadow is not None:
        steps = np.arange(16 // shadow.granule)
        granules = (places[:, :, None] // shadow.granule + steps).reshape(groups, -1)
        shadow.begin(Span(_firsts(x), granules), x.i)
    times = np.full(groups, -1, np.int64)

    def land(done: Array) -> None:
        for k in np.flatnonzero(done.reshape(groups, WARPS).any(axis=1)):
            if clocks is None or shadow is None:
                break
            if times[k] < 0:
                times[k] = clocks.act(int(block[k]), int(agent[k]))
                record = shadow.agent_mark(x.i, int(agent[k]), int(times[k]))
                shadow.end(granules[k], record, int(clocks.floor[block[k]]))
            mine = warps[WARPS * k : WARPS * (k + 1)][done[WARPS * k : WARPS * (k + 1)]]
            clocks.seen[ORDER, mine, agent[k]] = times[k]
        if number:
            _written_now(x, (warps[done][:, None] * WARP + np.arange(WARP)).reshape(-1), number)

    x.m.matrices.issue(x.i, warps, land)


def _written_now(x: Step, threads: Array, number: int) -> None:
    """What a wgmma writes is there, in its registers and in copies of them."""
    flying = x.t.registers.flying
    for slot, numbers in list(flying.items()):
        mine = numbers[threads]
        numbers[threads] = np.where(mine == number, 0, mine)
        if not numbers.any():
            del flying[slot]


def _written(x: Step) -> int:
    """Report unfenced registers, and mark the accumulators as flying, with a number."""
    r = x.t.registers
    used = [o.slot for n in (0, 1) for o in x.parts(n) if isinstance(o, Register)]
    if x.m.shadow is None:
        return 0
    if any(r.unfenced[slot][x.t.index].any() for slot in used if slot in r.unfenced):
        message = "uses registers that were written since the last wgmma.fence"
        x.m.findings.add("fence", x.i, message, threads=[x.t.named(0)])
    number = x.m.matrices.issued + 1
    for o in x.parts(0):
        if isinstance(o, Register):
            numbers = r.flying.setdefault(o.slot, np.zeros(x.t.shape.total, np.int64))
            numbers[x.t.index] = number
    return number
