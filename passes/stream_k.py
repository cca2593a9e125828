"""Products as equal shares of work: each block takes as many steps along k, of one tile or several.

Osama et al., "Stream-K: work-centric parallel decomposition for dense matrix-matrix multiplication
on the GPU" (PPoPP 2023). There, blocks wait for the sums of others; here a grid that follows adds
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.types import Span
from tilec.passes import numbered
from tilec.passes.accumulation import (
    Accumulation,
    Apart,
    added,
    apart,
    copied,
    indices,
    zeros,
)
from tilec.passes.numbered import number
from tilec.passes.pipeline import register

LARGEST = (1 << 31) - 1  # that numbers of steps are computed in
LATER, FIRST = 0, 1  # the two sums of a block: of a tile that another one began, or it itself


@register("stream-k")
def stream_k(func: Func, *, blocks: int = 0) -> Func:
    """Share the steps along k of all tiles of a product among `blocks` blocks; 0 leaves it be.

    A block does what follows a product for the tiles that it has whole. The sums of others are in
    memory of the function's own; a second grid adds them in the order of k, so that a result does
    not depend on which block is first. Before: tiles have sizes (`pad`), loads are not staged.
    After: the same.
    """
    if blocks < 0:
        raise TileError(f"stream-k: {blocks} blocks, expected 1 or more, or 0")

    def plan(found: Accumulation) -> Apart | str:
        shares = _Shares(found, min(blocks, numbered.total(found.grid) * found.steps))
        if (shares.units + 1) * shares.blocks > LARGEST:
            return f"at most {LARGEST} times as many steps as blocks"
        return Apart((shares.blocks, 2),
                     lambda memories: [_streamed(shares, memories), _fixed(shares, memories)],
                     str(shares))  # fmt: skip

    return apart(func, "stream-k", plan) if blocks else func


@dataclass(frozen=True)
class _Shares:
    """Units of work, a step of a tile each: block i begins with unit i * units // blocks."""

    of: Accumulation
    blocks: int

    @property
    def steps(self) -> int:
        return self.of.steps

    @property
    def units(self) -> int:
        return numbered.total(self.of.grid) * self.steps

    def __str__(self) -> str:
        tiles = numbered.total(self.of.grid)
        return f"{tiles} tiles of {self.steps} steps along k shared by {self.blocks} blocks"

    def begin(self, block: Value, b: Builder) -> Value:
        """The first unit of a block, and the end of the one before it."""
        return _quotient(_times(block, self.units, b), self.blocks, b)

    def block(self, unit: Value, b: Builder) -> Value:
        """The block that has a unit: the last one that does not begin after it."""
        behind = b(arith.Add(unit, number(1, b)))
        least = b(arith.Sub(_times(behind, self.blocks, b), number(1, b)))
        return _quotient(least, self.units, b)


def _times(v: Value, n: int, b: Builder) -> Value:
    return b(arith.Mul(v, number(n, b)))


def _quotient(v: Value, n: int, b: Builder) -> Value:
    return b(arith.FloorDiv(v, number(n, b)))


def _streamed(shares: _Shares, memories: list[Value]) -> control.Grid:
    """The grid of blocks, each of which goes through the tiles that it has units of."""
    block, b = Value(Span(shares.blocks, 1), "block"), Builder(loc=shares.of.loop.loc)
    here = b(shape.Start(block))
    begin = shares.begin(here, b)
    end = shares.begin(b(arith.Add(here, number(1, b))), b)
    last = b(arith.Add(_quotient(b(arith.Sub(end, number(1, b))), shares.steps, b), number(1, b)))
    tiles = numbered.total(shares.of.grid)
    t, inner = Value(Span(tiles, 1), "tile"), Builder(loc=b.loc)
    _share(shares, memories, t, (here, begin, end), inner)
    body = Block((t,), tuple(inner.ops))
    b.add(control.For(tiles, 1, 1, (), body, last, _quotient(begin, shares.steps, b)))
    return control.Grid((shares.blocks,), (1,), (1,), Block((block,), tuple(b.ops)))


def _share(shares: _Shares, memories: list[Value], t: Value,
           block: tuple[Value, Value, Value], b: Builder) -> None:  # fmt: skip
    """A block's units of one tile: all of them, or a sum that is kept."""
    of, (here, begin, end) = shares.of, block
    loop, place = of.loop, b(shape.Start(t))
    to = numbered.at(of.grid, numbered.apart(of.grid, place, b), b)
    before = _inside(of.before, to)
    b.ops += before
    zero, steps = number(0, b), number(shares.steps, b)
    start = _times(place, shares.steps, b)
    first = b(arith.Maximum(b(arith.Sub(begin, start)), zero))
    last = b(arith.Minimum(b(arith.Sub(end, start)), steps))
    init = tuple(zeros(v, b) for v in loop.init)
    new = b.add(control.For(loop.dim, loop.size, loop.tile, init, copied(loop.body, to),
                            _times(last, loop.tile or 1, b), first))  # fmt: skip
    began = b(arith.Eq(first, zero))
    whole = b(arith.And(began, b(arith.Eq(last, steps))))
    done, kept = Builder(loc=b.loc), Builder(loc=b.loc)
    for v, start, s in zip(loop.results, loop.init, new.results, strict=True):
        to[v] = done(arith.Add(to.get(start, start), s))
    done.ops += _inside(of.behind, to)
    slot = kept(arith.Where(began, number(FIRST, kept), number(LATER, kept)))
    for mem, v in zip(memories, new.results, strict=True):
        kept.add(memory.Store(mem, indices(mem, (here, slot), kept), v))
    b.add(control.If(whole, Block((), tuple(done.ops)), Block((), tuple(kept.ops))))


def _inside(ops: tuple[Op, ...], to: dict[Value, Value]) -> tuple[Op, ...]:
    return copied(Block((), ops), to).ops


def _fixed(shares: _Shares, memories: list[Value]) -> control.Grid:
    """The grid that adds the sums of the tiles that several blocks have units of.

    Each beginning of a block but the first one may cut a tile: the first that does is in charge.
    """
    cuts = max(shares.blocks - 1, 1)
    cut, b = Value(Span(cuts, 1), "cut"), Builder(loc=shares.of.loop.loc)
    before = b(shape.Start(cut))
    begin = shares.begin(b(arith.Add(before, number(1, b))), b)
    place = _quotient(begin, shares.steps, b)
    start = _times(place, shares.steps, b)
    first = shares.block(start, b)
    inside, charge = b(arith.Ne(begin, start)), b(arith.Eq(first, before))
    last = b(arith.Sub(b(arith.Add(start, number(shares.steps, b))), number(1, b)))
    inner = Builder(loc=b.loc)
    _added(shares, memories, place, (first, shares.block(last, b)), inner)
    then = Block((), tuple(inner.ops))
    b.add(control.If(b(arith.And(inside, charge)), then, Block((), ())))
    return control.Grid((cuts,), (1,), (1,), Block((cut,), tuple(b.ops)))


def _added(shares: _Shares, memories: list[Value], place: Value, blocks: tuple[Value, Value],
           b: Builder) -> None:  # fmt: skip
    """A tile whose sums are those of several blocks, and what follows."""
    of, (first, last) = shares.of, blocks
    to = numbered.at(of.grid, numbered.apart(of.grid, place, b), b)
    b.ops += _inside(of.before, to)
    i = Value(first.type)
    params = tuple(Value(v.type) for v in of.loop.init)
    inner = Builder(loc=b.loc)
    began = inner(arith.Eq(i, first))
    slot = inner(arith.Where(began, number(FIRST, inner), number(LATER, inner)))
    out = tuple(added(p, mem, (i, slot), inner) for p, mem in zip(params, memories, strict=True))
    init = tuple(to.get(v, v) for v in of.loop.init)
    stop, one = b(arith.Add(last, number(1, b))), number(1, b)
    body = Block((i, *params), tuple(inner.ops), out)
    loop = b.add(control.Count(first, stop, one, init, body))
    to.update(zip(of.loop.results, loop.results, strict=True))
    b.ops += _inside(of.behind, to)
