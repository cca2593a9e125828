"""Operands that store some of their elements: products of 2:4 ones, and tiles of bitmaps."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tilec.codegen.cuda import dot, groups, pointwise
from tilec.codegen.cuda.printer import offset, plus
from tilec.codegen.cuda.ring import FragmentRing
from tilec.codegen.cuda.tiles import Values, extents, tile
from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.laid import sizes_of
from tilec.ir.layout.atoms import Atom, atoms
from tilec.ir.layout.runs import neighbours
from tilec.ir.ops.machine import Convert
from tilec.ir.ops.memory import Load
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.sparse.bitmap import WORD
from tilec.ir.types import Span


@dataclass(frozen=True)
class _Grid:
    """The instructions of a warp: high x wide of them, each `deep` times. So many steps of `deep`
    share a word of metadata."""

    atom: Atom
    high: int
    wide: int
    deep: int
    shared: int


def emit(values: Values, op: SparseDot, name: str) -> None:
    """Print a product into registers `name`, which are the accumulator's and start as it."""
    p, into = values.p, name
    if name != values.names[op.acc]:
        p.line(f"{name} = {values.names[op.acc]};")
    grouped, scaled = groups.taken(op, values.made), op.row_scale is not None
    if scaled:
        into, t = dot.sums(values, op.acc, tile(op.values).dtype.is_integer)
        if not grouped:
            p.line(f"fill({into}, [&](u32) {{ return {pointwise.literal(0, t)}; }});")
    if grouped:
        groups.emit_sparse(values, op, into, _word(values, op.index, "word"), fresh=scaled)
    else:
        _fragments(values, op, into)
    if not scaled:
        return
    if grouped:
        groups.settle(values, into, 0)
    dot.by_scales(values, op, {0: op.row_scale}, f"f32({into}[i])", name)


def instructions(values: Values, op: SparseDot) -> int:
    """How many matrix instructions of a warp a product takes; 0 where it takes none."""
    if op.b not in values.layouts:  # it is read in place
        return 0
    grid = _grid(values, op)
    return grid.high * grid.wide * grid.deep


def _grid(values: Values, op: SparseDot) -> _Grid:
    """The deepest instruction whose fragments the operands are."""
    a, b, c, e = (values.layouts[v] for v in (op.values, op.b, op.acc, op.index))
    k, name = sizes_of(tile(op.b))[0], str(tile(op.values).dtype)
    fits = [x for x in atoms().values() if x.instruction == "mma.sp" and x.a_type == name
            and k % x.k == 0 and x.b is not None]  # fmt: skip
    if not fits:
        raise TileError(f"cuda: no instruction multiplies a sparse {tile(op.values)}")
    atom = max(fits, key=lambda x: x.k)
    assert atom.b is not None
    assert atom.metadata is not None
    deep = k // atom.k
    high, wide = a.locals // atom.a.locals // deep, b.locals // atom.b.locals // deep
    assert c.locals == high * wide * atom.c.locals
    return _Grid(atom, high, wide, deep, high * deep * atom.metadata.locals // e.locals)


def _fragments(values: Values, op: SparseDot, into: str) -> None:
    """Every fragment of the accumulator, over all of k."""
    p, grid = values.p, _grid(values, op)
    a_words = grid.atom.a.locals * tile(op.values).dtype.bits // 32
    types = ", ".join(pointwise.cpp_type(tile(v).dtype) for v in (op.values, op.b))
    late, names = values.late.get(values.names[op.values]), values.names
    p.unrolled("j", grid.deep // grid.shared)
    for selector in range(grid.shared):
        k = "j" if grid.shared == 1 else f"(j * {grid.shared} + {selector})"
        if late is not None:  # just before they are multiplied: all at once take many registers
            p.unrolled("m", grid.high)
            p.line(f"const u32 i = m * {grid.deep} + {k};")
            p.line(late)
            p.close()
        p.unrolled("m", grid.high)
        p.unrolled("n", grid.wide)
        left = f"part<{a_words}>({names[op.values]}, (m * {grid.deep} + {k}) * {a_words})"
        right = f"part<4>({names[op.b]}, ({k} * {grid.wide} + n) * 4)"
        places = _word(values, op.index, f"m * {grid.deep // grid.shared} + j")
        sums = f"part<4>({into}, (m * {grid.wide} + n) * 4)"
        p.line(f"mma_sp<{grid.atom.k}, {types}, {selector}>({sums}, {left}, {right}, {places});")
        p.close()
        p.close()
    p.close()


def _word(values: Values, index: Value, i: str) -> str:
    """A word of places. In fragment order those of what is no element rise too; zeros that were
    read outside of memory do not."""
    name, op = values.names[index], values.made.get(index)
    load = values.made.get(op.a) if isinstance(op, Convert) else None
    if isinstance(load, Load) and isinstance(values.rings.get(load.mem), FragmentRing):
        return f"{name}[{i}]"
    return f"rising({name}.words[{i}])"


def expand(values: Values, op: Expand, name: str) -> None:
    """Print a tile of values at the ones of a mask: neighbours of a thread out of one word."""
    p, layout = values.p, values.layouts[op.result]
    assert op.start is not None
    (rows, columns), (high, wide) = (values.spans[v] for v in (op.rows, op.columns)), _dims(op)
    across = [d for d in layout.thread_digits if d.axis == 1]
    n = gcd(neighbours(layout, 1), columns.multiple, WORD, *(d.stride for d in across))
    base, above = p.base(layout, 1), offset(layout.local_digits, 1, "i")
    apart = columns.multiple % WORD == 0 and all(d.size * d.stride <= WORD for d in across)
    p.unrolled("i", layout.locals, n)
    p.line(f"const u32 row = {plus(rows.start, p.coordinate(layout, 0, 'i'))}, above = {above}, "
           f"column = {plus(plus(columns.start, base), 'above')};")  # fmt: skip
    word = f"({columns.start}) / {WORD} + above / {WORD}" if apart else f"column / {WORD}"
    p.line(f"const u64 word = u64(row) * {-(-wide // WORD)} + {word};")
    bounds = [f"{at} < {size}" for at, size, place in
              (("row", high, rows), ("column", wide, columns)) if not place.exact]  # fmt: skip
    mask, start, stored = (values.names[v] for v in (op.mask, op.start, op.values))
    room = extents(op.values)[1]
    number = "u32" if high * room < 1 << 32 else "u64"
    bits = f"{base}, above % {WORD}" if apart else f"column % {WORD}, 0"
    p.line(f"expand<{n}>({name}, i, {mask} + word, {start} + word, {stored}, "
           f"{number}(row) * {room}, {bits}, {' && '.join(bounds) or 'true'});")  # fmt: skip
    p.close()


def _dims(op: Expand) -> tuple[int, int]:
    """The rows and columns of the matrix."""
    found = [v.type.dim for v in (op.rows, op.columns) if isinstance(v.type, Span)]
    high, wide = (int(str(d)) for d in found)
    return high, wide
