"""Products of few rows with what lies in rows along k: lanes are neighbouring k's of both operands,
and are added up behind a step. Nothing is packed; each row of memory is read from end to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.atoms import PAIRS, SINGLE, Atom, Rows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.target import Target, scaled
from tilec.codegen.cpu.tiles import Buffer, Index, Lazy, Writer
from tilec.ir.choices import LINE

MOST = 16  # rows; each reads every column anew
WIDTH = 4  # columns of a register tile
HEIGHT = 6  # its rows of pairs: 24 accumulators of 32 registers
FLOATS = {16: 4, 8: 2, 4: 2}  # and of floats, by lanes: half the registers
DEEP = 32  # k's of a step
DOT = "llvm.x86.avx512bf16.dpbf16ps.512"


def columns(w: Writer, atom: Atom, right: Lazy, to: Buffer) -> Lazy | None:
    """A second operand as it is read along k, words of pairs or floats, if its product is one of
    these. Floats are where rows lie one after the other, as keys do; where steps of k take a part
    of each row only (weights), they are read at 15 GB/s so, and at 20 packed. What is computed of
    several is computed once so for the rows of one register tile."""
    k, n = right.shape
    whole = isinstance(k, int) and k % DEEP == 0 and isinstance(n, int) and n % WIDTH == 0
    if not whole or to.shape[0] > MOST:
        return None
    once = _computed(right) and to.shape[0] <= (HEIGHT if atom == PAIRS else FLOATS[w.lanes])
    floats = numbers.register(right.dtype) == "float"
    found = right.words
    if atom != PAIRS:
        found = right if atom == SINGLE and floats and (right.solid or once) else None
    elif right.fetch is None:
        found = _rounded(w, right) if floats and once else None
    return found if found is not None and found.across is not None else None


def _computed(right: Lazy) -> bool:
    """Whether a second operand is more than what lies in memory, and vectors of it are at once."""
    return right.fetch is right.words is None and right.across is not None and not right.singly


def _rounded(w: Writer, right: Lazy) -> Lazy:
    """Floats that are bf16s, as words along k. Products take what is no normal number for 0."""
    f, read = w.f, right.across
    assert read is not None

    def across(index: Index, lanes: int) -> V:
        assert lanes == DEEP
        k, column = index
        halves = (read((f.plus(k, i), column), w.lanes) for i in range(0, DEEP, w.lanes))
        return numbers.normal_bf16_words(f, *halves)

    return replace(right, across=across)


def add(w: Writer, atom: Atom, rows: Rows, words: Lazy, shape: tuple[Number, Lazy], to: Target
        ) -> None:  # fmt: skip
    """to += the products of few rows with columns that are read along k."""
    m, right = shape
    k, n = right.shape
    assert isinstance(k, int)
    assert isinstance(n, int)

    def put(row: Number, column: Number, sums: V) -> None:
        place = w.address(to.buffer.at, (row, column), (to.buffer.pitch * 4, 4))
        if to.start is None:
            before = w.f.load("float", sums.lanes, place, 4)
        else:
            before = to.start.at((row, column), sums.lanes)
        scale, by_row = to.few(w, column, sums.lanes), to.of_row(w, row, sums.lanes)
        w.f.store(scaled(w.f, "float", to.kind, before, sums, scale, by_row), place, 4)

    made = _pairs if atom == PAIRS else _floats
    _emit(w, made(w, words), rows, partial(_ask, w, words, k), (m, k, n), put)


@dataclass(frozen=True)
class _Step:
    """What a step multiplies: the vectors of a row and of a column, from some k on, whose products
    `multiply` adds up, in register tiles of so many rows."""

    height: int
    row: Callable[[V, Number], list[V]]  # (address, k)
    column: Callable[[Number, Number], list[V]]  # (column, k)
    multiply: Callable[[V, V, V], V]


def _pairs(w: Writer, words: Lazy) -> _Step:
    """A step of products of pairs."""
    f, read = w.f, words.across
    assert read is not None
    return _Step(HEIGHT, lambda at, k: [f.load("bfloat", DEEP, w.address(at, (k,), (2,)), 2)],
                 lambda column, k: [f.recast(read((k, column), DEEP), "bfloat", DEEP)],
                 lambda x, y, c: f.call(DOT, "float", 16, c, x, y))  # fmt: skip


def _floats(w: Writer, floats: Lazy) -> _Step:
    """A step of products of floats, a vector after the other."""
    f, read, starts = w.f, floats.across, range(0, DEEP, w.lanes)
    assert read is not None

    def row(at: V, k: Number) -> list[V]:
        first = w.address(at, (k,), (4,))
        return [f.load("float", w.lanes, f.pointer(first, 4 * i), 4) for i in starts]

    def column(column: Number, k: Number) -> list[V]:
        return [read((f.plus(k, i), column), w.lanes) for i in starts]

    return _Step(FLOATS[w.lanes], row, column, lambda x, y, c: f.intrinsic("fma", x, y, c))


def _ask(w: Writer, right: Lazy, depth: int, k: Number, column: Number) -> None:
    """Ask for the lines of a step further on: of the next columns, or where rows, which are `depth`
    long, lie one after the other, of rows behind them or of the same ones if they are long."""
    fetch, size = right.fetch, right.dtype.bits // 8
    if fetch is None:
        return
    f, lines = w.f, range(0, DEEP, LINE // size)
    if right.following is not None:
        for j, i in product(range(WIDTH), lines):
            right.following((f.plus(k, i), f.plus(column, j)), 1)
    elif not right.solid:
        for j in range(WIDTH):
            fetch((k, f.plus(column, WIDTH + j)), 1)
    else:
        for ahead, cache in w.asked:
            if depth * size * WIDTH <= ahead:
                further = f.plus(column, -(-ahead // (depth * size)))
                for i in range(0, WIDTH * DEEP, LINE // size):
                    fetch((f.plus(f.times(k, WIDTH), i), further), cache)
            else:
                further = f.plus(k, ahead // (WIDTH * size))
                for j, i in product(range(WIDTH), lines):
                    fetch((f.plus(further, i), f.plus(column, j)), cache)


def _emit(
    w: Writer, by: _Step, rows: Rows, ask: Callable[[Number, Number], None],
    shape: tuple[Number, int, int], put: Callable[[Number, Number, V], None],
) -> None:  # fmt: skip
    """put(m, n, sums) for the products of each row with every four columns."""
    (m, k, n), f = shape, w.f

    def some(first: V) -> None:
        f.blocks(m, by.height, lambda i, height: block(first, i, height), exact=True)

    def block(first: V, at: Number, height: int) -> None:
        left = [rows.row(w, f.plus(at, r)) for r in range(height)]

        def step(i: V, sums: list[V]) -> list[V]:
            bs = [by.column(f.plus(first, j), i) for j in range(WIDTH)]
            ask(i, first)
            xs = [by.row(row, i) for row in left]
            out = list(sums)
            for part in range(len(bs[0])):
                out = [by.multiply(x[part], b[part], s) for s, (x, b) in
                       zip(out, ((x, b) for x in xs for b in bs), strict=True)]  # fmt: skip
            return out

        zeros = [constant("float", 0, w.lanes)] * (WIDTH * height)
        sums = f.carry(0, k, DEEP, zeros, step)
        for r in range(height):
            put(f.plus(at, r), first, _added(w, sums[WIDTH * r : WIDTH * (r + 1)]))

    f.loop(0, n, WIDTH, some)


def _added(w: Writer, sums: list[V]) -> V:
    """The sums of the lanes of four vectors, side by side."""
    f, lanes = w.f, range(w.lanes)

    def pairs(a: V, b: V, size: int) -> V:
        """Neighbours of `size` lanes of two vectors, added, in turns."""
        second = [w.lanes * (i % (2 * size) >= size) for i in lanes]
        low = [i - i % (2 * size) + i % size + second[i] for i in lanes]
        return f.binary("fadd", f.shuffle(a, b, low), f.shuffle(a, b, [i + size for i in low]))

    out = pairs(pairs(sums[0], sums[1], 1), pairs(sums[2], sums[3], 1), 2)
    while out.lanes > WIDTH:
        half = out.lanes // 2
        low, high = (f.shuffle(out, out, range(i, i + half)) for i in (0, half))
        out = f.binary("fadd", low, high)
    return out
