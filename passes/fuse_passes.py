"""How often a function goes over each tensor that it reads.

Of ops on whole tensors it is the passes that the cascade needs if nothing is rewritten (FuseMax:
Nayak and others, 2024): a reduction that depends on another one over the same elements reads them
again. Of loops it is how many of them read the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.extent import Extent
from tilec.ir.ops import control, memory
from tilec.passes.cascade import reductions
from tilec.passes.fuse_elements import Index, Indices, Node
from tilec.passes.fuse_nodes import Nodes
from tilec.passes.fuse_order import forwarded


def passes_over(func: Func) -> dict[str, int]:
    """The passes over each tensor that is read, by name: by loops, and by ops outside of grids."""
    found: dict[str, set[object]] = {}
    for name, loop in _of_loops(func):
        found.setdefault(name, set()).add(loop)
    numbers: dict[str, dict[Extent, set[int]]] = {}
    for name, dim, number in _of_tensors(func):
        numbers.setdefault(name, {}).setdefault(dim, set()).add(number)
    most = {name: max(map(len, dims.values())) for name, dims in numbers.items()}
    return {n: len(found.get(n, ())) + most.get(n, 0) for n in (*found, *most)}


def _of_loops(func: Func) -> Iterator[tuple[str, object]]:
    made = {v: op for op in func.walk() for v in op.results}
    grids = [op for op in func.body.ops if isinstance(op, control.Grid)]
    for g in grids:
        yield from _inside(g.body, g, {p: g for p in g.body.params}, made)


def _inside(block: Block, here: Op, spans: dict[Value, Op], made: dict[Value, Op]
            ) -> Iterator[tuple[str, object]]:  # fmt: skip
    """Each load with the innermost loop whose span it uses, or the grid."""
    for op in block.ops:
        if isinstance(op, memory.Load):
            used = [spans[v] for v in _sources(op.indices, made) if v in spans]
            loops = [u for u in used if isinstance(u, control.For)]
            yield op.mem.hint, (loops[-1] if loops else here)
        for inner in op.blocks:
            more = {inner.params[0]: op} if isinstance(op, control.For) else dict[Value, Op]()
            yield from _inside(inner, here, spans | more, made)


def _sources(values: tuple[Value, ...], made: dict[Value, Op]) -> list[Value]:
    """The values that others are made of, and they themselves."""
    found: dict[Value, None] = {}
    left = list(values)
    while left:
        v = left.pop()
        found[v] = None
        if v in made and not made[v].blocks:
            left += [x for x in made[v].operands if x not in found]
    return list(found)


def _of_tensors(func: Func) -> Iterator[tuple[str, Extent, int]]:
    ops = func.body.ops
    nodes = Nodes({v: op for op in ops for v in op.results}, {}, forwarded(ops), as_written=True)
    for op in ops:
        if isinstance(op, memory.Store):
            t = op.value.type
            idx: Indices = tuple(Index(e, "") for e in getattr(t, "shape", ()))
            yield from _of_root(nodes.at(op.value, idx))


def _of_root(root: Node) -> Iterator[tuple[str, Extent, int]]:
    """Each load with a dimension, and the number of the pass over it in which it is read: by how
    many reductions over the same elements come before."""
    number: dict[Node, int] = {}
    last: dict[Extent, int] = {}
    for r in reductions(root):
        assert r.bound is not None
        before = [number[n] for n in reductions(r) if n is not r and n.bound is r.bound]
        number[r] = 1 + max(before, default=0)
        last[r.bound.dim] = max(number[r], last.get(r.bound.dim, 0))
        for n in _direct(r.args, r.bound):
            if n.mem is not None:
                along = r.bound in n.axes
                yield n.mem.hint, r.bound.dim if along else 0, number[r] if along else 1
    for n in _direct((root,), None):
        for dim in {a.dim for a in n.axes} or {1}:
            if n.mem is not None:
                yield n.mem.hint, dim, last.get(dim, 0) + 1


def _direct(nodes: tuple[Node, ...], bound: Index | None) -> list[Node]:
    """The loads that nodes are made of without a reduction over `bound`, or any if that is None."""
    found: dict[Node, None] = {}
    left = list(nodes)
    while left:
        n = left.pop()
        if n in found:
            continue
        if n.bound is not None and n.bound not in n.axes and (bound is None or n.bound is bound):
            continue
        found[n] = None
        left += n.below()
    return [n for n in found if n.of is memory.Load]
