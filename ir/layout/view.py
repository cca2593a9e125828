"""Views: the registers of a tile read as elements of another width, without an instruction.

A thread's elements lie in the order of their local numbers in one string of bits, the first lowest;
element i of `bits` bits is bits [i * bits, (i + 1) * bits) of that string.
"""

from __future__ import annotations

import math

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.register import RegisterLayout


def check_view(source: RegisterLayout, bits: int, result: RegisterLayout, to_bits: int) -> None:
    """Whether registers that hold `source` are a tile that `result` lays out. Raises TileError.

    Legal exactly when the layouts have equally many threads, these hold equally many bits (so that
    the string of bits is a whole number of elements of either width), and threads that hold copies
    in `result` hold copies in `source`: otherwise an element of the result would have two values.
    """
    if source.threads != result.threads:
        raise TileError(f"view: {source} has {source.threads} threads, "
                        f"{result} has {result.threads}")  # fmt: skip
    held, wanted = source.bits_per_thread(bits), result.bits_per_thread(to_bits)
    if held != wanted:
        raise TileError(f"view: a thread holds {held} bits ({source.locals} elements of {bits}), "
                        f"not {wanted} ({result.locals} of {to_bits})")  # fmt: skip
    threads = np.arange(source.threads)
    first = result.holders(*result.element(threads, 0))[0][:, 0]
    for one, other in zip(source.element(threads, 0), source.element(first, 0), strict=True):
        if (one != other).any():
            t = int(np.argmax(one != other))
            raise TileError(f"view: threads {first[t]} and {t} hold the same elements of {result}, "
                            f"but not of {source}")  # fmt: skip


def view(layout: RegisterLayout, bits: int, to_bits: int, axis: int = -1) -> RegisterLayout:
    """The layout of the tile whose lines along `axis` are read as elements of `to_bits` bits.

    Such a line is one string of bits, element k at [k * bits, (k + 1) * bits); so is its view. The
    fewest elements that are whole in both widths are g = lcm(bits, to_bits) bits. The view is legal
    exactly when each thread holds whole runs of g // bits neighbours of the axis, in order: the
    last local digit has stride 1 along the axis and a multiple of g // bits as its size (no digit
    is needed where that is 1). Raises TileError where it is not.
    """
    if not -layout.rank <= axis < layout.rank:
        raise TileError(f"view: {layout} has no axis {axis}")
    axis %= layout.rank
    *outer, last = layout.local_digits or (Digit(1),)
    if (last.axis, last.stride) != (axis, 1):
        outer, last = [*layout.local_digits], Digit(1, axis, 1)
    whole = math.lcm(bits, to_bits) // bits
    if last.size % whole:
        raise TileError(f"view: elements of {to_bits} bits need runs of {whole} of {bits} bits "
                        f"along axis {axis}; a thread of {layout} holds {last.size}")  # fmt: skip

    def sized(d: Digit) -> Digit:
        return Digit(d.size, axis, d.stride * bits // to_bits) if d.axis == axis else d

    shape = list(layout.shape)
    shape[axis] = shape[axis] * bits // to_bits
    inner = Digit(last.size * bits // to_bits, axis, 1)
    threads, locals_ = (tuple(map(sized, ds)) for ds in (layout.thread_digits, outer))
    return RegisterLayout(tuple(shape), threads, (*locals_, inner))
