"""Products of warp groups: `wgmma` on operands in shared memory, which goes on until it settles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.orders import Decoding
from tilec.codegen.cuda.places import place
from tilec.codegen.cuda.printer import offset, plus, times
from tilec.codegen.cuda.ring import LINE, Ring
from tilec.codegen.cuda.tiles import Values, tile
from tilec.codegen.cuda.wgmma import Wgmma
from tilec.ir.core import Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.laid import Layouts, sizes_of
from tilec.ir.layout.atoms import Atom, atoms
from tilec.ir.layout.register import RegisterLayout, local
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.sparse import SparseDot

GROUP, STEP = 128, 32  # threads of a warp group; bytes along k of one instruction
Made = Mapping[Value, Op]
Product = Dot | SparseDot


@dataclass(frozen=True)
class Grid:
    """The instructions of one group: high x wide of them, each of them `deep` times."""

    atom: Atom
    outer: RegisterLayout  # of the accumulator's fragments
    high: int
    wide: int
    deep: int
    shared: int = 1  # of `deep`, that have a word of places in common


def taken(op: Product, made: Made) -> bool:
    """Whether warp groups do a product: they read its second operand in place."""
    return place(op.b, made) is not None


def shapes(func: Func, layouts: Layouts) -> list[Wgmma]:
    """The shapes of wgmma that a function takes."""
    made = {v: op for op in func.walk() for v in op.results}
    return [shape for op in func.walk() if isinstance(op, Product) and taken(op, made)
            for shape in _shapes(op, layouts, made)]  # fmt: skip


def _shapes(op: Product, layouts: Layouts, made: Made) -> list[Wgmma]:
    """The shape of a product; of a sparse one one for each selector."""
    first, grid = _first(op), _grid(op, layouts)
    a, b = (pointwise.cpp_type(tile(v).dtype) for v in (first, op.b))
    left, right = place(first, made), place(op.b, made)
    total = "s32" if tile(first).dtype.is_integer else "f32"
    selectors = range(grid.shared) if isinstance(op, SparseDot) else [None]
    return [Wgmma(grid.atom.n, a, b, total, left is None, left is not None and left.turned,
                  right is not None and not right.turned, s) for s in selectors]  # fmt: skip


def _first(op: Product) -> Value:
    return op.values if isinstance(op, SparseDot) else op.a


def _grid(op: Product, layouts: Layouts) -> Grid:
    """The widest instruction whose fragments the accumulator is made of."""
    c, t, k = layouts[op.acc], tile(_first(op)).dtype, sizes_of(tile(op.b))[0]
    kind = "wgmma.sp" if isinstance(op, SparseDot) else "wgmma"
    fits = [x for x in atoms().values() if x.instruction == kind and x.a_type == str(t)]
    for atom in sorted(fits, key=lambda x: -x.n):
        try:
            outer = c / atom.c
        except TileError:
            continue
        high = next((d.size for d in outer.local_digits if d.axis == 0), 1)
        if outer.local_digits == local(high, outer.locals // high).local_digits:
            wide, deep = outer.locals // high, k // atom.k
            return Grid(atom, outer, high, wide, deep, _shared(op, layouts, atom, high * deep))
    raise TileError(f"cuda: {c} is no accumulator of wgmma")


def _shared(op: Product, layouts: Layouts, atom: Atom, steps: int) -> int:
    """How many steps of a product share a word of places."""
    if not isinstance(op, SparseDot) or atom.metadata is None:
        return 1
    return steps * atom.metadata.locals // layouts[op.index].locals


def emit(values: Values, op: Dot, into: str, fresh: bool) -> None:
    """Begin a product into registers, which are added to unless they are `fresh`."""
    p, grid = values.p, _grid(op, values.layouts)
    (shape,), count = _shapes(op, values.layouts, values.made), grid.atom.c.locals
    late = _late(values, op.a)
    if shape.a_in_registers:
        first = f"part<4>({values.names[op.a]}, (m * {grid.deep} + k) * 4)"
    else:
        first = _descriptor(values, op.a, grid, 0)
    second = _descriptor(values, op.b, grid, 1)
    if not fresh:
        p.line(f"wgmma_keep({into}.words);")
    if late is None:
        if shape.a_in_registers:
            p.line(f"wgmma_keep({values.names[op.a]}.words);")
        p.line("wgmma_fence();")
    p.unrolled("m", grid.high)
    p.unrolled("k", grid.deep)
    if late is not None:
        _decode(values, op.a, late, grid)
        p.line(f"wgmma_keep({first});")
        p.line("wgmma_fence();")
    p.unrolled("n", grid.wide)
    sums = f"part<{count}>({into}, (m * {grid.wide} + n) * {count})"
    p.line(f"{shape.name}({sums}, {first}, {second}, {'k > 0' if fresh else 'true'});")
    for _ in range(3):
        p.close()
    p.line("wgmma_commit();")


def emit_sparse(values: Values, op: SparseDot, into: str, places: str, fresh: bool) -> None:
    """The same with a sparse first operand, whose places are word `word` of `places`."""
    p, grid = values.p, _grid(op, values.layouts)
    shapes, count = _shapes(op, values.layouts, values.made), grid.atom.c.locals
    if shapes[0].a_in_registers:
        first = f"part<4>({values.names[op.values]}, (m * {grid.deep} + k) * 4)"
        p.line(f"wgmma_keep({values.names[op.values]}.words);")
    else:
        first = _descriptor(values, op.values, grid, 0)
    second = _descriptor(values, op.b, grid, 1)
    if not fresh:
        p.line(f"wgmma_keep({into}.words);")
    p.line("wgmma_fence();")
    p.unrolled("m", grid.high)
    p.unrolled("j", grid.deep // grid.shared)
    p.line(f"const u32 word = m * {grid.deep // grid.shared} + j;")
    for selector, shape in enumerate(shapes):
        p.line(f"{{ const u32 k = j * {grid.shared} + {selector};")
        p.depth += 1
        p.unrolled("n", grid.wide)
        sums = f"part<{count}>({into}, (m * {grid.wide} + n) * {count})"
        p.line(f"{shape.name}({sums}, {first}, {second}, {places}, {'k > 0' if fresh else 'true'});"
               )  # fmt: skip
        p.close()
        p.close()
    p.close()
    p.close()
    p.line("wgmma_commit();")


def _late(values: Values, v: Value) -> Decoding | None:
    """How an operand is decoded, if that is left to the product."""
    op = values.made.get(v)
    found = values.orders.decoded.get(op) if op is not None else None
    return found if found is not None and found.late else None


def _decode(values: Values, v: Value, how: Decoding, grid: Grid) -> None:
    """The codes of fragment `k` of row `m`, while the ones before are multiplied."""
    held, each = grid.atom.a.locals, how.recipe.arrangement.elements
    number = f"m * {grid.deep} + k"
    units, share = max(held // each, 1), max(each // held, 1)
    head = f"if (({number}) % {share} == 0) " if share > 1 else ""
    first = f"({number}) * {units}" if share == 1 else f"({number}) / {share}"
    values.p.line(f"{head}{how.function}({values.names[v]}, {values.names[how.source]}, "
                  f"{first}, {units});")  # fmt: skip


def settle(values: Values, name: str, pending: int) -> None:
    """Wait for products; registers that are complete may be read from here on."""
    values.p.line(f"wgmma_wait<{pending}>();")
    if not pending:
        values.p.line(f"wgmma_keep({name}.words);")


def _group(values: Values) -> str:
    """The number of a thread's group, of which the compiler knows that a warp has one."""
    if not values.group:
        values.group = values.p.fresh("group")
        values.p.top.append(f"  const u32 {values.group} = shuffle(thread / {GROUP}, 0);")
    return values.group


def _descriptor(values: Values, v: Value, grid: Grid, axis: int) -> str:
    """The descriptor of a fragment of an operand, whose number is `k` and `m` or `n`.

    Where it lies for this group, plus multiples of 16 bytes for the fragment.
    """
    found = place(v, values.made)
    assert found is not None
    ring: Ring = values.rings[found.ring]
    p, i, each = values.p, "mn"[axis], (64, grid.atom.n)[axis]  # rows of a fragment
    if found.turned == (axis == 1):  # rows along k
        down, leading = each * ring.pitch, LINE
        deep = f"k * {STEP * (1 + (axis == 1 and grid.atom.sparse))}"
        if ring.row > ring.swizzle:
            deep = f"({deep} / {ring.swizzle} * {ring.panel} + {deep} % {ring.swizzle})"
    else:
        down, leading = each * ring.bits // 8 // ring.swizzle * ring.panel, ring.panel
        deep = f"k * {grid.atom.k * ring.pitch}"
    start = f"{ring.name} + u32({values.scalar(found.slot)}) * {ring.slot}"
    if any(d.axis == axis for d in grid.outer.thread_digits):
        own = offset(grid.outer.thread_digits, axis, _group(values))
        start = plus(start, times(f"({own})", down))
    name = p.fresh("there")
    p.line(f"const u64 {name} = wgmma_descriptor({start}, {leading}, {8 * ring.pitch}, "
           f"Swizzle::b{ring.swizzle});")  # fmt: skip
    return f"{name} + ({i} * {down} + {deep}) / {LINE}"
