"""Second operands that few rows read: each vector is evaluated where it is used, and nothing is
packed. Lanes are columns, as the operand has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tilec.codegen.cpu.atoms import PAIRS, SINGLE, Atom
from tilec.codegen.cpu.code_rows import Lying
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.registers import register_tile
from tilec.codegen.cpu.stream import Round
from tilec.codegen.cpu.tiles import SECOND, Buffer, Lazy, Writer
from tilec.ir.choices import LINE

ROWS = 4  # of the operand that a round evaluates


@dataclass(frozen=True)
class Evaluated:
    """A step of a product's second operand [k, n], whose elements are evaluated once each."""

    x: Lazy
    k: Number
    lying: Lying | None  # in memory, and does not itself ask for what follows

    @property
    def deep(self) -> int:
        """What k is padded to a multiple of."""
        return ROWS


def evaluated(w: Writer, atom: Atom, x: Lazy, to: Buffer, lying: Lying | None
              ) -> Evaluated | None:  # fmt: skip
    """The operand of a product whose rows are summed up in one register tile, if its vectors are
    computed at once."""
    k, n = x.shape
    wide = w.lanes * (2 if atom == PAIRS else 1)
    whole = isinstance(n, int) and n % wide == 0
    read = x.words is not None if atom == PAIRS else atom == SINGLE
    few = to.shape[0] <= register_tile(w.choices, w.features).rows
    along = x.across is None and not x.singly and x.dtype.is_float
    if not (whole and read and few and along) or w.lanes != 16:
        return None
    if lying is None or atom == PAIRS:
        return Evaluated(x, k, None)
    return Evaluated(lying.looked_up or x, k, lying)


class Evaluation:
    """Vectors of pairs of k: `pack` 2 as bf16 pairs, 1 as two vectors of floats."""

    offset = 0

    def __init__(self, w: Writer, p: Evaluated, pack: int) -> None:
        self.w, self.panel, self.pack = w, p, pack
        self.tile = register_tile(w.choices, w.features)
        n = p.x.shape[1]
        assert isinstance(n, int)
        self.columns = n

    @property
    def deep(self) -> int:
        """k's of a round."""
        return ROWS

    @property
    def count(self) -> Number:
        """How many rounds the step has."""
        return self.w.f.divided(self.w.f.plus(self.panel.k, ROWS - 1), ROWS)[0]

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        """carried = body(round, carried) for every round; the last carried values."""
        del columns
        return self.w.f.carry(0, self.count, 1, init, lambda i, c: body(Round(i, ()), c))

    def vectors(self, of: Round, first: int) -> Callable[[int], tuple[V, ...]]:
        """The vectors of each pair of a round, for the columns from `first` on."""
        return lambda t: self._pair(self.w.f.plus(self.w.f.times(of.number, ROWS), 2 * t), first)

    def fetch(self, of: Round, part: int, parts: int, column: int) -> None:
        """Ask for some of the lines of rows further on: one part of several."""
        f, x, lying, lines = self.w.f, self.panel.x, self.panel.lying, list[Callable[[], None]]()
        if lying is not None:
            lines = self._further(of, column, lying)
        elif x.following is not None and column == 0:
            row, bits = f.times(of.number, ROWS), x.dtype.bits
            lines = [partial(x.following, (f.plus(row, r), 8 * i // bits), 1)
                     for r, i in self._lines(ROWS, bits)]  # fmt: skip
        for ask in lines[part * len(lines) // parts : (part + 1) * len(lines) // parts]:
            ask()

    def _further(self, of: Round, column: int, lying: Lying) -> list[Callable[[], None]]:
        """What asks for each line further on.

        Where register tiles side by side read a step's rows again, out of the second cache, each
        asks for its share of the rows of the next step: memory is read all the time.
        """
        f, k, wide = self.w.f, self.panel.k, self.w.lanes * self.tile.vectors
        tiles = -(-self.columns // wide)
        if tiles > 1 and self.w.cpu in SECOND and isinstance(k, int) and ROWS % tiles == 0:
            share = ROWS // tiles
            first = f.plus(f.times(of.number, share), k + column // wide * k // tiles)
            asked = [(first, share, c) for _, c in self.w.asked[:1] if column % wide == 0]
        else:
            row = f.times(of.number, ROWS)
            asked = [(f.plus(row, -(-ahead * 8 // (self.columns * lying.bits))), ROWS, cache)
                     for ahead, cache in self.w.asked if column == 0]  # fmt: skip
        found: list[Callable[[], None]] = []
        for row, rows, cache in asked:
            ask = partial(self._ask, self.w.address(lying.at, (row,), (lying.pitch,)), cache)
            found += [partial(ask, r * lying.pitch + i) for r, i in self._lines(rows, lying.bits)]
        return found

    def _ask(self, at: V, cache: int, offset: int) -> None:
        self.w.f.prefetch(self.w.f.pointer(at, offset), cache)

    def _lines(self, rows: int, bits: int) -> list[tuple[int, int]]:
        """The lines of some rows: which row, and where in it."""
        return [(r, i) for r in range(rows) for i in range(0, self.columns * bits // 8, LINE)]

    def _pair(self, row: Number, first: int) -> tuple[V, ...]:
        f, x, lanes = self.w.f, self.panel.x, self.w.lanes
        if self.pack == 1:
            return tuple(self._row(x, f.plus(row, i), first, lanes) for i in (0, 1))
        assert x.words is not None
        start = first - first % (2 * lanes)
        even, odd = (self._row(x.words, f.plus(row, i), start, 2 * lanes) for i in (0, 1))
        order = [i for j in range(first - start, first - start + lanes) for i in (j, j + 2 * lanes)]
        return (f.recast(f.shuffle(even, odd, order), "i32", lanes),)

    def _row(self, x: Lazy, row: Number, first: int, lanes: int) -> V:
        """A vector of a row; one behind the last is 0."""
        f, k = self.w.f, self.panel.k
        if isinstance(k, int) and k % ROWS == 0:
            return x.at((row, first), lanes)
        last = f.plus(k, -1)
        v = x.at((f.least(row, last), first), lanes)
        there = f.compare("icmp sle", f.number(row), f.number(last))
        return f.select(f.splat(there, lanes), v, constant(v.type, 0, lanes))


__all__ = ["Evaluated", "Evaluation", "evaluated"]
