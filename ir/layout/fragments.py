"""What matrix instructions hold in registers: one closed form for each kind of operand.

With g = lane // 4, t = lane % 4, e elements to a register of 32 bits, and element h of register i
(PTX ISA, "Matrix fragments" of mma, mma.sp, wgmma and ldmatrix):

    A[g + 8 * (i % 2), t * e + h + 4 * e * (i // 2)]    B[t * e + h + 4 * e * i, g]
    C[g + 8 * (i // 2), 2 * t + i % 2]

These are checked against the traits of CuTe and, for metadata, against torch's conversion.
"""

from __future__ import annotations

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial

WARPS = spatial(4, 1)  # of a warpgroup: 16 rows each


def mma_a(bits: int, m: int, k: int) -> RegisterLayout:
    """A[m, k] of mma.sync with elements of `bits` bits, or of mma.sp as it is stored, m x k/2."""
    each = 32 // bits
    return local(1, k // (4 * each)).local(m // 8, 1).spatial(8, 4).local(1, each)


def mma_b(bits: int, k: int) -> RegisterLayout:
    """B[k, 8] of mma.sync and mma.sp."""
    each = 32 // bits
    return local(k // (4 * each), 1).spatial(1, 8).spatial(4, 1).local(each, 1)


def mma_c(m: int) -> RegisterLayout:
    """C[m, 8] and D of mma.sync and mma.sp, with accumulators of any width."""
    return local(m // 8, 1).spatial(8, 4).local(1, 2)


def wgmma_a(bits: int, k: int) -> RegisterLayout:
    """A[64, k] of wgmma from registers, or of wgmma.sp as it is stored, 64 x k/2."""
    return WARPS * mma_a(bits, 16, k)


def wgmma_c(n: int) -> RegisterLayout:
    """C[64, n] and D of wgmma and wgmma.sp."""
    return WARPS.local(1, n // 8) * mma_c(16)


def chunk(bits: int) -> int:
    """Neighbours along k that share 4 bits of metadata, and half of which are stored.

    2 of 4 elements of 8 and 16 bits, 1 of 2 of 32 bits (which count as two halves each), 2 pairs of
    4 for 4 bits (PTX ISA, "Sparse matrix storage").
    """
    return {32: 2, 16: 4, 8: 4, 4: 8}[bits]


def mma_metadata(bits: int, k: int) -> RegisterLayout:
    """Metadata of A[16, k] of mma.sp as a tile of 2-bit indices, chunk after chunk, 16 of a lane.

    Elements of 16 and 32 bits: a lane has 4 chunks of row g and the same of row g + 8. Narrower
    ones: 8 chunks of one row, of row g + 8 in odd lanes. Where the lanes of a quad have more room
    than k needs, copies are allowed for: the instruction reads the one that its sparsity selector
    says. (For f16 k16 and s8 k32 this is also what ptxas 12.9 emits to sort metadata for sm_100.)
    """
    indices = 2 * k // chunk(bits)
    if bits >= 16:
        lanes = indices // 8
        return local(2, 1).spatial(8, 1).replicated(4 // lanes).spatial(1, lanes).local(1, 8)
    blocks = indices // 16
    quad = (Digit(8, 0, 1), Digit(2 // blocks), Digit(blocks, 1, 16), Digit(2, 0, 8))
    return RegisterLayout((16, indices), quad, (Digit(16, 1, 1),))


def wgmma_metadata(bits: int, k: int) -> RegisterLayout:
    """Metadata of A[64, k] of wgmma.sp: each warp as in mma.sp."""
    return WARPS * mma_metadata(bits, k)


def matrices(count: int, transposed: bool = False) -> RegisterLayout:
    """What ldmatrix and stmatrix move: `count` 8x8 matrices of 16-bit elements below each other."""
    _check(count)
    if transposed:
        return local(count, 1).spatial(1, 8).spatial(4, 1).local(2, 1)
    return local(count, 1).spatial(8, 4).local(1, 2)


def matrix_rows(count: int) -> RegisterLayout:
    """Which lanes give the addresses of the rows of those matrices; the others are ignored."""
    _check(count)
    return replicated(4 // count).spatial(8 * count)


def _check(count: int) -> None:
    if count not in (1, 2, 4):
        raise TileError(f"ldmatrix and stmatrix move 1, 2 or 4 matrices, not {count}")
