"""Launching a kernel: memory laid out, waves of blocks run, results copied back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.arguments import Arguments, Bound, bind, offsets
from tilec.ptx.barriers import Barriers
from tilec.ptx.body import Program
from tilec.ptx.clocks import Clocks
from tilec.ptx.flights import Flights
from tilec.ptx.formats import UINT, Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.instructions.memory import space
from tilec.ptx.local import Local, Parameters
from tilec.ptx.machine import Machine
from tilec.ptx.mbarriers import Mbarriers
from tilec.ptx.memory import GLOBAL, Global, Heap
from tilec.ptx.operand import Register, Vector
from tilec.ptx.registry import Form
from tilec.ptx.report import Findings, Report, Suppression
from tilec.ptx.schedule import Scheduler
from tilec.ptx.shadow import Shadow
from tilec.ptx.shared import BASE, Shared
from tilec.ptx.spaces import Spaces
from tilec.ptx.specials import specials
from tilec.ptx.statistics import Statistics
from tilec.ptx.threads import Registers, Shape

Code = list[tuple[Instruction, Form]]
AT_ONCE = 1 << 29  # bytes of registers of one wave
SHARED_ALIGNMENT = 1024
LARGEST_SHARED = 227 * 1024


@dataclass(frozen=True)
class Settings:
    """How to run: checks and statistics or not, findings not to report, and the most steps."""

    check: bool = True
    statistics: bool = True
    suppress: tuple[Suppression, ...] = ()
    limit: int = 10_000_000


@dataclass(frozen=True)
class Launch:
    """The grid and the block of a launch, and the bytes of dynamic shared memory."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int

    def __post_init__(self) -> None:
        if min(self.grid) < 1 or min(self.block) < 1:
            raise TileError(f"ptx: a grid of {self.grid} blocks of {self.block} threads is empty")
        threads = self.block[0] * self.block[1] * self.block[2]
        if threads > 1024:
            raise TileError(f"ptx: a block has at most 1024 threads, not {threads}")
        if self.shared < 0:
            raise TileError(f"ptx: {self.shared} bytes of shared memory")


@dataclass(frozen=True)
class Frame:
    """Addresses of the variables of a kernel, and the sizes of shared and local memory."""

    symbols: dict[str, int]
    static: int  # bytes of shared memory of the kernel's own variables
    dynamic: int  # bytes that the launch adds
    shared: int  # both, with what alignment puts between
    local: int


def run(
    program: Program, code: Code, launch: Launch, arguments: Arguments, settings: Settings
) -> Report:
    """Run a kernel; arrays among the arguments hold its results afterwards."""
    heap = Heap()
    bound = bind(program.entry.parameters, arguments, heap)
    frame = _frame(program, launch, heap)
    heap.seal()
    findings = Findings(settings.suppress)
    statistics = Statistics(tuple(i for i, _ in code)) if settings.statistics else None
    total = launch.grid[0] * launch.grid[1] * launch.grid[2]
    steps, finished = 0, True
    with np.errstate(all="ignore"):
        for shape in _waves(program, launch, total):
            m = _machine(program, code, shape, frame, heap, bound, findings, statistics, settings)
            scheduler = Scheduler(m, code, settings.limit - steps)
            finished = scheduler.run()
            steps += scheduler.steps
            _leftovers(m, code)
            if not finished:
                break
    _copy_back(heap, bound)
    rows = statistics.rows() if statistics is not None else ()
    threads = total * launch.block[0] * launch.block[1] * launch.block[2]
    return Report(program.entry.name, findings.known(), rows, threads, steps, finished)


def _waves(program: Program, launch: Launch, total: int) -> list[Shape]:
    """The blocks that run at once: as many as the memory for registers allows."""
    one = Shape(launch.block, launch.grid)
    size = sum(max(w // 8, 1) for w in program.widths) * one.lanes + 64 * launch.shared
    many = max(1, min(total, AT_ONCE // max(size, 1)))
    return [
        Shape(launch.block, launch.grid, first, min(many, total - first))
        for first in range(0, total, many)
    ]


def _frame(program: Program, launch: Launch, heap: Heap) -> Frame:
    """Place the variables: shared from its base on, dynamic behind static; the rest in the heap."""
    symbols = offsets(program.entry.parameters)
    static = local = 0
    align, dynamic = 16, list[str]()
    for v in program.variables.values():
        if v.space == "shared" and v.extern:
            dynamic.append(v.name)
            align = max(align, v.align)
        elif v.space == "shared":
            static = -(-static // v.align) * v.align
            symbols[v.name] = BASE + static
            static += v.size
        elif v.space == "local":
            local = -(-local // v.align) * v.align
            symbols[v.name] = local
            local += v.size
        else:
            content = v.values + bytes(v.size - len(v.values))
            symbols[v.name] = heap.add(v.name, content, v.space != "const")
    start = -(-static // align) * align if dynamic else static
    symbols |= dict.fromkeys(dynamic, BASE + start)
    shared = start + launch.shared
    if shared > LARGEST_SHARED:
        raise TileError(f"ptx: {shared} bytes of shared memory; no block has over {LARGEST_SHARED}")
    return Frame(symbols, static, launch.shared, shared, local)


def _machine(
    program: Program, code: Code, shape: Shape, frame: Frame, heap: Heap, bound: Bound,
    findings: Findings, statistics: Statistics | None, settings: Settings,
) -> Machine:  # fmt: skip
    instructions = tuple(i for i, _ in code)
    stride = -(-max(frame.shared, 1) // SHARED_ALIGNMENT) * SHARED_ALIGNMENT
    memory = np.full(shape.blocks * stride, 0xFF, np.uint8)
    clocks = Clocks(shape) if settings.check else None
    shadow = None
    if clocks is not None:
        grain = min(map(granule, instructions))
        shadow = Shadow(instructions, clocks, findings, memory, stride, grain)
    shared = Shared(memory, frame.shared, stride, findings, statistics, shadow)
    registers = _registers(program, code, shape, frame, settings.check)
    return Machine(
        shape=shape,
        registers=registers,
        spaces=Spaces(
            Global(heap, findings, statistics),
            shared,
            Local(shape.total, frame.local, findings),
            Parameters(bytes(bound.block), findings),
        ),
        barriers=Barriers(shape, clocks, findings),
        mbarriers=Mbarriers(shared, clocks, findings),
        findings=findings,
        clocks=clocks,
        shadow=shadow,
        statistics=statistics,
        copies=Flights(shape.total),
        bulk=Flights(shape.total),
        matrices=Flights(shape.blocks * shape.warps),
        carry=np.zeros(shape.total, bool),
    )


def _registers(program: Program, code: Code, shape: Shape, frame: Frame, check: bool) -> Registers:
    """Rows of zeros for every register, and those that wgmma needs a fence for."""
    slots: dict[int, list[int]] = {}
    for slot, width in enumerate(program.widths):
        slots.setdefault(width, []).append(slot)
    rows: list[Array] = [np.zeros(0)] * len(program.widths)
    for width, those in slots.items():
        block = np.zeros((len(those), shape.total), UINT[width] if width > 1 else bool)
        for slot, row in zip(those, block, strict=True):
            rows[slot] = row
    fenced = np.zeros(shape.total, bool)
    found = Registers(rows, specials(shape, frame.static, frame.dynamic), frame.symbols, fenced)
    for slot in _fenced(code) if check else ():
        found.unfenced[slot] = np.zeros(shape.total, bool)
    return found


def _fenced(code: Code) -> set[int]:
    """The registers that wgmma uses, and those that are copied to them."""
    copies: dict[int, set[int]] = {}
    left: list[int] = []
    for i, _ in code:
        if i.name == "mov":
            d, a = i.operands
            if isinstance(d, Register) and isinstance(a, Register):
                copies.setdefault(d.slot, set()).add(a.slot)
        elif i.name.startswith("wgmma.mma_async"):
            vectors = [o.parts for o in i.operands[:2] if isinstance(o, Vector)]
            left += [r.slot for parts in vectors for r in parts if isinstance(r, Register)]
    found: set[int] = set()
    while left:
        slot = left.pop()
        if slot not in found:
            found.add(slot)
            left += copies.get(slot, ())
    return found


def granule(i: Instruction) -> int:
    """The least bytes of shared memory that an instruction can use at once, at most 16."""
    match i.name:
        case "ld" | "ldu" | "st":
            at = 0 if i.name == "st" else 1
            if space(i, at) not in ("shared", "generic"):
                return 16
            value = i.operands[1 - at]
            many = len(value.parts) if isinstance(value, Vector) else 1
            return min(i.types[0].bytes * many, 16)
        case "atom" | "red":
            return 16 if "global" in i.modifiers else min(i.types[0].bytes, 16)
        case "cp.async":
            return int(str(i.operands[2]), 0)
        case "tensormap.replace.tile":
            return 4
        case "cp.reduce.async.bulk":
            return i.types[0].bytes
        case name if "mbarrier" in name:
            return 8
        case _:
            return 16


def _leftovers(m: Machine, code: Code) -> None:
    """Report what bulk copies never brought, where the run came to its end."""
    pending = [b for b in m.mbarriers.objects.values() if b.landing]
    if pending and m.shadow is not None:
        at = int(m.shadow.arriving[m.shadow.arriving > 0][0]) - 1
        i = code[at][0]
        m.findings.add("exit", i, "a block ends before the mbarrier of this copy completes a phase")


def _copy_back(heap: Heap, bound: Bound) -> None:
    for array, address in bound.arrays.values():
        if array.flags.writeable:
            start = address - GLOBAL
            content = heap.memory[start : start + array.nbytes]
            array[...] = content.view(array.dtype).reshape(array.shape)
