"""What a run on a GPU would do: cases in their order, floors, peers and what they need, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilec.bench.gpu.case import Case
from tilec.bench.gpu.cases import CASES
from tilec.bench.gpu.peers import PEERS
from tilec.ir.errors import TileError

LIMIT = 600.0  # seconds of a whole run
ROUNDS = 7
BURST = 0.02  # seconds of a contender in each round
CHECK = 0.4  # to load a contender and check its result
MADE = 4e8  # elements of operands that are made in a second
COMPILE = 0.5  # seconds of a way of ours that is not in the cache, on sixteen processors


@dataclass(frozen=True)
class Planned:
    """A case of a plan: its bytes and operations, the seconds that no kernel can do without on an
    H100, the contenders, and how long those that are installed should take."""

    case: Case
    bytes: float
    operations: float
    floor: float
    ceiling: str
    contenders: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        case = self.case
        return {
            "case": case.name, "number": case.number, "dims": dict(case.dims),
            "reduced": case.reduced, "types": dict(case.types), "bytes": self.bytes,
            "operations": self.operations, "floor_us": 1e6 * self.floor, "ceiling": self.ceiling,
            "ways": [w.name for w in case.ways], "seconds": self.seconds,
            "peers": {p: {"needs": list(PEERS[p].needs), "absent": PEERS[p].absent()}
                      for p in case.peers},
        }  # fmt: skip


def chosen(only: str = "", quick: bool = False) -> tuple[Case, ...]:
    """The cases whose name or family's number has a text in it, the most wanted first.

    Raises TileError where there are none.
    """
    found = [c for c in CASES if only in c.name or only == f"#{c.number}"]
    found = [c for c in found if c.quick or not quick]
    if not found:
        raise TileError(f"no case of the GPU suite has {only!r} in its name",
                        hint=", ".join(c.name for c in CASES[:4]) + ", ...")  # fmt: skip
    return tuple(sorted(found, key=lambda c: c.turn))


def plan(cases: Sequence[Case], rounds: int = ROUNDS) -> list[Planned]:
    """The plan of a run, in its order."""
    return [_planned(c, rounds) for c in cases]


def _planned(case: Case, rounds: int) -> Planned:
    names = (*(w.name for w in case.ways), *case.peers)
    peers = [p for p in case.peers if not PEERS[p].absent()]
    many = len(case.ways) + len(peers)
    slow = sum(PEERS[p].seconds for p in peers)
    each = max(BURST, 3 * case.floor)
    seconds = many * (CHECK + rounds * each) + slow + case.elements / MADE
    seconds += COMPILE * len(case.ways)
    return Planned(case, case.bytes, case.operations, case.floor, case.ceiling, names, seconds)
