"""Bulk copies by the asynchronous proxy (PTX ISA, `cp.async.bulk`, `cp.async.bulk.tensor`).

What comes into shared memory lands when the mbarrier's phase completes; what goes out is read and
written at once, and the shared bytes count as in use until the wait.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.bytes import gather, scatter
from tilec.ptx.clocks import COPIES
from tilec.ptx.formats import Array
from tilec.ptx.instructions.atomic import update_of
from tilec.ptx.instructions.memory import CACHES
from tilec.ptx.operand import Address
from tilec.ptx.registry import instruction
from tilec.ptx.shadow import Shadow, Span
from tilec.ptx.shared import BASE
from tilec.ptx.step import Step
from tilec.ptx.tensormap import SIZE, Decoded
from tilec.ptx.threads import Threads
from tilec.ptx.types import TYPES, types

BYTES = "mbarrier::complete_tx::bytes"
WHERE = ("shared::cluster", "shared::cta", "global", BYTES, "bulk_group", *CACHES)
RANKS = ("1d", "2d", "3d", "4d", "5d")
TENSOR = (*WHERE, *RANKS, "tile", "multicast::cluster")
REDUCTIONS = ("add", "min", "max", "inc", "dec", "and", "or", "xor")


def _single(x: Step, k: int) -> Threads:
    """One of the threads; a bulk copy is one thread's."""
    return x.t.subset(np.arange(x.t.count) == k)


def _into_shared(x: Step) -> bool:
    """Whether the copy goes to shared memory, by the first of its two spaces."""
    found = re.search(r"\.(global|shared::cta|shared::cluster)", x.i.text)
    if found is None:
        raise TileError(f"ptx: {x.i.place}: a bulk copy names its spaces: {x.i.text}")
    return found[1] != "global"


@instruction("cp.async.bulk", WHERE, operands=(3, 4, 5))
def bulk(x: Step) -> None:
    """Copy a row of bytes: a multiple of 16."""
    sizes = x.row(2, 32).astype(np.int64)
    into = _into_shared(x)
    if into and BYTES not in x.i.modifiers:
        raise TileError(
            f"ptx: {x.i.place}: without an mbarrier nothing tells of the end: {x.i.text}"
        )
    for k in range(x.t.count):
        t, size = _single(x, k), int(sizes[k])
        to, source = (int(x.address(n)[k]) for n in (0, 1))
        if size % 16 or to % 16 or source % 16:
            x.m.findings.add("alignment", x.i, f"{size} bytes from {source:#x} to {to:#x}: each "
                             "must be a multiple of 16", threads=[t.named(0)])  # fmt: skip
            continue
        units = np.arange(0, size, 16)
        if not into:
            _out(x, t, source + units, to + units, 16, None)
        elif "global" in x.i.modifiers:
            rows = _loaded(x, t, source + units, 16)
            _into(x, t, to + units, rows, 3)
        else:
            _into(x, t, to + units, _taken(x, t, source + units, 16), 3)


def _loaded(x: Step, t: Threads, addresses: Array, size: int) -> Array:
    """Rows of global memory for one thread's copy."""
    if x.m.statistics is not None:
        x.m.statistics.bulk(x.i, addresses, size)
    return x.m.spaces.global_.take(t.repeated(len(addresses)), x.i, addresses, size)


def _into(x: Step, t: Threads, addresses: Array, rows: Array, barrier: int) -> None:
    """Bytes on their way into shared memory, until the mbarrier of an operand completes."""
    shared, clocks = x.m.spaces.shared, x.m.clocks
    size = rows.shape[1]
    offsets, good = shared.check(t.repeated(len(addresses)), x.i, addresses, size, "writes")
    if good is not None:
        offsets, rows = offsets[good], rows[good]
    block = int(t.block[0])
    shadow = shared.shadow
    granules = np.zeros(0, np.int64)
    if shadow is not None:
        granules = _granules(shadow, t, offsets, size)
        shadow.write(Span(t, granules[None, :]), x.i, None)
        shadow.arriving[granules] = x.i.pc + 1
        shadow.flights += 1

    def land() -> int:
        scatter(shared.memory, offsets, rows)
        if shadow is None or clocks is None:
            return 0
        time = clocks.act(block, COPIES)
        shadow.arriving[granules] = 0
        shadow.flights -= 1
        shadow.written[granules] = shadow.agent_mark(x.i, COPIES, time)
        return time

    o = x.operand(barrier)
    assert isinstance(o, Address)
    found, _ = x.m.mbarriers.find(t, x.i, o.of(t, 32))
    found[0].landing.append(land)
    found[0].due += rows.size
    x.m.progress += 1


def _granules(shadow: Shadow, t: Threads, offsets: Array, size: int) -> Array:
    """The distinct granules of pieces that do not overlap."""
    granules = shadow.span(t, offsets, size).granules.reshape(-1)
    return granules if size >= shadow.granule else np.unique(granules)


def _taken(x: Step, t: Threads, addresses: Array, size: int) -> Array:
    """Rows read from shared memory by the asynchronous proxy; in use until the wait."""
    shared = x.m.spaces.shared
    offsets, _ = shared.check(t.repeated(len(addresses)), x.i, addresses, size, "reads")
    shadow = shared.shadow
    if shadow is not None:
        granules = _granules(shadow, t, offsets, size)
        shadow.begin(Span(t, granules[None, :]), x.i)

        def land(_done: Array) -> None:
            record = shadow.mark(t, x.i)[:, 0]
            shadow.end(granules, record, int(shadow.clocks.floor[t.block[0]]))

        x.m.bulk.issue(x.i, t.ids, land)
    return gather(shared.memory, offsets, size)


Combine = Callable[[Array, Array], Array]


def _out(x: Step, t: Threads, source: Array, to: Array, size: int, combine: Combine | None) -> None:
    """Bytes from shared to global memory, perhaps combined with what is there."""
    rows = _taken(x, t, source, size)
    _store(x, t, to, rows, combine)


def _store(x: Step, t: Threads, to: Array, rows: Array, combine: Combine | None) -> None:
    if combine is not None:
        rows = combine(_loaded(x, t, to, rows.shape[1]), rows)
    if x.m.statistics is not None:
        x.m.statistics.bulk(x.i, to, rows.shape[1])
    x.m.spaces.global_.put(t.repeated(len(to)), x.i, to, rows)


def _map(x: Step, n: int, k: int) -> tuple[Decoded, list[int]]:
    """The tensor map of an operand, and the coordinates."""
    o = x.operand(n)
    assert isinstance(o, Address)
    t = _single(x, k)
    raw = x.m.spaces.load(t, x.i, "generic", o.of(t), SIZE).tobytes()
    rank = int((x.i.one_of(*RANKS) or "0")[0])
    try:
        decoded = Decoded(raw)
    except TileError as e:
        raise TileError(f"ptx: {x.i.place}: {e.message}: {x.i.text}") from None
    if decoded.rank != rank or len(o.coordinates) != rank:
        raise TileError(f"ptx: {x.i.place}: the tensor map has {decoded.rank} axes: {x.i.text}")
    words = [c.bits(t, 32) for c in o.coordinates]
    return decoded, [int(np.atleast_1d(w)[0].astype(np.int32)) for w in words]


@instruction("cp.async.bulk.tensor", TENSOR, operands=(2, 3, 4, 5))
def bulk_tensor(x: Step) -> None:
    """Copy a box of a tensor; outside it reads zeros (or NaNs) and writes nothing."""
    into = _into_shared(x)
    for k in range(x.t.count):
        t = _single(x, k)
        tensor, coordinates = _map(x, 1 if into else 0, k)
        tile = tensor.tile(coordinates)
        start = int(x.address(0 if into else 1, 32)[k])
        places = tensor.places(start, tile.size)
        _check_start(x, t, start, tensor.row)
        if into:
            rows = np.full((len(places), tile.size), tile.fill, np.uint8)
            inner = tile.addresses[tile.inside]
            if len(inner):
                rows[tile.inside] = _loaded(x, t, inner, tile.size)
            _into(x, t, places, rows, 2)
        else:
            rows = _taken(x, t, places, tile.size)[tile.inside]
            if len(rows):
                _store(x, t, tile.addresses[tile.inside], rows, None)


def _check_start(x: Step, t: Threads, start: int, row: int) -> None:
    wanted = max(128, row)
    if (start - BASE) % wanted:
        x.m.findings.add("alignment", x.i, f"a box in shared memory begins at {start - BASE}: "
                         f"expected a multiple of {wanted}", threads=[t.named(0)])  # fmt: skip


@instruction("cp.reduce.async.bulk.tensor", [*TENSOR, *REDUCTIONS], operands=(2, 3))
def reduce_tensor(x: Step) -> None:
    """Combine a box of shared memory with a tensor."""
    for k in range(x.t.count):
        t = _single(x, k)
        tensor, coordinates = _map(x, 0, k)
        tile = tensor.tile(coordinates)
        places = tensor.places(int(x.address(1, 32)[k]), tile.size)
        rows = _taken(x, t, places, tile.size)[tile.inside]
        name = ("u8", "u16", "u32", "s32", "u64", "s64", "f16", "f32", "f32", "f64", "bf16")
        combine = update_of(x.i, TYPES[name[tensor.element]])
        if len(rows):
            _store(x, t, tile.addresses[tile.inside], rows, combine)


@instruction("cp.reduce.async.bulk", [*WHERE, *REDUCTIONS, "noftz"], operands=(3, 4),
             types=(types("u32 s32 u64 s64 b32 b64 f16 bf16 f32 f64"),))  # fmt: skip
def reduce_bulk(x: Step) -> None:
    """Combine a row of bytes of shared memory with global memory."""
    if _into_shared(x):
        raise TileError(f"ptx: {x.i.place}: only reductions into global memory: {x.i.text}")
    kind = x.i.types[0]
    sizes = x.row(2, 32).astype(np.int64)
    for k in range(x.t.count):
        steps = np.arange(0, int(sizes[k]), kind.bytes)
        to, source = (int(x.address(n)[k]) for n in (0, 1))
        _out(x, _single(x, k), source + steps, to + steps, kind.bytes, update_of(x.i, kind))


@instruction("cp.async.bulk.commit_group", operands=0)
def commit_group(x: Step) -> None:
    """Close the group of the copies so far."""
    x.m.bulk.commit(x.t.ids)


@instruction("cp.async.bulk.wait_group", "read", operands=1)
def wait_group(x: Step) -> None:
    """Wait for all groups but the newest n to have read, or to be done."""
    x.m.bulk.wait(x.t.ids, x.constant(0))


@instruction("cp.async.bulk.prefetch cp.async.bulk.prefetch.tensor", [*TENSOR, "L2"],
             operands=(1, 2, 3))  # fmt: skip
def prefetch(x: Step) -> None:
    """Caches are not modelled."""
