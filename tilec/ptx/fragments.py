"""Fragments: how the registers of a warp hold the matrices of mma, as closed forms.

With g = lane / 4, t = lane % 4, e elements in a register, 1 of f64 in one of 64 bits, and h the
element within it (PTX ISA, 'Matrix fragments for mma', compared in the design with CuTe's traits
for all the types here):

    A register i: row g + 8 (i % 2), column t e + h + 4 e (i / 2)
    B register i: column g, row t e + h + 4 e i
    C number i:   row g + 8 (i / 2 % 2), column 2 t + i % 2 + 8 (i / 4)
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import UINT, Array, decode
from tilec.ptx.types import Type

QUADS, QUAD = 8, 4


def plain(words: Array, t: Type) -> Array:
    """The elements of words as float64, lowest first; the last axis is that much longer."""
    flat = np.ascontiguousarray(words)
    if t.bits == 1:
        values = np.unpackbits(flat.view(np.uint8), bitorder="little").astype(np.float64)
    elif t.bits == 4:
        nibbles = flat.view(np.uint8)[..., None] >> np.array([0, 4], np.uint8) & np.uint8(15)
        if t.format is not None:
            values = decode(nibbles, t.format).astype(np.float64)
        else:
            values = (nibbles.astype(np.int8) << 4 >> 4 if t.kind == "int" else nibbles).astype(
                np.float64
            )
    elif t.format is not None:
        codes = flat.view(UINT[t.bits])
        values = decode(codes, t.format).astype(np.float64)
    else:
        values = flat.view(np.int8 if t.kind == "int" else np.uint8).astype(np.float64)
    return values.reshape(*words.shape[:-1], -1)


def elements(words: Array, t: Type) -> Array:
    """Registers x lanes as numbers: registers x warps x 8 x 4 x elements, as float64."""
    return plain(words, t).reshape(len(words), -1, QUADS, QUAD, max(32 // t.bits, 1))


def left(words: Array, t: Type, rows: int) -> Array:
    """The matrix A of every warp: warps x rows x columns."""
    e = elements(words, t)
    halves = rows // QUADS
    e = e.reshape(-1, halves, *e.shape[1:])  # column block, half, warp, g, t, h
    return e.transpose(2, 1, 3, 0, 4, 5).reshape(e.shape[2], rows, -1)


def right(words: Array, t: Type) -> Array:
    """The matrix B of every warp, turned: warps x columns x rows."""
    e = elements(words, t)  # register, warp, g, t, h
    return e.transpose(1, 2, 0, 3, 4).reshape(e.shape[1], QUADS, -1)


def numbers_of(matrix: Array) -> Array:
    """The numbers that lanes hold of the matrix C of every warp: numbers x lanes of all warps."""
    warps, rows, columns = matrix.shape
    c = matrix.reshape(warps, rows // QUADS, QUADS, columns // QUADS, QUAD, 2)
    return c.transpose(3, 1, 5, 0, 2, 4).reshape(-1, warps * 32)
