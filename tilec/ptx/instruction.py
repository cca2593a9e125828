"""An instruction of PTX, as written and as understood."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ptx.operand import Operand, Register
from tilec.ptx.place import Place
from tilec.ptx.types import Type


@dataclass(frozen=True, eq=False)
class Draft:
    """An instruction as it is written: its dotted opcode and its operands."""

    opcode: str
    operands: tuple[Operand, ...]
    place: Place
    text: str
    guard: Register | None = None
    negated: bool = False


@dataclass(frozen=True, eq=False)
class Instruction:
    """An instruction whose modifiers and types are known to fit; `pc` counts instructions."""

    pc: int
    name: str
    modifiers: frozenset[str]
    types: tuple[Type, ...]
    operands: tuple[Operand, ...]
    place: Place
    text: str
    guard: Register | None = None
    negated: bool = False

    def one_of(self, *names: str) -> str:
        """The one modifier of a choice that it has, or an empty string."""
        return next((n for n in names if n in self.modifiers), "")

    @property
    def rounding(self) -> str:
        """Its rounding of floating-point results; to nearest even unless it says otherwise."""
        return self.one_of("rn", "rz", "rm", "rp", "rna") or "rn"
