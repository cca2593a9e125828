"""Operands of a product copied into the order in which its instruction reads them."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.atoms import Atom, Rows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.dtype import bf16


def padded(w: Writer, k: Number, by: int) -> Number:
    """k rounded up to a multiple."""
    return w.f.times(w.f.divided(w.f.plus(k, by - 1), by)[0], by)


def _value(w: Writer, atom: Atom, x: Lazy, v: V) -> V:
    """An operand's value in the type of the instruction: i16, bf16 bits, or the accumulator's."""
    if atom == Atom("i32", 2):
        return w.f.convert("trunc", v, "i16")
    if atom.pack == 2:
        if not x.dtype.is_float:
            v = w.f.convert("sitofp", v, "float")
        return w.f.convert("trunc", numbers.narrow(w.f, bf16, v), "i16")
    if v.type in ("i32", "i64") and atom.kind in ("float", "double"):
        return w.f.convert("sitofp" if x.dtype.kind == "int" else "uitofp", v, atom.kind)
    return w.f.convert("fpext", v, atom.kind) if v.type == "float" else v


def pack_rows(w: Writer, atom: Atom, a: Lazy, to: Rows, deep: int) -> None:
    """A tile as rows whose k is padded with zeros to a multiple of `deep`."""
    rows, k = a.shape
    item = atom.item
    if not (isinstance(k, int) and k % deep == 0):
        zero = constant(f"i{8 * item}", 0)
        stop = padded(w, k, deep)
        w.f.loop(0, rows, 1, lambda m: w.f.loop(k, stop, 1, lambda i: w.f.store(
            zero, w.address(to.at, (m, i), (to.stride, item)))))  # fmt: skip
    w.each(a.shape, lambda i, n: w.f.store(
        _value(w, atom, a, a.at(i, n)), w.address(to.at, i, (to.stride, item))))  # fmt: skip


def _last(w: Writer, k: Number) -> Number:
    """The number of the last pair of k."""
    return w.f.divided(w.f.plus(k, -1), 2)[0]


def pack_columns(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
    """A tile as rows of k (of pairs of k), `pitch` columns apart; the last pair may end in 0."""
    k, n = b.shape
    if atom.pack == 2 and not (isinstance(k, int) and k % 2 == 0):
        w.f.loop(
            0,
            pitch,
            1,
            lambda c: w.f.store(
                constant("i32", 0), w.address(to, (_last(w, k), c), (pitch * 4, 4))
            ),
        )

    if b.across is not None:
        _turned(w, atom, b, to, pitch)
        return

    def put(index: Index, lanes: int) -> None:
        v = _value(w, atom, b, b.at(index, lanes))
        if atom.pack == 1:
            w.f.store(v, w.address(to, index, (pitch * atom.size, atom.size)))
            return
        for i in range(lanes):
            w.f.store(w.f.lane(v, i), _half_place(w, to, pitch, index[0], w.f.plus(index[1], i)))

    w.each((k, n), put)


def _half_place(w: Writer, to: V, pitch: int, row: Number, column: Number) -> V:
    """The address of one of a pair of bf16."""
    r = w.f.number(row)
    pair, odd = w.f.binary("lshr", r, constant("i64", 1)), w.f.binary("and", r, constant("i64", 1))
    return w.address(to, (pair, column, odd), (pitch * 4, 4, 2))


def _turned(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
    """A transposed operand: squares of vectors along k, turned in registers."""
    f, (k, n), across = w.f, b.shape, b.across
    assert across is not None
    side, deep = w.lanes, w.lanes * atom.pack
    whole_n = w.whole(n)
    whole_k = k - k % deep if isinstance(k, int) else f.binary("and", k, constant("i64", -deep))

    def one(row: Number, column: Number) -> None:
        v = _value(w, atom, b, b.at((row, column), 1))
        if atom.pack == 1:
            f.store(v, w.address(to, (row, column), (pitch * atom.size, atom.size)))
            return
        f.store(v, _half_place(w, to, pitch, row, column))

    def square(n0: V, k0: V) -> None:
        rows = [_vector(w, atom, b, k0, f.plus(n0, j)) for j in range(side)]
        pair = f.binary("lshr", k0, constant("i64", atom.pack - 1))
        for i, v in enumerate(_transposed(w, rows)):
            f.store(v, w.address(to, (f.plus(pair, i), n0), (pitch * atom.size, atom.size)))

    def edge(start_n: Number, start_k: Number, stop_k: Number) -> None:
        f.loop(start_n, n, 1, lambda c: f.loop(start_k, stop_k, 1, lambda r: one(r, c)))

    f.loop(0, whole_n, side, lambda n0: f.loop(0, whole_k, deep, lambda k0: square(n0, k0)))
    if not isinstance(k, int) or whole_k != k:
        edge(0, whole_k, k)
    if not isinstance(n, int) or whole_n != n:
        edge(whole_n, 0, whole_k)


def _vector(w: Writer, atom: Atom, b: Lazy, k0: V, column: Number) -> V:
    """One column's next values of k, a lane each (pairs of bf16 are one lane)."""
    assert b.across is not None
    parts = [
        _value(w, atom, b, b.across((w.f.plus(k0, i * w.lanes), column), w.lanes))
        for i in range(atom.pack)
    ]
    if atom.pack == 1:
        return parts[0]
    return w.f.recast(w.f.shuffle(parts[0], parts[1], range(2 * w.lanes)), "i32", w.lanes)


def _transposed(w: Writer, rows: Sequence[V]) -> list[V]:
    """A square of lanes turned, in log2(lanes) rounds of exchanges."""
    out, n = list(rows), len(rows)
    step = 1
    while step < n:
        low = [i if not i & step else n + (i ^ step) for i in range(n)]
        high = [i | step if not i & step else n + i for i in range(n)]
        for i in range(n):
            if not i & step:
                a, b = out[i], out[i | step]
                out[i], out[i | step] = w.f.shuffle(a, b, low), w.f.shuffle(a, b, high)
        step *= 2
    return out
