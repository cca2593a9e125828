"""The multiply-add instructions of processors, and first operands in the order they read."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V
from tilec.codegen.cpu.tiles import Writer
from tilec.ir.dtype import DType, bf16, f32, i32, integer
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

    Each row is padded with zeros to whole steps of the code that reads it, and its sum follows
    where rows are `summed`.
    """

    at: V
    stride: int  # bytes from one row to the next
    summed: bool = False

    def row(self, w: Writer, m: Number) -> V:
        """The address of a row."""
        return w.address(self.at, (m,), (self.stride,))


PAIRS = Atom("float", 2)  # bf16; a number too small for a normal one counts as 0
SINGLE = Atom("float", 1)  # or what a float holds
BYTES = Atom("i32", 4)  # signed bytes times unsigned ones
SIXTEENS = Atom("i32", 2)  # signed 16-bit numbers
BITS = Atom("i32", 32)  # zeros and ones: the ones of an AND are counted
_SUMS = {  # sums of two products of i16, modulo 2**32
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}
QUADS = frozenset({"avx512vnni", "avx512vbmi"})  # products of bytes, and any byte of a lane
BIT = integer(1, signed=False)
# Processors that take as long for a product of pairs as for four of floats, so that floats are
# multiplied twice as fast: measured on emeraldrapids (209 and 428 GFLOP/s on two cores; a Zen 5
# 1010 and 485). sapphirerapids has the same cores; of others nothing is known to us.
HALVED = frozenset({"sapphirerapids", "emeraldrapids"})
# Rows that pairs serve at least as well even there; of what is read along k in steps that are parts
# of its rows, which floats would be packed for, some more.
FEW, STEPS = 1, 16


def of_bits(atom: Atom) -> bool:
    """Whether an instruction multiplies single bits, in whatever order."""
    return atom.pack == BITS.pack


def exact_in_bf16(t: DType) -> bool:
    """Whether every value of a dtype is a bf16."""
    return bf16.holds(t) or (t.is_integer and t.bits <= 8)


def exact_in_i16(t: DType) -> bool:
    """Whether every value of a dtype is a 16-bit signed integer."""
    return t.is_integer and t.bits <= (16 if t.kind == "int" else 15)


def pairs(cpu: str, features: Container[str]) -> bool:
    """Whether a processor multiplies many rows of bf16 as pairs, not as floats."""
    return "avx512bf16" in features and cpu not in HALVED


def _paired(w: Writer, rows: int, steps: bool) -> bool:
    """Whether so many rows of bf16 are multiplied as pairs, not as floats."""
    few = rows <= (STEPS if steps else FEW)
    return "avx512bf16" in w.features if few else pairs(w.cpu, w.features)


def choose(w: Writer, a: DType, b: DType, acc: DType, rows: int, steps: bool) -> Atom:
    """The instruction for these operands on this machine, where the first has at most so many
    rows, and the second is read in `steps` along its own rows, or not."""
    if a == b == BIT and acc in (i32, f32):
        return BITS
    if acc in (i32, f32) and whole_bytes(a, b):
        signed = a.kind == "int" and w.lanes == 16 and w.features >= QUADS
        return BYTES if signed else SIXTEENS
    paired = acc == f32 and _paired(w, rows, steps)
    if paired and exact_in_bf16(a) and exact_in_bf16(b):
        return PAIRS
    if acc == i32 and exact_in_i16(a) and exact_in_i16(b):
        return SIXTEENS
    return Atom(numbers.register(acc), 1)


def multiply_add(w: Writer, atom: Atom, a: V, b: V, c: V) -> V:
    """c + a * b, lane by lane, of vectors of the instruction's operands."""
    f = w.f
    if of_bits(atom):
        return f.binary("add", c, f.intrinsic("ctpop", f.binary("and", a, b)))
    if atom == BYTES:
        x, y = f.recast(a, "i8", 4 * w.lanes), f.recast(b, "i8", 4 * w.lanes)
        return f.call("llvm.x86.avx512.vpdpbusd.512", "i32", w.lanes, c, y, x)
    if atom == SIXTEENS:
        x, y = f.recast(a, "i16", 2 * w.lanes), f.recast(b, "i16", 2 * w.lanes)
        if w.lanes == 16 and "avx512vnni" in w.features:
            return f.call("llvm.x86.avx512.vpdpwssd.512", "i32", w.lanes, c, x, y)
        return f.binary("add", c, f.call(_SUMS[w.lanes], "i32", w.lanes, x, y))
    if atom.pack == 2:
        x, y = f.recast(a, "bfloat", 2 * w.lanes), f.recast(b, "bfloat", 2 * w.lanes)
        return f.call("llvm.x86.avx512bf16.dpbf16ps.512", "float", w.lanes, c, x, y)
    if atom.kind in ("float", "double"):
        return f.intrinsic("fma", a, b, c)
    return f.binary("add", f.binary("mul", a, b), c)
