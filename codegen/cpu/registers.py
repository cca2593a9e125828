"""Tiles of an accumulator that are summed up in registers: how large, and where narrow ones pay."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.codegen.cpu.atoms import Atom
from tilec.codegen.cpu.llvm import Number
from tilec.ir.choices import Choices
from tilec.ir.errors import TileError

SHARE = 3, 4  # of the registers that sum up a tile: 6 rows of 4 vectors of 32
VECTORS = {32: 4, 16: 2}  # of a tile, by how many registers there are
KEPT = 4  # registers at least for what is multiplied


@dataclass(frozen=True)
class RegisterTile:
    """The most rows and vectors of an accumulator that are summed up in registers at once."""

    rows: int
    vectors: int


@dataclass(frozen=True)
class Narrow:
    """A tile of few vectors, and where it is faster than to decode into memory."""

    vectors: int
    rows: range
    packs: tuple[int, ...]  # of instructions on floats
    deep: int  # k's of a round, at most
    step: int  # and of a step, at least

    def suits(self, atom: Atom, rows: int, deep: int, k: Number) -> bool:
        """Whether it is faster for so many rows, in rounds of `deep` of k."""
        long = not isinstance(k, int) or k >= self.step
        fits = rows in self.rows and deep <= self.deep
        return fits and long and atom.kind == "float" and atom.pack in self.packs


# Measured on Zen 5, one thread, operands in L2. Codes of 2 to 8 bits with bf16: 1.14 to 1.57 times
# as fast for 7 and 8 rows; for 12 to 24 rows, also with f32, 1.02 to 1.27 (0.97 in steps of 16).
# Longer rounds and more sums are more than registers hold: from 0.25 times as fast. Products of
# bytes, whose codes need less decoding: 0.7 to 0.85.
NARROW = Narrow(2, range(1, 9), (2,), 32, 1), Narrow(1, range(12, 25), (1, 2), 16, 32)


def registers(features: frozenset[str]) -> int:
    """How many vector registers a processor has."""
    return 32 if "avx512bw" in features else 16


def register_tile(choices: Choices, features: frozenset[str]) -> RegisterTile:
    """The chosen one, or what fills the share of the registers. Raises TileError for one that has
    no room in registers."""
    count = registers(features)
    share = count * SHARE[0] // SHARE[1]
    vectors = choices.vectors or max(1, min(VECTORS[count], share // max(1, choices.rows)))
    rows = choices.rows or max(1, share // vectors)
    if rows * vectors > count - KEPT:
        raise TileError(
            f"a schedule: a register tile of {rows} rows and {vectors} vectors takes "
            f"{rows * vectors} registers, expected at most {count - KEPT} of {count}"
        )
    return RegisterTile(rows, vectors)


def narrow_tile(choices: Choices, features: frozenset[str], atom: Atom, rows: int, deep: int,
                k: Number) -> RegisterTile | None:  # fmt: skip
    """The tile that all rows fit in whose vectors are decoded where they are used, if it is the
    faster way and no other was chosen."""
    if choices.rows or choices.vectors or registers(features) == 16:
        return None
    found = next((n for n in NARROW if n.suits(atom, rows, deep, k)), None)
    return found and RegisterTile(rows, found.vectors)
