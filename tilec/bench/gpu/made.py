"""A case as machine code at full size, and what that code shows without being run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tilec import gpu
from tilec.bench.gpu.case import Case, Way
from tilec.compile import engine
from tilec.ir.format import Format
from tilec.ir.source import KernelSource
from tilec.runtime.program import Program
from tilec.sass import Stats, stats_of

NARROW = 16  # bytes that a thread should copy at a time


@dataclass(frozen=True)
class Judged:
    """What machine code is like: of the kernel with most matrix instructions, else most
    instructions. `mma` and `moves` count instructions of a turn of the main loop: by name, and by
    class and bytes of each. `bulk` says whether the copy unit brings operands."""

    seconds: float
    kernels: int
    registers: int
    spills: int
    stack: int
    shared: int
    ctas: int
    instructions: int
    per_mma: float | None
    mma: Mapping[str, int]
    moves: Mapping[str, Mapping[int, int]]
    bulk: bool
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def faults(self, way: Way) -> list[str]:
        """What is not as it should be: spills, another instruction than the way is for, no room for
        a block."""
        found: list[str] = []
        if self.spills or self.stack:
            found.append(f"{self.spills} spills, {self.stack} bytes of stack")
        if way.instruction and not any(_is(n, way.instruction) for n in self.mma):
            found.append(f"no {way.instruction} in the main loop: {', '.join(self.mma) or 'none'}")
        if not self.ctas:
            found.append(f"{self.registers} registers and {self.shared} bytes of shared memory "
                         "have no room")  # fmt: skip
        return found

    @property
    def narrow(self) -> float:
        """The part of the bytes from global memory in the main loop that come in copies of less
        than NARROW bytes; nothing where the copy unit brings operands, and the rest are scales."""
        if self.bulk:
            return 0.0
        found = [(w, w * n) for kind in ("ldg", "ldgsts") for w, n in self.moves[kind].items()]
        whole = sum(n for _, n in found)
        return sum(n for w, n in found if w < NARROW) / whole if whole else 0.0


def _is(name: str, pattern: str) -> bool:
    opcode, *modifiers = name.split(".")
    wanted, *needed = pattern.split(".")
    return opcode == wanted and set(needed) <= set(modifiers)


def compiled(case: Case, way: Way, dims: Mapping[str, int], formats: Mapping[str, Format],
             image: str = "cubin") -> tuple[Program, KernelSource]:  # fmt: skip
    """A case as a GPU would load it, from the cache where it is there. Raises TileError."""
    return gpu.program(case.defined(formats), formats, dims, (), way.target, way.choice(image),
                       engine().kept)  # fmt: skip


def judged(case: Case, way: Way) -> Judged:
    """The machine code of full size. Raises TileError where the case can't be made so."""
    start = time.perf_counter()
    program, source = compiled(case, way, case.dims, case.formats)
    found: list[Stats] = []
    for k in program.kernels:
        stats = stats_of(k.image, threads=k.threads, dynamic_shared=k.shared)
        found += [s for s in stats if s.name == k.entry]
    main = max(found, key=_weight)
    turn = main.loop or main.code
    resident = main.residency
    return Judged(
        time.perf_counter() - start, len(found), main.registers,
        sum(s.spills for s in found), max(s.stack for s in found), main.shared,
        resident.ctas if resident is not None else 0, turn.instructions, main.per_mma,
        turn.of("mma"), {kind: turn.widths(kind) for kind in ("ldg", "ldgsts", "lds", "ldsm")},
        any(main.code.count(unit) for unit in ("UTMALDG", "UBLKCP")),
        tuple(str(r) for r in source.remarks),
    )  # fmt: skip


def _weight(s: Stats) -> tuple[int, int]:
    return sum((s.loop or s.code).of("mma").values()), s.code.instructions
