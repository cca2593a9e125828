"""Which codes lie in fragment order, and where their decoding is one step of a few instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from tilec.codegen.cuda import words
from tilec.codegen.cuda.places import place
from tilec.codegen.cuda.recipes import Codes, Recipe, recipe
from tilec.ir.bits import from_raw
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.dtype import Array, DType, bf16, e4m3, e5m2, f16, f32, i8, u8
from tilec.ir.fragments import Fragments, Places, plain
from tilec.ir.ops import arith, control, machine, memory, packed, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Memory, Shape, Span, Tile

DECODED = (f16, bf16, i8, u8, e4m3, e5m2)
WIDEST = 8  # bits of a code
WHOLE = (8, 16, 32)  # bits of numbers that are put in order
Product = Dot | SparseDot


@dataclass(frozen=True)
class Decoding:
    """How codes become the elements that a product reads."""

    source: Value  # the codes
    recipe: Recipe
    name: str  # of the recipe
    late: bool  # whether a product decodes them, fragment after fragment

    @property
    def function(self) -> str:
        """The function of decode.cuh that does it."""
        return f"decode<{self.name}>"


@dataclass
class Orders:
    """Memories and rings of fragments, and the ops that decode them."""

    of: dict[Value, Fragments] = field(default_factory=dict[Value, Fragments])
    decoded: dict[Op, Decoding] = field(default_factory=dict[Op, Decoding])
    within: set[Op] = field(default_factory=set[Op])  # those before the last one of a decoding
    factors: dict[Op, float] = field(default_factory=dict[Op, float])  # left to scales of products
    fragments: dict[Op, Product] = field(default_factory=dict[Op, Product])  # what loads are for
    names: dict[Recipe, str] = field(default_factory=dict[Recipe, str])

    def prelude(self) -> Iterator[str]:
        """The recipes, before a kernel."""
        for how, name in self.names.items():
            yield f"struct {name} {{"
            yield (f"  static constexpr u32 words = {how.arrangement.words}, "
                   f"registers = {len(how.registers)};")  # fmt: skip
            yield "  TILEC_DEVICE void unit(u32* to, const u32* from) {"
            yield from (f"    {line}" for line in words.lines(how.registers))
            yield from ("  }", "};", "")

    def named(self, how: Recipe, source: DType, to: DType) -> str:
        """The name of a recipe, which no other one has."""
        name, n = f"{source}_as_{to}", 2
        while how not in self.names and name in self.names.values():
            name, n = f"{source}_as_{to}_{n}", n + 1
        return self.names.setdefault(how, name)


@dataclass
class _Readers:
    """What makes the values of a function, and what reads them."""

    made: dict[Value, Op] = field(default_factory=dict[Value, Op])
    users: dict[Value, list[Op]] = field(default_factory=dict[Value, list[Op]])
    ends: Counter[Value] = field(default_factory=Counter[Value])  # results of blocks
    at: dict[Op, tuple[Block, int]] = field(default_factory=dict[Op, tuple[Block, int]])
    steps: dict[Value, int | None] = field(default_factory=dict[Value, int | None])  # of spans

    def only(self, v: Value) -> Op | None:
        """The only op that reads a value, if there is one."""
        ops = self.users.get(v, [])
        return ops[0] if len(ops) == 1 and not self.ends[v] else None

    def undisturbed(self, first: Op, last: Op) -> bool:
        """Whether one op comes before another in a block, and nothing in between writes."""
        (block, start), (other, stop) = self.at[first], self.at[last]
        between = block.ops[start + 1 : stop]
        return block is other and not any(Trait.WRITES in op.traits or op.blocks for op in between)


def orders(func: Func) -> Orders:
    """The rings that one load reads in fragments of a product, decoded in one step, and numbers of
    groups in the order in which the threads of a product want them."""
    found, readers = Orders(), _Readers()
    readers.at |= {o: (func.body, i) for i, o in enumerate(func.body.ops)}
    for op in func.walk():
        readers.made.update(dict.fromkeys(op.results, op))
        readers.steps |= _steps(op, readers.steps)
        for v in op.operands:
            readers.users.setdefault(v, []).append(op)
        readers.ends.update(v for b in op.blocks for v in b.results)
        readers.at |= {o: (b, i) for b in op.blocks for i, o in enumerate(b.ops)}
    for op in func.walk():
        if not isinstance(op, memory.Load):
            continue
        if isinstance(readers.made.get(op.mem), machine.Shared):
            _order(found, op, readers)
        elif _component(op.mem):
            _numbers(found, op, readers)
    return found


def _steps(op: Op, known: dict[Value, int | None]) -> dict[Value, int | None]:
    """How far apart the spans of an op begin."""
    match op:
        case control.Grid():
            return dict(zip(op.body.params, op.tiles, strict=True))
        case control.For():
            return {op.body.params[0]: op.tile}
        case memory.Nth():
            return {op.result: op.tile}
        case memory.Whole():
            return {op.result: gcd(op.start or 0, op.size if isinstance(op.size, int) else 0)}
        case packed.Groups():
            step = known.get(op.span) or 0
            return {op.result: step // op.by if step % op.by == 0 else None}
        case _:
            return {}


def _order(found: Orders, load: memory.Load, readers: _Readers) -> None:
    convert = readers.only(load.result)
    if not isinstance(convert, machine.Convert) or not isinstance(load.result.type, Tile):
        return
    reader = readers.only(convert.result)
    if isinstance(reader, Product) and _first(reader) is convert.result:
        if readers.undisturbed(load, reader):
            found.fragments[load] = reader
        return
    source, t = _source(load, readers), load.result.type.dtype
    if source is None or t.bits > WIDEST:
        return
    if isinstance(reader, SparseDot) and reader.index is convert.result:
        places = Places(t, convert.layout, plain(t.bits))
        found.of |= {load.mem: places, source: places}
        return
    chains = [_decoding(op, t, readers) for op in readers.users.get(convert.result, ())]
    if readers.ends[convert.result] or not all(chains):
        return
    ways = [_way(chain, t, readers) for chain in chains]
    arrangements = {how.arrangement if how else None for how in ways}
    arrangement = arrangements.pop() if len(arrangements) == 1 else None
    if arrangement is None or not Fragments.fits(convert.layout, arrangement):
        return
    order = Fragments(t, convert.layout, arrangement)
    found.of |= {load.mem: order, source: order}
    for chain, how in zip(chains, ways, strict=True):
        if how is not None:
            _decode(found, convert.result, chain, how, readers)


def _decoding(op: Op, t: DType, readers: _Readers) -> list[Op]:
    """The ops from one on that make what a product reads of codes; none where they do not."""
    chain = _chain(op, readers)
    while chain and not (_dtype(chain[-1]) in DECODED and _dtype(chain[-1]) != t):
        chain.pop()
    return chain


def _way(chain: list[Op], t: DType, readers: _Readers) -> Recipe | None:
    """How codes become what a chain of ops makes of them."""
    dot = _product(chain[-1], readers)
    folds = dot is not None and _folds(dot, readers)
    return recipe(_codes(t, chain, readers), _dtype(chain[-1]), folds)


def _decode(found: Orders, codes: Value, chain: list[Op], how: Recipe, readers: _Readers) -> None:
    """Note that a recipe stands for a chain of ops."""
    t, last = codes.type, chain[-1]
    assert isinstance(t, Tile)
    dot, reader = _product(last, readers), readers.only(last.result)
    late = isinstance(reader, Dot) and place(reader.b, readers.made) is not None
    name = found.named(how, t.dtype, _dtype(last))
    found.decoded[last] = Decoding(codes, how, name, late)
    found.within.update(chain[:-1])
    if dot is not None:
        found.factors[dot] = found.factors.get(dot, 1.0) * how.factor


def _first(product: Product) -> Value:
    """The first operand of a product."""
    return product.values if isinstance(product, SparseDot) else product.a


def _source(load: memory.Load, readers: _Readers) -> Value | None:
    """The memory whose tiles are all that a ring has and one load reads, if that may order them."""
    ring = readers.users[load.mem]
    sources = {op.mem for op in ring if isinstance(op, machine.Copy)}
    source = next(iter(sources))
    alone = len(sources) == 1 and all(op in ring for op in readers.users[source])
    alone = alone and _component(source) and _whole_tiles(ring, readers)
    reads = sum(isinstance(op, memory.Load | machine.InPlace) for op in ring)
    return source if alone and reads == 1 else None


def _whole_tiles(ring: list[Op], readers: _Readers) -> bool:
    """Whether copies begin where tiles of their size do, which are what lies in fragment order; of
    one of several matrices in pieces, which can be left out."""
    copies = [op for op in ring if isinstance(op, machine.Copy)]
    spans = [v for op in copies for v in op.indices[-2:]]
    numbers = [v for op in copies for v in op.indices[:-2]]
    plain = all(isinstance(v.type, Tile) and not v.type.shape for v in numbers)
    known = all(isinstance(d, int) for op in copies for d in _extents(op.mem))
    if numbers and not (plain and known and all(op.full is None for op in copies)):
        return False
    return all(isinstance(v.type, Span) and readers.steps.get(v) == v.type.size for v in spans)


def _extents(mem: Value) -> Shape:
    assert isinstance(mem.type, Memory)
    return mem.type.shape


def _component(mem: Value) -> bool:
    """Whether memory is part of a packed tensor, which may lie in any order; a dense tensor lies as
    the caller has it."""
    return "." in mem.hint


def _chain(first: Op, readers: _Readers) -> list[Op]:
    """Casts, terms and subtractions of a constant from an op on, each the only one that reads what
    is before it."""
    chain: list[Op] = []
    op: Op | None = first
    while (isinstance(op, Cast) and op.rounding == "nearest") or isinstance(op, packed.Term) or (
        isinstance(op, arith.Sub) and _middle(op, readers) is not None
    ):  # fmt: skip
        chain.append(op)
        op = readers.only(op.result)
    return chain


def _middle(op: arith.Sub, readers: _Readers) -> Array | None:
    """The constant that a subtraction takes."""
    full = readers.made.get(op.b)
    return full.evaluate(()) if isinstance(full, shape.Full) else None


def _codes(t: DType, chain: list[Op], readers: _Readers) -> Codes:
    """What the ops of a chain make of every code."""
    values = from_raw(t, np.arange(1 << t.bits))
    with np.errstate(all="ignore"):
        for op in chain:
            if isinstance(op, arith.Sub):
                values = values - _middle(op, readers)
            if isinstance(op, packed.Term):
                values = op.evaluate(values)
            saturate = isinstance(op, Cast) and op.saturate
            values = _dtype(op).round(values, saturate=saturate)
    return Codes(t.bits, tuple(map(float, values)), t.exponent, t.mantissa)


def _product(op: Op, readers: _Readers) -> Product | None:
    """The product that alone reads a value, as it is or transposed."""
    reader = readers.only(op.result)
    while isinstance(reader, shape.Transpose | machine.Convert):
        reader = readers.only(reader.result)
    return reader if isinstance(reader, Product) else None


def _folds(dot: Product, readers: _Readers) -> bool:
    """Whether the scale of a product can have any factor of a recipe: it is a small number."""
    scale = dot.scale if isinstance(dot, Dot) and dot.scale is not None else dot.row_scale
    op = None if scale is None else readers.made.get(scale)
    while isinstance(op, machine.Convert):
        op = readers.made.get(op.a)
    if not isinstance(op, Cast) or _dtype(op) != f32:
        return False
    return _small(op.a.type)


def _small(t: object) -> bool:
    """Whether numbers are far from the ends of f32."""
    if not isinstance(t, Tile) or not t.dtype.is_float:
        return False
    return t.dtype.exponent < f32.exponent


def _dtype(op: Op) -> DType:
    assert isinstance(op.result.type, Tile)
    return op.result.type.dtype


def _numbers(found: Orders, load: memory.Load, readers: _Readers) -> None:
    """A number for each row of a tile and one group: the only load of a parameter."""
    convert, t = readers.only(load.result), load.mem.type
    if not isinstance(convert, machine.Convert) or not isinstance(t, Memory):
        return
    *numbers, rows, group = load.indices if len(load.indices) > 1 else (*load.indices, None)
    if group is None or any(_spread(v) for v in (*numbers, group)):
        return
    layout, known = convert.layout, all(isinstance(d, int) for d in t.shape)
    whole = layout.rank == 1 and readers.steps.get(rows) == layout.shape[0]
    if not (whole and known) or len(readers.users[load.mem]) > 1 or t.dtype.bits not in WHOLE:
        return
    upright, arrangement = layout.reshape(*layout.shape, 1), plain(t.dtype.bits)
    if Fragments.fits(upright, arrangement):
        found.of[load.mem] = Fragments(t.dtype, upright, arrangement)


def _spread(v: Value) -> bool:
    """Whether an index is no number."""
    return not isinstance(v.type, Tile) or bool(v.type.shape)
