"""Rows in pieces of few different sizes, so that new numbers of rows need no new code.

Code for a processor is made for the extents that it is called with, which takes some 50 ms. Batches
and sequences have any length; up to EXACT rows, as in decoding, each number has code of its own,
whole pieces of more are products as fast as one, and a rest is filled with rows of 0 to one of a
few sizes, at most an eighth more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

EXACT = 16
WHOLE = (1024, 128)
STEPS = 8  # sizes of a rest from one power of two to the next


def size_of(rows: int) -> int:
    """The size of the piece for some rows, at most the smallest of WHOLE."""
    if rows <= EXACT:
        return rows
    step = 1 << (rows - 1).bit_length() - STEPS.bit_length()
    return -(-rows // step) * step


def pieces(rows: int) -> Iterator[tuple[int, int, int]]:
    """The first row of each piece, its rows, and its size."""
    at = 0
    while at < rows:
        left = rows - at
        taken = next((n for n in WHOLE if n <= left), left)
        yield at, taken, size_of(taken) if taken == left else taken
        at += taken


def by_pieces(x: Tensor, y: Callable[[int], Tensor], run: Callable[[Tensor, Tensor], None]
              ) -> Tensor:  # fmt: skip
    """y[rows, ...] computed of x[rows, ...] piece by piece; `y(n)` makes the memory for n rows."""
    rows = x.shape[0]
    if rows <= EXACT:
        out = y(rows)
        if rows:
            run(x, out)
        return out
    parts = list(pieces(rows))
    start, _, size = parts[-1]
    out = y(start + size)
    for start, taken, size in parts:
        part = x[start : start + taken]
        if size > taken:
            filled = part.new_zeros((size, *part.shape[1:]))
            filled[:taken] = part
            part = filled
        run(part, out[start : start + size])
    return out[:rows]
