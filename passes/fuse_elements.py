"""Elements of whole tensors by their indices, which have names instead of places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Op, Value
from tilec.ir.dtype import DType
from tilec.ir.extent import Extent


@dataclass(frozen=True, eq=False)
class Index:
    """A coordinate along a dimension of `dim` elements: one of the result's, or of a reduction."""

    dim: Extent
    hint: str
    running: bool = False  # of a reduction

    def __str__(self) -> str:
        return f"{self.hint}:{self.dim}"


@dataclass(frozen=True, eq=False)
class Node:
    """A value at indices: those of `axes`. `of` is the class of the op that gives it.

    A load's `indices` are an Index or a Node a dimension; `bound` is what a reduction runs over.
    """

    of: type[Op]
    args: tuple[Node, ...]
    axes: tuple[Index, ...]
    dtype: DType
    attributes: tuple[tuple[str, Any], ...] = ()
    mem: Value | None = None
    indices: tuple[Index | Node, ...] = ()
    bound: Index | None = None
    op: Op | None = None  # where it comes from
    leaf: Value | None = None  # of scalars that are given

    @property
    def free(self) -> frozenset[Index]:
        """The indices that it depends on."""
        return frozenset(self.axes)

    def walk(self) -> Iterator[Node]:
        """This node and all that it is made of, each once, operands first."""
        yield from walked((self,))

    def below(self) -> tuple[Node, ...]:
        """The nodes that it is made of directly."""
        if not self.indices:
            return self.args
        return (*self.args, *(i for i in self.indices if isinstance(i, Node)))


def walked(nodes: Iterable[Node]) -> Iterator[Node]:
    """Nodes and all that they are made of, each once, operands first."""
    seen: set[Node] = set()
    for top in nodes:
        open_ = [] if top in seen else [(top, iter(top.below()))]
        seen.add(top)
        while open_:
            node, below = open_[-1]
            for n in below:
                if n not in seen:
                    seen.add(n)
                    open_.append((n, iter(n.below())))
                    break
            else:
                open_.pop()
                yield node


Indices = tuple[Index | Node | None, ...]  # a Node: a computed place; None: the only one


def merged(nodes: Iterable[Node]) -> tuple[Index, ...]:
    """The axes of nodes together, in the order of the one that has all; else those of the result
    first."""
    ordered = sorted(nodes, key=lambda n: -len(n.axes))
    axes = tuple(dict.fromkeys(a for n in ordered for a in n.axes))
    if not ordered or len(ordered[0].axes) == len(axes):
        return axes
    return tuple(sorted(axes, key=lambda a: a.running))


def indices_of(index: Index | Node) -> tuple[Index, ...]:
    """The indices that a place depends on."""
    return (index,) if isinstance(index, Index) else index.axes
