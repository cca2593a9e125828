"""What a call has to do at least: bytes that must be met, operations that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tilec.explain import Explanation, explain
from tilec.explain.traffic import VIEWS
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.dynamic import Dynamic
from tilec.ir.extent import Extent, Sym, ceil_div, number
from tilec.ir.format import Dense, Format
from tilec.ir.ops import arith, memory, reduce, scaled, scan, sparse
from tilec.ir.ops.control import Count, For, Grid
from tilec.ir.scaled import Scaled
from tilec.ir.sparse.stored import Sparse
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition, Signature, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.profile.calls import Kinds, Tensor

KINDS = ("int8", "fp8", "half", "f32")  # what operands of products are, the narrowest first
_PRODUCTS = (reduce.Dot, scaled.ScaledDot, sparse.SparseDot)


@dataclass(frozen=True)
class Work:
    """The dimensions and formats of a call; the bytes that its kernels move (each operand as often
    as a kernel passes over it), those that no way can do without, its operations (a multiply-add is
    two), what its products are of (`int8`, `fp8`: codes of at most 8 bits; `half`: of at most 16;
    `f32`: wider, or no products), and whether an operand is sparse: operations are then
    those of dense ones, more than are needed."""

    dims: Mapping[str, int]
    types: Mapping[str, str]
    bytes: int
    compulsory: int
    operations: int
    operands: str
    sparse: bool = False


def work(definition: Definition, tensors: Kinds) -> Work:
    """The work of a call. Raises TileError where the arguments are not the kernel's."""
    types, dims = _bound(definition.signature, dict(tensors))
    whole = definition
    if isinstance(definition, ProgramDefinition):
        whole = definition.called(types)  # what it returns is written too
    return counted(explain(whole, types, dims), types)


def counted(found: Explanation, types: Mapping[str, Format | DType]) -> Work:
    """The work of a kernel whose tensors have these formats, fused."""
    each = list(operations(found.before))
    made = {v: op for op in found.before.walk() for v in op.results}
    products = [_operands(op, made) for op, _ in each if isinstance(op, _PRODUCTS)]
    return Work(
        found.dims, {n: str(t) for n, t in types.items()}, _moved(found), found.compulsory,
        sum(n for _, n in each), max(products, key=KINDS.index, default="f32"),
        any(isinstance(t, Sparse) for t in types.values()),
    )  # fmt: skip


def _bound(
    signature: Signature, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Format | DType], dict[str, int]]:
    """The formats of the arguments by name, and the numbers of the dimensions."""
    types: dict[str, Format | DType] = {}
    shapes: list[tuple[int, ...] | None] = []
    for p in signature.params:
        shapes.append(None)
        if isinstance(p.spec, TensorSpec) and p.name in tensors:
            given = tensors[p.name]
            types[p.name], shapes[-1] = _format(p.spec.format, given.type), given.shape
    return types, signature.bind(shapes)


def _format(pinned: Format | None, found: str | Format) -> Format:
    """An argument's format, or the pinned one that is stored so."""
    if isinstance(found, Format):
        return found
    dtype = BY_NAME[found]
    same = isinstance(pinned, Dense) and pinned.dtype.numpy == dtype.numpy
    return pinned if same and pinned is not None else Dense(dtype)


def _moved(found: Explanation) -> int:
    return sum(k.bytes for k in found.kernels)


def _operands(op: Op, made: Mapping[Value, Op]) -> str:
    """What the operands of a product are, as they are stored."""
    assert isinstance(op, _PRODUCTS)
    first = op.values if isinstance(op, sparse.SparseDot) else op.a
    a, b = _stored(first, made), _stored(op.b, made)
    eight = max(a.bits, b.bits) <= 8
    if eight and a.is_integer and b.is_integer:
        return "int8"
    if eight and not (a.is_integer or b.is_integer):
        return "fp8"
    return "half" if a.bits <= 16 else "f32"


def _stored(v: Value, made: Mapping[Value, Op]) -> DType:
    """The dtype of the codes that a tile is read from, or its own."""
    op = made.get(v)
    while isinstance(op, VIEWS) and op.operands:
        v = op.operands[0]
        op = made.get(v)
    if isinstance(op, memory.Load) and isinstance(op.mem.type, Memory):
        format = op.mem.type.format
        if isinstance(format, Scaled):
            return format.codes
        if isinstance(format, Dynamic):
            return format.stored
    assert isinstance(v.type, Tile)
    return v.type.dtype


@dataclass(frozen=True, eq=False)
class _Loop:
    """A dimension of a grid or a loop: its extent, and into how many tiles it is cut (1 where that
    is not chosen yet: tiles have symbols for sizes then)."""

    extent: int
    trips: int


def operations(func: Func) -> Iterator[tuple[Op, int]]:
    """The ops that compute, of a function whose dimensions are numbers, each with the operations
    that it needs in all: as few as any tile sizes do with. A loop that ends early counts whole, a
    loop by numbers and both ways of a condition once."""
    yield from _inside(func.body, (), {}, {})


def _inside(
    block: Block, around: tuple[_Loop, ...], sizes: Mapping[str, _Loop],
    of: dict[Value, frozenset[_Loop]],
) -> Iterator[tuple[Op, int]]:  # fmt: skip
    for op in block.ops:
        below = frozenset(x for v in op.operands for x in of.get(v, ()))
        of.update(dict.fromkeys(op.results, below))
        each = _each(op)
        if each is not None:
            yield op, _times(each, [x for x in around if x in below], sizes)
        loops = _loops(op)
        named = {s.text: x for s, x in loops if isinstance(s, Sym)}
        for inner in op.blocks:
            spans = zip(inner.params, (x for _, x in loops), strict=False)
            of.update({p: below | {x} for p, x in spans})
            for p, v in zip(inner.params[len(loops) :], op.operands, strict=False):
                of[p] = below | of.get(v, frozenset()) | {x for _, x in loops}
            yield from _inside(inner, (*around, *(x for _, x in loops)), {**sizes, **named}, of)


def _loops(op: Op) -> list[tuple[Extent | None, _Loop]]:
    """The loops that an op is, with the sizes of their tiles."""
    match op:
        case Grid():
            each = zip(op.sizes, op.dims, op.tiles, strict=True)
            return [(size, _loop(dim, tile)) for size, dim, tile in each]
        case For():
            return [(op.size, _loop(op.dim, op.tile))]
        case Count():  # its bounds are not known: once
            return [(None, _Loop(1, 1))]
        case _:
            return []


def _loop(dim: Extent, tile: int | None) -> _Loop:
    extent = number(dim, {})
    return _Loop(extent, number(ceil_div(extent, tile), {}) if tile else 1)


def _times(each: tuple[int, tuple[Extent, ...]], around: Sequence[_Loop],
           sizes: Mapping[str, _Loop]) -> int:  # fmt: skip
    """So many operations for each element of a shape, in loops that the op depends on."""
    total, used = each[0], set[_Loop]()
    for e in each[1]:
        loop = sizes.get(e.text) if isinstance(e, Sym) else None
        total *= loop.extent if loop else number(e, {})
        used |= {loop} if loop else set()
    return total * prod(x.trips for x in around if x not in used)


def _each(op: Op) -> tuple[int, tuple[Extent, ...]] | None:
    """How many operations an op does for each element of which shape; None where it computes
    nothing, as what moves, converts or counts places."""
    first = op.operands[0].type if op.operands else None
    match op:
        case reduce.Dot() | scaled.ScaledDot() | sparse.SparseDot():
            right = op.b.type
            assert isinstance(first, Tile)
            assert isinstance(right, Tile)
            return 2, (*first.shape, right.shape[-1])
        case reduce.Reduction() | scan.Scan():
            assert isinstance(first, Tile)
            return 1, first.shape
        case arith.Fma():
            assert isinstance(first, Tile)
            return (2, first.shape) if first.dtype.is_float else None
        case _ if op.traits & Trait.ELEMENTWISE and type(op).__module__ == arith.__name__:
            made = op.result.type
            return (1, made.shape) if isinstance(made, Tile) and made.dtype.is_float else None
        case _:
            return None
