"""Loads and stores: a thread's neighbours in one access, and predicates where a tile ends."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.printer import narrowed, plus
from tilec.codegen.cuda.tiles import Values, extents, memory_type, storage, tile
from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.laid import coalesced, restricted
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.memory import Load, Store
from tilec.ir.types import Span

LINE = 16  # bytes of the widest access


@dataclass(frozen=True)
class _Access:
    """One access: where in memory element `i` of a thread is, and whether it is inside."""

    row: str  # the number of the row of the last dimension, of all before it
    column: str
    inside: str  # empty where it always is
    vector: int  # neighbours that one access moves


def load(values: Values, op: Load, layout: RegisterLayout | None) -> None:
    """Print a load in a layout, which is that of the result unless it is converted at once."""
    p = values.p
    bits = storage(memory_type(op.mem).dtype)
    if layout is None:
        _load_scalar(values, op)
        return
    name = values.names[op.result]
    found = _access(values, op.mem, op.indices, layout, "i")
    width = extents(op.mem)[-1] if extents(op.mem) else 1
    p.unrolled("i", layout.locals, found.vector)
    inside = found.inside or "true"
    if found.vector * bits % 8:
        row = f"{values.names[op.mem]} + u64({found.row}) * {_row_bytes(width, bits)}"
        p.line(f"load_bits({name}, i, {row}, ({found.column}) * {bits}, {inside});")
    else:
        place = _address(values, op.mem, found, width, bits)
        p.line(f"load<{found.vector}>({name}, i, {place}, {inside});")
    p.close()


def store(values: Values, op: Store) -> None:
    """Print a store by the first of the threads that hold an element."""
    p, t = values.p, tile(op.value)
    layout = values.layouts.get(op.value)
    if layout is None and t.shape:
        raise TileError("cuda: a tile that is stored is not held", op.loc)
    bits = storage(t.dtype)
    if bits % 8:
        raise TileError(f"cuda: elements of {t.dtype} share bytes, so they are only read", op.loc,
                        hint=f"store them as {t.dtype.kind[0]}8")  # fmt: skip
    if layout is None:
        layout = coalesced((), t.dtype.bits, p.threads)
    found = _access(values, op.mem, op.indices, layout, "i" if t.shape else "0")
    width = extents(op.mem)[-1] if extents(op.mem) else 1
    terms = [found.inside, p.first_copy(layout)]
    if op.mask is not None:
        terms.append(values.item(op.mask, layout, "i"))
        found = _Access(found.row, found.column, found.inside, 1)
    inside = " && ".join(x for x in terms if x) or "true"
    place = _address(values, op.mem, found, width, bits)
    kind = pointwise.cpp_type(t.dtype)
    if not t.shape:
        single = p.fresh("single")
        p.line(f"Share<{kind}, 1> {single};")
        p.line(f"{single}.set(0, {values.scalar(op.value)});")
        p.line(f"store<1>({place}, {single}, 0, {inside});")
        return
    p.unrolled("i", layout.locals, found.vector)
    p.line(f"store<{found.vector}>({place}, {values.names[op.value]}, i, {inside});")
    p.close()


def _load_scalar(values: Values, op: Load) -> None:
    """A single element, which every thread reads."""
    p, t = values.p, tile(op.result)
    layout = coalesced((), t.dtype.bits, p.threads)
    found = _access(values, op.mem, op.indices, layout, "0")
    width = extents(op.mem)[-1] if extents(op.mem) else 1
    bits = storage(t.dtype)
    single = p.fresh("single")
    p.line(f"Share<{pointwise.cpp_type(t.dtype)}, 1> {single};")
    inside = found.inside or "true"
    if bits % 8:
        row = f"{values.names[op.mem]} + u64({found.row}) * {_row_bytes(width, bits)}"
        p.line(f"load_bits({single}, 0, {row}, ({found.column}) * {bits}, {inside});")
    else:
        p.line(f"load<1>({single}, 0, {_address(values, op.mem, found, width, bits)}, {inside});")
    values.names[op.result] = f"{single}[0]"


def _row_bytes(width: int, bits: int) -> int:
    return -(-width * bits // 8)


def _address(values: Values, mem: Value, found: _Access, width: int, bits: int) -> str:
    name = values.names[mem]
    if bits % 8:
        column = f"({found.column}) * {bits} / 8"
        return f"{name} + (u64({found.row}) * {_row_bytes(width, bits)} + {column})"
    return f"{name} + (u64({found.row}) * {width} + {found.column})"


def _access(values: Values, mem: Value, indices: tuple[Value, ...], layout: RegisterLayout,
            i: str) -> _Access:  # fmt: skip
    """Where element `i` lies: each index as text, with its bounds where it may be outside."""
    p, sizes = values.p, extents(mem)
    texts, bounds, axis, joint = list[str](), list[str](), 0, tuple[int, ...]()
    last_axis: int | None = None
    for index, size in zip(indices, sizes, strict=True):
        if isinstance(index.type, Span):
            place = values.spans[index]
            text = plus(place.start, p.coordinate(layout, axis, i))
            last_axis, axis = axis, axis + 1
            if not place.exact:
                bounds.append(f"{text} < {size}")
        else:
            t = tile(index)
            last_axis = None
            if t.shape and not joint:
                joint = tuple(range(axis, axis + t.rank))
                axis += t.rank
            inner = restricted(layout, joint) if t.shape else layout
            at = narrowed(layout.local_digits, joint, i) if t.shape else i
            text = f"u32({values.item(index, inner, at)})"
            bounds.append(f"{text} < {size}")
        texts.append(text)
    row = "0"
    for text, size in zip(texts[:-1], sizes[:-1], strict=True):
        row = plus(f"({row}) * {size}" if row != "0" else "0", text)
    vector = _vector(values, mem, indices, layout, last_axis)
    return _Access(row, texts[-1] if texts else "0", " && ".join(bounds), vector)


def _vector(values: Values, mem: Value, indices: tuple[Value, ...], layout: RegisterLayout,
            last: int | None) -> int:  # fmt: skip
    """How many neighbours of a thread one access moves."""
    digit = layout.local_digits[-1] if layout.local_digits else None
    if last is None or digit is None or digit.axis != last or digit.stride != 1:
        return 1
    bits = storage(memory_type(mem).dtype)
    width, place = extents(mem)[-1], values.spans[indices[-1]]
    n = digit.size & -digit.size
    starts = [d.stride for d in (*layout.thread_digits, *layout.local_digits[:-1])
              if d.axis == last]  # fmt: skip
    while n > 1:
        even = n * bits % 8 == 0 and n * bits <= 8 * LINE and n * bits // 8 in (1, 2, 4, 8, 16)
        rows = len(extents(mem)) == 1 or _row_bytes(width, bits) % max(n * bits // 8, 1) == 0
        inside = place.exact or width % n == 0
        apart = place.multiple % n == 0 and all(s % n == 0 for s in starts)
        if even and rows and inside and apart:
            return n
        n //= 2
    return 1
