"""Loads and stores: a thread's neighbours in one access, and predicates where a tile ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.printer import narrowed, plus, times
from tilec.codegen.cuda.tiles import Values, dims, extents, memory_type, storage, tile
from tilec.ir.core import Value
from tilec.ir.dtype import DType, bf16, f16, f32, f64, i32, i64, u32
from tilec.ir.errors import TileError
from tilec.ir.fragments import Fragments
from tilec.ir.laid import coalesced, restricted
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.runs import Row, run
from tilec.ir.ops.memory import Accumulate, Load, Write
from tilec.ir.types import Span

SUMS: dict[DType, tuple[str, str]] = {  # where instructions add, and what makes the number there
    f32: ("f32", ""), f64: ("f64", ""), i32: ("s32", ""), u32: ("u32", ""), i64: ("u64", "u64"),
    f16: ("f16", "f16_from_f32"), bf16: ("bf16", "bf16_from_f32"),
}  # fmt: skip


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
    order = values.orders.of.get(op.mem)
    if order is not None:
        _load_fragments(values, op, name, order)
        return
    found = _access(values, op.mem, op.indices, layout, "i")
    pitch = _pitch(values, op.mem)
    p.unrolled("i", layout.locals, found.vector)
    inside = found.inside or "true"
    if found.vector * bits % 8:
        row = f"{values.names[op.mem]} + u64({found.row}) * {pitch}"
        p.line(f"load_bits({name}, i, {row}, ({found.column}) * {bits}, {inside});")
    else:
        place = _address(values, op.mem, found, pitch, bits)
        cache = f", Cache::{op.cache}" if op.cache else ""
        p.line(f"load<{found.vector}{cache}>({name}, i, {place}, {inside});")
    p.close()


def _load_fragments(values: Values, op: Load, name: str, order: Fragments) -> None:
    """A number of a group for each row, the threads' words beside each other."""
    p, (*numbers, span, group) = values.p, op.indices
    known = extents(op.mem)
    column = f"u32({values.scalar(group)})"
    number = f"u64({values.spans[span].start}) / {order.layout.shape[0]} * {known[-1]} + {column}"
    which, bounds = values.matrix(op.mem, tuple(numbers))
    if bounds:
        number = f"u64({which}) * {prod(order.tiles(known))} + {number}"
    inside = " && ".join([*bounds, f"{column} < {known[-1]}"])
    mine = narrowed(order.layout.thread_digits, range(order.layout.rank), "thread")
    base, own, each = p.fresh("numbers"), p.fresh("own"), 32 // order.codes.bits
    p.line(f"const u8* {base} = (const u8*){values.names[op.mem]} "
           f"+ ({number}) * {order.tile_bytes};")  # fmt: skip
    p.line(f"const u32 {own} = {mine};")
    for at, count in order.pieces:
        there = f"{base} + {own} * {4 * count} + {4 * at * order.threads}"
        p.line(f"load<{count * each}>({name}, {at * each}, {there}, {inside});")


def write(values: Values, op: Write) -> None:
    """Print a store or a sum in memory, by the first of the threads that hold an element."""
    p, t = values.p, tile(op.value)
    layout = values.layouts.get(op.value)
    if layout is None and t.shape:
        raise TileError("cuda: a tile that is written is not held", op.loc)
    bits = storage(t.dtype)
    if bits % 8:
        raise TileError(f"cuda: elements of {t.dtype} share bytes, so they are only read", op.loc,
                        hint=f"store them as {t.dtype.kind[0]}8")  # fmt: skip
    if layout is None:
        layout = coalesced((), t.dtype.bits, p.threads)
    found = _access(values, op.mem, op.indices, layout, "i" if t.shape else "0")
    pitch = _pitch(values, op.mem)
    terms = [found.inside, p.first_copy(layout)]
    if op.mask is not None:
        terms.append(values.item(op.mask, layout, "i"))
        found = _Access(found.row, found.column, found.inside, 1)
    inside = " && ".join(x for x in terms if x) or "true"
    place = _address(values, op.mem, found, pitch, bits)
    if isinstance(op, Accumulate):
        _added(values, op, layout.locals, place, inside)
    else:
        _stored(values, op, layout.locals, found.vector, place, inside)


def _added(values: Values, op: Accumulate, count: int, place: str, inside: str) -> None:
    """Each element by an instruction, or by exchanges where there is none for its dtype."""
    p, t = values.p, tile(op.value)
    if t.dtype.bits < 16:
        raise TileError(f"cuda: no code for sums of {t.dtype} in memory", op.loc,
                        hint="no atomic access is of one byte: add in i32 or f32")  # fmt: skip
    kind = pointwise.cpp_type(t.dtype)
    item = values.item(op.value, values.layouts[op.value], "i") if t.shape else (
        values.scalar(op.value))  # fmt: skip
    if t.dtype in SUMS:
        to, number = SUMS[t.dtype]
        text = f"reduce_add(({to}*)({place}), {number}({item}))"
    else:
        text = f"exchange_add<{kind}>((u{t.dtype.bits}*)({place}), {item})"
    if t.shape:
        p.unrolled("i", count)
    p.line(f"if ({inside}) {text};")
    if t.shape:
        p.close()


def _stored(values: Values, op: Write, count: int, vector: int, place: str, inside: str) -> None:
    """Neighbours together."""
    p, t = values.p, tile(op.value)
    kind = pointwise.cpp_type(t.dtype)
    if not t.shape:
        single = p.fresh("single")
        p.line(f"Share<{kind}, 1> {single};")
        p.line(f"{single}.set(0, {values.scalar(op.value)});")
        p.line(f"store<1>({place}, {single}, 0, {inside});")
        return
    p.unrolled("i", count, vector)
    p.line(f"store<{vector}>({place}, {values.names[op.value]}, i, {inside});")
    p.close()


def _load_scalar(values: Values, op: Load) -> None:
    """A single element, which every thread reads."""
    p, t = values.p, tile(op.result)
    layout = coalesced((), t.dtype.bits, p.threads)
    found = _access(values, op.mem, op.indices, layout, "0")
    pitch = _pitch(values, op.mem)
    bits = storage(t.dtype)
    single = p.fresh("single")
    p.line(f"Share<{pointwise.cpp_type(t.dtype)}, 1> {single};")
    inside = found.inside or "true"
    if bits % 8:
        row = f"{values.names[op.mem]} + u64({found.row}) * {pitch}"
        p.line(f"load_bits({single}, 0, {row}, ({found.column}) * {bits}, {inside});")
    else:
        p.line(f"load<1>({single}, 0, {_address(values, op.mem, found, pitch, bits)}, {inside});")
    values.names[op.result] = f"{single}[0]"


def _pitch(values: Values, mem: Value) -> str:
    """From one row of the last dimension to the next: elements, or bytes where they share some."""
    bits, width = storage(memory_type(mem).dtype), dims(mem)[-1] if dims(mem) else 1
    if bits % 8 == 0:
        return values.p.extent(width)
    if isinstance(width, int):
        return str(-(-width * bits // 8))
    return f"(({values.p.extent(width)} * {bits} + 7) / 8)"


def _address(values: Values, mem: Value, found: _Access, pitch: str, bits: int) -> str:
    column = f"({found.column}) * {bits} / 8" if bits % 8 else found.column
    return f"{values.names[mem]} + (u64({found.row}) * {pitch} + {column})"


def _access(values: Values, mem: Value, indices: tuple[Value, ...], layout: RegisterLayout,
            i: str) -> _Access:  # fmt: skip
    """Where element `i` lies: each index as text, with its bounds where it may be outside."""
    p, sizes = values.p, dims(mem)
    texts, bounds, axis, joint = list[str](), list[str](), 0, tuple[int, ...]()
    last_axis: int | None = None
    for index, size in zip(indices, sizes, strict=True):
        if isinstance(index.type, Span):
            place = values.spans[index]
            text = plus(place.start, p.coordinate(layout, axis, i))
            last_axis, axis = axis, axis + 1
            if not place.exact:
                bounds.append(f"{text} < {p.extent(size)}")
        else:
            t = tile(index)
            last_axis = None
            if t.shape and not joint:
                joint = tuple(range(axis, axis + t.rank))
                axis += t.rank
            inner = restricted(layout, joint) if t.shape else layout
            at = narrowed(layout.local_digits, joint, i) if t.shape else i
            text = f"u32({values.item(index, inner, at)})"
            bounds.append(f"{text} < {p.extent(size)}")
        texts.append(text)
    row = "0"
    for text, size in zip(texts[:-1], sizes[:-1], strict=True):
        row = plus(_times(row, p.extent(size)), text)
    vector = _vector(values, mem, indices, layout, last_axis)
    return _Access(row, texts[-1] if texts else "0", " && ".join(bounds), vector)


def _vector(values: Values, mem: Value, indices: tuple[Value, ...], layout: RegisterLayout,
            last: int | None) -> int:  # fmt: skip
    """How many neighbours of a thread one access moves."""
    if last is None:
        return 1
    sizes, place = dims(mem), values.spans[indices[-1]]
    bits = storage(memory_type(mem).dtype)
    width = sizes[-1] if isinstance(sizes[-1], int) else None
    row = Row(bits, width, place.multiple, place.exact, len(sizes) == 1)
    return run(layout, last, row).elements


def _times(row: str, size: str) -> str:
    return times(row, int(size)) if size.isdecimal() else f"({row}) * {size}" * (row != "0") or "0"
