"""What expressions of whole tensors mean: products of batches, einsum, indices with `...`."""

# What a program names can be anything until it is looked at.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import re
from collections.abc import Sequence

from tilec.ir.core import Builder, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.types import Memory, Tile
from tilec.lang import semantics

_SPEC = re.compile(r"\s*[a-zA-Z]*(\s*,\s*[a-zA-Z]*)*\s*->\s*[a-zA-Z]*\s*")


def whole(b: Builder, x: object) -> object:
    """All of a tensor as a tile; anything else as it is."""
    if isinstance(x, tuple):
        return tuple(whole(b, item) for item in x)
    if not (isinstance(x, Value) and isinstance(x.type, Memory)):
        return x
    return b(memory.Load(x, tuple(b(memory.Whole(d)) for d in x.type.shape)))


def kept(b: Builder, mem: Value, x: semantics.Operand, parts: Sequence[object] = ()) -> None:
    """All of a tensor, or the parts of it that are said, becomes x."""
    assert isinstance(mem.type, Memory)
    everything = [slice(None)] * len(mem.type.shape)
    semantics.write(b, memory.Store, mem, expanded(parts, len(everything)) or everything, x)


def expanded(keys: Sequence[object], rank: int) -> list[object]:
    """The keys of a subscript with `...` as so many `:`, and those at the end that are missing."""
    dots = [i for i, key in enumerate(keys) if key is ...]
    if len(dots) > 1:
        raise TileError("an index has `...` once at most")
    used = sum(key is not None and key is not ... for key in keys)
    rest: list[object] = [slice(None)] * (rank - used)
    at = dots[0] if dots else len(keys)
    return [*keys[:at], *rest, *keys[at + 1 :]]


def bounded(b: Builder, keys: Sequence[object], dims: Sequence[Extent]) -> list[object]:
    """The keys of a subscript of memory, with a span for each slice between whole numbers."""
    found: list[object] = []
    for key, dim in zip(keys, dims, strict=False):
        match key:
            case slice(start=None, stop=None):
                found.append(key)
            case slice(start=start, stop=stop, step=None):
                found.append(_span(b, start, stop, dim))
            case _:
                found.append(key)
    return [*found, *keys[len(dims) :]]


def _span(b: Builder, first: object, end: object, dim: Extent) -> Value:
    start, stop = 0 if first is None else first, dim if end is None else end
    if isinstance(dim, int):
        start, stop = (x + dim if isinstance(x, int) and x < 0 else x for x in (start, stop))
    match start, stop:
        case int(), int() if 0 <= start < stop and not (isinstance(dim, int) and stop > dim):
            return b(memory.Whole(dim, stop - start, start))
        case int(), Sym() if start >= 0 and stop == dim:
            return b(memory.Whole(dim, stop - start, start))
        case _:
            given = " and ".join(map(semantics.shown, (first, end)))
            raise TileError(f"a part of a dimension of {dim} is between whole numbers, not {given}")


def product(b: Builder, x: Value, y: Value) -> Value:
    """x @ y: of matrices, of batches of them that broadcast, and of vectors, as in numpy."""
    tx, ty = semantics.tile_type(x, "@"), semantics.tile_type(y, "@")
    if not tx.rank or not ty.rank:
        raise TileError(f"@: expected vectors or matrices, not {tx} and {ty}")
    if tx.rank == 1:
        return without(b, product(b, _stretched(b, x, 0), y), -2)
    if ty.rank == 1:
        return without(b, product(b, x, _stretched(b, y, 1)), -1)
    lead = semantics.common_shape(
        "@", (Tile(tx.shape[:-2], tx.dtype), Tile(ty.shape[:-2], ty.dtype))
    )
    x = semantics.to_shape(b, x, (*lead, *tx.shape[-2:]))
    y = semantics.to_shape(b, y, (*lead, *ty.shape[-2:]))
    dtype = reduce.accumulator(tx.dtype, ty.dtype)
    zeros = b(shape.Full((*lead, tx.shape[-2], ty.shape[-1]), 0, dtype))
    return b(reduce.Dot(x, y, zeros))


def _stretched(b: Builder, x: Value, axis: int) -> Value:
    own = semantics.tile_type(x, "@").shape
    return b(shape.Reshape(x, (*own[:axis], 1, *own[axis:])))


def without(b: Builder, x: Value, axis: int) -> Value:
    """x without an axis of one element."""
    t = semantics.tile_type(x, "squeeze")
    own, at = t.shape, semantics.axis_of(t, axis, "squeeze")
    return b(shape.Reshape(x, (*own[:at], *own[at + 1 :])))


def einsum(b: Builder, spec: str, operands: Sequence[Value]) -> Value:
    """The sum of products of elements that letters say: "bmd,bnd->bmn".

    From the left to the right, two operands at a time. Raises TileError for a letter that stands
    for two extents, stands twice in one operand, or is in the result alone.
    """
    if not _SPEC.fullmatch(spec):
        raise TileError(f"einsum: {spec!r} is not letters of operands and of the result",
                        hint='einsum("bmd,bnd->bmn", q, k)')  # fmt: skip
    left, out = "".join(spec.split()).split("->")
    given = left.split(",")
    _checked(given, out, operands)
    terms = list(zip(given, operands, strict=True))
    while len(terms) > 1:
        (a, x), (c, y), *rest = terms
        later = out + "".join(word for word, _ in rest)
        terms = [_two(b, (a, x), (c, y), later), *rest]
    word, value = _summed(b, *terms[0], out)
    return _ordered(b, word, value, out)


def _checked(given: Sequence[str], out: str, operands: Sequence[Value]) -> None:
    if len(given) != len(operands):
        raise TileError(f"einsum: letters for {len(given)} operands, but {len(operands)} are given")
    extents: dict[str, Extent] = {}
    for word, x in zip(given, operands, strict=True):
        t = semantics.tile_type(x, "einsum")
        if t.rank != len(word) or len(set(word)) != len(word):
            raise TileError(f"einsum: {word!r} for {t}: expected {t.rank} different letters")
        for letter, n in zip(word, t.shape, strict=True):
            if extents.setdefault(letter, n) != n:
                raise TileError(f"einsum: {letter!r} is {extents[letter]} and {n}")
    if unknown := set(out) - extents.keys():
        raise TileError(f"einsum: the result {out!r}: no operand has {min(unknown)!r}")
    if len(set(out)) != len(out):
        raise TileError(f"einsum: the result {out!r} has a letter twice")


Term = tuple[str, Value]


def _summed(b: Builder, word: str, x: Value, needed: str) -> Term:
    """x summed over the letters that nothing needs."""
    for letter in word:
        if letter not in needed:
            x = b(reduce.Sum(x, word.index(letter)))
            word = word.replace(letter, "")
    return word, x


def _ordered(b: Builder, word: str, x: Value, to: str) -> Value:
    order = tuple(word.index(letter) for letter in to)
    return x if order == tuple(range(len(order))) else b(shape.Transpose(x, order))


def _two(b: Builder, first: Term, second: Term, needed: str) -> Term:
    """The product of two, summed over what they share and nothing else needs.

    The last letter that only one of them has counts its rows, or columns; those before are batches,
    for which the other is stretched.
    """
    a, x = _summed(b, *first, needed + second[0])
    c, y = _summed(b, *second, needed + a)
    both = [n for n in a if n in c]
    inner = "".join(n for n in both if n not in needed)
    free = "".join(n for n in a if n not in c), "".join(n for n in c if n not in a)
    if not inner:
        word = "".join(n for n in both) + free[0] + free[1]
        x, y = _spread(b, (a, x), word), _spread(b, (c, y), word)
        return word, b(arith.Mul(*semantics.matched(b, "einsum", (x, y))))
    rows, columns = free[0][-1:], free[1][-1:]
    lead = "".join(n for n in both if n not in inner) + free[0][:-1] + free[1][:-1]
    x = _matrix(b, (a, x), lead, rows, inner, False)
    y = _matrix(b, (c, y), lead, columns, inner, True)
    made = product(b, x, y)
    made = made if columns else without(b, made, -1)
    made = made if rows else without(b, made, -2 if columns else -1)
    return lead + rows + columns, made


def _spread(b: Builder, term: Term, word: str) -> Value:
    """The axes in the order of a word, with axes of 1 for letters that the term has not."""
    mine, x = term
    x = _ordered(b, mine, x, "".join(n for n in word if n in mine))
    own = dict(zip([n for n in word if n in mine], semantics.tile_type(x, "einsum").shape,
                   strict=True))  # fmt: skip
    to = tuple(own.get(n, 1) for n in word)
    return x if len(to) == len(own) else b(shape.Reshape(x, to))


def _matrix(b: Builder, term: Term, lead: str, side: str, inner: str, turned: bool) -> Value:
    """[..., side, inner], or with the two turned: an axis of 1 for a side without a letter, and one
    axis for all that are summed over."""
    word = lead + (inner + side if turned else side + inner)
    x = _spread(b, term, word)
    own = semantics.tile_type(x, "einsum").shape
    if len(inner) == 1 and side:
        return x
    lengths = dict(zip(word, own, strict=True))
    depth: Extent = 1
    for n in inner:
        depth = lengths[n] * depth
    across = lengths[side] if side else 1
    last = (depth, across) if turned else (across, depth)
    return b(shape.Reshape(x, (*own[: len(lead)], *last)))
