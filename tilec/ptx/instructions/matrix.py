"""Matrices between shared memory and registers (PTX ISA, `ldmatrix`, `stmatrix`, `movmatrix`).

A matrix has eight rows of 16 bytes; lane k of a group of eight gives the address of row k. A
thread holds the elements of row lane / 4, columns 2 (lane % 4) and the next; `.trans`: of the
transpose.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.threads import WARP, Threads
from tilec.ptx.types import types

B16, B8 = types("b16"), types("b8")
COUNTS = {"x1": 1, "x2": 2, "x4": 4}
OPTIONS = ("sync", "aligned", "m8n8", "trans", "shared", "shared::cta", *COUNTS)


def _rows_of(x: Step, n: int, matrices: int) -> tuple[Threads, Array]:
    """The lanes that give addresses, and those addresses."""
    address = x.address(n)
    if matrices == 4:
        return x.t, address
    mask = x.t.lane < 8 * matrices
    return x.t.subset(mask), address[mask]


@instruction("ldmatrix", OPTIONS, types=(B16,), operands=2, sync="matrix")
def ldmatrix(x: Step) -> None:
    """d = fragments of one, two or four matrices of 8 x 8 halves."""
    many = COUNTS[x.i.one_of(*COUNTS)]
    t, address = _rows_of(x, 1, many)
    rows = x.m.spaces.shared.load(t, x.i, address, 16)
    halves = rows.view(np.uint16).reshape(-1, many, 8, 8)  # warps, matrices, rows, columns
    if "trans" in x.i.modifiers:
        halves = halves.transpose(0, 1, 3, 2)
    words = np.ascontiguousarray(halves).view(np.uint32).reshape(-1, many, WARP)
    for k, o in enumerate(x.parts(0)):
        o.put(x.t, words[:, k].reshape(-1))


@instruction("stmatrix", OPTIONS, types=(B16,), operands=2, sync="matrix")
def stmatrix(x: Step) -> None:
    """Memory = fragments of one, two or four matrices of 8 x 8 halves."""
    many = COUNTS[x.i.one_of(*COUNTS)]
    words = x.rows(1, 32).reshape(many, -1, WARP).transpose(1, 0, 2)
    halves = np.ascontiguousarray(words).view(np.uint16).reshape(-1, many, 8, 8)
    if "trans" in x.i.modifiers:
        halves = halves.transpose(0, 1, 3, 2)
    t, address = _rows_of(x, 0, many)
    x.m.progress += 1
    rows = np.ascontiguousarray(halves).reshape(-1, 8).view(np.uint8)
    x.m.spaces.shared.store(t, x.i, address, rows)


@instruction("movmatrix", "sync aligned m8n8 trans", types=(B16,), operands=2, sync="matrix")
def movmatrix(x: Step) -> None:
    """d = the fragment of the transpose."""
    words = np.ascontiguousarray(x.row(1, 32)).view(np.uint16).reshape(-1, 8, 8)
    turned = np.ascontiguousarray(words.transpose(0, 2, 1))
    x.put(turned.reshape(-1, 2).view(np.uint32)[:, 0])
