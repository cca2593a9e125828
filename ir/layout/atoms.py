"""Atoms: the multiply-add instructions of every target, as rows of one table.

Lanes of a vector and threads of a warp are both threads of a layout. `first` is the first target
that has an instruction, `native` those where it is one in machine code too: elsewhere ptxas takes
it apart.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from tilec.ir.errors import TileError
from tilec.ir.layout.fragments import (
    mma_a,
    mma_b,
    mma_c,
    mma_metadata,
    wgmma_a,
    wgmma_c,
    wgmma_metadata,
)
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial

Place = Literal["register", "shared", "memory"]
BITS = {
    "f64": 64, "f32": 32, "tf32": 32, "i32": 32, "f16": 16, "bf16": 16, "i16": 16, "e4m3": 8,
    "e5m2": 8, "i8": 8, "u8": 8, "i4": 4, "u4": 4, "u1": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Atom:
    """D[m, n] = C[m, n] + sum over k of A[m, k] * B[k, n], of all threads at once.

    Types have tilec's names (`u1` is PTX's b1). Any of `b_types` goes with any of `c_types`. `.xor`
    means XOR instead of the product. Of a sparse A (`.sp`) half of each chunk is stored, and the
    metadata says which half.
    """

    instruction: str
    m: int
    n: int
    k: int
    a_type: str
    b_types: tuple[str, ...]
    c_types: tuple[str, ...]
    first: str
    native: tuple[str, ...]
    a: RegisterLayout  # of A[m, k], or of m x k/2 if it is sparse
    b: RegisterLayout | None  # of B[k, n]; None where it can't be in registers
    c: RegisterLayout  # of C[m, n] and D
    metadata: RegisterLayout | None = None  # of the 2-bit indices of a sparse A
    a_in: tuple[Place, ...] = ("register",)
    b_in: tuple[Place, ...] = ("register",)

    @property
    def name(self) -> str:
        """mma.m16n8k16.bf16, and the like."""
        return f"{self.instruction}.m{self.m}n{self.n}k{self.k}.{self.a_type}"

    @property
    def threads(self) -> int:
        """Threads, or lanes of a vector, that hold the operands."""
        return self.c.threads

    @property
    def sparse(self) -> bool:
        """Whether A is stored in half of its size."""
        return self.metadata is not None


GPUS = ("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a")
AMPERE, HOPPER, FP8 = ("sm_80", "sm_89"), ("sm_90a",), ("sm_89", "sm_120a")
TO_HOPPER = (*AMPERE, *HOPPER)

# Instruction, m and k of its shapes (n is 8), types, accumulators, first target, where native.
# The sparse ones with `sp::ordered_metadata`: without it indices are sorted first from sm_100 on.
_Warp = tuple[str, str, str, str, str, tuple[str, ...]]
_WARP: tuple[_Warp, ...] = (
    ("mma", "m16k8", "f16", "f32 f16", "sm_75", GPUS),
    ("mma", "m16k16", "f16", "f32 f16", "sm_80", GPUS),
    ("mma", "m16k8 m16k16", "bf16", "f32", "sm_80", GPUS),
    ("mma", "m16k4 m16k8", "tf32", "f32", "sm_80", GPUS),
    ("mma", "m16k16 m16k32", "e4m3 e5m2", "f32 f16", "sm_89", FP8),
    ("mma", "m8k16", "i8 u8", "i32", "sm_75", TO_HOPPER),
    ("mma", "m16k16 m16k32", "i8 u8", "i32", "sm_80", GPUS),
    ("mma", "m8k32", "i4 u4", "i32", "sm_75", AMPERE),
    ("mma", "m16k32 m16k64", "i4 u4", "i32", "sm_80", AMPERE),
    ("mma", "m8k128 m16k128 m16k256", "u1", "i32", "sm_80", TO_HOPPER),
    ("mma.xor", "m8k128", "u1", "i32", "sm_75", AMPERE),
    ("mma.xor", "m16k128 m16k256", "u1", "i32", "sm_80", AMPERE),
    ("mma.sp", "m16k16 m16k32", "f16", "f32 f16", "sm_80", GPUS),
    ("mma.sp", "m16k16 m16k32", "bf16", "f32", "sm_80", GPUS),
    ("mma.sp", "m16k8 m16k16", "tf32", "f32", "sm_80", GPUS),
    ("mma.sp", "m16k64", "e4m3 e5m2", "f32", "sm_89", FP8),
    ("mma.sp", "m16k32 m16k64", "i8 u8", "i32", "sm_80", GPUS),
    ("mma.sp", "m16k64 m16k128", "i4 u4", "i32", "sm_80", AMPERE),
)
# k of wgmma (wgmma.sp has twice that, but not for bits), types, accumulators; m is 64, n is one of
# these.
EVERY_8 = tuple(range(8, 257, 8))
EVERY_16 = (8, 16, 24, *range(32, 257, 16))
_WARPGROUP = (
    (16, "f16", "f32 f16", EVERY_8),
    (16, "bf16", "f32", EVERY_8),
    (8, "tf32", "f32", EVERY_8),
    (32, "e4m3 e5m2", "f32 f16", EVERY_8),
    (32, "i8 u8", "i32", EVERY_16),
    (256, "u1", "i32", EVERY_16),
)
# Of the vector units of x86: instruction, n and k (m is 1), types of A, B and C, feature.
_VECTOR = (
    ("fma", 16, 1, "f32", "f32", "f32", "avx512f"),
    ("fma", 8, 1, "f64", "f64", "f64", "avx512f"),
    ("fma", 8, 1, "f32", "f32", "f32", "fma"),
    ("fma", 4, 1, "f64", "f64", "f64", "fma"),
    ("vdpbf16ps", 16, 2, "bf16", "bf16", "f32", "avx512bf16"),
    ("vpdpwssd", 16, 2, "i16", "i16", "i32", "avx512vnni"),
    ("vpdpbusd", 16, 4, "u8", "i8", "i32", "avx512vnni"),
)


def _warp() -> Iterator[Atom]:
    for instruction, shapes, types, c_types, first, native in _WARP:
        sparse = instruction == "mma.sp"
        for m, k in (map(int, shape[1:].split("k")) for shape in shapes.split()):
            bits = BITS[types.split()[0]]
            a, b, c = mma_a(bits, m, k // 2 if sparse else k), mma_b(bits, k), mma_c(m)
            metadata = mma_metadata(bits, k) if sparse else None
            for a_type in types.split():
                yield Atom(instruction, m, 8, k, a_type, tuple(types.split()),
                           tuple(c_types.split()), first, native, a, b, c, metadata)  # fmt: skip


def _warpgroup() -> Iterator[Atom]:
    accumulators = {n: wgmma_c(n) for n in EVERY_8}
    for k, types, c_types, ns in _WARPGROUP:
        bits = BITS[types.split()[0]]
        a, metadata = wgmma_a(bits, k), None if bits == 1 else wgmma_metadata(bits, 2 * k)
        for a_type, n in itertools.product(types.split(), ns):
            dense = Atom("wgmma", 64, n, k, a_type, tuple(types.split()), tuple(c_types.split()),
                         "sm_90a", HOPPER, a, None, accumulators[n],
                         a_in=("shared", "register"), b_in=("shared",))  # fmt: skip
            yield dense
            if metadata:
                yield replace(dense, instruction="wgmma.sp", k=2 * k, metadata=metadata)


def _vector() -> Iterator[Atom]:
    places: tuple[Place, ...] = ("register", "memory")
    for instruction, n, k, a_type, b_type, c_type, feature in _VECTOR:
        a, b, c = replicated(n) * local(1, k), spatial(1, n).local(k, 1), spatial(1, n)
        yield Atom(instruction, 1, n, k, a_type, (b_type,), (c_type,), feature, (feature,), a, b, c,
                   a_in=places, b_in=places)  # fmt: skip


@cache
def atoms() -> dict[str, Atom]:
    """Every row by its name. Made when first asked for: the layouts of all of them take a while."""
    return {atom.name: atom for atom in (*_warp(), *_warpgroup(), *_vector())}


def atom(name: str) -> Atom:
    """The row of that name. Raises TileError if there is none."""
    if name not in atoms():
        near = difflib.get_close_matches(name, atoms(), 1)
        raise TileError(f"no atom is called {name!r}", hint=f"did you mean {near[0]!r}?" if near
                        else "one is called 'mma.m16n8k16.bf16'")  # fmt: skip
    return atoms()[name]


def fragment(name: str) -> RegisterLayout:
    """The layout of an operand: an atom's name and `.A`, `.B`, `.C`, or `.E` for its metadata."""
    row, _, operand = name.rpartition(".")
    found = atom(row)
    layouts = {"A": found.a, "B": found.b, "C": found.c, "E": found.metadata}
    if operand not in layouts:
        raise TileError(f"{row} has operands A, B, C and E (metadata), not {operand!r}")
    layout = layouts[operand]
    if layout is None:
        raise TileError(f"{row} has no {operand} in registers")
    return layout
