"""The multiply-add instructions of processors, and first operands in the order they read."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V
from tilec.codegen.cpu.tiles import Writer
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f32, i32, integer
from tilec.ir.ops.reduce import whole_bytes


@dataclass(frozen=True)
class Atom:
    """One multiply-add instruction: `pack` values of k to a lane of `kind`.

    The values of a lane of BITS stand in the order of a stream's plane of `width` bits: word after
    word, each with a bit of every code, those of even k in the low half. `place` says where.
    """

    kind: str
    pack: int
    width: int = 1

    @property
    def size(self) -> int:
        """Bytes of a lane."""
        return 8 if self.kind in ("double", "i64") else 4

    def bytes(self, k: int) -> int:
        """Bytes of so many values of k that fill whole bytes."""
        return k * self.size // self.pack

    def place(self, k: int) -> int:
        """Which bit of a lane of BITS the k-th of its 32 values is."""
        word, within = divmod(k, self.pack // self.width)
        return 16 * (within % 2) + within // 2 * self.width + word


@dataclass(frozen=True)
class Rows:
    """A first operand in memory as the instruction reads it: k after k, row after row.

    Each row is padded with zeros to whole steps of the code that reads it.
    """

    at: V
    stride: int  # bytes from one row to the next

    def row(self, w: Writer, m: Number) -> V:
        """The address of a row."""
        return w.address(self.at, (m,), (self.stride,))


PAIRS = Atom("float", 2)  # bf16; a number too small for a normal one counts as 0
BYTES = Atom("i32", 4)  # signed bytes times unsigned ones
SIXTEENS = Atom("i32", 2)  # signed 16-bit numbers
BITS = Atom("i32", 32)  # zeros and ones: the ones of an AND are counted
QUADS = frozenset({"avx512vnni", "avx512vbmi"})  # products of bytes, and any byte of a lane
BIT = integer(1, signed=False)


def of_bits(atom: Atom) -> bool:
    """Whether an instruction multiplies single bits, in whatever order."""
    return atom.pack == BITS.pack


def exact_in_bf16(t: DType) -> bool:
    """Whether every value of a dtype is a bf16."""
    return t in (bf16, e4m3, e5m2) or (t.is_integer and t.bits <= 8)


def exact_in_i16(t: DType) -> bool:
    """Whether every value of a dtype is a 16-bit signed integer."""
    return t.is_integer and t.bits <= (16 if t.kind == "int" else 15)


def decoded_to(w: Writer, atom: Atom) -> Atom:
    """The instruction for codes that are decoded in registers, which may be floats as well as pairs
    of bf16.

    Processors of which vectors of f16 are a feature do one product of pairs in two cycles, beside
    four multiply-adds of half as many values (measured on an Emerald Rapids); others two a cycle,
    or one beside one (Zen 5, Zen 4).
    """
    return Atom("float", 1) if atom == PAIRS and "avx512fp16" in w.features else atom


def choose(w: Writer, a: DType, b: DType, acc: DType) -> Atom:
    """The instruction for these operands on this machine."""
    if a == b == BIT and acc in (i32, f32):
        return BITS
    if acc in (i32, f32) and whole_bytes(a, b):
        signed = a.kind == "int" and w.lanes == 16 and w.features >= QUADS
        return BYTES if signed else SIXTEENS
    if acc == f32 and "avx512bf16" in w.features and exact_in_bf16(a) and exact_in_bf16(b):
        return PAIRS
    if acc == i32 and exact_in_i16(a) and exact_in_i16(b):
        return SIXTEENS
    return Atom(numbers.register(acc), 1)
