"""Products of few rows with what lies in rows along k: lanes are neighbouring k's of both operands,
and are added up behind a step. Nothing is packed; each row of memory is read from end to end."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.cpu.atoms import PAIRS, Atom, Rows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.target import Target
from tilec.codegen.cpu.tiles import Buffer, Lazy, Writer

MOST = 16  # rows; each reads every column anew
HEIGHT, WIDTH = 6, 4  # of a register tile: 24 accumulators of 32 registers
DEEP = 32  # pairs of a vector


def columns(w: Writer, atom: Atom, right: Lazy, to: Buffer) -> Lazy | None:
    """A second operand as words in memory, if its product is one of these."""
    words = right.words if right.words is not None and right.words.fetch is not None else None
    k, n = right.shape
    whole = isinstance(k, int) and k % DEEP == 0 and isinstance(n, int) and n % WIDTH == 0
    few = to.shape[0] <= MOST and w.lanes == 16 and atom == PAIRS
    return words if words is not None and words.across is not None and whole and few else None


def add(w: Writer, rows: Rows, words: Lazy, shape: tuple[Number, Lazy], to: Target) -> None:
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
        w.f.store(w.f.binary("fadd", before, sums), place, 4)

    _emit(w, rows, words, (m, k, n), put)


def _emit(w: Writer, rows: Rows, right: Lazy, shape: tuple[Number, int, int],
         put: Callable[[Number, Number, V], None]) -> None:  # fmt: skip
    """put(m, n, sums) for the products of each row with every four columns."""
    (m, k, n), f, read, fetch = shape, w.f, right.across, right.fetch
    assert read is not None
    assert fetch is not None

    def some(first: V) -> None:
        f.blocks(m, HEIGHT, lambda i, height: block(first, i, height), exact=True)

    def block(first: V, at: Number, height: int) -> None:
        left = [rows.row(w, f.plus(at, r)) for r in range(height)]

        def step(i: V, sums: list[V]) -> list[V]:
            xs = [f.load("bfloat", DEEP, w.address(row, (i,), (2,)), 2) for row in left]
            given = [read((i, f.plus(first, j)), DEEP) for j in range(WIDTH)]
            for j in range(WIDTH):
                fetch((i, f.plus(first, WIDTH + j)))
            bs = [f.recast(v, "bfloat", DEEP) for v in given]
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
            pairs = ((x, b) for x in xs for b in bs)
            return [f.call(name, "float", 16, s, x, b)
                    for s, (x, b) in zip(sums, pairs, strict=True)]  # fmt: skip

        zeros = [constant("float", 0, 16)] * (WIDTH * height)
        sums = f.carry(0, k, DEEP, zeros, step)
        for r in range(height):
            put(f.plus(at, r), first, _added(w, sums[WIDTH * r : WIDTH * (r + 1)]))

    f.loop(0, n, WIDTH, some)


def _added(w: Writer, sums: list[V]) -> V:
    """The sums of the lanes of four vectors, side by side."""
    f = w.f
    lanes = range(16)

    def pairs(a: V, b: V, size: int) -> V:
        """Neighbours of `size` lanes of two vectors, added, in turns."""
        low = [i - i % (2 * size) + i % size + (0 if i % (2 * size) < size else 16) for i in lanes]
        return f.binary("fadd", f.shuffle(a, b, low), f.shuffle(a, b, [i + size for i in low]))

    fours = pairs(pairs(sums[0], sums[1], 1), pairs(sums[2], sums[3], 1), 2)
    half = f.binary(
        "fadd", f.shuffle(fours, fours, range(8)), f.shuffle(fours, fours, range(8, 16))
    )
    return f.binary("fadd", f.shuffle(half, half, range(4)), f.shuffle(half, half, range(4, 8)))
