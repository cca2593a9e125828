"""One kernel of a function: a loop over tiles, and what else of the function it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tilec.codegen.triton.control import Walker
from tilec.codegen.triton.printer import Printer
from tilec.codegen.triton.statements import readable
from tilec.codegen.triton.wrap import signature
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.ops import control, memory, reduce, shape
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.source import Descriptor, Order
from tilec.ir.types import Tile

WORD = re.compile(r"[A-Za-z_]\w*")
MANY = 128 * 128  # elements of an accumulator from which 8 warps share it


@dataclass(frozen=True)
class Options:
    """How kernels are launched: warps of a program, 0 for as many as its products are worth; how
    deep Triton makes the pipelines of loops; whether tiles come by tensor descriptors; and the
    oldest processor that inline PTX is for, 80 for sm_80."""

    warps: int = 0
    stages: int = 3
    descriptors: bool = False
    oldest: int = 80


@dataclass(frozen=True)
class Kernel:
    """The text of a kernel, and its launch: `takes` are the arguments that are no constants, and
    `constants` those that only a launch knows; `counts` are the programs along each dimension."""

    entry: str
    lines: tuple[str, ...]
    takes: tuple[str, ...]
    constants: Mapping[str, str]
    counts: tuple[str, ...]
    grid: control.Grid
    warps: int
    stages: int | None
    orders: Mapping[str, Order]
    functions: Mapping[str, str]
    descriptors: tuple[Descriptor, ...]

    @property
    def programs(self) -> Extent:
        """How many programs a launch has."""
        blocks: Extent = 1
        for d, t in zip(self.grid.dims, self.grid.tiles, strict=True):
            blocks = ceil_div(d, t or 1) * blocks
        return blocks


def grids(func: Func) -> list[tuple[str, Func, control.Grid]]:
    """The kernels of a function in order: of each its name, and a function with one grid.

    Raises TileError where something is done outside of a loop over tiles.
    """
    acting = [op for op in func.body.ops if Trait.WRITES in op.traits]
    found: list[tuple[str, Func, control.Grid]] = []
    taken = set[str]()
    for op in acting or [None]:
        if not isinstance(op, control.Grid):
            raise TileError(f"triton: the outermost loop of {func.name} is none over tiles",
                            op and op.loc, hint="for m in tiles(M) { ... }")  # fmt: skip
        ops = (*_needed(func.body.ops, op), op)
        name = _free(_name(func, op) if len(acting) > 1 else func.name, taken)
        found.append((f"{name}_kernel", Func(func.name, Block(func.params, ops)), op))
    return found


def _needed(ops: Sequence[Op], grid: Op) -> list[Op]:
    """The ops before a grid that it needs."""
    before, found = ops[: ops.index(grid)], list[Op]()
    wanted = {v for op in Block((), (grid,)).walk() for v in op.operands}
    for op in reversed(before):
        if wanted & {*op.results}:
            found.insert(0, op)
            wanted |= {v for o in Block((), (op,)).walk() for v in o.operands}
    return found


def _name(func: Func, grid: control.Grid) -> str:
    """A kernel is called after what it writes, where that is a part of something."""
    mems = [op.mem.hint for op in grid.body.walk() if isinstance(op, memory.Write)]
    part = next((m for m in mems if "." in m), "")
    return f"{func.name}_{part.replace('.', '_')}" if part else func.name


def _free(name: str, taken: set[str]) -> str:
    found, i = name, 2
    while found in taken:
        found, i = f"{name}_{i}", i + 1
    taken.add(found)
    return found


def kernel(entry: str, func: Func, grid: control.Grid, names: Mapping[Value, str],
           options: Options) -> Kernel:  # fmt: skip
    """The kernel of a function with one grid; `names` are the parameters'."""
    p = Printer()
    walker = Walker(p, func, names, options.oldest, options.descriptors)
    given = frozenset(p.taken)
    walker.grid(grid, [op for op in func.body.ops if op is not grid])
    body = readable((*p.top, *p.lines), p.bases, p.movable, given)
    text = [line for line in body if not line.lstrip().startswith("#")]
    words = set(WORD.findall("\n".join(text)))
    boxed = walker.boxes.taken(names)
    tensors = [n for v in names.values() for n in (v, *(d.name for d in boxed if d.param == v))]
    takes = [n for n in (*tensors, *p.dims(func)) if n in words]
    constants = [f"{b}: tl.constexpr" for b in p.constants]
    constants += [f"{b}: tl.constexpr = {n}" for b, n in p.blocks.items()]
    lines = ["@triton.jit", *signature(entry, takes, constants), *body]
    loops = any(isinstance(op, control.For) and op.tile for op in func.walk())
    stages = 1 if _read_twice(func) else options.stages
    return Kernel(entry, tuple(lines), tuple(takes), p.constants, walker.spans.counts, grid,
                  options.warps or _warps(p, func), stages if loops else None,
                  {v.hint: order for v, order in walker.words.orders.items()},
                  walker.words.functions, boxed)  # fmt: skip


def _read_twice(func: Func) -> bool:
    """Whether a product reads a tile that a step of a loop loads, and what is no product does, too.

    Triton 3.9 has one buffer too few for such a tile on sm_90: copies that are made ahead overwrite
    what the product of a warp group, which ends a step later, still reads.
    """
    users: dict[Value, list[Op]] = {}
    for op in func.walk():
        for v in op.operands:
            users.setdefault(v, []).append(op)
    loops = [op for op in func.walk() if isinstance(op, control.For)]
    loads = [op for loop in loops for op in loop.body.walk() if isinstance(op, memory.Load)]
    for load in loads:
        readers = users.get(load.result, [])
        turned = [o for t in readers if isinstance(t, shape.Transpose)
                  for o in users.get(t.result, [])]  # fmt: skip
        products = [isinstance(o, reduce.Dot) for o in (*readers, *turned)]
        others = [o for o in readers if not isinstance(o, reduce.Dot | shape.Transpose)]
        if any(products) and others:
            return True
    return False


def _warps(p: Printer, func: Func) -> int:
    """4, or 8 for large products."""
    sizes = [1]
    for op in func.walk():
        if isinstance(op, reduce.Dot | ScaledDot) and isinstance(op.acc.type, Tile):
            sizes.append(prod(p.size(p.axis(d).block) for d in op.acc.type.shape))
    return 8 if max(sizes) >= MANY else 4
