"""The graph of a function: tensors, and the ops and kernels between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilec.explain.traffic import kernels
from tilec.ir.core import Func, Op, Value
from tilec.ir.ops import memory
from tilec.ir.ops.control import Grid
from tilec.ir.types import Memory


@dataclass(frozen=True)
class Node:
    """A tensor, an op or a kernel, and what there is to say of it."""

    kind: str
    name: str
    detail: str


@dataclass
class Graph:
    """Nodes, and edges between them by their numbers. A tensor that is written is a new node."""

    nodes: list[Node] = field(default_factory=list[Node])
    edges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    made: dict[Value, tuple[int, ...]] = field(default_factory=dict[Value, tuple[int, ...]])
    tensors: dict[Value, int] = field(default_factory=dict[Value, int])

    def add(self, node: Node, below: tuple[int, ...]) -> int:
        """One more node behind others."""
        self.nodes.append(node)
        at = len(self.nodes) - 1
        self.edges += [(i, at) for i in dict.fromkeys(below)]
        return at

    def tensor(self, mem: Value) -> int:
        """The node of a tensor as it is now."""
        if mem not in self.tensors:
            self.tensors[mem] = self.add(Node("tensor", mem.hint, str(mem.type)[1:]), ())
        return self.tensors[mem]

    def written(self, mem: Value, by: int) -> None:
        """A tensor is another now."""
        self.tensors[mem] = self.add(Node("tensor", mem.hint, str(mem.type)[1:]), (by,))

    def below(self, op: Op) -> tuple[int, ...]:
        """The nodes that an op takes."""
        found: list[int] = []
        for v in op.operands:
            found += [self.tensor(v)] if isinstance(v.type, Memory) else self.made.get(v, ())
        return tuple(dict.fromkeys(found))


def graph_of(func: Func) -> Graph:
    """The graph of a function: views are in the edges."""
    g, known = Graph(), kernels(func)
    for op in func.body.ops:
        if isinstance(op, Grid):
            inside = list(op.body.walk())
            reads = {x.mem: None for x in inside if isinstance(x, memory.Load)}
            writes = {x.mem: None for x in inside if isinstance(x, memory.Write)}
            kernel = Node("kernel", known[op].name, " ".join(known[op].ops))
            at = g.add(kernel, tuple(map(g.tensor, reads)))
            for mem in writes:
                g.written(mem, at)
        elif isinstance(op, memory.Write):
            at = g.add(Node("op", op.name, op.mem.hint), g.made.get(op.value, ()))
            g.written(op.mem, at)
        else:
            below = g.below(op)
            if op in known:
                detail = ", ".join(str(v.type) for v in op.results)
                below = (g.add(Node("op", op.name, detail), below),)
            g.made.update(dict.fromkeys(op.results, below))
    return g
