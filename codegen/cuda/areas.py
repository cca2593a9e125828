"""The shared memory of a kernel while it is printed: its rings, and what threads hand over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tilec.codegen.cuda.lifetimes import Lifetimes
from tilec.codegen.cuda.placement import Area, place, total
from tilec.ir.core import Op, Value

_MARK = "\0"  # begins a line that is written when all areas are known: depth and number follow


@dataclass
class SharedMemory:
    """Areas in the order in which they were asked for; `names` are those of rings."""

    lives: Lifetimes = field(default_factory=Lifetimes)
    areas: list[Area] = field(default_factory=list[Area])
    names: dict[int, str] = field(default_factory=dict[int, str])
    step: int = 0
    first: int = 0  # the line at which the op begins that is being printed
    here: int | None = None  # the area in which its threads hand over

    def at(self, op: Op, lines: Sequence[str]) -> None:
        """What follows is of this op."""
        self.step, self.first, self.here = self.lives.steps[op], len(lines), None

    def room(self, size: int, lines: list[str], depth: int) -> None:
        """So many bytes for the op that is being printed, from `shared` on."""
        if self.here is None:
            self.here = len(self.areas)
            self.areas.append(Area(self.step, self.step, 0))
            lines.insert(self.first, f"{_MARK}{depth} {self.here}")
        area = self.areas[self.here]
        self.areas[self.here] = replace(area, size=max(area.size, size))

    def ring(self, v: Value, name: str, size: int, alignment: int, lines: list[str],
             depth: int) -> None:  # fmt: skip
        """A ring that is written from this line on."""
        begin, end = self.lives.rings.get(v, (0, self.lives.last))
        lines.append(f"{_MARK}{depth} {len(self.areas)}")
        self.names[len(self.areas)] = name
        self.areas.append(Area(begin, end, size, alignment))

    @property
    def bytes(self) -> int:
        """All of it."""
        return total(self.areas, place(self.areas))

    def placed(self, lines: Sequence[str], barrier: str) -> tuple[list[str], list[str]]:
        """The addresses that a kernel begins with, and its lines with those that were left open;
        `barrier` is how its threads wait for each other."""
        offsets = place(self.areas)
        top = [f"  const u32 {name} = shared_base() + {offsets[i]};"
               for i, name in self.names.items()]  # fmt: skip
        starts = {at for i, at in enumerate(offsets) if i not in self.names}
        if starts:
            constant = "const " if len(starts) == 1 else ""
            top.append(f"  {constant}u32 shared = shared_base() + {min(starts)};")
        out: list[str] = []
        for line in lines:
            if not line.startswith(_MARK):
                out.append(line)
                continue
            depth, i = map(int, line.removeprefix(_MARK).split())
            if i in self.names and self._written(i, offsets, depth > 1):
                out.append("  " * depth + barrier)
            elif i not in self.names and len(starts) > 1:
                out.append("  " * depth + f"shared = shared_base() + {offsets[i]};")
        return top, out

    def _written(self, ring: int, offsets: Sequence[int], again: bool) -> bool:
        """Whether threads may still read what they handed over where a ring lies: before it, or
        after it where the ring is written `again`."""
        area, at = self.areas[ring], offsets[ring]
        return any(
            i not in self.names
            and (again or other.begin < area.begin)
            and at < offsets[i] + other.size
            and offsets[i] < at + area.size
            for i, other in enumerate(self.areas)
        )
