"""Tile sizes that nobody pinned, by a cost model of a processor with vectors and caches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import gcd
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import bf16, f16, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, substitute
from tilec.ir.format import Dense, Format
from tilec.ir.ops import control
from tilec.ir.ops.memory import Load, Write
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.ops.shape import Transpose
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.ranges import read
from tilec.ir.types import Memory, Span, Tile
from tilec.passes import factor_scales, pages
from tilec.passes.depth import panelled, step
from tilec.passes.pipeline import register

FEW, LONGER = 16, 4  # for so few rows of dense operands steps are that many times as long
WHOLE, VECTORS = 1 << 20, 32  # and for half of them of floats, rows of whole vectors to their end
WIDER = 2  # times as many columns of scores of so few rows: the sums of each take as long anyway
MANY = 128  # rows; of more, halves are as fast, and shares of four tasks are more even
SCALED = (128, 128, 128)  # sides of a product of codes with scales: those of tcgen05's


@dataclass(frozen=True)
class Limits:
    """The most that tiles should be: sides of a product, elements of one without a product; for
    how many products of bits a step of whole codes is longer (passes.depth); the sides of a tile
    that one product makes and another reads, 0 where it is as all others; whether few rows of
    floats are multiplied along whole rows; the bytes of a panel, 0 for any, and whether bf16 takes
    two of them there."""

    rows: int
    columns: int
    depth: int
    budget: int
    planes: int
    chained: int = 0
    along: bool = False
    panel: int = 0
    pairs: bool = False


@dataclass(frozen=True)
class _Bounds:
    """What dimensions that stay open are at least and at most."""

    lower: dict[str, int]
    upper: dict[str, int]

    def least(self, dim: Extent) -> Extent:
        """A number, or an extent of other dimensions."""
        return substitute(dim, self.lower)

    def most(self, dim: Extent) -> Extent:
        """A number, or an extent of other dimensions."""
        return substitute(dim, self.upper)


@register("tile")
def tile(
    func: Func, *, threads: int = 2, rows: int = 512, columns: int = 64, depth: int = 256,
    budget: int = 8192, planes: int = 2, chained: int = 0, halve: bool = False, along: bool = False,
    panel: int = 0, pairs: bool = False, ranges: str = "", exact: bool = False, **sizes: int,
) -> Func:  # fmt: skip
    """Choose every tile size that is left open; `sizes` (`m=16`) pins some.

    The defaults fit a processor with vectors: of a product, the first operand's rows stay in L2
    and a panel of the second in L1; without one, temporaries stay in L1 and L2. A loop along rows
    that is in no product takes as much of a row at once as it may. With `chained`, that is the
    most for both sides of what is made by a product and multiplied in the same step, as scores of
    attention are: it stays in L1 or L2, and a loop that stops early does so soon; of few rows,
    twice as many columns. With `halve`, tiles of products are halved until each of the threads has
    one, and those of many rows until it has four. With `along`, a product of few rows of floats
    goes along whole rows of its other operand. With `panel`, one of several steps has as many k's
    at most as give a panel of that many bytes: the nearest cache then has it for all rows; `pairs`
    says that bf16 stays bf16 there, else it is f32. `ranges` are the sizes of dimensions that stay
    open (ir.ranges): tiles suit the most, the number of tasks the least. With `exact`, a size for a
    loop that there is not is an error.

    Before: other extents are numbers. A product's k step divides the group of a scaled operand, so
    that its scale is constant over a step. After: every Grid and For says its tiles.
    """
    if exact:
        _check(func, sizes)
    limits = Limits(rows, columns, depth, budget, planes, chained, along, panel, pairs)
    given = read(ranges)
    bounds = _Bounds({n: r.least for n, r in given.items()}, {n: r.most for n, r in given.items()})
    products = _roles(func, limits, bounds)
    roles = dict.fromkeys(_along_rows(func), budget) | products
    chooser = _Chooser(limits, roles, frozenset(products), dict(sizes), threads, halve, bounds)
    return func.replaced(chooser.block(func.body, {}))


def _check(func: Func, sizes: dict[str, int]) -> None:
    """Raise TileError for a size of no loop."""
    grids = (op.sizes for op in func.walk() if isinstance(op, control.Grid))
    steps = (op.size for op in func.walk() if isinstance(op, control.For))
    names = dict.fromkeys(str(s) for s in (*chain.from_iterable(grids), *steps))
    for name in sizes:
        if name not in names:
            known = f"there are {', '.join(names)}" if names else "there are none"
            raise TileError(f"a schedule: no loop is called {name}; {known}")


def _roles(func: Func, limits: Limits, bounds: _Bounds) -> dict[str, int]:
    """The most that each size symbol should be, from the products that it takes part in."""
    roles: dict[str, int] = {}
    steps: dict[str, int] = {}
    made = {v: op for op in func.walk() for v in op.results}
    grids = [op for op in func.walk() if isinstance(op, control.Grid)]
    dims = {str(s): d for op in grids for s, d in zip(op.sizes, op.dims, strict=True)}
    dims |= {str(op.size): op.dim for op in func.walk() if isinstance(op, control.For)}
    for op in func.walk():
        if isinstance(op, SparseDot):
            roles |= _of_sparse(op, (limits.rows, limits.depth, limits.columns), roles)
            half = step(_format(made, op.values), _format(made, op.b), 0, limits.depth // 2, 0)
            _narrow(steps, op.b, 2 * half)
        if isinstance(op, Dot | ScaledDot):
            assert isinstance(op.a.type, Tile)
            assert isinstance(op.b.type, Tile)
            extents = (*op.a.type.shape, op.b.type.shape[1])
            shape = tuple(dims.get(str(e), e) for e in extents)
            rows, k = bounds.most(shape[0]), shape[1]
            for extent, most in zip(extents, _sides(op, made, (rows, k), limits), strict=True):
                if isinstance(extent, Sym):
                    roles[extent.text] = min(most, roles.get(extent.text, most))
            if isinstance(op, ScaledDot):
                continue
            found = step(_format(made, op.a), _format(made, op.b),
                         rows, limits.depth, limits.planes)  # fmt: skip
            found *= _longer(op, made, (rows, k), limits.along)
            _narrow(steps, op.b, gcd(found, factor_scales.group(op, made)))
    roles |= _chained(func, limits) if limits.chained else {}
    roles |= {size: gcd(n, roles.get(size, n)) for size, n in pages.sizes(func).items()}
    return roles | {k: n for k, n in steps.items() if n != limits.depth}


def _sides(op: Dot | ScaledDot, made: dict[Value, Op], shape: tuple[Extent, Extent],
           limits: Limits) -> tuple[int, int, int]:  # fmt: skip
    """The most rows, k's and columns of the tiles of a product; `shape` is how many rows and k's
    there are. A panel that few rows read once, or that is expanded in registers, needs no cache."""
    if isinstance(op, ScaledDot):
        return SCALED
    (rows, k), deep, turned = shape, limits.depth, made.get(op.b)
    once = (isinstance(rows, int) and rows <= FEW // 2) or (isinstance(k, int) and k <= deep)
    expanded = isinstance(turned, Transpose) and isinstance(made.get(turned.a), Expand)
    if limits.panel and not (once or expanded):
        column = limits.panel // limits.columns
        deep = panelled(_format(made, op.a), _format(made, op.b), deep, column, limits.pairs)
    return limits.rows, deep, limits.columns


def _chained(func: Func, limits: Limits) -> dict[str, int]:
    """The most of the sizes of tiles that are made by a product and the first operand of one."""
    made = {v: op for op in func.walk() for v in op.results}
    most: dict[str, int] = {}
    for op in func.walk():
        if isinstance(op, Dot) and isinstance(op.a.type, Tile) and _multiplied(op.a, made):
            rows = op.a.type.shape[0]
            columns = limits.chained * (WIDER if isinstance(rows, int) and rows <= FEW else 1)
            sides = zip(op.a.type.shape, (min(limits.rows, limits.chained), columns), strict=True)
            most |= {extent.text: side for extent, side in sides if isinstance(extent, Sym)}
    return most


def _multiplied(v: Value, made: dict[Value, Op]) -> bool:
    """Whether a tile is made of a product of as many rows and columns."""
    assert isinstance(v.type, Tile)
    waiting, seen = [v], {v}
    while waiting:
        op = made.get(waiting.pop())
        if op is None:
            continue
        t = op.results[0].type
        if isinstance(op, Dot) and isinstance(t, Tile) and t.shape == v.type.shape:
            return True
        waiting += [o for o in op.operands if o not in seen]
        seen.update(op.operands)
    return False


def _longer(op: Dot, made: dict[Value, Op], shape: tuple[Extent, Extent], along: bool) -> int:
    """How many times as long steps are of a product of few rows that reads both operands along k,
    where a step is summed up at its end. Floats of rows that a step ends within would be packed:
    `along` takes such rows whole."""
    rows, k = shape
    if not (isinstance(rows, int) and isinstance(made.get(op.b), Transpose)):
        return 1
    formats = {_format(made, v) for v in (op.a, op.b)}
    if formats == {Dense(bf16)} and rows <= FEW:
        return LONGER
    whole = along and isinstance(k, int) and k % VECTORS == 0 and rows <= FEW // 2
    return WHOLE if whole and formats <= {Dense(f16), Dense(f32)} else 1


def _narrow(steps: dict[str, int], b: Value, found: int) -> None:
    """Note that steps along the rows of a product's second operand divide a number."""
    assert isinstance(b.type, Tile)
    k = b.type.shape[0]
    if isinstance(k, Sym):
        steps[k.text] = gcd(steps.get(k.text, 0), found)


def _of_sparse(op: SparseDot, sides: tuple[int, int, int], roles: dict[str, int]
               ) -> dict[str, int]:  # fmt: skip
    """The most of the sizes of a product of a sparse operand, whose rows are the weights' here."""
    assert isinstance(op.b.type, Tile)
    assert isinstance(op.values.type, Tile)
    rows, depth, columns = sides
    extents = (op.values.type.shape[0], *op.b.type.shape)
    named = [(e.text, most) for e, most in zip(extents, (columns, depth, rows), strict=True)
             if isinstance(e, Sym)]  # fmt: skip
    return {name: min(most, roles.get(name, most)) for name, most in named}


def _along_rows(func: Func) -> set[str]:
    """The sizes of loops in which a tile is a run of elements of every tensor that has it."""
    loops = {op.body.params[0]: str(op.size) for op in func.walk() if isinstance(op, control.For)}
    runs = {op.indices[-1] for op in func.walk() if isinstance(op, Load | Write) and op.indices}
    across = {v for op in func.walk() if isinstance(op, Load | Write) for v in op.indices[:-1]}
    return {size for span, size in loops.items() if span in runs - across}


def _format(made: dict[Value, Op], v: Value) -> Format:
    """How an operand is stored, where it is read as it lies or turned."""
    op = made.get(v)
    if isinstance(op, Transpose):
        op = made.get(op.a)
    if isinstance(op, Load) and isinstance(op.mem.type, Memory):
        return op.mem.type.format
    if isinstance(op, Expand):
        return op.format
    assert isinstance(v.type, Tile)
    return Dense(v.type.dtype)


@dataclass(frozen=True)
class _Chooser:
    limits: Limits
    roles: dict[str, int]
    products: frozenset[str]
    sizes: dict[str, int]
    threads: int
    halve: bool
    bounds: _Bounds

    def block(self, block: Block, to: dict[Value, Value]) -> Block:
        """A block with every tile size chosen."""
        to.update({p: p for p in block.params})
        b = Builder()
        for op in block.ops:
            blocks = op.fields("block")
            changed: dict[str, Any] = {n: self.block(getattr(op, n), to) for n in blocks}
            if isinstance(op, control.Grid):
                changed["tiles"] = self.grid(op)
            if isinstance(op, control.For) and op.tile is None:
                changed["tile"] = self.step(op)
            new = b.add(op.rebuilt(to, **changed))
            to.update(zip(op.results, new.results, strict=True))
        return Block(block.params, tuple(b.ops), tuple(to[v] for v in block.results))

    def grid(self, op: control.Grid) -> tuple[int, ...]:
        """A product's tiles by role; others from the last dimension on while the budget lasts."""
        chosen: list[int] = []
        left = self.limits.budget // max(1, self.whole(op))
        axes = list(zip(op.dims, op.sizes, op.tiles, strict=True))
        for dim, size, pinned in reversed(axes):
            if pinned is None:
                most = self.roles.get(str(size), max(1, left))
                pinned = self.sizes.get(str(size)) or self.clipped(dim, most)
            left //= max(pinned, 1)
            chosen.insert(0, pinned)
        return self.spread(op, chosen)

    def step(self, op: control.For) -> int:
        """The tile of a loop."""
        most = self.roles.get(str(op.size), self.limits.depth)
        return op.tile or self.sizes.get(str(op.size)) or self.clipped(op.dim, most)

    def whole(self, op: control.Grid) -> int:
        """The largest extent that the body loads whole, or in a loop without a product: a row of
        it counts against the budget."""
        spans = [v.type for o in op.body.walk() for v in o.results if isinstance(v.type, Span)]
        found = [self.bounds.most(s.size) for s in spans]
        sizes = [n if isinstance(n, int) else self.limits.budget for n in found]
        loops = [o for o in op.body.walk() if isinstance(o, control.For)]
        sizes += [self.step(o) for o in loops if str(o.size) not in self.products]
        return max(sizes, default=1)

    def spread(self, op: control.Grid, out: list[int]) -> tuple[int, ...]:
        """Smaller first tiles, where there would be fewer tasks than four a thread, or of products
        that may be halved fewer than threads. Those of many rows are not made small for that."""
        for i, (dim, size, pinned) in enumerate(zip(op.dims, op.sizes, op.tiles, strict=True)):
            known = isinstance(self.bounds.least(dim), int)
            free = pinned is None and str(size) not in self.sizes and known
            product = str(size) in self.roles
            for share in (self.halve, 4 * self.halve) if product else (4,):
                least = MANY if product and share > 1 else 1
                while free and out[i] > least and self.tasks(op, out) < share * self.threads:
                    out[i] = -(-out[i] // 2)
        return tuple(out)

    def clipped(self, dim: Extent, most: int) -> int:
        """A tile of a dimension that is no larger than that."""
        extent = self.bounds.most(dim)
        return max(1, min(most, extent)) if isinstance(extent, int) else most

    def tasks(self, op: control.Grid, tiles: list[int]) -> int:
        """How many tiles there surely are."""
        n = 1
        for dim, t in zip(op.dims, tiles, strict=True):
            extent = self.bounds.least(dim)
            n *= -(-extent // t) if isinstance(extent, int) else 1
        return n
