"""What machine code says of a kernel's speed: resources, residency, the mix of its main loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tilec.ir.errors import TileError
from tilec.sass.graph import main_loop
from tilec.sass.listing import Function, Instruction, parse
from tilec.sass.machine import DEVICES, SCHEDULERS, Device, Residency, capability, residency
from tilec.sass.opcodes import CLASSES, MOVES, class_of, matches, width
from tilec.sass.tools import disassembled

WARP = 32


@dataclass(frozen=True)
class Mix:
    """Some instructions, counted by name (`HMMA.16816.F32`) and by line of source (`file:line`)."""

    names: Mapping[str, int]
    lines: Mapping[str, int]

    @property
    def instructions(self) -> int:
        """How many there are."""
        return sum(self.names.values())

    @property
    def classes(self) -> dict[str, int]:
        """How many there are of each class, in the order of CLASSES; those absent left out."""
        found = {c: sum(self.of(c).values()) for c in CLASSES}
        return {c: n for c, n in found.items() if n}

    @property
    def per_mma(self) -> float | None:
        """Instructions per matrix multiplication, itself included; None without one."""
        mmas = sum(self.of("mma").values())
        return self.instructions / mmas if mmas else None

    def of(self, kind: str) -> dict[str, int]:
        """The instructions of a class, by name."""
        return {n: c for n, c in self.names.items() if class_of(n.partition(".")[0]) == kind}

    def count(self, pattern: str) -> int:
        """How many have the opcode and at least the modifiers of a pattern such as `HGMMA.RS`."""
        return sum(n for name, n in self.names.items() if matches(name, pattern))

    def widths(self, kind: str) -> dict[int, int]:
        """How many of a class of MOVES move so many bytes for each thread, narrowest first."""
        found = Counter[int]()
        for name, n in self.of(kind).items():
            found[width(name)] += n
        return dict(sorted(found.items()))

    @property
    def loaded(self) -> int:
        """Bytes that each thread reads from global memory, were no load predicated off. Copies by
        the tensor memory accelerator are not in it: machine code does not say their size."""
        return sum(w * n for kind in ("ldg", "ldgsts") for w, n in self.widths(kind).items())

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that JSON has."""
        return {
            "instructions": self.instructions, "per_mma": self.per_mma, "classes": self.classes,
            "widths": {k: self.widths(k) for k in MOVES if self.widths(k)}, "loaded": self.loaded,
            "names": dict(self.names), "lines": dict(self.lines),
        }  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """How fast a loop can issue at best, on one multiprocessor of a device: clocks per turn of all
    warps of a CTA, and the bytes that it then reads per clock."""

    device: Device
    clocks: float
    bytes_per_clock: float

    @property
    def of_memory(self) -> float:
        """The bytes as a part of what memory gives: below 1, memory waits for instructions."""
        return self.bytes_per_clock / self.device.bytes_per_clock


@dataclass(frozen=True)
class Stats:
    """A kernel: registers of a thread, bytes of stack of a thread, bytes of shared memory of a CTA
    (static and dynamic), threads of a CTA (0: not known), and its instructions.

    `loop` is one turn of the main loop, as `graph.main_loop` says; None without one.
    """

    name: str
    target: str
    registers: int
    stack: int
    shared: int
    threads: int
    code: Mix
    loop: Mix | None

    @property
    def spills(self) -> int:
        """The loads and stores of registers that did not fit, and of arrays of a thread."""
        return sum(self.code.of("local").values())

    @property
    def per_mma(self) -> float | None:
        """Instructions of the main loop per matrix multiplication; None without one."""
        return self.loop.per_mma if self.loop is not None else None

    @property
    def residency(self) -> Residency | None:
        """How many CTAs a multiprocessor holds; None where the threads are not known."""
        if not self.threads:
            return None
        return residency(self.target, self.registers, self.threads, self.shared)

    def bound(self, device: Device, bytes_of_turn: int | None = None) -> Bound:
        """The bound of issuing: each of a multiprocessor's four schedulers issues one instruction
        of a warp per clock. Code without a loop is one turn. `bytes_of_turn` counts the bytes of a
        CTA's turn that matter, by default all that it loads. Raises TileError without a number of
        threads.

        It comes from counting only: latency, clocks and caches are not in it.
        """
        if not self.threads:
            raise TileError(f"{self.name} has no known number of threads, so there is no bound of "
                            "issuing")  # fmt: skip
        warps, turn = -(-self.threads // WARP), self.loop or self.code
        clocks = turn.instructions * warps / SCHEDULERS
        amount = turn.loaded * warps * WARP if bytes_of_turn is None else bytes_of_turn
        return Bound(device, clocks, amount / clocks)

    @property
    def bounds(self) -> list[tuple[Device, Bound]]:
        """The bound of issuing on the known devices of the target; none without a number of
        threads."""
        own = [d for d in DEVICES if capability(d.target) == capability(self.target)]
        return [(d, self.bound(d)) for d in own] if self.threads else []

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that JSON has."""
        resident = self.residency
        return {
            "name": self.name, "target": self.target, "registers": self.registers,
            "stack": self.stack, "spills": self.spills, "shared": self.shared,
            "threads": self.threads, "residency": resident and asdict(resident),
            "code": self.code.as_json(), "loop": self.loop and self.loop.as_json(),
            "bounds": [
                {"device": d.name, "clocks": b.clocks, "bytes_per_clock": b.bytes_per_clock,
                 "of_memory": b.of_memory}
                for d, b in self.bounds
            ],
        }  # fmt: skip


def stats_of(cubin: bytes, *, threads: int = 0, dynamic_shared: int = 0) -> tuple[Stats, ...]:
    """Of each kernel of a cubin. Machine code does not say the bytes of dynamic shared memory, nor
    the threads of a CTA where the kernel was not compiled for a number.

    Raises TileError where there is no disassembler, or no code in the cubin.
    """
    found = parse(disassembled(cubin, "-gi"))
    if not found:
        raise TileError("the cubin holds no code")
    return tuple(judged(f, threads=threads, dynamic_shared=dynamic_shared) for f in found)


def judged(function: Function, *, threads: int = 0, dynamic_shared: int = 0) -> Stats:
    """Of one function of a listing; see `stats_of`."""
    own, loop = function.resources, main_loop(function)
    return Stats(
        function.name, function.target, own.registers, own.stack, own.shared + dynamic_shared,
        threads or own.threads, _mix(function.instructions), _mix(loop) if loop else None,
    )  # fmt: skip


def _mix(instructions: Iterable[Instruction]) -> Mix:
    """Instructions counted, the most frequent first, and the lines in their order."""
    code = tuple(instructions)
    lines = Counter((i.line.file, i.line.number) for i in code if i.line is not None)
    counted = {f"{file}:{number}": n for (file, number), n in sorted(lines.items())}
    return Mix(dict(Counter(i.name for i in code).most_common()), counted)
