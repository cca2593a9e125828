"""Operands of a product copied into the order in which its instruction reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilec.codegen.cpu import bits, digits, numbers
from tilec.codegen.cpu.atoms import BYTES, PAIRS, SINGLE, SIXTEENS, Atom, Rows, of_bits
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.dtype import bf16

OFFSET = 128  # what makes signed bytes unsigned, as the second operand of BYTES is


def padded(w: Writer, k: Number, by: int) -> Number:
    """k rounded up to a multiple."""
    return w.f.times(w.f.divided(w.f.plus(k, by - 1), by)[0], by)


def _value(w: Writer, atom: Atom, x: Lazy, v: V) -> V:
    """An operand's value in the type of the instruction: a whole number, bf16 bits, or the
    accumulator's."""
    if atom in (BYTES, SIXTEENS):
        return w.f.convert("trunc", v, f"i{8 * atom.bytes(1)}")
    if atom.pack == 2:
        if not x.dtype.is_float:
            v = w.f.convert("sitofp", v, "float")
        return w.f.convert("trunc", numbers.narrow(w.f, bf16, v), "i16")
    if v.type in ("i32", "i64") and atom.kind in ("float", "double"):
        return w.f.convert("sitofp" if x.dtype.kind == "int" else "uitofp", v, atom.kind)
    return w.f.convert("fpext", v, atom.kind) if v.type == "float" else v


def pack_rows(w: Writer, atom: Atom, a: Lazy, to: Rows, deep: int) -> None:
    """A tile as rows whose k is padded with zeros to a multiple of `deep`."""
    if of_bits(atom):
        bits.pack_rows(w, atom, a, to)
        return
    if atom == digits.DIGITS:
        digits.pack_rows(w, a, to)
        return
    rows, k = a.shape
    item = atom.bytes(1)
    if not (isinstance(k, int) and k % deep == 0):
        zero = constant(f"i{8 * item}", 0)
        stop = padded(w, k, deep)
        w.f.loop(0, rows, 1, lambda m: w.f.loop(k, stop, 1, lambda i: w.f.store(
            zero, w.address(to.at, (m, i), (to.stride, item)))))  # fmt: skip
    w.each(a.shape, lambda i, n: w.f.store(
        _element(w, atom, a, i, n), w.address(to.at, i, (to.stride, item))))  # fmt: skip


def _element(w: Writer, atom: Atom, x: Lazy, index: Index, lanes: int) -> V:
    """Elements of an operand in the type of the instruction."""
    if x.words is not None and atom in (PAIRS, SINGLE):
        words = x.words.at(index, lanes)
        if atom == PAIRS:
            return words
        return numbers.widen(w.f, bf16, w.f.convert("zext", words, "i32"))
    return _value(w, atom, x, x.at(index, lanes))


def _column(w: Writer, atom: Atom, x: Lazy, index: Index, lanes: int) -> V:
    """Elements of a second operand in the type of the instruction."""
    v = _element(w, atom, x, index, lanes)
    if atom == BYTES and x.dtype.kind == "int":
        return w.f.binary("xor", v, constant("i8", -OFFSET, v.lanes))
    return v


def _last(w: Writer, k: Number) -> Number:
    """The number of the last pair of k."""
    return w.f.divided(w.f.plus(k, -1), 2)[0]


def pack_columns(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
    """A tile as rows of k (of pairs, of fours), `pitch` columns apart; the last pair may end in 0.

    What follows the last k of a four is not set: the first operand has zeros there.
    """
    k, n = b.shape
    if of_bits(atom):
        bits.pack_columns(w, atom, b, to, pitch)
        return
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
    groups, rest = w.f.divided(k, atom.pack)
    wide = atom == PAIRS and b.words is not None and isinstance(n, int) and n % (2 * w.lanes) == 0
    if wide:
        w.f.loop(0, groups, 1, lambda g: w.f.loop(0, n, 2 * w.lanes, lambda c: _two_vectors(
            w, b, (g, c), to, pitch)))  # fmt: skip
    else:
        w.f.loop(0, groups, 1, lambda g: w.each((n,), lambda c, lanes: _group(
            w, atom, b, (g, c[0]), (to, pitch, atom.pack), lanes)))  # fmt: skip
    if isinstance(rest, int):
        if rest:
            w.each((n,), lambda c, lanes: _group(w, atom, b, (groups, c[0]), (to, pitch, rest),
                                                 lanes))  # fmt: skip
        return
    w.f.loop(w.f.times(groups, atom.pack), k, 1, lambda i: w.f.loop(0, n, 1, lambda c: w.f.store(
        _column(w, atom, b, (i, c), 1), _place(w, atom, to, pitch, (i, c)))))  # fmt: skip


def _group(w: Writer, atom: Atom, b: Lazy, at: tuple[Number, Number], to: tuple[V, int, int],
           lanes: int) -> None:  # fmt: skip
    """The values of a group of k in some lanes; what the group does not have is 0."""
    f, (group, column), (base, pitch, have) = w.f, at, to
    first = f.times(group, atom.pack)
    parts = [_column(w, atom, b, (f.plus(first, j), column), lanes) for j in range(have)]
    place = w.address(base, (group, column), (pitch * atom.size, atom.size))
    if atom.pack == 1:
        f.store(parts[0], place)
    elif atom == PAIRS and have == 2 and lanes > 1:
        order = [i for j in range(lanes) for i in (j, j + lanes)]
        f.store(f.shuffle(parts[0], parts[1], order), place)
    else:
        f.store(_joined(w, atom, parts), place)


def _two_vectors(w: Writer, b: Lazy, at: tuple[V, V], to: V, pitch: int) -> None:
    """Two vectors of pairs of k."""
    f, (group, column), lanes = w.f, at, 2 * w.lanes
    assert b.words is not None
    first = f.times(group, 2)
    even, odd = (b.words.at((f.plus(first, j), column), lanes) for j in (0, 1))
    for half in (0, w.lanes):
        order = [i for j in range(half, half + w.lanes) for i in (j, j + lanes)]
        place = w.address(to, (group, f.plus(column, half)), (4 * pitch, 4))
        f.store(f.shuffle(even, odd, order), place)


def _joined(w: Writer, atom: Atom, parts: Sequence[V]) -> V:
    """Values of k side by side in lanes of 32 bits."""
    f, bits = w.f, 8 * atom.bytes(1)
    out = constant("i32", 0, parts[0].lanes)
    for j, part in enumerate(parts):
        wide = f.convert("zext", part, "i32")
        out = f.binary("or", out, f.binary("shl", wide, constant("i32", bits * j, part.lanes)))
    return out


def _place(w: Writer, atom: Atom, to: V, pitch: int, at: Index) -> V:
    """The address of one of the values of k in a lane."""
    group, rest = w.f.divided(w.f.number(at[0]), atom.pack)
    return w.address(to, (group, at[1], rest), (pitch * atom.size, atom.size, atom.bytes(1)))


def _turned(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
    """A transposed operand: squares of vectors along k, turned in registers."""
    f, (k, n), across = w.f, b.shape, b.across
    assert across is not None
    side, deep = w.lanes, w.lanes * atom.pack
    whole_n = w.whole(n)
    whole_k = k - k % deep if isinstance(k, int) else f.binary("and", k, constant("i64", -deep))

    def one(row: Number, column: Number) -> None:
        v = _column(w, atom, b, (row, column), 1)
        f.store(v, _place(w, atom, to, pitch, (row, column)))

    room = f.pointer(w.base, w.scratch.take(side * side * atom.size)) if b.singly else None

    def square(n0: V, k0: V) -> None:
        rows = _rows(w, atom, b, (k0, n0), room)
        if b.fetch is not None and isinstance(k, int):  # the same of the next panel
            for j in range(side):
                b.fetch((f.plus(k0, k), f.plus(n0, j)), 1)
        group, _ = f.divided(k0, atom.pack)
        for i, v in enumerate(transposed(w, rows)):
            f.store(v, w.address(to, (f.plus(group, i), n0), (pitch * atom.size, atom.size)))

    def edge(start_n: Number, start_k: Number, stop_k: Number) -> None:
        f.loop(start_n, n, 1, lambda c: f.loop(start_k, stop_k, 1, lambda r: one(r, c)))

    f.loop(0, whole_n, side, lambda n0: f.loop(0, whole_k, deep, lambda k0: square(n0, k0)))
    if not isinstance(k, int) or whole_k != k:
        edge(0, whole_k, k)
    if not isinstance(n, int) or whole_n != n:
        edge(whole_n, 0, whole_k)


def _rows(w: Writer, atom: Atom, b: Lazy, at: tuple[V, V], room: V | None) -> list[V]:
    """The vectors of as many columns as they have lanes. With `room` they are made in a loop: what
    puts vectors together element by element is long, and written once."""
    (k, n), side, kind = at, w.lanes, atom.kind if atom.pack == 1 else "i32"
    if room is None:
        return [_vector(w, atom, b, k, w.f.plus(n, j)) for j in range(side)]
    size = side * atom.size
    w.f.loop(0, side, 1, lambda j: w.f.store(_vector(w, atom, b, k, w.f.plus(n, j)),
                                             w.address(room, (j,), (size,))))  # fmt: skip
    return [w.f.load(kind, side, w.f.pointer(room, j * size)) for j in range(side)]


def _vector(w: Writer, atom: Atom, b: Lazy, k0: V, column: Number) -> V:
    """One column's next values of k, a lane each (pairs and fours of them are one lane)."""
    if atom == PAIRS and b.words is not None and b.words.across is not None:
        return w.f.recast(b.words.across((k0, column), 2 * w.lanes), "i32", w.lanes)
    down = replace(b, at=b.across, words=None) if b.across is not None else b
    parts = [
        _column(w, atom, down, (w.f.plus(k0, i * w.lanes), column), w.lanes)
        for i in range(atom.pack)
    ]
    if atom.pack == 1:
        return parts[0]
    while len(parts) > 1:
        halves = zip(parts[::2], parts[1::2], strict=True)
        parts = [w.f.shuffle(a, b, range(2 * a.lanes)) for a, b in halves]
    return w.f.recast(parts[0], "i32", w.lanes)


def transposed(w: Writer, rows: Sequence[V]) -> list[V]:
    """Squares of lanes turned, in log2(rows) rounds of exchanges: as many lanes as there are rows,
    and then the next, side by side."""
    out, n, lanes = list(rows), len(rows), rows[0].lanes
    step = 1
    while step < n:
        low = [i if not i & step else lanes + (i ^ step) for i in range(lanes)]
        high = [i | step if not i & step else lanes + i for i in range(lanes)]
        for i in range(n):
            if not i & step:
                a, b = out[i], out[i | step]
                out[i], out[i | step] = w.f.shuffle(a, b, low), w.f.shuffle(a, b, high)
        step *= 2
    return out
