"""First operands of products of bytes: rows out of a stream of codes, and the sums of rows."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.codegen.cpu.atoms import BYTES, Atom, Rows, multiply_add
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.packing import transposed
from tilec.codegen.cpu.quads import BYTES_OF_VECTOR, Quads, every, unsigned
from tilec.codegen.cpu.stream import Round, panel, scattered
from tilec.codegen.cpu.tiles import Coordinates, Index, Tensor, Writer
from tilec.ir.dtype import Array
from tilec.ir.stream import COLUMNS, LANES, Records

LINE = BYTES_OF_VECTOR  # of a row, that are summed at once
SUM = 4  # bytes of a sum behind a row


def stride(atom: Atom, k: int) -> int:
    """Bytes of a row of so many k's as an instruction reads them, and of its sum if it has one."""
    return atom.bytes(k) + SUM * (atom == BYTES)


def total(w: Writer, row: V, k: Number) -> V:
    """The sum of k bytes at an address, behind which zeros fill a line."""
    f, zero = w.f, constant("i32", 0, w.lanes)
    ones = constant("i32", 0x01010101, w.lanes)
    lines = f.divided(f.plus(k, LINE - 1), LINE)[0]

    def line(i: V, c: list[V]) -> list[V]:
        x = f.load("i32", w.lanes, w.address(row, (i,), (LINE,)), 1)
        return [multiply_add(w, BYTES, x, ones, c[0])]

    (sums,) = f.carry(0, lines, 1, [zero], line)
    return f.call(f"llvm.vector.reduce.add.v{w.lanes}i32", "i32", 1, sums)


def write_sums(w: Writer, to: Rows, shape: Index) -> None:
    """Put behind each of so many rows the sum of its k's."""
    count, k = shape

    def one(m: V) -> None:
        row = to.row(w, m)
        w.f.store(total(w, row, k), w.f.pointer(row, to.stride - SUM))

    w.f.loop(0, count, 1, one)


def corrections(w: Writer, of: Rows, rows: Sequence[V], k: Number, offset: int) -> list[V]:
    """-offset * sum_k a[i, k] in every lane, for rows at these addresses."""
    f, out = w.f, list[V]()
    for row in rows:
        if of.summed:
            found = f.load("i32", 1, f.pointer(row, of.stride - SUM), 4)
        else:
            found = total(w, row, k)
        out.append(f.binary("mul", f.splat(found, w.lanes), constant("i32", -offset, w.lanes)))
    return out


def turns(atom: Atom, mem: Tensor, values: Array, step: int) -> bool:
    """Whether a matrix is read in steps of so many k's that are whole vectors of rows of bytes, out
    of codes with these values in a stream."""
    records, depth = mem.records, mem.shape[-1]
    if atom != BYTES or not isinstance(records, Records) or records.codes is None:
        return False
    n, k = Coordinates(0, COLUMNS, COLUMNS), Coordinates(0, step, step)
    whole = isinstance(depth, int) and depth % step == 0 and step % LINE == 0
    return whole and not scattered(records, n, k) and unsigned(values) is not None


def turned(w: Writer, mem: Tensor, values: Array, k: Coordinates, to: Rows) -> None:
    """Write a step of every row of a matrix in a stream, and of those that fill its last vector."""
    f, records = w.f, mem.records
    assert isinstance(records, Records)
    whole, rest = divmod(records.n, COLUMNS)
    vectors = range(0, COLUMNS, LANES)
    f.loop(0, whole, 1, lambda i: _block(w, (mem, values), (i, k), vectors, to))
    if rest:
        _block(w, (mem, values), (constant("i64", whole), k), range(0, rest, LANES), to)


def _block(w: Writer, codes: tuple[Tensor, Array], at: tuple[V, Coordinates],
           vectors: Sequence[int], to: Rows) -> None:  # fmt: skip
    """Some vectors of rows of a block of them."""
    f, (mem, values), (block, k) = w.f, codes, at
    rows = Coordinates(f.times(block, COLUMNS), COLUMNS, COLUMNS)
    step = panel(w, mem, rows, k, values)
    decoder = Quads(w, step, LINE // step.deep)
    less = every(decoder.offset)

    for first in vectors:
        start = to.row(w, f.plus(rows.start, first))

        def line(of: Round, c: list[V], first: int = first, start: V = start) -> list[V]:
            found = decoder.vectors(of, first)
            quads = [found(t)[0] for t in range(LINE // SUM)]
            for r, v in enumerate(transposed(w, quads)):
                signed = f.binary("sub", f.recast(v, "i8", BYTES_OF_VECTOR), less)
                f.store(signed, w.address(start, (r, of.number), (to.stride, LINE)))
            return c

        decoder.loop([], line, [first])
