"""The multiply-add instructions of processors, and first operands in the order they read."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V
from tilec.codegen.cpu.tiles import Writer
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f32, i32
from tilec.ir.ops.reduce import whole_bytes


@dataclass(frozen=True)
class Atom:
    """One multiply-add instruction: `pack` values of k to a lane of `kind`."""

    kind: str
    pack: int

    @property
    def size(self) -> int:
        """Bytes of a lane."""
        return 8 if self.kind in ("double", "i64") else 4

    @property
    def item(self) -> int:
        """Bytes of a value of k."""
        return self.size // self.pack


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


BYTES = Atom("i32", 4)  # signed bytes times unsigned ones
SIXTEENS = Atom("i32", 2)  # signed 16-bit numbers
QUADS = frozenset({"avx512vnni", "avx512vbmi"})  # products of bytes, and any byte of a lane


def exact_in_bf16(t: DType) -> bool:
    """Whether every value of a dtype is a bf16."""
    return t in (bf16, e4m3, e5m2) or (t.is_integer and t.bits <= 8)


def exact_in_i16(t: DType) -> bool:
    """Whether every value of a dtype is a 16-bit signed integer."""
    return t.is_integer and t.bits <= (16 if t.kind == "int" else 15)


def choose(w: Writer, a: DType, b: DType, acc: DType) -> Atom:
    """The instruction for these operands on this machine."""
    if acc in (i32, f32) and whole_bytes(a, b):
        signed = a.kind == "int" and w.lanes == 16 and w.features >= QUADS
        return BYTES if signed else SIXTEENS
    if acc == f32 and "avx512bf16" in w.features and exact_in_bf16(a) and exact_in_bf16(b):
        return Atom("float", 2)
    if acc == i32 and exact_in_i16(a) and exact_in_i16(b):
        return SIXTEENS
    return Atom(numbers.register(acc), 1)
