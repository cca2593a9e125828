"""Register layouts: which thread holds an element of a tile, and at which place among its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import (
    Digit,
    Digits,
    Index,
    Ints,
    advance,
    count,
    idle,
    inside,
    limited,
    merged,
    number,
    reshaped,
    scaled,
    shrunk,
    split,
)


@dataclass(frozen=True)
class RegisterLayout:
    """A tile over threads: element = thread digits + local digits, as coordinates.

    The number of a thread and a local number (an element's place in the thread's own array) are
    mixed-radix numbers of any radices, slowest digit first; the coordinate along an axis is the sum
    of its digits times their strides. Each element has one local number, and one thread for every
    value of the digits without an axis. Digits are merged on construction, so that layouts are
    equal, and hash equally, exactly when they are the same map on the same shape.

    The composition of `spatial` and `local` layouts follows Tilus (arXiv 2504.12984, section 4).
    Raises TileError where the digits of an axis don't count through its extent.
    """

    shape: tuple[int, ...]
    thread_digits: Digits
    local_digits: Digits

    def __post_init__(self) -> None:
        object.__setattr__(self, "thread_digits", merged(self.thread_digits))
        object.__setattr__(self, "local_digits", merged(self.local_digits))
        digits = (*self.thread_digits, *self.local_digits)
        if min((*self.shape, *(d.size for d in digits)), default=1) < 1:
            raise TileError(f"{self.explicit}: every size must be at least 1")
        if any(d.axis is None for d in self.local_digits):
            raise TileError(f"{self.explicit}: a thread can't hold an element twice")
        if any(d.axis not in (None, *range(len(self.shape))) for d in digits):
            raise TileError(f"{self.explicit}: a digit has an axis that the shape lacks")
        for axis, extent in enumerate(self.shape):
            place = 1
            for d in sorted((d for d in digits if d.axis == axis), key=lambda d: d.stride):
                if d.stride != place:
                    raise TileError(f"{self.explicit}: axis {axis} has a digit of stride "
                                    f"{d.stride} where {place} is next")  # fmt: skip
                place *= d.size
            if place != extent:
                raise TileError(f"{self.explicit}: the digits of axis {axis} count to {place}, "
                                f"its extent is {extent}")  # fmt: skip

    @property
    def rank(self) -> int:
        """How many axes the tile has."""
        return len(self.shape)

    @property
    def threads(self) -> int:
        """How many threads hold the tile."""
        return count(self.thread_digits)

    @property
    def locals(self) -> int:
        """How many elements each thread holds."""
        return count(self.local_digits)

    @property
    def copies(self) -> int:
        """How many threads hold each element."""
        return count(d for d in self.thread_digits if d.axis is None)

    def bits_per_thread(self, bits: int) -> int:
        """What a thread holds of elements of `bits` bits."""
        return self.locals * bits

    def element(self, thread: Index, local: Index) -> tuple[Ints, ...]:
        """The coordinates of what threads hold, one array for each axis, broadcast."""
        t, i = np.broadcast_arrays(np.asarray(thread, np.int64), np.asarray(local, np.int64))
        for what, n, limit in (("thread", t, self.threads), ("local number", i, self.locals)):
            if not inside(n, limit):
                raise TileError(f"{self}: a {what} is 0 to {limit - 1}")
        coordinates = [np.zeros(t.shape, np.int64) for _ in self.shape]
        advance(self.thread_digits, t, coordinates)
        advance(self.local_digits, i, coordinates)
        return tuple(coordinates)

    def holders(self, *coordinates: Index) -> tuple[Ints, Ints]:
        """The threads of elements, their copies on a last axis of their own, and local numbers."""
        arrays = [np.asarray(c, np.int64) for c in coordinates]
        if len(arrays) != self.rank:
            raise TileError(f"{self}: an element has {self.rank} coordinates, not {len(arrays)}")
        for axis, (c, extent) in enumerate(zip(arrays, self.shape, strict=True)):
            if not inside(c, extent):
                raise TileError(f"{self}: coordinates of axis {axis} are 0 to {extent - 1}")
        first = number(self.thread_digits, arrays)
        return first[..., None] + idle(self.thread_digits), number(self.local_digits, arrays)

    def table(self) -> tuple[Ints, ...]:
        """The coordinates of everything held: an array [threads, locals] for each axis."""
        return self.element(np.arange(self.threads)[:, None], np.arange(self.locals))

    def __mul__(self, inner: RegisterLayout) -> RegisterLayout:
        """The product: every element of this layout is a whole tile of `inner`.

        With t over T and i over L of `inner`: f(t, i) = self(t // T, i // L) * inner.shape +
        inner(t % T, i % L). Associative; the factors have equal ranks, or one of them none.
        """
        if self.rank and inner.rank and self.rank != inner.rank:
            raise TileError(f"product: {self} has rank {self.rank}, {inner} has {inner.rank}")
        rank = max(self.rank, inner.rank)
        mine, its = (x.shape or (1,) * rank for x in (self, inner))
        return RegisterLayout(
            tuple(a * b for a, b in zip(mine, its, strict=True)),
            (*scaled(self.thread_digits, its), *inner.thread_digits),
            (*scaled(self.local_digits, its), *inner.local_digits),
        )

    def __truediv__(self, inner: RegisterLayout) -> RegisterLayout:
        """The layout q for which q * inner is this one. Raises TileError where there is none."""
        high, low, shape = self._divided(inner, inner.threads, inner.locals)
        tile = inner.shape or (1,) * self.rank
        if low != (inner.thread_digits, inner.local_digits):
            raise TileError(f"{self} is no layout of tiles of {inner}")
        return RegisterLayout(shape, *(shrunk(digits, tile) for digits in high))

    def left_divide(self, outer: RegisterLayout) -> RegisterLayout:
        """The layout q for which outer * q is this one. Raises TileError where there is none."""
        parts = self.threads // outer.threads, self.locals // outer.locals
        high, low, shape = self._divided(outer, *parts)
        if high != (scaled(outer.thread_digits, shape), scaled(outer.local_digits, shape)):
            raise TileError(f"{self} is no {outer} of tiles")
        return RegisterLayout(shape, *low)

    def _divided(
        self, by: RegisterLayout, threads: int, locals_: int
    ) -> tuple[tuple[Digits, Digits], tuple[Digits, Digits], tuple[int, ...]]:
        """The digits above `threads` and `locals_`, those below, and shape / by.shape."""
        tile = by.shape or (1,) * self.rank
        if len(tile) != self.rank:
            raise TileError(f"division: {self} has rank {self.rank}, {by} has {by.rank}")
        cut_threads = split(self.thread_digits, threads)
        cut_locals = split(self.local_digits, locals_)
        if cut_threads is None or cut_locals is None:
            raise TileError(f"{self} is no product with {by}: the sizes don't divide")
        shape = tuple(e // n for e, n in zip(self.shape, tile, strict=True))
        return (cut_threads[0], cut_locals[0]), (cut_threads[1], cut_locals[1]), shape

    def spatial(self, *shape: int) -> RegisterLayout:
        """The product with `spatial(*shape)`."""
        return self * spatial(*shape)

    def local(self, *shape: int) -> RegisterLayout:
        """The product with `local(*shape)`."""
        return self * local(*shape)

    def replicated(self, threads: int) -> RegisterLayout:
        """The product with `replicated(threads)`."""
        return self * replicated(threads)

    def reduce(self, axis: int) -> RegisterLayout:
        """The layout of a reduction along an axis, which is left out: its threads hold copies."""
        axis = self._axis(axis)
        return RegisterLayout(
            (*self.shape[:axis], *self.shape[axis + 1 :]),
            tuple(_without(d, axis) for d in self.thread_digits),
            tuple(_without(d, axis) for d in self.local_digits if d.axis != axis),
        )

    def permute(self, *axes: int) -> RegisterLayout:
        """The tile with its axes in another order: axis i of the result is `axes[i]` of this."""
        if sorted(axes) != list(range(self.rank)):
            raise TileError(f"permute: {axes} is no order of the {self.rank} axes of {self}")

        def moved(digits: Digits) -> Digits:
            return tuple(
                d if d.axis is None else Digit(d.size, axes.index(d.axis), d.stride) for d in digits
            )

        shape = tuple(self.shape[a] for a in axes)
        return RegisterLayout(shape, moved(self.thread_digits), moved(self.local_digits))

    def transpose(self) -> RegisterLayout:
        """The tile with its axes in the opposite order."""
        return self.permute(*reversed(range(self.rank)))

    def reshape(self, *shape: int) -> RegisterLayout:
        """The same elements in row-major order as a tile of another shape.

        Raises TileError where a digit goes across two axes of it.
        """
        if math.prod(shape) != math.prod(self.shape):
            raise TileError(f"reshape: {self} has {math.prod(self.shape)} elements, "
                            f"{shape} has {math.prod(shape)}")  # fmt: skip
        threads = reshaped(self.thread_digits, self.shape, shape)
        locals_ = reshaped(self.local_digits, self.shape, shape)
        if threads is None or locals_ is None:
            raise TileError(f"reshape: a digit of {self.explicit} goes across axes of {shape}")
        return RegisterLayout(shape, threads, locals_)

    def slice(self, axis: int, start: int, size: int) -> tuple[RegisterLayout, Ints]:
        """The layout of part of a tile, and the local numbers that its elements have in this one.

        The part is one of the equal parts of the axis. Raises TileError where the parts are in
        different threads, or where their local numbers are not the same but for their beginning.
        """
        axis = self._axis(axis)
        extent = self.shape[axis]
        if size < 1 or extent % size or start % size or not 0 <= start < extent:
            raise TileError(f"slice: {start} to {start + size} is none of the equal parts of axis "
                            f"{axis}, whose extent is {extent}")  # fmt: skip
        threads = limited(self.thread_digits, axis, size)
        locals_ = limited(self.local_digits, axis, size)
        if threads is None or locals_ is None or count(threads) != self.threads:
            raise TileError(f"slice: {self} has no digits that divide axis {axis} into parts of "
                            f"{size} with the same share of every thread")  # fmt: skip
        part = RegisterLayout((*self.shape[:axis], size, *self.shape[axis + 1 :]), threads, locals_)
        held = list(part.element(0, np.arange(part.locals)))
        held[axis] = held[axis] + start
        return part, self.holders(*held)[1]

    def _axis(self, axis: int) -> int:
        if not -self.rank <= axis < self.rank:
            raise TileError(f"{self} has no axis {axis}")
        return axis % self.rank

    @property
    def explicit(self) -> str:
        """The shape, the digits of the thread and of the local number, as text."""
        digits = (", ".join(map(str, ds)) for ds in (self.thread_digits, self.local_digits))
        shape = ", ".join(map(str, self.shape))
        return f"register(({shape}), {', '.join(f'({d})' for d in digits)})"

    def __str__(self) -> str:
        """A product of `spatial`, `local` and `replicated` where it is one, else the digits."""
        return _chain(self) or self.explicit


def spatial(*shape: int) -> RegisterLayout:
    """A tile with one element in each thread, in row-major order."""
    return RegisterLayout(shape, _row_major(shape), ())


def local(*shape: int) -> RegisterLayout:
    """A tile of one thread, in row-major order."""
    return RegisterLayout(shape, (), _row_major(shape))


def replicated(threads: int) -> RegisterLayout:
    """One element, of any rank, that many threads hold."""
    return RegisterLayout((), (Digit(threads),), ())


def _row_major(shape: Sequence[int]) -> Digits:
    return tuple(Digit(n, axis, 1) for axis, n in enumerate(shape))


def _without(d: Digit, axis: int) -> Digit:
    """A digit once an axis is gone."""
    if d.axis is None or d.axis == axis:
        return Digit(d.size)
    return Digit(d.size, d.axis - (d.axis > axis), d.stride)


def _chain(layout: RegisterLayout) -> str:
    """The layout as a product, or nothing: an order of all digits that suits both numbers and
    goes down the strides of every axis.
    """
    rest = {"spatial": list(layout.thread_digits), "local": list(layout.local_digits)}
    factors: list[tuple[str, list[int]]] = []
    kind, last = "", -1
    while any(rest.values()):
        left = [d for digits in rest.values() for d in digits]
        ready = {k: d[0] for k, d in rest.items() if d and _is_slowest(d[0], left)}
        if not ready:
            return ""
        following = kind if kind in ready else next(iter(ready))
        digit = ready[following]
        rest[following].pop(0)
        if digit.axis is None:
            factors.append(("replicated", [digit.size]))
            kind = ""
            continue
        if following != kind or digit.axis <= last:
            factors.append((following, [1] * layout.rank))
        factors[-1][1][digit.axis] = digit.size
        kind, last = following, digit.axis
    if not any(name != "replicated" for name, _ in factors) and layout.rank:
        factors.insert(0, ("local", [1] * layout.rank))
    if not factors:
        factors = [("replicated", [1])]
    return ".".join(f"{name}({', '.join(map(str, sizes))})" for name, sizes in factors)


def _is_slowest(digit: Digit, digits: Sequence[Digit]) -> bool:
    return digit.axis is None or all(
        d.stride <= digit.stride for d in digits if d.axis == digit.axis
    )
