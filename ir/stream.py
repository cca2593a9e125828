"""Streams: matrices of codes in the order in which code for wide vectors reads them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tilec.ir.bits import aligned, from_raw, raw, restored, stored
from tilec.ir.dtype import Array, DType
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts, Scaled

COLUMNS, LANES = 64, 16  # outputs of a block; of a vector of 32-bit lanes


@dataclass(frozen=True)
class Plane:
    """Some bits of every code: `bits` of them, from bit `low` of the code on."""

    bits: int
    low: int

    @property
    def codes(self) -> int:
        """Codes in a 16-bit half of a lane."""
        return 16 // self.bits


def planes(bits: int) -> tuple[Plane, ...]:
    """A width as planes of 8, 4, 2 and 1 bits, the widest (lowest bits) first."""
    out: list[Plane] = []
    low = 0
    for width in (8, 4, 2, 1):
        if bits - low >= width:
            out.append(Plane(width, low))
            low += width
    return tuple(out)


@dataclass(frozen=True)
class Stream:
    """A scaled matrix [N, K] in the order in which code for wide vectors reads it.

    64 rows of the matrix (columns of a product x w') are a block, its vector lanes. A block is a
    sequence of records, one a group; a record is units of codes, then the group's scales and
    zeros, one for each of the 64. A lane has 32 bits: the low half for even k, the high for odd,
    each with as many codes as fit. Widths that do not divide 16 are split into planes.

    A stack of matrices [E, N, K] lies as one of E * N rows, if N is a multiple of 64.
    """

    @staticmethod
    def fits(format: Format, shape: tuple[int, ...]) -> bool:
        """Whether a tensor can be stored so."""
        if not isinstance(format, Scaled) or 0 in shape:
            return False
        return len(shape) == 2 or (len(shape) == 3 and shape[1] % COLUMNS == 0
                                   and _by_rows(format, shape))  # fmt: skip

    def of(self, format: Format, shape: tuple[int, ...]) -> Records:
        """The numbers of the layout for one tensor."""
        assert isinstance(format, Scaled)
        n, k = flat(shape)
        inline = tuple((c.name, c.dtype) for c in format.components((n, k)) if _inline(format, c))
        return Records(format.codes, n, k, format.block.group or k, inline)

    def _apart(self, format: Format, shape: tuple[int, ...]) -> list[Component]:
        """The components that are arrays of their own."""
        assert isinstance(format, Scaled)
        return [c for c in format.components(flat(shape))[1:] if not _inline(format, c)]

    def arrays(self, format: Format, shape: tuple[int, ...]) -> int:
        """How many arrays there are."""
        return 1 + len(self._apart(format, shape))

    def place(self, format: Format, component: str) -> int:
        """Which array a component is in."""
        apart = [c.name for c in self._apart(format, (1, 1))]
        return apart.index(component) + 1 if component in apart else 0

    def records(self, format: Format, shape: tuple[int, ...], component: str) -> Records | None:
        """How a component lies in its array, if that is not plain."""
        for c in self._apart(format, shape):
            if c.name == component:
                return beside(c, flat(shape))
        return self.of(format, shape)

    def pack(self, format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
        """Components in their carriers as bytes."""
        whole = format.components(flat(shape))
        parts = {c.name: parts[c.name].reshape(_known(c)) for c in whole}
        out = [self.of(format, shape).pack(parts)]
        for c in self._apart(format, shape):
            records = beside(c, flat(shape))
            out.append(stored(c, parts[c.name]) if records is None else records.pack(parts))
        return out

    def unpack(self, format: Format, arrays: list[Array], shape: tuple[int, ...]) -> Parts:
        """The components again."""
        parts = self.of(format, shape).unpack(arrays[0])
        for c, a in zip(self._apart(format, shape), arrays[1:], strict=True):
            records = beside(c, flat(shape))
            parts |= {c.name: restored(c, a)} if records is None else records.unpack(a)
        return {c.name: parts[c.name].reshape(_known(c)) for c in format.components(shape)}


def flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of the matrix that a stack of matrices is, one below the other."""
    return prod(shape[:-1]), shape[-1]


def _known(c: Component) -> tuple[int, ...]:
    return tuple(int(str(d)) for d in c.shape)


def _by_rows(format: Scaled, shape: tuple[int, ...]) -> bool:
    """Whether what a stack of matrices has is what the matrix of all their rows has."""
    pairs = zip(format.components(shape), format.components(flat(shape)), strict=True)
    return all(a.shape == b.shape or (a.shape[:2] == shape[:2] and a.shape[2:] == b.shape[1:])
               for a, b in pairs)  # fmt: skip


def _inline(format: Scaled, c: Component) -> bool:
    """Whether a component has one element for each record and column: it then lies beside them."""
    names = [f"{name}.codes" if isinstance(inner, Scaled) else name
             for name, inner in format.numbers().items()]  # fmt: skip
    return format.block.group is not None and c.name in names


def beside(c: Component, shape: tuple[int, ...]) -> Records | None:
    """A component [N, blocks] as records without codes: the columns of a vector are neighbours."""
    if len(c.shape) != 2 or c.shape[0] != shape[0]:
        return None
    return Records(None, shape[0], int(str(c.shape[1])), 1, ((c.name, c.dtype),))


@dataclass(frozen=True)
class Records:
    """A stream's numbers: `depth` k's a record, and the components that follow its codes if it has
    any."""

    codes: DType | None
    n: int
    k: int
    depth: int
    inline: tuple[tuple[str, DType], ...]

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes of its codes."""
        return planes(self.codes.bits) if self.codes else ()

    @property
    def unit(self) -> int:
        """k's of a unit: whole 16-bit halves in every plane."""
        return 2 * max((p.codes for p in self.planes), default=0)

    @property
    def units(self) -> int:
        """Units of a record; the last may end in codes of 0."""
        return -(-self.depth // self.unit) if self.planes else 0

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit of codes, 64 columns wide."""
        return self.unit * COLUMNS * sum(p.bits for p in self.planes) // 8

    def words(self, plane: Plane) -> int:
        """Lanes of a plane one after the other in k, of a unit and a column."""
        return self.unit // 2 // plane.codes

    def plane_offset(self, plane: Plane) -> int:
        """Bytes from the start of a unit to a plane."""
        return self.unit * COLUMNS * plane.low // 8

    def inline_offset(self, name: str) -> int:
        """Bytes from the start of a record to the 64 elements of an inline component."""
        at = self.units * self.unit_bytes
        for other, t in self.inline:
            if other == name:
                return at
            at += COLUMNS * t.numpy.itemsize
        raise KeyError(name)

    @property
    def record_bytes(self) -> int:
        """Bytes from one record to the next."""
        tail = sum(COLUMNS * t.numpy.itemsize for _, t in self.inline)
        return self.units * self.unit_bytes + tail

    @property
    def groups(self) -> int:
        """Records of a block."""
        return -(-self.k // self.depth)

    @property
    def block_bytes(self) -> int:
        """Bytes from one block of 64 columns to the next."""
        return self.groups * self.record_bytes

    @property
    def blocks(self) -> int:
        """Blocks of 64 columns; the last may end in columns of 0."""
        return -(-self.n // COLUMNS)

    def pack(self, parts: Parts) -> Array:
        """The stream: bytes[blocks * groups * record_bytes]."""
        out = aligned(self.blocks * self.block_bytes)
        records = out.reshape(self.blocks, self.groups, self.record_bytes)
        if self.codes is not None:
            self._pack_codes(records, raw(self.codes, parts["codes"]))
        for name, t in self.inline:
            per = np.zeros((self.blocks * COLUMNS, self.groups), t.numpy)
            per[: self.n] = t.to_storage(parts[name])
            turned = per.reshape(self.blocks, COLUMNS, self.groups).swapaxes(1, 2)
            data = np.ascontiguousarray(turned).view(np.uint8)
            at = self.inline_offset(name)
            records[..., at : at + data.shape[-1]] = data
        return out

    def _pack_codes(self, records: Array, codes: Array) -> None:
        padded = self._padded(codes)
        units = records[..., : self.units * self.unit_bytes]
        units = units.reshape(self.blocks, self.groups, self.units, self.unit_bytes)
        for plane in self.planes:
            words = self._words(padded, plane)
            at = self.plane_offset(plane)
            units[..., at : at + words.shape[-1]] = words
        records[..., : self.units * self.unit_bytes] = units.reshape(*records.shape[:2], -1)

    def _padded(self, codes: Array) -> Array:
        """Raw codes [blocks, vector, lane, group, unit, pair, half]."""
        deep = self.units * self.unit
        whole = np.zeros((self.blocks * COLUMNS, self.groups * self.depth), np.uint8)
        whole[: self.n, : self.k] = codes
        padded = np.zeros((self.blocks * COLUMNS, self.groups, deep), np.uint8)
        padded[..., : self.depth] = whole.reshape(-1, self.groups, self.depth)
        vectors = COLUMNS // LANES
        return padded.reshape(
            self.blocks, vectors, LANES, self.groups, self.units, self.unit // 2, 2
        )

    def _words(self, codes: Array, plane: Plane) -> Array:
        """The bytes of a plane [blocks, groups, units, bytes]."""
        fields = (codes >> plane.low & (1 << plane.bits) - 1).astype(np.uint16)
        split = fields.reshape(*codes.shape[:5], self.words(plane), plane.codes, 2)
        word = np.zeros((*split.shape[:6], 2), np.uint16)
        for j in range(plane.codes):
            word |= split[..., j, :] << np.uint16(plane.bits * j)
        ordered = np.ascontiguousarray(word.transpose(0, 3, 4, 5, 1, 2, 6))
        return ordered.view(np.uint8).reshape(self.blocks, self.groups, self.units, -1)

    def unpack(self, stream: Array) -> Parts:
        """The codes and inline components, in their carriers."""
        records = stream.reshape(self.blocks, self.groups, self.record_bytes)
        parts: Parts = {}
        if self.codes is not None:
            units = records[..., : self.units * self.unit_bytes]
            units = units.reshape(self.blocks, self.groups, self.units, self.unit_bytes)
            codes = sum(self._fields(units, plane) << plane.low for plane in self.planes)
            parts["codes"] = from_raw(self.codes, np.asarray(codes)[: self.n, : self.k])
        for name, t in self.inline:
            at = self.inline_offset(name)
            width = COLUMNS * t.numpy.itemsize
            per = np.ascontiguousarray(records[..., at : at + width]).view(t.numpy)
            whole = per.swapaxes(1, 2).reshape(-1, self.groups)
            parts[name] = t.from_storage(whole[: self.n])
        return parts

    def _fields(self, units: Array, plane: Plane) -> Array:
        """The bits of a plane [rows, k], padding between groups removed."""
        at, words = self.plane_offset(plane), self.words(plane)
        halves = np.ascontiguousarray(units[..., at : at + words * 4 * COLUMNS]).view(np.uint16)
        word = halves.reshape(*units.shape[:3], words, COLUMNS, 2)
        split = np.stack([word >> plane.bits * j & (1 << plane.bits) - 1
                          for j in range(plane.codes)], axis=4)  # fmt: skip
        ordered = split.transpose(0, 5, 1, 2, 3, 4, 6).astype(np.int64)
        rows = ordered.reshape(self.blocks * COLUMNS, self.groups, self.units * self.unit)
        return rows[..., : self.depth].reshape(self.blocks * COLUMNS, -1)
