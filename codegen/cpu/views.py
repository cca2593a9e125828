"""Tiles in another shape: nothing is computed until the result is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tilec.codegen.cpu import numbers, windows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import At, Index, Lazy, Writer
from tilec.ir.core import Op
from tilec.ir.errors import TileError
from tilec.ir.ops import shape
from tilec.ir.types import Tile


def gathered(w: Writer, index: Index, lanes: int, one: Callable[[Index], V]) -> V:
    """`lanes` elements one by one: one(index) gives the scalar at an index."""
    if lanes == 1:
        return one(index)
    parts: list[V] = [one((*index[:-1], w.f.plus(index[-1], i))) for i in range(lanes)]
    out = V(parts[0].type, lanes, "poison")
    for i, part in enumerate(parts):
        out = w.f.insert(out, part, i)
    return out


def view(x: Lazy, shape_: Index, at: At) -> Lazy:
    """`x` looked at elsewhere than at its own index."""
    return Lazy(shape_, x.dtype, at, None, x.reads, x.reads, singly=x.singly, plain=x.plain)


def emit(w: Writer, op: Op, x: Lazy) -> Lazy:
    """A view op of one operand."""
    t = op.operands[0].type
    out = op.result.type
    assert isinstance(t, Tile)
    assert isinstance(out, Tile)
    match op:
        case shape.Broadcast():
            grows = t.shape != out.shape[len(out.shape) - t.rank :] or t.rank < out.rank
            return _broadcast(w, w.settled(x, t) if grows and not x.plain else x, t, out)
        case shape.Transpose():
            return _transpose(w, x, op.order, w.shape(out))
        case shape.Slice():
            return _slice(w, w.settled(x, t), op, w.shape(out))
        case shape.Reshape():
            return _reshape(w, x if x.plain else w.settled(x, t), w.shape(out))
        case _:
            raise TileError(f"cpu: no code for {op.name}", op.loc)


def _broadcast(w: Writer, x: Lazy, t: Tile, out: Tile) -> Lazy:
    skip = out.rank - t.rank
    stretched = [a != b for a, b in zip(t.shape, out.shape[skip:], strict=True)]

    def at(index: Index, lanes: int) -> V:
        if one:
            return w.f.splat(x.at(own(index), 1), lanes)
        return x.at(own(index), lanes)

    def own(index: Index) -> Index:
        return tuple(0 if s else i for s, i in zip(stretched, index[skip:], strict=True))

    one = not t.rank or stretched[-1]
    until = None if one else x.until
    first = None if one else x.first
    window = windows.same(x, own) if one else windows.through(x.window, own)
    return replace(view(x, w.shape(out), at), until=until, first=first, wide=one or x.wide,
                   window=window)  # fmt: skip


def turned(w: Writer, x: Lazy) -> Lazy:
    """A matrix with its axes exchanged."""
    return _transpose(w, x, (1, 0), (x.shape[1], x.shape[0]))


def _transpose(w: Writer, x: Lazy, order: tuple[int, ...], shape_: Index) -> Lazy:
    def one(index: Index) -> V:
        own: list[Number] = [0] * len(order)
        for i, axis in zip(index, order, strict=True):
            own[axis] = i
        return x.at(tuple(own), 1)

    def at(index: Index, lanes: int) -> V:
        if order[-1] == len(order) - 1:
            own: list[Number] = [0] * len(order)
            for i, axis in zip(index, order, strict=True):
                own[axis] = i
            return x.at(tuple(own), lanes)
        return gathered(w, index, lanes, one)

    def across(index: Index, lanes: int) -> V:
        return x.at((index[1], index[0]), lanes)

    turned = across if order == (1, 0) else None

    def asking(ask: Callable[[Index, int], None] | None) -> Callable[[Index, int], None] | None:
        if ask is None or turned is None:
            return None
        return lambda at, cache: ask((at[1], at[0]), cache)

    words = None if x.words is None else _transpose(w, x.words, order, shape_)
    found = Lazy(shape_, x.dtype, at, None, x.reads, x.reads, turned, x.singly, words)
    fetch = asking(x.fetch)
    return replace(found, plain=x.plain, fetch=fetch, solid=fetch is not None and x.solid,
                   following=asking(x.following))  # fmt: skip


def _slice(w: Writer, x: Lazy, op: shape.Slice, shape_: Index) -> Lazy:
    start = w.extent(op.start)

    def at(index: Index, lanes: int) -> V:
        own = list(index)
        own[op.axis] = w.f.plus(own[op.axis], start)
        return x.at(tuple(own), lanes)

    return view(x, shape_, at)


def _reshape(w: Writer, x: Lazy, shape_: Index) -> Lazy:
    if (own := _same_axes(x.shape, shape_)) is not None:
        return _with_axes(w, x, own, shape_)

    def one(index: Index) -> V:
        flat: Number = 0
        for i, d in zip(index, shape_, strict=True):
            flat = w.f.plus(w.f.times(flat, d), i)
        own: list[Number] = []
        for d in reversed(x.shape):
            size, value = w.f.number(d), w.f.number(flat)
            own.insert(0, w.f.binary("srem", value, size))
            flat = w.f.binary("sdiv", value, size)
        return x.at(tuple(own), 1)

    def at(index: Index, lanes: int) -> V:
        return gathered(w, index, lanes, one)

    return replace(view(x, shape_, at), plain=False)


def _same_axes(old: Index, new: Index) -> list[int | None] | None:
    """For each old axis the new one that it is, where only axes of one element come or go."""
    axes: list[int | None] = []
    at = 0
    for extent in old:
        if extent == 1:
            axes.append(None)
            continue
        while at < len(new) and new[at] == 1:
            at += 1
        if at == len(new) or new[at] != extent:
            return None
        axes.append(at)
        at += 1
    return axes if all(n == 1 for n in new[at:]) else None


def _with_axes(w: Writer, x: Lazy, axes: list[int | None], shape_: Index) -> Lazy:
    """The same elements in order, with other axes of one element."""
    along = bool(axes) and axes[-1] == len(shape_) - 1

    def own(index: Index) -> Index:
        return tuple(0 if a is None else index[a] for a in axes)

    def at(index: Index, lanes: int) -> V:
        if lanes == 1 or along:
            return x.at(own(index), lanes)
        return gathered(w, index, lanes, lambda i: x.at(own(i), 1))

    return view(x, shape_, at)


def join(w: Writer, op: shape.Join, parts: list[Lazy]) -> Lazy:
    """The parts one after the other, in a buffer."""
    out = op.result.type
    assert isinstance(out, Tile)
    buffer = w.buffer(out)
    offset: Number = 0
    for part in parts:

        def write(index: Index, lanes: int, part: Lazy = part, offset: Number = offset) -> None:
            own = list(index)
            own[op.axis] = w.f.plus(own[op.axis], offset)
            w.write(buffer, out.dtype, tuple(own), part.at(index, lanes))

        w.each(part.shape, write)
        offset = w.f.plus(offset, part.shape[op.axis])
    return w.read(buffer, out.dtype, w.shape(out))


def iota(w: Writer, size: Number, start: Number, t: Tile) -> Lazy:
    """start, start + 1, ..."""

    def at(index: Index, lanes: int) -> V:
        first = w.f.convert("trunc", w.f.number(w.f.plus(index[0], start)), "i32")
        if lanes == 1:
            return first
        steps = V("i32", lanes, f"<{', '.join(f'i32 {i}' for i in range(lanes))}>")
        return w.f.binary("add", w.f.splat(first, lanes), steps)

    return Lazy((size,), t.dtype, at, plain=True, first=start)


def full(w: Writer, op: shape.Full) -> Lazy:
    """One number everywhere."""
    t = op.result.type
    assert isinstance(t, Tile)
    rounded = t.dtype.round(t.dtype.carrier(op.value)).item()
    below = int(rounded) + 1 if t.dtype.is_integer and rounded >= 0 else 0
    return Lazy(w.shape(t), t.dtype, lambda _, n: constant(numbers.register(t.dtype), rounded, n),
                below=below, wide=t.dtype.is_float)  # fmt: skip


def random_bits(w: Writer, seed: Lazy, offset: Lazy) -> Lazy:
    """Word 0 of Philox4x32-10 (see the op)."""

    def at(index: Index, lanes: int) -> V:
        f = w.f
        zero = constant("i32", 0, lanes)
        c = [offset.at(index, lanes), zero, zero, zero]
        k0, k1 = f.splat(seed.at((), 1), lanes), zero
        for _ in range(10):
            high0, low0 = _product(w, c[0], 0xD2511F53)
            high1, low1 = _product(w, c[2], 0xCD9E8D57)
            first = f.binary("xor", f.binary("xor", high1, c[1]), k0)
            third = f.binary("xor", f.binary("xor", high0, c[3]), k1)
            c = [first, low1, third, low0]
            k0 = f.binary("add", k0, constant("i32", 0x9E3779B9, lanes))
            k1 = f.binary("add", k1, constant("i32", 0xBB67AE85, lanes))
        return c[0]

    return Lazy(offset.shape, offset.dtype, at, None, offset.reads, offset.beside)


def _product(w: Writer, a: V, by: int) -> tuple[V, V]:
    wide = w.f.binary("mul", w.f.convert("zext", a, "i64"), constant("i64", by, a.lanes))
    high = w.f.binary("lshr", wide, constant("i64", 32, a.lanes))
    return w.f.convert("trunc", high, "i32"), w.f.convert("trunc", wide, "i32")
