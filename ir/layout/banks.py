"""Bank conflicts: the wavefronts of a warp's accesses to shared memory, counted by simulation.

A request of a warp goes in phases: all 32 lanes where each moves up to 4 bytes, half-warps for 8
bytes, quarter-warps for 16, and the 8 rows of 16 bytes of one matrix for ldmatrix and stmatrix. A
phase takes as many wavefronts as the busiest bank has different words; lanes that want the same
word share it. Without conflicts each phase is one wavefront.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Ints
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.shared import BANKS, WORD, SharedLayout

WARP = 32
WIDTHS = (16, 8, 4, 2, 1)  # bytes a lane that one instruction can move
MATRIX_ROWS, ROW_BYTES = 8, 16  # of ldmatrix and stmatrix


@dataclass(frozen=True)
class Traffic:
    """Wavefronts of each request, and of each as it would be without conflicts."""

    wavefronts: tuple[int, ...]
    ideal: tuple[int, ...]

    @property
    def free(self) -> bool:
        """Whether there is no bank conflict."""
        return self.wavefronts == self.ideal


def wavefronts(addresses: Ints, width: int) -> Traffic:
    """The cost of requests [requests, lanes] of `width` bytes at a byte address for each lane.

    Raises TileError for a width that no instruction has, or an address that it does not divide.
    """
    if width not in WIDTHS:
        raise TileError(f"a lane moves {', '.join(map(str, sorted(WIDTHS)))} bytes, not {width}")
    if (addresses % width).any():
        odd = addresses[addresses % width > 0][0]
        raise TileError(f"an access of {width} bytes at address {odd} is not aligned")
    lanes = min(WARP, WARP * WORD // width)
    words = addresses[..., None] // WORD + np.arange(max(width // WORD, 1))
    costs, ideal = list[int](), list[int]()
    for request in words:
        phases = [request[i : i + lanes] for i in range(0, len(request), lanes)]
        costs.append(sum(map(_passes, phases)))
        ideal.append(len(phases))
    return Traffic(tuple(costs), tuple(ideal))


def _passes(words: Ints) -> int:
    """The most different words that one bank is asked for."""
    return int(np.bincount(np.unique(words) % BANKS).max())


def access(registers: RegisterLayout, shared: SharedLayout, width: int) -> Traffic:
    """The cost of moving a tile by ordinary loads or stores, for each instruction of each warp.

    Each instruction moves the next `width` bytes of every thread's own elements. Raises TileError
    where those are not together in shared memory, or not aligned.
    """
    bits = _bits(registers, shared)
    each = width * 8 // shared.bits
    if each < 1 or width * 8 % shared.bits or registers.locals % each:
        raise TileError(f"{registers.locals} elements of {shared.bits} bits of a thread can't be "
                        f"moved {width} bytes at a time")  # fmt: skip
    runs = bits.reshape(registers.threads, -1, each)
    if (runs - runs[..., :1] != np.arange(each) * shared.bits).any() or (runs[..., 0] % 8).any():
        raise TileError(f"{width} bytes of a thread of {registers} are not together in {shared}")
    return wavefronts(_requests(runs[..., 0] // 8), width)


def widest(registers: RegisterLayout, shared: SharedLayout) -> int:
    """The most bytes of a lane that an instruction can move. Raises TileError if there are none."""
    for width in WIDTHS:
        try:
            access(registers, shared, width)
        except TileError:
            continue
        return width
    raise TileError(f"no access moves whole bytes of {registers} to or from {shared}")


def matrix_access(
    registers: RegisterLayout, shared: SharedLayout, count: int = 4, transposed: bool = False
) -> Traffic:
    """The cost of ldmatrix or stmatrix of `count` matrices, for each instruction of each warp.

    A thread's i-th register of 32 bits is of matrix i: word t % 4 of row t // 4, or with `.trans`
    the elements of 16 bits of rows 2 * (t % 4) and the next in column t // 4 (PTX ISA, "ldmatrix").
    Raises TileError where that is not what the layouts say.
    """
    held = registers.bits_per_thread(shared.bits)
    if held % (count * 32) or 32 % shared.bits or registers.threads % WARP:
        raise TileError(f"ldmatrix.x{count} gives whole warps {count} registers of 32 bits at a "
                        f"time, not {held} bits to {registers.threads} threads")  # fmt: skip
    if transposed and shared.bits != 16:
        raise TileError(f"ldmatrix.trans moves elements of 16 bits, not {shared.bits}")
    each = 32 // shared.bits
    bits = _bits(registers, shared).reshape(-1, WARP, held // 32, each)
    matrices = bits.transpose(0, 2, 1, 3)  # warps, registers, lanes, elements
    if transposed:
        rows = matrices.reshape(*matrices.shape[:2], 8, 8).swapaxes(2, 3)
    else:
        rows = matrices.reshape(*matrices.shape[:2], 8, 4 * each)
    together = rows - rows[..., :1] == np.arange(rows.shape[-1]) * shared.bits
    if not together.all() or (rows[..., 0] % (8 * ROW_BYTES)).any():
        raise TileError(f"the rows of 8x8 matrices of {registers} are not {ROW_BYTES} bytes "
                        f"together in {shared}, aligned")  # fmt: skip
    return wavefronts((rows[..., 0] // 8).reshape(-1, count * MATRIX_ROWS), ROW_BYTES)


def _bits(registers: RegisterLayout, shared: SharedLayout) -> Ints:
    """Where each element lies that a thread holds: [threads, locals]."""
    if registers.shape != shared.shape:
        raise TileError(
            f"{registers} is a tile of {registers.shape}, {shared} one of {shared.shape}"
        )
    return shared.bit(*registers.table())


def _requests(addresses: Ints) -> Ints:
    """[threads, instructions] as [requests, lanes], those of a warp after each other."""
    threads, instructions = addresses.shape
    lanes = min(threads, WARP)
    if threads % lanes:
        raise TileError(f"{threads} threads are no whole number of warps")
    return addresses.reshape(-1, lanes, instructions).swapaxes(1, 2).reshape(-1, lanes)
