"""The matrix product: operands packed into scratch memory, then register tiles of rows x vectors.

B is packed in rows of k (of pairs of k for bf16) with n along the lanes, A stays row by row and is
broadcast. The accumulator is a buffer; its padding columns hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import Buffer, Index, Lazy, Writer
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f32
from tilec.ir.types import Tile

ROWS, VECTORS = 6, 4  # the register tile: 24 accumulators of 32 registers


@dataclass(frozen=True)
class Atom:
    """One multiply-add instruction: `pack` values of k to a lane of `kind`."""

    kind: str
    pack: int

    @property
    def size(self) -> int:
        """Bytes of a lane."""
        return 8 if self.kind in ("double", "i64") else 4


def exact_in_bf16(t: DType) -> bool:
    """Whether every value of a dtype is a bf16."""
    return t in (bf16, e4m3, e5m2) or (t.is_integer and t.bits <= 8)


def choose(w: Writer, a: DType, b: DType, acc: DType) -> Atom:
    """The instruction for these operands on this machine."""
    if acc == f32 and "avx512bf16" in w.features and exact_in_bf16(a) and exact_in_bf16(b):
        return Atom("float", 2)
    return Atom(numbers.register(acc), 1)


def emit(w: Writer, a: Lazy, b: Lazy, types: tuple[Tile, Tile, Tile], acc: Buffer) -> None:
    """acc += a @ b, where acc holds whole vectors a row."""
    ta, tb, tc = types
    atom = choose(w, ta.dtype, tb.dtype, tc.dtype)
    depth = w.largest(ta.shape[1])
    steps = -(-depth // atom.pack)
    pa = w.f.pointer(w.base, w.scratch.take(w.largest(ta.shape[0]) * steps * atom.size))
    pb = w.f.pointer(w.base, w.scratch.take(steps * acc.pitch * atom.size))
    _pack_rows(w, atom, a, pa, steps)
    _pack_columns(w, atom, b, pb, acc.pitch)
    k = a.shape[1]
    used = k if atom.pack == 1 else -(-k // 2) if isinstance(k, int) else _half(w, k)
    _tiles(w, atom, pa, pb, acc, a.shape[0], used, steps)


def _half(w: Writer, k: V) -> V:
    return w.f.binary("lshr", w.f.binary("add", k, constant("i64", 1)), constant("i64", 1))


def _value(w: Writer, atom: Atom, x: Lazy, v: V) -> V:
    """An operand's value in the type of the instruction: bf16 bits (i16), or the accumulator's."""
    if atom.pack == 2:
        if not x.dtype.is_float:
            v = w.f.convert("sitofp", v, "float")
        return w.f.convert("trunc", numbers.narrow(w.f, bf16, v), "i16")
    if v.type in ("i32", "i64") and atom.kind in ("float", "double"):
        return w.f.convert("sitofp" if x.dtype.kind == "int" else "uitofp", v, atom.kind)
    return w.f.convert("fpext", v, atom.kind) if v.type == "float" else v


def _pack_rows(w: Writer, atom: Atom, a: Lazy, to: V, steps: int) -> None:
    item = atom.size // atom.pack
    rows, k = a.shape
    if atom.pack == 2 and not (isinstance(k, int) and k % 2 == 0):  # the last pair may be half
        w.f.loop(
            0,
            rows,
            1,
            lambda m: w.f.store(
                constant("i32", 0), w.address(to, (m, _last(w, k)), (steps * 4, 4))
            ),
        )
    w.each(a.shape, lambda i, n: w.f.store(
        _value(w, atom, a, a.at(i, n)), w.address(to, i, (steps * atom.size, item))))  # fmt: skip


def _last(w: Writer, k: Number) -> Number:
    """The number of the last pair of k."""
    if isinstance(k, int):
        return (k - 1) // 2
    return w.f.binary("lshr", w.f.number(w.f.plus(k, -1)), constant("i64", 1))


def _pack_columns(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
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


def _tiles(
    w: Writer, atom: Atom, pa: V, pb: V, acc: Buffer, rows: Number, k: Number, steps: int
) -> None:
    """Every register tile of the accumulator."""
    columns = acc.pitch // w.lanes
    for first in range(0, columns, VECTORS):
        vectors = min(VECTORS, columns - first)

        def block(m: Number, height: int, first: int = first, vectors: int = vectors) -> None:
            _register_tile(w, atom, pa, pb, acc, (m, height), (first, vectors), k, steps)

        if isinstance(rows, int):
            whole = rows - rows % ROWS
            if whole:
                w.f.loop(0, whole, ROWS, lambda m: block(m, ROWS))
            if rows % ROWS:
                block(whole, rows % ROWS)
        else:
            count = w.f.binary("sub", rows, w.f.binary("urem", rows, constant("i64", ROWS)))
            w.f.loop(0, count, ROWS, lambda m: block(m, ROWS))
            w.f.loop(count, rows, 1, lambda m: block(m, 1))


def _register_tile(w: Writer, atom: Atom, pa: V, pb: V, acc: Buffer, at: tuple[Number, int],
                   across: tuple[int, int], k: Number, steps: int) -> None:  # fmt: skip
    f, (m, height), (first, vectors) = w.f, at, across
    kind, lanes, size = atom.kind, w.lanes, atom.size
    places = [w.address(acc.at, (f.plus(m, r), (first + v) * lanes), (acc.pitch * size, size))
              for r in range(height) for v in range(vectors)]  # fmt: skip
    start = [f.load(kind, lanes, p, size) for p in places]
    left = [w.address(pa, (f.plus(m, r),), (steps * size,)) for r in range(height)]

    def step(i: V, c: list[V]) -> list[V]:
        row = w.address(pb, (i, first * lanes), (acc.pitch * size, size))
        right = [
            f.load(kind if atom.pack == 1 else "i32", lanes, f.pointer(row, v * lanes * size), size)
            for v in range(vectors)
        ]
        out = list(c)
        for r in range(height):
            x = f.splat(f.load(right[0].type, 1, w.address(left[r], (i,), (size,)), 1), lanes)
            for v in range(vectors):
                out[r * vectors + v] = _multiply_add(w, atom, x, right[v], c[r * vectors + v])
        return out

    for v, place in zip(f.carry(0, k, 1, start, step), places, strict=True):
        f.store(v, place, size)


def _multiply_add(w: Writer, atom: Atom, a: V, b: V, c: V) -> V:
    f = w.f
    if atom.pack == 2:
        x, y = f.recast(a, "bfloat", 2 * w.lanes), f.recast(b, "bfloat", 2 * w.lanes)
        return f.call("llvm.x86.avx512bf16.dpbf16ps.512", "float", w.lanes, c, x, y)
    if atom.kind in ("float", "double"):
        return f.intrinsic("fma", a, b, c)
    return f.binary("add", f.binary("mul", a, b), c)
