"""Operands: what each kind reads for a set of threads, and where a result goes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import F16, UINT, Array, encode
from tilec.ptx.threads import Threads, each


class Operand:
    """One operand; most kinds can only be read."""

    def bits(self, t: Threads, width: int) -> Any:
        """The unsigned bits of the operand for each thread; bool for width 1. May be one scalar."""
        raise TileError(f"ptx: {self} can't be read as a value")

    def put(self, t: Threads, bits: Any) -> None:
        """Set it. Signed arrays are sign-extended to a wider register, others zero-extended."""
        raise TileError(f"ptx: {self} can't be written")


@dataclass(frozen=True)
class Register(Operand):
    """A virtual register: its row in the register file and its width (1: a predicate)."""

    name: str
    width: int
    slot: int

    def __str__(self) -> str:
        return self.name

    def bits(self, t: Threads, width: int) -> Any:
        flying = t.registers.flying
        if self.slot in flying and flying[self.slot][t.index].any():
            t.registers.touched.append(self.slot)
        row = t.rows[self.slot][t.index]
        return row if width == self.width else row.astype(UINT[width] if width > 1 else bool)

    def put(self, t: Threads, bits: Any) -> None:
        t.rows[self.slot][t.index] = bits
        if self.slot in t.registers.flying:
            t.registers.flying[self.slot][t.index] = 0
        if self.slot in t.registers.unfenced:
            t.registers.unfenced[self.slot][t.index] = True


@dataclass(frozen=True)
class Negated(Operand):
    """`!p`."""

    register: Register

    def __str__(self) -> str:
        return f"!{self.register}"

    def bits(self, t: Threads, width: int) -> Any:
        return ~self.register.bits(t, width)


@dataclass(frozen=True)
class Sink(Operand):
    """`_`: a result that nobody wants."""

    def __str__(self) -> str:
        return "_"

    def put(self, t: Threads, bits: Any) -> None:
        return None


@dataclass(frozen=True)
class Constant(Operand):
    """A number as it is written; its bits depend on the width that is asked for."""

    text: str

    def __str__(self) -> str:
        return self.text

    def bits(self, t: Threads, width: int) -> Any:
        return _constant(self.text, width)

    @property
    def number(self) -> int:
        """The integer that it is."""
        return integer(self.text)


@dataclass(frozen=True)
class Special(Operand):
    """`%tid.x` and its like."""

    name: str

    def __str__(self) -> str:
        return self.name

    def bits(self, t: Threads, width: int) -> Any:
        return t.special(self.name).astype(UINT[width])


@dataclass(frozen=True)
class Symbol(Operand):
    """The address of a variable in its state space, plus an offset."""

    name: str
    space: str
    offset: int = 0

    def __str__(self) -> str:
        return self.name

    def bits(self, t: Threads, width: int) -> Any:
        return UINT[width](t.symbols[self.name] + self.offset)


@dataclass(frozen=True)
class Vector(Operand):
    """`{a, b, ...}`."""

    parts: tuple[Operand, ...]

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.parts)) + "}"


@dataclass(frozen=True)
class Pair(Operand):
    """`d|p`: two results."""

    first: Operand
    second: Operand

    def __str__(self) -> str:
        return f"{self.first}|{self.second}"


@dataclass(frozen=True)
class Address(Operand):
    """`[base + offset]`; a tensor address also has coordinates."""

    base: Operand
    offset: int = 0
    coordinates: tuple[Operand, ...] = ()

    def __str__(self) -> str:
        offset = f"+{self.offset}" if self.offset else ""
        return f"[{self.base}{offset}]"

    def of(self, t: Threads, width: int = 64) -> Array:
        """The address of every thread, as int64."""
        return each(self.base.bits(t, width), t.count).astype(np.int64) + self.offset


@dataclass(frozen=True)
class Label(Operand):
    """A place to branch to, or a list of places."""

    name: str
    targets: tuple[int, ...]

    def __str__(self) -> str:
        return self.name


def integer(text: str) -> int:
    """The value of an integer literal: decimal, 0x, 0b, octal with a leading 0, suffix U."""
    digits = text.rstrip("U")
    body = digits.lstrip("+-")
    octal = len(body) > 1 and body[0] == "0" and body[1:].isdigit()
    try:
        return int(digits.replace(body, f"0o{body[1:]}") if octal else digits, 0)
    except ValueError:
        raise TileError(f"ptx: {text!r} is no whole number") from None


@lru_cache(maxsize=4096)
def _constant(text: str, width: int) -> Any:
    if width == 1:
        return np.bool_(integer(text) != 0)
    head = text[:2].lower()
    if head == "0f":
        return _float(struct.unpack(">f", bytes.fromhex(text[2:].zfill(8)))[0], width)
    if head == "0d":
        return _float(struct.unpack(">d", bytes.fromhex(text[2:].zfill(16)))[0], width)
    if head != "0x" and ("." in text or "e" in text.lower()):
        return _float(float(text), width)
    return UINT[width](integer(text) & ((1 << width) - 1))


def _float(value: float, width: int) -> Any:
    match width:
        case 64:
            return np.float64(value).view(np.uint64)
        case 32:
            return np.float32(value).view(np.uint32)
        case 16:
            return encode(np.asarray(value), F16)[()]
        case _:
            raise TileError(f"ptx: no floating-point constant has {width} bits")
