"""Groups that are known: while values are kept one after the other, little of them changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Op, Value
from tilec.passes.fuse_groups import Group, Root, Source, built

Roots = tuple[Root, ...]


@dataclass
class Known:
    """Groups by their roots.

    A group holds until a value is kept that it computes: only then it is built anew. So a program
    of equal parts is built once, not once for each value that is kept.
    """

    source: Source
    kept: dict[Value, Value]  # memory in which values lie
    groups: dict[Roots, Group] = field(default_factory=dict[Roots, Group])
    computed: dict[Value, list[Roots]] = field(default_factory=dict[Value, list[Roots]])  # by whom

    def group(self, roots: Sequence[Root]) -> Group:
        """The group of roots. Raises TileError for what can't be computed by tiles."""
        key = tuple(roots)
        if key not in self.groups:
            group = self.groups[key] = built([*key], self.kept, self.source)
            for v in dict.fromkeys(v for v, _ in group.nodes.known):
                self.computed.setdefault(v, []).append(key)
        return self.groups[key]

    def keep(self, value: Value, mem: Value) -> None:
        """A value lies in memory from now on: groups that compute it for others are built anew."""
        self.kept[value] = mem
        for key in self.computed.pop(value, ()):
            if all(r.value is not value for r in key):
                self.groups.pop(key, None)

    def computes(self, values: Iterable[Value], wanted: Op) -> bool:
        """Whether an op is run for values, as it is not where what it is for is kept."""
        seen, left = set[Value](), list(values)
        while left:
            op = self.source.made.get(left.pop())
            if op is wanted:
                return True
            below = (self.source.same.get(v, v) for v in (op.operands if op else ()))
            new = {v for v in below if self.source.uses(v, wanted)} - seen - self.kept.keys()
            seen |= new
            left += new
        return False
