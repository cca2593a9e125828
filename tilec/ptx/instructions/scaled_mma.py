"""Matrix multiplication by warps with a scale for each block of k (PTX ISA, `mma ... block_scale`).

A scale is for the row of a, or the column of b, and 1/1, 1/2 or 1/4 of the depth (`scale_vec`). In
a quad, the first of the two lanes that `thread-id-a` names has those of row g, the second of row
g + 8; the lane `thread-id-b` has those of column g. `byte-id` is the first byte in the register.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx import fragments
from tilec.ptx.formats import Array, decode
from tilec.ptx.instructions.mma import accumulate, fits, multiplied, shape
from tilec.ptx.operand import Constant, Operand
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import types

VECTORS = {"scale_vec::1X": 1, "scale_vec::2X": 2, "scale_vec::4X": 4}
KINDS = {"kind::mxf8f6f4": (8, (1,)), "kind::mxf4": (4, (2,)), "kind::mxf4nvf4": (4, (2, 4))}
WORDS = ("sync", "aligned", "row", "col", "block_scale", "m16n8k32", "m16n8k64", *KINDS, *VECTORS)
CODES, SCALES = types("e4m3 e5m2 e2m1"), types("ue8m0 ue4m3")
F32 = types("f32")


@instruction("mma", WORDS, types=(F32, CODES, CODES, F32, SCALES), operands=8, sync="matrix")
def mma_scaled(x: Step) -> None:
    """d = (a scale_a) (b scale_b) + c."""
    rows, columns, depth = shape(x.i.modifiers)
    count = _blocks(x)
    a_words, b_words = x.rows(1, 32), x.rows(2, 32)
    _, a_type, b_type, _, _ = x.i.types
    fits(x, 1, a_words, rows * depth * a_type.bits // 1024)
    fits(x, 2, b_words, columns * depth * b_type.bits // 1024)
    a, b = fragments.left(a_words, a_type, rows), fragments.right(b_words, b_type)
    block = depth // count
    a = a * np.repeat(_scales(x, 4, _lanes_of_rows(rows), 2, count), block, 2)
    b = b * np.repeat(_scales(x, 6, np.arange(columns) * 4, 4, count), block, 2)
    accumulate(x, multiplied(x, a, b), rows)


def _blocks(x: Step) -> int:
    """How many scales a row has. Raises TileError where kind, codes and depth do not agree."""
    bits, counts = next((KINDS[m] for m in x.i.modifiers if m in KINDS), (0, (0,)))
    count = next((VECTORS[m] for m in x.i.modifiers if m in VECTORS), counts[0])
    _, a, b, _, scale = x.i.types
    fine = {a.bits, b.bits} == {bits} and count in counts
    fine = fine and scale.name == ("ue4m3" if count == 4 else "ue8m0")
    if not fine or shape(x.i.modifiers)[2] != 256 // bits:
        raise TileError(f"ptx: {x.i.place}: no matrix instruction has these together: {x.i.text}")
    return count


def _lanes_of_rows(rows: int) -> Array:
    """The first lane that can have the scales of each row."""
    row = np.arange(rows)
    return row % 8 * 4 + row // 8


def _scales(x: Step, n: int, lanes: Array, threads: int, count: int) -> Array:
    """The scales of operand `n`, picked by the one behind it: warps x rows x blocks of k.

    `threads` is how many thread-ids there are.
    """
    byte, thread = (_number(x, o) for o in x.parts(n + 1))
    if byte % count or byte + count > 4 or not 0 <= thread < threads:
        raise TileError(f"ptx: {x.i.place}: {{{byte}, {thread}}} selects no scales: {x.i.text}")
    words = x.row(n, 32).reshape(-1, 32)[:, lanes + thread * (4 // threads)]
    codes = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    scale = x.i.types[4].format
    assert scale is not None
    return decode(codes[:, :, byte : byte + count], scale).astype(np.float64)


def _number(x: Step, o: Operand) -> int:
    if not isinstance(o, Constant):
        raise TileError(f"ptx: {x.i.place}: {o} must be a number: {x.i.text}")
    return o.number
