"""Formats made of formats: sums of parts, factors of low rank, outliers, and rows, columns or
experts apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, f16, f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format, inside, prefixed
from tilec.ir.scaled import Parts


def _matrix(format: Format, shape: tuple[Extent, ...]) -> tuple[Extent, Extent]:
    if len(shape) != 2:
        raise TileError(f"{format}: expected a matrix, not {len(shape)} dimensions")
    return shape[0], shape[1]


def _prefixed(prefix: str, components: tuple[Component, ...]) -> tuple[Component, ...]:
    return tuple(Component(inside(prefix, c.name), c.dtype, c.shape) for c in components)


def part(parts: Parts, prefix: str) -> Parts:
    """The components of one part of a composed format, by their own names."""
    return {k.partition(".")[2]: v for k, v in parts.items() if k.partition(".")[0] == prefix}


@dataclass(frozen=True)
class LowRank(Format):
    """left[N, rank] @ right[rank, K], the product rounded to f32 once."""

    rank: int
    factors: DType = f16

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise TileError(f"lowrank: expected a rank of at least 1, not {self.rank}")
        if not self.factors.is_float or self.factors.bits > 32:
            raise TileError(f"lowrank: factors are f16, bf16 or f32, not {self.factors}")

    def __str__(self) -> str:
        return f"lowrank<{self.rank}, {self.factors}>"

    @property
    def value(self) -> DType:
        return f32

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        n, k = _matrix(self, shape)
        return (Component("left", self.factors, (n, self.rank)),
                Component("right", self.factors, (self.rank, k)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        return f32.round(parts["left"] @ parts["right"])


@dataclass(frozen=True)
class Outliers(Format):
    """`count` elements of each row at places of their own, and 0 elsewhere.

    The places of a row differ, but where a row has fewer elements than `count`.
    """

    count: int
    element: DType = f16

    def __post_init__(self) -> None:
        if self.count < 1:
            raise TileError(f"outliers: expected at least 1 in a row, not {self.count}")
        if not self.element.is_float or self.element.bits > 32:
            raise TileError(f"outliers: elements are f16, bf16 or f32, not {self.element}")

    def __str__(self) -> str:
        return f"outliers<{self.count}, {self.element}>"

    @property
    def value(self) -> DType:
        return f32

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        n, _ = _matrix(self, shape)
        return (Component("place", i32, (n, self.count)),
                Component("element", self.element, (n, self.count)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = np.zeros(shape)
        rows = np.arange(shape[0])[:, None]
        np.add.at(out, (rows, parts["place"].astype(int)), parts["element"])
        return out


@dataclass(frozen=True)
class Plus(Format):
    """The sum of its parts, each rounded to f32 as it is added.

    A tensor is rounded part by part in their order: each takes what those before it left.
    """

    parts: tuple[Format, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise TileError("plus: expected at least two formats")
        for p in self.parts:
            if p.value != f32 or isinstance(p, (Plus, Mixed, Permuted, Experts)):
                raise TileError(f"plus: a part is quantised and not composed itself, not {p}")

    def __str__(self) -> str:
        return f"plus<{', '.join(map(str, self.parts))}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        groups = [p.group for p in self.parts if p.group is not None]
        return groups[0] if groups else None

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return tuple(c for i, p in enumerate(self.parts)
                     for c in _prefixed(str(i), p.components(shape)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = self.parts[0].values(part(parts, "0"), shape)
        for i, p in enumerate(self.parts[1:], 1):
            out = f32.round(out + p.values(part(parts, str(i)), shape))
        return out


@dataclass(frozen=True)
class Mixed(Format):
    """One row in `every` in the first format, the others in the second: mixed width by output
    feature (MixLLM, arXiv 2412.14590). `0.rows` and `1.rows` say which rows are where."""

    every: int
    few: Format
    most: Format

    def __post_init__(self) -> None:
        if self.every < 2:
            raise TileError(f"mixed: expected one row in 2 or more, not in {self.every}")
        for p in (self.few, self.most):
            if p.value != f32 or isinstance(p, (Mixed, Experts)):
                raise TileError(f"mixed: rows are quantised and not mixed themselves, not {p}")

    def __str__(self) -> str:
        return f"mixed<{self.every}, {self.few}, {self.most}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        return self.most.group

    def split(self, shape: tuple[Extent, ...]) -> tuple[tuple[Format, tuple[Extent, ...]], ...]:
        """The two formats and the shapes that they hold."""
        n, k = _matrix(self, shape)
        few = ceil_div(n, self.every)
        return (self.few, (few, k)), (self.most, (n - few, k))

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        out: list[Component] = []
        for i, (format, size) in enumerate(self.split(shape)):
            out.append(Component(f"{i}.rows", i32, (size[0],)))
            out += _prefixed(str(i), format.components(size))
        return tuple(out)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = np.zeros(shape)
        for i, (format, size) in enumerate(self.split(shape)):
            own = part(parts, str(i))
            known = tuple(int(str(d)) for d in size)
            out[own["rows"].astype(int)] = format.values(own, known)
        return out


@dataclass(frozen=True)
class Permuted(Format):
    """Columns in an order of their own, which is that of groups (GPTQ's act-order): column j of
    `inner` is column order[j] of the tensor, and `place` is the inverse of `order`."""

    inner: Format

    def __post_init__(self) -> None:
        if self.inner.value != f32 or isinstance(self.inner, (Mixed, Permuted, Experts)):
            raise TileError(f"permuted: columns are quantised and in one order, not {self.inner}")

    def __str__(self) -> str:
        return f"permuted<{self.inner}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        return self.inner.group

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        _, k = _matrix(self, shape)
        own = Component("order", i32, (k,)), Component("place", i32, (k,))
        return own + _prefixed("0", self.inner.components(shape))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        return self.inner.values(part(parts, "0"), shape)[:, parts["place"].astype(int)]


def permuted(order: Array, inner: Parts) -> Parts:
    """The components of a permuted format: column j of `inner` is column order[j]."""
    own = {"order": order, "place": np.argsort(order, kind="stable")}
    return own | prefixed("0", inner)


@dataclass(frozen=True)
class Experts(Format):
    """Weights [E, N, K] whose experts have formats of their own: `counts[i]` of them the i-th, and
    all others the last.

    The experts of a format are one matrix, one below the other; what that format has once for a
    tensor they share. Counted through these matrices, place p holds the expert order[p], and
    `place` is the inverse of `order`.
    """

    formats: tuple[Format, ...]
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.formats or len(self.counts) != len(self.formats) - 1:
            raise TileError("experts: expected formats, and how many have each but the last")
        if min(self.counts, default=1) < 1:
            raise TileError(f"experts: expected at least 1 of a format, not {min(self.counts)}")
        for p in self.formats:
            if p.value != f32 or isinstance(p, (Mixed, Experts)):
                raise TileError(f"experts: each is quantised and its rows are alike, not {p}")

    def __str__(self) -> str:
        words = [f"{n}, {p}" for n, p in zip(self.counts, self.formats, strict=False)]
        return f"experts<{', '.join([*words, str(self.formats[-1])])}>"

    @property
    def value(self) -> DType:
        return f32

    def split(self, shape: tuple[Extent, ...]) -> tuple[tuple[Format, tuple[Extent, ...]], ...]:
        """The formats and the matrices that they hold."""
        if len(shape) != 3:
            raise TileError(f"{self}: expected weights [E, N, K], not {len(shape)} dimensions")
        experts, n, k = shape
        rest = experts - sum(self.counts)
        if isinstance(rest, int) and rest < 1:
            raise TileError(f"{self}: expected at least {sum(self.counts) + 1} experts, "
                            f"not {experts}")  # fmt: skip
        return tuple((p, (c * n, k)) for p, c in zip(self.formats, (*self.counts, rest),
                                                     strict=True))  # fmt: skip

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        parts = self.split(shape)
        out = [Component("order", i32, (shape[0],)), Component("place", i32, (shape[0],))]
        for i, (format, size) in enumerate(parts):
            out += _prefixed(str(i), format.components(size))
        return tuple(out)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        each: list[Array] = []
        for i, (format, size) in enumerate(self.split(shape)):
            known = tuple(int(str(d)) for d in size)
            each.append(format.values(part(parts, str(i)), known).reshape(-1, *shape[1:]))
        return np.concatenate(each)[parts["place"].astype(int)]


def experts(format: Experts, x: Array, order: Array, how: fit.Fit) -> Parts:
    """The components of weights x[E, N, K] whose experts are placed in an order [E]."""
    parts: Parts = {"order": order, "place": np.argsort(order, kind="stable")}
    rest = x[order].reshape(-1, x.shape[-1])
    for i, (p, size) in enumerate(format.split(x.shape)):
        rows = int(str(size[0]))
        parts |= prefixed(str(i), fit.encode(p, rest[:rows], how))
        rest = rest[rows:]
    return parts


@fit.encode.register
def _(format: Experts, x: Array, how: fit.Fit) -> Parts:
    """The experts that the last format rounds worst have the first, and so on."""
    x = fit.checked(format, x)
    alone = Experts(format.formats[-1:])
    rounded = alone.values(experts(alone, x, np.arange(len(x)), how), x.shape)
    lost = np.square(rounded - x).sum((1, 2))
    return experts(format, x, np.argsort(-lost, kind="stable"), how)


@fit.encode.register
def _(format: Permuted, x: Array, how: fit.Fit) -> Parts:
    """Columns of like size come together."""
    x = fit.checked(format, x)
    order = np.argsort(-np.abs(x).max(0), kind="stable")
    return permuted(order, fit.encode(format.inner, x[:, order], how))


@fit.encode.register
def _(format: LowRank, x: Array, how: fit.Fit) -> Parts:
    """The best factors in least squares, the singular values shared between them."""
    x = fit.checked(format, x)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    rank = min(format.rank, len(s))
    left, right = np.zeros((x.shape[0], format.rank)), np.zeros((format.rank, x.shape[1]))
    root = np.sqrt(s[:rank])
    left[:, :rank], right[:rank] = u[:, :rank] * root, root[:, None] * v[:rank]
    return {"left": format.factors.round(left), "right": format.factors.round(right)}


@fit.encode.register
def _(format: Outliers, x: Array, how: fit.Fit) -> Parts:
    """The largest elements of each row."""
    x = fit.checked(format, x)
    count = min(format.count, x.shape[1])
    place = np.zeros((x.shape[0], format.count), np.int64)
    place[:, :count] = np.sort(np.argpartition(-np.abs(x), count - 1, 1)[:, :count], 1)
    element = np.zeros(place.shape)
    element[:, :count] = np.take_along_axis(x, place[:, :count], 1)
    return {"place": place, "element": format.element.round(element, saturate=True)}


@fit.encode.register
def _(format: Plus, x: Array, how: fit.Fit) -> Parts:
    rest = fit.checked(format, x)
    parts: Parts = {}
    for i, p in enumerate(format.parts):
        own = fit.encode(p, rest, how)
        rest = rest - p.values(own, rest.shape)
        parts |= prefixed(str(i), own)
    return parts


@fit.encode.register
def _(format: Mixed, x: Array, how: fit.Fit) -> Parts:
    """The rows that the second format rounds worst are in the first."""
    x = fit.checked(format, x)
    rounded = format.most.values(fit.encode(format.most, x, how), x.shape)
    worst = np.argsort(-np.square(rounded - x).sum(1), kind="stable")
    parts: Parts = {}
    start = 0
    for i, (p, size) in enumerate(format.split(x.shape)):
        rows = np.sort(worst[start : start + int(str(size[0]))])
        start += len(rows)
        parts |= {f"{i}.rows": rows}
        parts |= prefixed(str(i), fit.encode(p, x[rows], how))
    return parts
