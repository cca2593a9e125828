"""The matrix product: operands packed into scratch memory, then register tiles of rows x vectors.

B is packed in rows of k (of pairs of k for bf16, of fours for bytes) with n along the lanes, A
stays row by row and is broadcast. The accumulator is a buffer; its padding columns hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tilec.codegen.cpu import along, digits
from tilec.codegen.cpu.atoms import BITS, BYTES, HALVED, SINGLE, Atom, Rows, multiply_add, of_bits
from tilec.codegen.cpu.bits import Bits
from tilec.codegen.cpu.byte_rows import SUM, corrections
from tilec.codegen.cpu.code_rows import CodeRows, Turning
from tilec.codegen.cpu.evaluated import Evaluated, Evaluation
from tilec.codegen.cpu.expanded import Expanded, Groups
from tilec.codegen.cpu.lanes import Expanding, Laid, Stored
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.packing import OFFSET, pack_columns, padded
from tilec.codegen.cpu.quads import Quads
from tilec.codegen.cpu.registers import RegisterTile, narrow_tile, register_tile, registers
from tilec.codegen.cpu.sparse_codes import SparseCodes
from tilec.codegen.cpu.stream import Decoder, Panel, Round
from tilec.codegen.cpu.target import Target, scaled
from tilec.codegen.cpu.tiles import Buffer, Lazy, Writer
from tilec.ir.masked import Masked
from tilec.ir.stream import COLUMNS

_Decoder = Decoder | Quads | Bits | Expanding | Laid | Evaluation | Turning
Source = Panel | Stored | Evaluated | CodeRows  # what is decoded, not packed

EXPANDED = 8  # rows of a tile of expanded vectors
CHAINS = 16  # accumulators that hide the latency of a multiply-add, at most half the registers
SHORT = 8  # pairs of k to an accumulator; steps of fewer overlap anyway
FURTHER = 2  # register tiles of rows from those that are multiplied to those that are asked for
NEAR = 1 << 15  # bytes of rows and accumulators that stay in L1 anyway
PANEL = 1 << 14  # bytes of a decoded panel, beside rows and accumulators that stay in L1


@dataclass(frozen=True)
class _Left:
    """A first operand beside what is taken from every element of the second when it is read."""

    rows: Rows
    offset: int = 0

    def at(self, w: Writer, m: Number, height: int) -> list[V]:
        """The addresses of some rows."""
        return [self.rows.row(w, w.f.plus(m, r)) for r in range(height)]


def emit(
    w: Writer, atom: Atom, rows: Rows, right: Lazy | Source,
    shape: tuple[Number, Number, int], to: Target, whole: digits.Whole | None = None,
) -> None:  # fmt: skip
    """to += rows @ right; what is stored for products is decoded, any other tile packed first.

    `shape` holds the rows, the k of this step and the most that k can be; `whole` is the operands
    as whole numbers, if they are multiplied so.
    """
    m, k, deep = shape
    pitch = to.buffer.pitch
    if isinstance(right, Source):
        decoder = _decoder(w, atom, right)
        left = _Left(rows, decoder.offset)
        side = digits.side(to.buffer.shape[0]) if whole else _side(w, atom, decoder, to.buffer, m)
        if side is not None:
            _direct(w, atom, left, decoder, m, to, side, whole)
            return
        if isinstance(right, Panel | Stored) and _as_it_lies(decoder, pitch):
            pb = right.at
        elif isinstance(right, Panel) and (parts := _parts(atom, decoder, m, to)) > 1:
            _by_parts(w, atom, rows, (right, parts), m, to)
            return
        else:
            pb = _room(w, atom, deep, pitch)
            _decode(w, atom, decoder, pb, pitch)
        used = w.f.times(decoder.count, decoder.deep // atom.pack)
    else:
        words = along.columns(w, atom, right, to.buffer)
        if words is not None:
            along.add(w, atom, rows, words, (m, right), to)
            return
        left = _Left(rows, OFFSET if atom == BYTES and right.dtype.kind == "int" else 0)
        pb = _room(w, atom, deep, pitch)
        pack_columns(w, atom, right, pb, pitch)
        used = w.f.divided(padded(w, k, atom.pack), atom.pack)[0]
    _tiles(w, atom, left, pb, m, used, to)


def count(w: Writer, rows: Rows, shape: tuple[Number, Number], to: Target) -> None:
    """to += the number of ones of each row of bits, in every column."""
    f, (m, k) = w.f, shape
    size = BITS.size
    words = f.divided(padded(w, k, BITS.pack), BITS.pack)[0]
    whole = w.whole(words)
    columns = to.buffer.pitch // w.lanes

    def ones(c: list[V], row: V, i: V, lanes: int) -> list[V]:
        word = f.load("i32", lanes, w.address(row, (i,), (size,)), 1)
        return [f.binary("add", c[0], f.intrinsic("ctpop", word))]

    def one(i: V) -> None:
        row, zero = rows.row(w, i), constant("i32", 0, w.lanes)
        (sums,) = f.carry(0, whole, w.lanes, [zero], lambda at, c: ones(c, row, at, w.lanes))
        start = f.call(f"llvm.vector.reduce.add.v{w.lanes}i32", "i32", 1, sums)
        (total,) = f.carry(whole, words, 1, [start], lambda at, c: ones(c, row, at, 1))
        _add(w, BITS, _Corner(i, 1, 0, columns), to, [f.splat(total, w.lanes)] * columns)

    f.loop(0, m, 1, one)


def _side(w: Writer, atom: Atom, decoder: _Decoder, to: Buffer, m: Number
          ) -> RegisterTile | None:  # fmt: skip
    """A register tile whose vectors are decoded where they are used, if that pays: where all rows
    are in one, which is narrower for that where it needs to be, and for some more where an
    instruction expands."""
    tile, rows = register_tile(w.choices, w.features), to.shape[0]
    if isinstance(decoder, Expanding) and decoder.direct and 1 < rows <= decoder.again:
        if atom.pack == 1 and decoder.size > 1:
            return RegisterTile(EXPANDED, 1)  # of floats it is two: beside more is no room
        return tile if rows <= tile.rows else RegisterTile(EXPANDED, 2)
    if rows <= tile.rows:
        return RegisterTile(tile.rows, 1) if isinstance(decoder, Turning) else tile
    if isinstance(decoder, Expanding):
        return None
    if not isinstance(m, int) or _as_it_lies(decoder, to.pitch) or w.cpu in HALVED:
        return None
    return narrow_tile(w.choices, w.features, atom, rows, decoder.deep, decoder.panel.k)


def _as_it_lies(decoder: _Decoder, pitch: int) -> bool:
    """Whether register tiles can read what is stored without decoding."""
    if isinstance(decoder, Laid):
        return decoder.native and decoder.tall == pitch
    return isinstance(decoder, Bits) and decoder.plain and pitch == COLUMNS


def _decoder(w: Writer, atom: Atom, right: Source) -> _Decoder:
    """What decodes a panel for an instruction."""
    if isinstance(right, Evaluated):
        return Evaluation(w, right, atom.pack)
    if isinstance(right, CodeRows):
        return Turning(w, right, atom.pack)
    if isinstance(right, Stored):
        if not isinstance(right.order, Masked):
            return Laid(w, right, atom.pack)
        return (SparseCodes if right.order.coded else Expanding)(w, right, atom.pack)
    if of_bits(atom):
        return Bits(w, right)
    if isinstance(right, Groups):
        return Expanded(w, right)
    return Quads(w, right) if atom == BYTES else Decoder(w, right, atom.pack)


def _parts(atom: Atom, decoder: _Decoder, m: Number, to: Target) -> int:
    """In how many parts a panel is decoded, each with its rows in L1 when it is multiplied: as many
    as that takes if what products are added to stays there, too; all alike, of whole rounds."""
    k = decoder.panel.k
    small = to.buffer.shape[0] * to.buffer.pitch * atom.size <= PANEL
    if atom.kind != "float" or to.start is not None or not small or not isinstance(k, int):
        return 1
    parts = -(-k * to.buffer.pitch * atom.size // atom.pack // PANEL)
    return parts if isinstance(m, int) and k % (parts * decoder.deep) == 0 else 1


def _by_parts(w: Writer, atom: Atom, rows: Rows, of: tuple[Panel, int], m: Number,
              to: Target) -> None:  # fmt: skip
    """to += rows @ a panel, of which some k's are decoded at a time."""
    f, (whole, parts) = w.f, of
    assert isinstance(whole.k, int)
    k, pitch = whole.k // parts, to.buffer.pitch
    pb, size = _room(w, atom, k, pitch), k // whole.deep * whole.records.unit_bytes

    def part(i: V) -> None:
        panel = replace(whole, at=w.address(whole.at, (i,), (size,)), k=k)
        left = replace(rows, at=w.address(rows.at, (i,), (atom.bytes(k),)))
        decoder = _decoder(w, atom, panel)
        _decode(w, atom, decoder, pb, pitch)
        _tiles(w, atom, _Left(left, decoder.offset), pb, m, k // atom.pack, to)

    f.loop(0, parts, 1, part)


def _room(w: Writer, atom: Atom, deep: int, pitch: int) -> V:
    """Scratch memory for a packed second operand."""
    return w.f.pointer(w.base, w.scratch.take(-(-deep // atom.pack) * pitch * atom.size))


def _tiles(w: Writer, atom: Atom, left: _Left, pb: V, rows: Number, k: Number, to: Target) -> None:
    """Every register tile of the accumulator."""
    columns, tile = to.buffer.pitch // w.lanes, register_tile(w.choices, w.features)
    for first in range(0, columns, tile.vectors):
        vectors = min(tile.vectors, columns - first)

        def block(m: Number, height: int, first: int = first, vectors: int = vectors) -> None:
            corner = _Corner(m, height, first, vectors)
            _register_tile(w, atom, left, pb, k, corner, to)

        w.f.blocks(rows, tile.rows * tile.vectors // vectors, block, exact=tile.vectors == vectors)


@dataclass(frozen=True)
class _Corner:
    """A register tile: its first row and vector, and how many of each."""

    m: Number
    height: int
    first: int
    vectors: int


def _register_tile(
    w: Writer, atom: Atom, left: _Left, pb: V, k: Number, at: _Corner, to: Target
) -> None:
    f, lanes, size = w.f, w.lanes, atom.size
    pitch = to.buffer.pitch * size
    rows = left.at(w, at.m, at.height)

    further = _fetched(w, left, rows, k, (atom, at), to)

    def step(i: V, c: list[V]) -> list[V]:
        if further is not None:
            f.prefetch(w.address(further, (i,), (size * at.height,)))
        row = w.address(pb, (i, at.first * lanes), (pitch, size))
        kind = atom.kind if atom.pack == 1 else "i32"
        right = [f.load(kind, lanes, f.pointer(row, v * lanes * size), size)
                 for v in range(at.vectors)]  # fmt: skip
        out = list(c)
        for r in range(at.height):
            x = f.splat(f.load(kind, 1, w.address(rows[r], (i,), (size,)), 1), lanes)
            for v in range(at.vectors):
                i_out = r * at.vectors + v
                out[i_out] = multiply_add(w, atom, x, right[v], c[i_out])
        return out

    start = _starts(w, atom, left, rows, w.f.times(k, atom.pack), at.vectors)
    _add(w, atom, at, to, f.carry(0, k, 1, start, step))


def _fetched(w: Writer, left: _Left, rows: list[V], k: Number, of: tuple[Atom, _Corner],
             to: Target) -> V | None:  # fmt: skip
    """Ask for the vectors of the accumulator, which are read at the end; where rows further on
    begin, if they lie one after the other. Where L1 does not hold both, 256 rows are 1.14 times as
    fast so, on emeraldrapids."""
    (atom, at), f = of, w.f
    sizes = (to.buffer.pitch * atom.size, w.lanes * atom.size)
    if to.buffer.shape[0] * (left.rows.stride + sizes[0]) <= NEAR:
        return None
    for r in range(at.height):
        place = w.address(to.buffer.at, (f.plus(at.m, r), at.first), sizes)
        for v in range(at.vectors):
            f.prefetch(f.pointer(place, v * w.lanes * atom.size))
    used = left.rows.stride - SUM * left.rows.summed
    if not (isinstance(k, int) and used == k * atom.size):
        return None
    return f.pointer(rows[0], FURTHER * at.height * left.rows.stride)


def _starts(w: Writer, atom: Atom, left: _Left, rows: list[V], k: Number,
            vectors: int) -> list[V]:  # fmt: skip
    """What sums start from, for every vector of each row."""
    if not left.offset:
        return [constant(atom.kind, 0, w.lanes)] * len(rows) * vectors
    found = corrections(w, left.rows, rows, k, left.offset)
    return [start for start in found for _ in range(vectors)]


def _add(w: Writer, atom: Atom, at: _Corner, to: Target, sums: list[V]) -> None:
    """Put sums, each times the scales of its column and row, onto the accumulator's vectors."""
    f, lanes, size = w.f, w.lanes, atom.size
    scales = [to.scales(w, (at.first + v) * lanes, size) for v in range(at.vectors)]
    beside: list[V | None] = [None] * at.height
    if to.row_scale is not None:
        beside = [f.splat(f.load(to.kind, 1, w.address(to.row_scale.at, (f.plus(at.m, r),),
                                                       (size,)), size), lanes)
                  for r in range(at.height)]  # fmt: skip
    sizes = (to.buffer.pitch * size, lanes * size)
    for i, v in enumerate(sums):
        r, column = divmod(i, at.vectors)
        place = w.address(to.buffer.at, (f.plus(at.m, r), at.first + column), sizes)
        if to.start is None:
            before = f.load(to.kind, lanes, place, size)
        else:
            index = f.plus(at.m, r), (at.first + column) * lanes
            before = to.start.at(index, lanes)
        f.store(scaled(w.f, atom.kind, to.kind, before, v, scales[column], beside[r]), place, size)


def _direct(w: Writer, atom: Atom, left: _Left, decoder: _Decoder, rows: Number,
            to: Target, side: RegisterTile, whole: digits.Whole | None) -> None:  # fmt: skip
    """Few rows: each vector is decoded into a register and used at once."""
    columns = to.buffer.pitch // w.lanes
    most = side.rows if isinstance(rows, int) else min(side.rows, to.buffer.shape[0])
    if isinstance(decoder, Turning):

        def vector(at: V) -> None:
            own, there = decoder.beyond(at), to.beyond(w, at, atom.size)
            w.f.blocks(rows, most, lambda m, tall: _direct_tile(
                w, atom, left, own, _Corner(m, tall, 0, 1), there), exact=True)  # fmt: skip

        w.f.loop(0, columns * w.lanes, w.lanes, vector)
        return
    for first in range(0, columns, side.vectors):
        vectors = min(side.vectors, columns - first)

        def block(m: Number, tall: int, first: int = first, vectors: int = vectors) -> None:
            corner = _Corner(m, tall, first, vectors)
            if whole is None:
                _direct_tile(w, atom, left, decoder, corner, to)
                return
            lines = [whole.rows.row(w, w.f.plus(m, r)) for r in range(tall)]
            columns = range(first * w.lanes, (first + vectors) * w.lanes, w.lanes)
            sums = partial(digits.sums, w, whole, lines, columns)
            other = partial(_direct_tile, w, atom, left, decoder, corner, to)
            add = partial(_add, w, SINGLE, corner, to)
            digits.unless_usual(w, lines, whole.deep, lambda: add(sums()), other)

        w.f.blocks(rows, most, block, exact=most <= EXPANDED)


def _direct_tile(w: Writer, atom: Atom, left: _Left, decoder: _Decoder, at: _Corner,
                 to: Target) -> None:  # fmt: skip
    f, n, k = w.f, at.height * at.vectors, decoder.panel.k
    deep = max(2, atom.pack)
    most = min(CHAINS, registers(w.features) // 2)
    steps = k // deep if isinstance(k, int) else most * SHORT
    chains = max(1, min(most // n, steps // SHORT))
    rows = left.at(w, at.m, at.height)
    columns = [(at.first + v) * w.lanes for v in range(at.vectors)]

    def one(of: Round, c: list[V]) -> list[V]:
        xs = [w.address(row, (of.number,), (atom.bytes(decoder.deep),)) for row in rows]
        vectors = [decoder.vectors(of, column) for column in columns]
        out = list(c)
        for t in range(decoder.deep // deep):
            for column in columns:
                decoder.fetch(of, t, decoder.deep // deep, column)
            chain = t % chains * n
            for v in range(at.vectors):
                for half, b in enumerate(vectors[v](t)):
                    for r in range(at.height):
                        x = _broadcast(w, atom, xs[r], deep * t + half)
                        i = chain + r * at.vectors + v
                        out[i] = multiply_add(w, atom, x, b, out[i])
        return out

    zero = constant(atom.kind, 0, w.lanes)
    begin = _starts(w, atom, left, rows, f.times(decoder.count, decoder.deep), at.vectors)
    parts = decoder.loop([*begin, *[zero] * (n * (chains - 1))], one, columns)
    sums = parts[:n]
    for chain in range(1, chains):
        sums = [f.binary("fadd" if atom.kind == "float" else "add", s, parts[chain * n + i])
                for i, s in enumerate(sums)]  # fmt: skip
    _add(w, atom, at, to, sums)


def _broadcast(w: Writer, atom: Atom, row: V, k: int) -> V:
    """The value (or the pair) of k in every lane."""
    kind = atom.kind if atom.pack == 1 else "i32"
    return w.f.splat(w.f.load(kind, 1, w.f.pointer(row, atom.bytes(k)), 1), w.lanes)


def _decode(w: Writer, atom: Atom, decoder: _Decoder, to: V, pitch: int) -> None:
    """A whole panel into rows of k (of pairs, of fours), for many rows to read."""
    f, deep = w.f, max(2, atom.pack)
    lines, sizes = deep // atom.pack, (decoder.deep // atom.pack * pitch * atom.size, atom.size)
    columns = range(0, pitch, w.lanes)

    def one(of: Round, c: list[V]) -> list[V]:
        for column in columns:
            decoder.fetch(of, 0, 1, column)
        vectors = [decoder.vectors(of, v) for v in columns]
        rows = [w.address(to, (of.number, v), sizes) for v in columns]
        for i, t in _order(decoder, len(columns), decoder.deep // deep):
            for half, b in enumerate(vectors[i](t)):
                line = lines * t + half
                f.store(b, f.pointer(rows[i], line * pitch * atom.size), atom.size)
        return c

    decoder.loop([], one, columns)


def _order(decoder: _Decoder, vectors: int, steps: int) -> list[tuple[int, int]]:
    """The vectors and steps of a round: vector by vector, or as they lie in a stream of values."""
    if isinstance(decoder, Expanding):
        return [(v, t) for t in range(steps) for v in range(vectors)]
    return [(v, t) for v in range(vectors) for t in range(steps)]
