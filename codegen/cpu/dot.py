"""The matrix product: operands packed into scratch memory, then register tiles of rows x vectors.

B is packed in rows of k (of pairs of k for bf16) with n along the lanes, A stays row by row and is
broadcast. The accumulator is a buffer; its padding columns hold anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilec.codegen.cpu.atoms import Atom, Rows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.packing import pack_columns, padded
from tilec.codegen.cpu.stream import Decoder, Panel, fetch, units
from tilec.codegen.cpu.tiles import Buffer, Lazy, Writer

ROWS, VECTORS = 6, 4  # the register tile: 24 accumulators of 32 registers
_PAIRS = {  # sums of two products of i16, modulo 2**32
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}
CHAINS = 16  # accumulators that hide the latency of a multiply-add
SHORT = 8  # pairs of k to an accumulator; steps of fewer overlap anyway


@dataclass(frozen=True)
class Target:
    """What products are added to: a buffer of whole vectors a row, after scaling its columns."""

    buffer: Buffer
    scale: Buffer | None = None


def emit(
    w: Writer, atom: Atom, left: Rows, right: Lazy | Panel, shape: tuple[Number, Number, int],
    to: Target,
) -> None:  # fmt: skip
    """to += left @ right; a Panel is decoded, any other tile packed first.

    `shape` holds the rows, the k of this step and the most that k can be.
    """
    rows, k, deep = shape
    pitch = to.buffer.pitch
    if isinstance(right, Panel) and to.buffer.shape[0] <= ROWS:
        _direct(w, atom, left, right, rows, to)
        return
    steps = -(-deep // atom.pack)
    pb = w.f.pointer(w.base, w.scratch.take(steps * pitch * atom.size))
    if isinstance(right, Panel):
        _decode(w, atom, right, pb, pitch)
        used = w.f.times(units(w, right), right.deep // atom.pack)
    else:
        pack_columns(w, atom, right, pb, pitch)
        used = w.f.divided(padded(w, k, atom.pack), atom.pack)[0]
    _tiles(w, atom, left, pb, rows, used, to)


def _tiles(w: Writer, atom: Atom, left: Rows, pb: V, rows: Number, k: Number, to: Target) -> None:
    """Every register tile of the accumulator."""
    columns = to.buffer.pitch // w.lanes
    for first in range(0, columns, VECTORS):
        vectors = min(VECTORS, columns - first)

        def block(m: Number, height: int, first: int = first, vectors: int = vectors) -> None:
            corner = _Corner(m, height, first, vectors)
            _register_tile(w, atom, left, pb, k, corner, to)

        _each_row(w, rows, block)


def _each_row(w: Writer, rows: Number, block: Callable[[Number, int], None]) -> None:
    """block(m, height) over all rows, ROWS at a time and then what is left."""
    if isinstance(rows, int):
        whole = rows - rows % ROWS
        if whole:
            w.f.loop(0, whole, ROWS, lambda m: block(m, ROWS))
        if rows % ROWS:
            block(whole, rows % ROWS)
        return
    count = w.f.binary("sub", rows, w.f.binary("urem", rows, constant("i64", ROWS)))
    w.f.loop(0, count, ROWS, lambda m: block(m, ROWS))
    w.f.loop(count, rows, 1, lambda m: block(m, 1))


@dataclass(frozen=True)
class _Corner:
    """A register tile: its first row and vector, and how many of each."""

    m: Number
    height: int
    first: int
    vectors: int


def _register_tile(
    w: Writer, atom: Atom, left: Rows, pb: V, k: Number, at: _Corner, to: Target
) -> None:
    f, lanes, size = w.f, w.lanes, atom.size
    pitch = to.buffer.pitch * size
    rows = [left.row(w, f.plus(at.m, r)) for r in range(at.height)]

    def step(i: V, c: list[V]) -> list[V]:
        row = w.address(pb, (i, at.first * lanes), (pitch, size))
        kind = atom.kind if atom.pack == 1 else "i32"
        right = [f.load(kind, lanes, f.pointer(row, v * lanes * size), size)
                 for v in range(at.vectors)]  # fmt: skip
        out = list(c)
        for r in range(at.height):
            x = f.splat(f.load(kind, 1, w.address(rows[r], (i,), (size,)), 1), lanes)
            for v in range(at.vectors):
                i_out = r * at.vectors + v
                out[i_out] = _multiply_add(w, atom, x, right[v], c[i_out])
        return out

    places = _places(w, atom, at, to)
    if to.scale is None:
        sums = f.carry(0, k, 1, [f.load(atom.kind, lanes, p, size) for p in places], step)
    else:
        zero = constant(atom.kind, 0, lanes)
        sums = _scaled(w, atom, at, to, f.carry(0, k, 1, [zero] * len(places), step), places)
    for v, place in zip(sums, places, strict=True):
        f.store(v, place, size)


def _places(w: Writer, atom: Atom, at: _Corner, to: Target) -> list[V]:
    """The addresses of a register tile's vectors in the accumulator."""
    sizes = (to.buffer.pitch * atom.size, w.lanes * atom.size)
    return [w.address(to.buffer.at, (w.f.plus(at.m, r), at.first + v), sizes)
            for r in range(at.height) for v in range(at.vectors)]  # fmt: skip


def _scaled(
    w: Writer, atom: Atom, at: _Corner, to: Target, sums: list[V], places: list[V]
) -> list[V]:
    """The accumulator's vectors plus sums, each column times its scale if there is one."""
    f, lanes, size = w.f, w.lanes, atom.size
    scales: list[V | None] = [None] * at.vectors
    if to.scale is not None:
        scales = [f.load(atom.kind, lanes, f.pointer(to.scale.at, (at.first + v) * lanes * size))
                  for v in range(at.vectors)]  # fmt: skip
    out: list[V] = []
    for i, (v, place) in enumerate(zip(sums, places, strict=True)):
        before, scale = f.load(atom.kind, lanes, place, size), scales[i % at.vectors]
        whole = atom.kind in ("i32", "i64")
        if scale is None:
            out.append(f.binary("add" if whole else "fadd", before, v))
        elif whole:
            out.append(f.binary("add", before, f.binary("mul", v, scale)))
        else:
            out.append(f.intrinsic("fma", v, scale, before))
    return out


def _direct(w: Writer, atom: Atom, left: Rows, p: Panel, rows: Number, to: Target) -> None:
    """Few rows: each vector is decoded into a register and used at once."""
    columns = to.buffer.pitch // w.lanes
    decoder = Decoder(w, p, atom.pack)
    for first in range(0, columns, VECTORS):
        vectors = min(VECTORS, columns - first)

        def block(m: Number, height: int, first: int = first, vectors: int = vectors) -> None:
            _direct_tile(w, atom, left, p, decoder, _Corner(m, height, first, vectors), to)

        _each_row(w, rows, block)


def _direct_tile(w: Writer, atom: Atom, left: Rows, p: Panel, decoder: Decoder, at: _Corner,
                 to: Target) -> None:  # fmt: skip
    f, n = w.f, at.height * at.vectors
    pairs = p.k // 2 if isinstance(p.k, int) else CHAINS * SHORT
    chains = max(1, min(CHAINS // n, pairs // SHORT))
    rows = [left.row(w, f.plus(at.m, r)) for r in range(at.height)]

    def unit(u: V, c: list[V]) -> list[V]:
        start = w.address(p.at, (u,), (p.records.unit_bytes,))
        xs = [w.address(row, (u,), (p.deep * atom.item,)) for row in rows]
        words = [decoder.words(start, (at.first + v) * w.lanes) for v in range(at.vectors)]
        out = list(c)
        for t in range(p.deep // 2):
            if at.first == 0:
                fetch(w, p, start, t, p.deep // 2)
            chain = t % chains * n
            for v in range(at.vectors):
                for half, b in enumerate(decoder.pair(words[v], t)):
                    for r in range(at.height):
                        x = _broadcast(w, atom, xs[r], 2 * t + half)
                        i = chain + r * at.vectors + v
                        out[i] = _multiply_add(w, atom, x, b, out[i])
        return out

    zero = constant(atom.kind, 0, w.lanes)
    partial = f.carry(0, units(w, p), 1, [zero] * (n * chains), unit)
    sums = partial[:n]
    for chain in range(1, chains):
        sums = [f.binary("fadd", s, partial[chain * n + i]) for i, s in enumerate(sums)]
    places = _places(w, atom, at, to)
    for v, place in zip(_scaled(w, atom, at, to, sums, places), places, strict=True):
        f.store(v, place, atom.size)


def _broadcast(w: Writer, atom: Atom, row: V, k: int) -> V:
    """The value (or the pair) of k in every lane."""
    kind = atom.kind if atom.pack == 1 else "i32"
    return w.f.splat(w.f.load(kind, 1, w.f.pointer(row, k * atom.item), atom.item), w.lanes)


def _decode(w: Writer, atom: Atom, p: Panel, to: V, pitch: int) -> None:
    """A whole panel into rows of pairs (or of k's), for many rows to read."""
    f, decoder = w.f, Decoder(w, p, atom.pack)

    def unit(u: V) -> None:
        start = w.address(p.at, (u,), (p.records.unit_bytes,))
        fetch(w, p, start, 0, 1)
        for v in range(0, pitch, w.lanes):
            words = decoder.words(start, v)
            row = w.address(to, (u, v), (p.deep // atom.pack * pitch * atom.size, atom.size))
            for t in range(p.deep // 2):
                for half, b in enumerate(decoder.pair(words, t)):
                    line = t if atom.pack == 2 else 2 * t + half
                    f.store(b, f.pointer(row, line * pitch * atom.size), atom.size)

    f.loop(0, units(w, p), 1, unit)


def _multiply_add(w: Writer, atom: Atom, a: V, b: V, c: V) -> V:
    f = w.f
    if atom == Atom("i32", 2):
        x, y = f.recast(a, "i16", 2 * w.lanes), f.recast(b, "i16", 2 * w.lanes)
        if w.lanes == 16 and "avx512vnni" in w.features:
            return f.call("llvm.x86.avx512.vpdpwssd.512", "i32", w.lanes, c, x, y)
        return f.binary("add", c, f.call(_PAIRS[w.lanes], "i32", w.lanes, x, y))
    if atom.pack == 2:
        x, y = f.recast(a, "bfloat", 2 * w.lanes), f.recast(b, "bfloat", 2 * w.lanes)
        return f.call("llvm.x86.avx512bf16.dpbf16ps.512", "float", w.lanes, c, x, y)
    if atom.kind in ("float", "double"):
        return f.intrinsic("fma", a, b, c)
    return f.binary("add", f.binary("mul", a, b), c)
