"""Second operands of products in codes that lie row by row, as caches of keys do: a row is a column
of the product.

Sixteen rows are read at once, 16 bytes of each, and turned as 32-bit words before they are decoded:
of codes narrower than words that takes few exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilec.codegen.cpu import chain, matrices, numbers
from tilec.codegen.cpu.atoms import Atom
from tilec.codegen.cpu.chain import Made
from tilec.codegen.cpu.llvm import Number, V, constant, vector
from tilec.codegen.cpu.packing import transposed
from tilec.codegen.cpu.places import multishifted
from tilec.codegen.cpu.stream import Round, bf16_bits, middle, permuted
from tilec.codegen.cpu.tiles import At, Coordinates, Index, Lazy, Tensor, Writer
from tilec.ir.choices import LINE
from tilec.ir.core import Value
from tilec.ir.dtype import DType
from tilec.ir.ops import shape
from tilec.ir.ops.reduce import Dot

Env = Mapping[Value, Lazy | Coordinates | Tensor]
PIECE = 16  # bytes of a row that are read at once
LANES = 16


@dataclass(frozen=True)
class CodeRows:
    """A step of a product's second operand: rows of codes, `pitch` bytes apart."""

    at: V
    pitch: int
    rows: Number
    k: int
    codes: DType
    values: tuple[float, ...]  # what each code stands for in the product

    @property
    def deep(self) -> int:
        """What k is padded to a multiple of."""
        return 8 * PIECE // self.codes.bits


def code_rows(w: Writer, op: Dot, env: Env, made: Made, atom: Atom) -> CodeRows | None:
    """The second operand of a product as rows of codes, if it is w.T of what these stand for."""
    turned = made.get(op.b)
    if atom.kind != "float" or w.lanes != LANES or not isinstance(turned, shape.Transpose):
        return None
    found = chain.chain(turned.a, made)
    if found is None or len(found[0].indices) < 2:
        return None
    load, links = found
    tensor, *places = (env[v] for v in (load.mem, *load.indices))
    rows, k = places[-2:]
    if not (isinstance(tensor, Tensor) and isinstance(rows, Coordinates)):
        return None
    if not isinstance(k, Coordinates) or tensor.records or tensor.dtype.bits not in (1, 2, 4, 8):
        return None
    piece, depth = 8 * PIECE // tensor.dtype.bits, tensor.shape[-1]
    known = isinstance(k.size, int) and isinstance(depth, int) and k.size % piece == 0
    if not known or k.multiple * tensor.dtype.bits % 8 or tensor.dtype.kind == "bool":
        return None
    values = chain.tabulated(load, links)
    if tensor.dtype.bits == 8 and middle(tensor.dtype, values) is None:
        return None
    at = matrices.code_row(w, tensor, places)
    if at is None:
        return None
    assert isinstance(k.size, int)
    assert isinstance(depth, int)
    return CodeRows(at, depth * tensor.dtype.bits // 8, rows.size, k.size, tensor.dtype,
                    tuple(values.tolist()))  # fmt: skip


@dataclass(frozen=True)
class Lying:
    """A second operand in memory as it is: where its first row is, the bytes from one to the next,
    the bits of an element, and what codes stand for if a table has that."""

    at: V
    pitch: int
    bits: int
    looked_up: Lazy | None


def lying(w: Writer, op: Dot, env: Env, made: Made) -> Lying | None:
    """Where the rows of a product's second operand are that elementwise ops make of memory."""
    found = chain.chain(op.b, made)
    if found is None or len(found[0].indices) < 2:
        return None
    load, links = found
    tensor, *places = (env[v] for v in (load.mem, *load.indices))
    if not isinstance(tensor, Tensor) or tensor.records or not isinstance(tensor.shape[-1], int):
        return None
    at = matrices.code_row(w, tensor, places)
    if at is None:
        return None
    pitch, t = tensor.shape[-1] * tensor.dtype.bits // 8, tensor.dtype
    tables = t.bits in (1, 2, 4) and "avx512vbmi" in w.features and w.lanes == LANES
    x = env[op.b]
    assert isinstance(x, Lazy)
    if not tables or not x.dtype.is_float:
        return Lying(at, pitch, t.bits, None)
    values = chain.tabulated(load, links).tolist()
    table = _by_table(w, (at, pitch), t.bits, values, x.at)
    return Lying(at, pitch, t.bits, replace(x, at=table))


def _by_table(w: Writer, rows: tuple[V, int], bits: int, values: list[float], one: At) -> At:
    """Vectors of codes through a table: a multishift moves each code to a lane of its own."""
    f, (start, pitch) = w.f, rows

    def at(index: Index, lanes: int) -> V:
        if lanes != LANES or not isinstance(index[1], int):
            return one(index, lanes)
        place = f.pointer(w.address(start, (index[0],), (pitch,)), index[1] * bits // 8)
        table = vector("float", values * (LANES >> bits))
        return f.call("llvm.x86.avx512.permvar.sf.512", "float", LANES, table,
                      multishifted(f, bits, place))  # fmt: skip

    return at


class Turning:
    """Vectors of pairs of k: `pack` 2 as bf16 pairs, 1 as two vectors of floats."""

    offset = 0

    def __init__(self, w: Writer, p: CodeRows, pack: int) -> None:
        self.w, self.panel, self.pack = w, p, pack
        self.mid = middle(p.codes, np.asarray(p.values)) or 0
        self.per = 32 // p.codes.bits  # codes of a word

    @property
    def deep(self) -> int:
        """k's of a round."""
        return self.panel.deep

    def beyond(self, row: V) -> Turning:
        """The same from a row on."""
        f, p = self.w.f, self.panel
        sure = isinstance(p.rows, int) and p.rows % LANES == 0
        left = p.rows if sure else f.plus(p.rows, f.times(row, -1))
        at = self.w.address(p.at, (row,), (p.pitch,))
        return Turning(self.w, replace(p, at=at, rows=left), self.pack)

    @property
    def count(self) -> Number:
        """How many rounds the step has."""
        return self.panel.k // self.deep

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        """carried = body(round, carried) for every round; the last carried values."""
        del columns
        return self.w.f.carry(0, self.count, 1, init, lambda i, c: body(Round(i, ()), c))

    def vectors(self, of: Round, first: int) -> Callable[[int], tuple[V, ...]]:
        """The vectors of each pair of a round, for the rows from `first` on."""
        words = self._words(of, first)

        def pair(t: int) -> tuple[V, ...]:
            word, j = divmod(2 * t, self.per)
            return self._pair(words[word], self.panel.codes.bits * j)

        return pair

    def fetch(self, of: Round, part: int, parts: int, column: int) -> None:
        """Ask for as many lines further on as a round of 16 rows reads: one part of several."""
        lines = LANES * PIECE // LINE
        sizes = (self.panel.pitch, lines * LINE)
        start = self.w.address(self.panel.at, (column, of.number), sizes)
        for line in range(part * lines // parts, (part + 1) * lines // parts):
            self.w.ask_ahead(start, LINE * line)

    def _words(self, of: Round, first: int) -> list[V]:
        """A piece of sixteen rows, word by word."""
        f, words = self.w.f, PIECE // 4
        rows = [f.load("i32", words, self._row(of, first + r)) for r in range(LANES)]
        parts = [[rows[r + words * i] for i in range(LANES // words)] for r in range(words)]
        return transposed(self.w, [f.joined(found) for found in parts])

    def _row(self, of: Round, number: int) -> V:
        """Where a round begins in a row. A row behind the last is the last: a column of padding."""
        p, f = self.panel, self.w.f
        row: Number = number
        if not (isinstance(p.rows, int) and p.rows % LANES == 0):
            row = f.least(number, f.plus(p.rows, -1))  # as many rows as are left
        return self.w.address(p.at, (row, of.number), (p.pitch, PIECE))

    def _pair(self, word: V, low: int) -> tuple[V, ...]:
        """The codes at bit `low` of every word and behind it."""
        f, bits = self.w.f, self.panel.codes.bits
        if self.pack == 1:
            return self._float(word, low), self._float(word, low + bits)
        if bits == 8:
            even, odd = (f.recast(self._float(word, at), "i32", LANES) for at in (low, low + bits))
            return (f.binary("or", f.binary("lshr", even, _every(16)), odd),)
        even, odd = self._moved(word, low), self._moved(word, low + bits - 16)
        both = f.binary("or", f.binary("and", even, _every(0xFFFF)),
                        f.binary("and", odd, _every(-0x10000)))  # fmt: skip
        index = f.recast(both, "i16", 2 * LANES)
        table = bf16_bits(list(self.panel.values))
        return (f.recast(permuted(f, table, bits, index), "i32", LANES),)

    def _moved(self, word: V, right: int) -> V:
        """Words moved to the right, or to the left."""
        if right == 0:
            return word
        return self.w.f.binary("lshr" if right > 0 else "shl", word, _every(abs(right)))

    def _float(self, word: V, low: int) -> V:
        f, t = self.w.f, self.panel.codes
        if t.bits <= 4:
            table = [*self.panel.values] * (LANES >> t.bits)
            return f.call("llvm.x86.avx512.permvar.sf.512", "float", LANES,
                          vector("float", table), self._moved(word, low))  # fmt: skip
        if not t.is_integer:
            return numbers.from_bits(f, t, self._moved(word, low))
        top = self._moved(word, low - 24)
        whole = f.binary("ashr" if t.kind == "int" else "lshr", top, _every(24))
        if self.mid:
            whole = f.binary("sub", whole, _every(self.mid))
        return f.convert("sitofp", whole, "float")


def _every(value: int) -> V:
    return constant("i32", value, LANES)


__all__ = ["CodeRows", "Lying", "Turning", "code_rows", "lying"]
