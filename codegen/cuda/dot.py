"""Matrix products: instructions of a warp on fragments, or multiply-adds from shared memory."""

from __future__ import annotations

from tilec.codegen.cuda import codes, exchange, groups, pointwise
from tilec.codegen.cuda.printer import narrowed
from tilec.codegen.cuda.tiles import Values, tile
from tilec.ir.core import Value
from tilec.ir.dtype import DType, f32, f64, i32
from tilec.ir.errors import TileError
from tilec.ir.laid import restricted, sizes_of
from tilec.ir.layout.atoms import Atom, atoms
from tilec.ir.layout.register import RegisterLayout, local
from tilec.ir.ops.machine import Convert
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.shape import Full
from tilec.ir.ops.sparse import SparseDot

QUARTERS = 4 * 32  # bits of the registers that one ldmatrix fills
SHORT = 256  # fewer products of bytes have a sum of 23 bits


def emit(values: Values, op: Dot, name: str) -> None:
    """Print a product into registers `name`, which are the accumulator's and start as it."""
    p = values.p
    grouped = groups.taken(op, values.made)
    fresh = grouped and not _scaling(op) and _nothing(op.acc, values)
    if name != values.names[op.acc] and not fresh:
        p.line(f"{name} = {values.names[op.acc]};")
    if grouped:
        _grouped(values, op, name, fresh)
        return
    atom = _atom(values, op)
    into = name
    if _scaling(op):
        into, t = sums(values, op.acc, _whole(op))
        start = "COUNTED" if _short(op) and atom is not None else pointwise.literal(0, t)
        p.line(f"fill({into}, [&](u32) {{ return {start}; }});")
    if atom is not None:
        _fragments(values, op, atom, into)
    else:
        _multiply_adds(values, op, into)
    if _scaling(op):
        _scaled(values, op, into, name, "f32_of_counted" if _short(op) and atom else "f32")


def _nothing(acc: Value, values: Values) -> bool:
    """Whether a sum begins with 0."""
    op = values.made.get(acc)
    while isinstance(op, Convert):
        op = values.made.get(op.a)
    return isinstance(op, Full) and op.value == 0


def _grouped(values: Values, op: Dot, name: str, fresh: bool) -> None:
    """A product of warp groups, which is complete only if it has scales."""
    if not _scaling(op):
        groups.emit(values, op, name, fresh)
        return
    into, _ = sums(values, op.acc, _whole(op))
    groups.emit(values, op, into, fresh=True)
    groups.settle(values, into, 0)
    _scaled(values, op, into, name, "f32_of_short" if _short(op) else "f32")


def _scaling(op: Dot) -> bool:
    return op.scale is not None or op.row_scale is not None


def sums(values: Values, acc: Value, whole: bool) -> tuple[str, DType]:
    """Registers for what scales multiply."""
    t = i32 if whole else f32
    into = values.p.fresh("sum")
    values.p.line(f"Share<{pointwise.cpp_type(t)}, {values.layouts[acc].locals}> {into};")
    return into, t


def _whole(op: Dot) -> bool:
    return tile(op.a).dtype.is_integer and tile(op.b).dtype.is_integer


def _short(op: Dot) -> bool:
    """Whether whole sums have at most 23 bits."""
    return _whole(op) and tile(op.a).dtype.bits == 8 and sizes_of(tile(op.a))[1] < SHORT


def _scaled(values: Values, op: Dot, total: str, name: str, converted: str) -> None:
    """name += total * scales; the total is `converted`."""
    by_scales(values, op, {1: op.scale, 0: op.row_scale}, f"{converted}({total}[i])", name)


def by_scales(values: Values, op: Dot | SparseDot, given: dict[int, Value | None], term: str,
              name: str) -> None:  # fmt: skip
    """name += term * scales along axes, the last product and the sum rounded once."""
    layout, scales = values.layouts[op.acc], list[str]()
    for axis, scale in given.items():
        if scale is not None:
            i = narrowed(layout.local_digits, (axis,), "i")
            scales.append(values.item(scale, restricted(layout, (axis,)), i))
    factor = values.orders.factors.get(op, 1.0)
    if factor != 1:
        scales[0] = f"mul_f32({scales[0]}, {codes.number(factor)})"
    for scale in scales[1:]:
        term = f"mul_f32({term}, {scale})"
    total = f"fma_f32({term}, {scales[0]}, {name}[i])"
    values.p.line(f"fill({name}, [&](u32 i) {{ return {total}; }});")


def _atom(values: Values, op: Dot) -> Atom | None:
    """The instruction whose fragments the operands are, the deepest first."""
    if op.a not in values.layouts or op.b not in values.layouts:
        return None
    a, b, c = (values.layouts[v] for v in (op.a, op.b, op.acc))
    (_, k) = sizes_of(tile(op.a))
    name = str(tile(op.a).dtype)
    for atom in sorted(atoms().values(), key=lambda x: -x.k):
        same = atom.instruction == "mma" and atom.m == 16 and not atom.sparse
        if not same or atom.a_type != name or k % atom.k or atom.b is None:
            continue
        deep = k // atom.k
        high, wide = (x.locals // (y.locals * deep) for x, y in ((a, atom.a), (b, atom.b)))
        parts = ((a, atom.a, (high, deep)), (b, atom.b, (deep, wide)), (c, atom.c, (high, wide)))
        if all(_repeats(x, fragment, grid) for x, fragment, grid in parts):
            return atom
    return None


def in_quarters(values: Values, op: Dot | SparseDot) -> bool:
    """Whether a product takes its first operand by instructions, four registers at a time."""
    if isinstance(op, SparseDot):
        return True
    atom = _of_warps(values, op)
    return atom is not None and atom.a.locals * tile(op.a).dtype.bits == QUARTERS


def instructions(values: Values, op: Dot) -> int:
    """How many matrix instructions of a warp a product takes; 0 where it takes none."""
    atom = _of_warps(values, op)
    if atom is None:
        return 0
    return values.layouts[op.acc].locals // atom.c.locals * (sizes_of(tile(op.a))[1] // atom.k)


def _of_warps(values: Values, op: Dot) -> Atom | None:
    """The instruction of a product, if it is one of a warp."""
    return None if groups.taken(op, values.made) else _atom(values, op)


def _repeats(layout: RegisterLayout, fragment: RegisterLayout, grid: tuple[int, int]) -> bool:
    """Whether each thread holds a grid of an instruction's fragments, row by row."""
    try:
        return (layout / fragment).local_digits == local(*grid).local_digits
    except TileError:
        return False


def _fragments(values: Values, op: Dot, atom: Atom, into: str) -> None:
    """Every fragment of the accumulator, over all of k."""
    p = values.p
    a, b, c = (values.layouts[v] for v in (op.a, op.b, op.acc))
    assert atom.b is not None
    deep = sizes_of(tile(op.a))[1] // atom.k
    high = a.locals // atom.a.locals // deep
    wide = b.locals // atom.b.locals // deep
    assert c.locals // atom.c.locals == high * wide
    bits = tile(op.a).dtype.bits
    words = atom.a.locals * bits // 32, atom.b.locals * bits // 32
    types = ", ".join(pointwise.cpp_type(tile(v).dtype) for v in (op.a, op.b))
    p.unrolled("k", deep)
    load = values.late.get(values.names[op.a])
    if load is not None:  # just before they are multiplied: all at once take many registers
        p.unrolled("m", high)
        p.line(f"const u32 i = m * {deep} + k;")
        p.line(load)
        p.close()
    for i, n in (("m", high), ("n", wide)):
        p.unrolled(i, n)
    left = f"part<{words[0]}>({values.names[op.a]}, (m * {deep} + k) * {words[0]})"
    right = f"part<{words[1]}>({values.names[op.b]}, (k * {wide} + n) * {words[1]})"
    p.line(f"mma<{atom.k}, {types}>(part<4>({into}, (m * {wide} + n) * 4), {left}, {right});")
    for _ in range(3):
        p.close()


def _multiply_adds(values: Values, op: Dot, into: str) -> None:
    """Both operands through shared memory; every thread sums what its accumulators need."""
    p, acc = values.p, tile(op.acc)
    layout = values.layouts[op.acc]
    a = exchange.parked(op.a)
    b = exchange.parked(op.b, a.end)
    p.barrier()
    exchange.put(values, op.a, a)
    exchange.put(values, op.b, b)
    p.barrier()
    (_, k) = a.sizes
    p.line(f"for (u32 k = 0; k < {k}; k++) {{")
    p.depth += 1
    p.unrolled("i", layout.locals)
    row, column = (p.coordinate(layout, axis, "i") for axis in (0, 1))
    left = _element(op.a, a, [row, "k"])
    right = _element(op.b, b, ["k", column])
    t = acc.dtype
    whole = tile(op.a).dtype.is_integer and tile(op.b).dtype.is_integer
    if t == f64:
        p.line(f"{into}.set(i, fma_f64({left}, {right}, {into}[i]));")
    elif whole:
        wide = "u64" if t.bits == 64 else "u32"
        kind = pointwise.cpp_type(i32 if t == f32 else t)
        p.line(f"{into}.set(i, {kind}({wide}({left}) * {wide}({right}) + {wide}({into}[i])));")
    else:
        p.line(f"{into}.set(i, fma_f32({left}, {right}, {into}[i]));")
    p.close()
    p.close()


def _element(v: Value, where: exchange.Parked, at: list[str]) -> str:
    """An element in shared memory, in the type that is computed in."""
    t = tile(v).dtype
    kind = pointwise.cpp_type(t)
    raw = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}[where.bytes]
    if t.bits >= 32:
        return f"load_shared<Number<{kind}>::Carrier>({where.address(at)})"
    return f"Number<{kind}>::value(load_shared<{raw}>({where.address(at)}))"
