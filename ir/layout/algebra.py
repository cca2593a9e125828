"""The algebra of memory layouts: coalesce, compose, complement, inverses, divide, product.

The definitions are CuTe's (NVIDIA, "CuTe Layout Algebra"; Shah, "A Note on the Algebra of CuTe
Layouts"). Where those leave a result undefined, these functions raise TileError.
"""

from __future__ import annotations

from tilec.ir.errors import TileError
from tilec.ir.layout.memory import MemoryLayout, Modes, Nested, concatenated, flat


def coalesce(a: MemoryLayout) -> MemoryLayout:
    """The same function of an index with the fewest modes."""
    return flat(_coalesced(a))


def _coalesced(a: MemoryLayout) -> Modes:
    out: list[tuple[int, int]] = []
    for n, d in a.modes:
        if n == 1:
            continue
        if out and d == out[-1][0] * out[-1][1]:
            out[-1] = out[-1][0] * n, out[-1][1]
        else:
            out.append((n, d))
    return tuple(out)


def compose(a: MemoryLayout, b: MemoryLayout) -> MemoryLayout:
    """The layout of b's shape, each mode of it divided if need be, with result(i) == a(b(i)).

    Raises TileError where b leaves the domain of a, where a mode of b steps over a mode of `a` that
    its stride does not divide, and where modes of b add up to a carry from one mode of `a` to the
    next: there a(b(i)) is no sum of strides.
    """
    steps = _Steps(a, b)
    shape, stride = steps.through(b.shape, b.stride)
    for (n, _), used in zip(steps.modes, steps.used, strict=True):
        if used >= n:
            raise TileError(f"compose: {b} counts to {used} in a mode of {a} of size {n}")
    return MemoryLayout(shape, stride)


class _Steps:
    """Modes of b as steps through the modes of a, and how far all of them go in each."""

    def __init__(self, a: MemoryLayout, b: MemoryLayout) -> None:
        self.a, self.b = a, b
        self.modes = _coalesced(a)
        self.used = [0] * len(self.modes)

    def through(self, shape: Nested, stride: Nested) -> tuple[Nested, Nested]:
        """The composition with a part of b."""
        if isinstance(shape, int) and isinstance(stride, int):
            found = flat(self.mode(shape, stride))
            return found.shape, found.stride
        if isinstance(shape, int) or isinstance(stride, int):
            raise TileError(f"{self.b}: shape and stride are not nested alike")
        pairs = [self.through(n, d) for n, d in zip(shape, stride, strict=True)]
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)

    def mode(self, n: int, step: int) -> Modes:
        """The composition with n:step."""
        if step < 0:
            raise TileError(f"compose: {self.b} has offsets below 0, which {self.a} lacks")
        if n == 1 or step == 0:
            return ((n, 0),)
        out: list[tuple[int, int]] = []
        for i, (m, d) in enumerate(self.modes):
            if step % m == 0:
                step //= m
                continue
            inside = min(n, -(-m // step))  # values of the mode that this one of b takes
            if inside < n and (m % step or n % inside):
                raise TileError(f"compose: {self.b} steps by {step} through a mode of "
                                f"{self.a} of size {m}, and on")  # fmt: skip
            out.append((inside, d * step))
            self.used[i] += (inside - 1) * step
            n, step = n // inside, 1
            if n == 1:
                return tuple(out)
        raise TileError(f"compose: {self.b} has offsets of {self.a.size} and more, "
                        f"which {self.a} lacks")  # fmt: skip


def complement(a: MemoryLayout, size: int) -> MemoryLayout:
    """The layout of what `a` leaves out: the two together have every offset up to `size` once.

    Its modes ascend. Where `a` and its gaps don't divide `size` the offsets go on to a multiple.
    Raises TileError where `a` has an offset twice, or gaps that are no layout.
    """
    out: list[tuple[int, int]] = []
    place = 1
    for n, d in sorted(_coalesced(a), key=lambda mode: mode[1]):
        if d < place or d % place:
            raise TileError(f"complement: {a} has a mode of stride {d} where "
                            f"a multiple of {place} is next")  # fmt: skip
        out.append((d // place, place))
        place = n * d
    out.append((-(-size // place), place))
    return coalesce(flat(out))


def right_inverse(a: MemoryLayout) -> MemoryLayout:
    """The layout with a(result(i)) == i; the longest one if `a` has no offset twice."""
    placed: list[tuple[int, int, int]] = []
    place = 1
    for n, d in _coalesced(a):
        placed.append((d, n, place))
        place *= n
    out: list[tuple[int, int]] = []
    reached = 1
    for d, n, place in sorted(placed):
        if d == reached:
            out.append((n, place))
            reached *= n
    return coalesce(flat(out))


def left_inverse(a: MemoryLayout) -> MemoryLayout:
    """The layout with result(a(i)) == i. Raises TileError where `a` has an offset twice."""
    return right_inverse(concatenated(a, complement(a, a.cosize)))


def logical_divide(a: MemoryLayout, tile: MemoryLayout) -> MemoryLayout:
    """(inside a tile, which tile): the first mode of the result is a(tile), the second the rest."""
    return compose(a, concatenated(tile, complement(tile, a.size)))


def logical_product(a: MemoryLayout, b: MemoryLayout) -> MemoryLayout:
    """(inside a copy, which copy): copies of `a` in the order of b, in the room that `a` leaves."""
    return concatenated(a, compose(complement(a, a.size * b.cosize), b))
