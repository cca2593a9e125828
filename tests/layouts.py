"""Random layouts, of any radices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
from hypothesis import strategies as st

from tilec.ir.layout.digits import Digit
from tilec.ir.layout.memory import MemoryLayout, Nested, flat
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial

SIZES = st.sampled_from([1, 2, 2, 3, 4, 5])


@st.composite
def register_layouts(draw: st.DrawFn, rank: int | None = None, digits: int = 5) -> RegisterLayout:
    """Digits on random axes, dealt to thread and local numbers and shuffled."""
    rank = draw(st.integers(1, 3)) if rank is None else rank
    shape = [1] * rank
    threads, locals_ = list[Digit](), list[Digit]()
    for _ in range(draw(st.integers(0, digits))):
        size, axis = draw(SIZES), draw(st.integers(-1, rank - 1))
        if axis < 0:
            threads.append(Digit(size))
        else:
            draw(st.sampled_from([threads, locals_])).append(Digit(size, axis, shape[axis]))
            shape[axis] *= size
    orders = draw(st.permutations(threads)), draw(st.permutations(locals_))
    return RegisterLayout(tuple(shape), *map(tuple, orders))


@st.composite
def chains(draw: st.DrawFn, rank: int = 2, length: int = 3) -> RegisterLayout:
    """Products of the constructors."""
    layout = local(*[1] * rank)
    for _ in range(draw(st.integers(0, length))):
        sizes = [draw(SIZES) for _ in range(rank)]
        factor = [spatial(*sizes), local(*sizes), replicated(sizes[0])]
        layout = layout * factor[draw(st.integers(0, 2))]
    return layout


def every_register_layout(shape: tuple[int, ...], copies: int = 1) -> Iterator[RegisterLayout]:
    """Every layout of a small shape: all factors, sides and orders."""
    for cuts in product(*map(factors, shape)):
        digits: list[Digit] = []
        for axis, sizes in enumerate(cuts):
            strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
            digits += [Digit(n, axis, d) for n, d in zip(sizes, strides, strict=True)]
        for sides in product((True, False), repeat=len(digits)):
            threads = [d for d, side in zip(digits, sides, strict=True) if side]
            threads += [Digit(copies)] if copies > 1 else []
            locals_ = [d for d, side in zip(digits, sides, strict=True) if not side]
            for a, b in product(permutations(threads), permutations(locals_)):
                yield RegisterLayout(shape, a, b)


def factors(n: int) -> list[list[int]]:
    """Every ordered list of factors above 1 with the product n."""
    return [[d, *rest] for d in range(2, n + 1) if n % d == 0 for rest in factors(n // d)] or [[]]


def function(layout: RegisterLayout) -> tuple[object, ...]:
    """What a layout is as a map, to compare with others."""
    table = np.stack([*layout.table(), np.zeros((layout.threads, layout.locals), np.int64)])
    return layout.shape, table.shape, table.tobytes()


@st.composite
def shapes(draw: st.DrawFn, depth: int = 2) -> Nested:
    """Nested shapes."""
    if depth == 0 or draw(st.booleans()):
        return draw(SIZES)
    return tuple(draw(shapes(depth - 1)) for _ in range(draw(st.integers(1, 3))))


@st.composite
def memory_layouts(draw: st.DrawFn, strides: int = 12) -> MemoryLayout:
    """Any strides: gaps, overlaps and broadcasts."""
    shape = draw(shapes())
    return MemoryLayout(shape, draw(_strided(shape, strides)))


@st.composite
def _strided(draw: st.DrawFn, shape: Nested, limit: int) -> Nested:
    if isinstance(shape, int):
        return draw(st.integers(0, limit))
    return tuple(draw(_strided(part, limit)) for part in shape)


@st.composite
def compact_layouts(draw: st.DrawFn, gaps: bool = False) -> MemoryLayout:
    """Each offset at most once: modes in any order, with gaps between them if so wished."""
    sizes = draw(st.lists(SIZES, min_size=1, max_size=3 if gaps else 4))
    strides = [0] * len(sizes)
    place = 1
    for i in draw(st.permutations(range(len(sizes)))):
        place *= draw(st.integers(1, 3)) if gaps else 1
        strides[i] = place
        place *= sizes[i]
    return flat(zip(sizes, strides, strict=True))


@st.composite
def composable(draw: st.DrawFn, length: int = 2) -> list[MemoryLayout]:
    """Layouts of which each takes some of the factors of the modes of the one before it."""
    sizes = [draw(st.sampled_from([2, 3, 4, 6, 12])) for _ in range(draw(st.integers(1, 3)))]
    found = [flat((n, draw(st.integers(0, 20))) for n in sizes)]
    for _ in range(length - 1):
        place, taken = 1, list[tuple[int, int]]()
        for n, _ in found[-1].modes:
            for size in draw(st.sampled_from(factors(n))):
                taken.append((size, place))
                place *= size
        kept = [mode for mode in draw(st.permutations(taken)) if draw(st.booleans())]
        found.append(flat(kept))
    return found
