"""Reductions: a thread's own elements, then lanes by exchanges, then warps by shared memory."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.cuda import exchange, pointwise
from tilec.codegen.cuda.exchange import Parked
from tilec.codegen.cuda.tiles import Values, tile
from tilec.ir.dtype import DType
from tilec.ir.laid import sizes_of
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import reduce

WARP = 32


def emit(values: Values, op: reduce.Reduction, name: str) -> None:
    """Print a reduction into registers `name`, a variable where the result is a scalar."""
    if isinstance(op, reduce.Argmax):
        _by_rows(values, op, name)
        return
    p, t = values.p, tile(op.a).dtype
    layout = values.layouts[op.a]
    kept = [a for a in range(layout.rank) if a != op.axis]
    own = p.fresh("own")
    count = _count(layout, kept)
    carrier = f"Number<{pointwise.cpp_type(t)}>::Carrier"
    p.line(f"{carrier} {own}[{count}];")
    _own(values, op, own, kept)
    for step in _lanes(layout, op.axis):
        p.unrolled("j", count)
        p.line(f"{own}[j] = {_combined(op, t, f'{own}[j]', f'exchanged({own}[j], {step})')};")
        p.close()
    if _warps(layout, op.axis) > 1:
        _across(values, op, own, kept)
    if tile(op.result).shape:
        p.line(f"fill({name}, [&](u32 i) {{ return {own}[i]; }});")
    else:
        kind = pointwise.cpp_type(t)
        p.line(f"const auto {name} = Number<{kind}>::rounded({own}[0]);")


def _count(layout: RegisterLayout, kept: list[int]) -> int:
    n = 1
    for d in layout.local_digits:
        n *= d.size if d.axis in kept else 1
    return n


def _own(values: Values, op: reduce.Reduction, own: str, kept: list[int]) -> None:
    """Each of a thread's results from its own elements, in their order."""
    p, t, layout = values.p, tile(op.a).dtype, values.layouts[op.a]
    first: set[int] = set()
    x = values.names[op.a]
    for i in range(layout.locals):
        j = _kept(layout, kept, i)
        part = f"{x}[{i}]"
        p.line(f"{own}[{j}] = {_combined(op, t, f'{own}[{j}]', part) if j in first else part};")
        first.add(j)


def _kept(layout: RegisterLayout, kept: list[int], i: int) -> int:
    """The number of the result that a thread's element is part of."""
    out, mine = 0, 1
    for d in reversed(layout.local_digits):
        if d.axis in kept:
            out += i % d.size * mine
            mine *= d.size
        i //= d.size
    return out


def _lanes(layout: RegisterLayout, axis: int) -> list[int]:
    """The distances between lanes whose elements are combined."""
    out, place = list[int](), 1
    for d in reversed(layout.thread_digits):
        inside = d.size
        if d.axis == axis:
            step = 1
            while step < d.size and place * step < WARP:
                out.append(place * step)
                step *= 2
            inside = d.size
        place *= inside
    return out


def _warps(layout: RegisterLayout, axis: int) -> int:
    """Over how many warps the elements of one result are."""
    n, place = 1, 1
    for d in reversed(layout.thread_digits):
        if d.axis == axis:
            within = max(1, min(d.size, WARP // place if place < WARP else 1))
            n *= d.size // within
        place *= d.size
    return n


def _across(values: Values, op: reduce.Reduction, own: str, kept: list[int]) -> None:
    """What warps found, by way of shared memory: [warps of a result, elements of the result]."""
    p, t, layout = values.p, tile(op.a).dtype, values.layouts[op.a]
    n, result = _warps(layout, op.axis), layout.reduce(op.axis)
    sizes = sizes_of(tile(op.result))
    room = Parked((n, *sizes), 8 if t.bits == 64 else 4)
    part = _part(layout, op.axis)
    at = [p.coordinate(result, a, "j") for a in range(result.rank)]
    p.barrier()
    lanes = _first(layout, op.axis)
    p.line(f"if ({lanes}) {{" if lanes else "{")
    p.depth += 1
    p.unrolled("j", result.locals)
    p.line(f"store_shared({room.address([part, *at])}, {own}[j]);")
    p.close()
    p.close()
    p.barrier()
    carrier = f"Number<{pointwise.cpp_type(t)}>::Carrier"
    p.unrolled("j", result.locals)
    p.line(f"{own}[j] = load_shared<{carrier}>({room.address(['0', *at])});")
    p.line(f"for (u32 w = 1; w < {n}; w++) {{")
    other = f"load_shared<{carrier}>({room.address(['w', *at])})"
    p.line(f"  {own}[j] = {_combined(op, t, f'{own}[j]', other)};")
    p.line("}")
    p.close()
    p.room(room.end)


def _part(layout: RegisterLayout, axis: int) -> str:
    """Which of the warps of a result a thread is in."""
    out, place, mine = "0", 1, 1
    for d in reversed(layout.thread_digits):
        if d.axis == axis:
            within = max(1, min(d.size, WARP // place if place < WARP else 1))
            rest = d.size // within
            if rest > 1:
                digit = f"thread / {place * within} % {rest}"
                out = digit if out == "0" else f"{digit} * {mine} + {out}"
                mine *= rest
        place *= d.size
    return out


def _first(layout: RegisterLayout, axis: int) -> str:
    """Whether a thread is the first of those with the same part of a result."""
    terms, place = list[str](), 1
    for d in reversed(layout.thread_digits):
        if d.axis is None and d.size > 1:
            terms.append(f"thread / {place} % {d.size} == 0")
        if d.axis == axis:
            within = max(1, min(d.size, WARP // place if place < WARP else 1))
            if within > 1:
                terms.append(f"thread / {place} % {within} == 0")
        place *= d.size
    return " && ".join(terms)


def _combined(op: reduce.Reduction, t: DType, a: str, b: str) -> str:
    return pointwise.combined(op.name, t, a, b)


def _by_rows(values: Values, op: reduce.Argmax, name: str) -> None:
    """The first greatest of a row, which every thread looks for in shared memory."""
    p, a = values.p, op.a
    where = exchange.parked(a)
    p.barrier()
    exchange.put(values, a, where)
    p.barrier()
    sizes = sizes_of(tile(a))
    kind = pointwise.cpp_type(tile(a).dtype)
    scalar = not tile(op.result).shape
    if scalar:
        p.line(f"s32 {name} = 0;")
        coordinates: list[str] = []
    else:
        result = values.layouts[op.result]
        p.unrolled("i", result.locals)
        coordinates = [p.coordinate(result, x, "i") for x in range(result.rank)]
    read = _read(kind, where, coordinates, op.axis)
    p.line("s32 best = 0;")
    p.line(f"for (u32 j = 1; j < {sizes[op.axis]}; j++) {{")
    p.line(f"  if (precedes({read('j')}, {read('u32(best)')})) best = s32(j);")
    p.line("}")
    p.line(f"{name} = best;" if scalar else f"{name}.set(i, best);")
    if not scalar:
        p.close()


def _read(kind: str, where: Parked, kept: list[str], axis: int) -> Callable[[str], str]:
    raw = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}[where.bytes]

    def at(j: str) -> str:
        address = where.address([*kept[:axis], j, *kept[axis:]])
        return f"Number<{kind}>::loaded(load_shared<{raw}>({address}))"

    return at
