"""Kernels for processors: the passes, and LLVM IR of what they leave, by a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tilec.ir.core import Func, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.packing import Layout, Plain, default_layout, place
from tilec.ir.parameters import passed
from tilec.ir.source import KernelSource, Param
from tilec.ir.types import Memory, Shape, Tile, Type
from tilec.lang.kernel import Definition
from tilec.observe import stage
from tilec.passes import Step, run
from tilec.passes.specialise import specialise
from tilec.schedule import Facts, choice, parsed

SERIAL = 2e7  # operations of a call from which on threads are worth waking up, whatever it does
CHAINED = 128  # sides of scores of attention: as fast as any from 64 to 256, on Zen 5


def _threads(facts: Facts) -> tuple[int, ...]:
    """A short call may be sooner done by one thread than by waking up others."""
    return (1,) if facts.workers > 1 and facts.operations < SERIAL else ()


class Host(Protocol):
    """What code is made for: `machine` (runtime.jit.Machine) and `pool` (runtime.pool.Pool)."""

    machine: Any
    pool: Any


@dataclass(frozen=True)
class Schedule:
    """How a kernel is made: what is chosen beside the program itself, and a tuner may vary.

    A field is an option of a pass (`tilec.passes`), where it is described; 0 leaves it to the pass.
    `tiles` pins tile sizes by the name of the loop's variable.
    """

    rows: int = 0  # tile: the most rows of a product's tile
    columns: int = 0  # tile: its columns
    depth: int = 0  # tile: its step
    budget: int = 0  # tile: elements of a tile without a product
    threads: int = choice(0, _threads)  # that share the work: 1, or 0: all
    tiles: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        if self.threads not in (0, 1):
            raise TileError(f"a schedule: threads is {self.threads}, expected 1, or 0 for all")

    def steps(
        self, dims: Mapping[str, int], threads: int, plain: Iterable[str] = ()
    ) -> tuple[Step, ...]:
        """The passes that make a kernel ready for the code of a CPU with so many threads.

        `plain` names tensors whose components are arrays row by row although CPU code has an order
        of its own for them.
        """
        given = {"rows": self.rows, "columns": self.columns, "depth": self.depth,
                 "budget": self.budget}  # fmt: skip
        sizes = {name: size for name, size in given.items() if size}
        return (
            Step("specialise", dict(dims)),  # first: every later choice depends on the extents
            Step("fuse"),  # before all that knows grids
            Step("compose"),  # before tile: it makes grids of its own
            # before decode-elements: values have formats of their own
            Step("sparsify", {"lanes": True, "plain": "+".join(plain)}),
            Step("decode-elements"),  # after compose: they may be parts of what that takes apart
            Step("hoist"),  # before tile: it makes grids of its own
            # before formats: a step of k divides a scale's group
            Step(
                "tile",
                {"threads": threads, "chained": CHAINED, "halve": True, **sizes, **self.tiles},
            ),
            Step("lower-formats"),
            Step("canonicalize"),  # last: drops the decoding that a product did not need
        )


def schedule_of(text: str) -> Schedule:
    """`rows=64,depth=512,m=16` as a schedule: what is no field pins a tile size.

    Raises TileError for anything else.
    """
    return parsed(Schedule, text)


def lower(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int],
    threads: int = 2, schedule: Schedule | None = None,
) -> Func:  # fmt: skip
    """A kernel as the CPU back end takes it, with the remarks of the passes."""
    return run((schedule or Schedule()).steps(dims, threads), definition.ir(types))


def cpu_source(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int],
    host: Host, layouts: Mapping[str, Layout] | None = None, schedule: Schedule | None = None,
) -> KernelSource:  # fmt: skip
    """LLVM IR of a kernel for a machine. Raises TileError at the user's line.

    `layouts` says how scaled tensors lie in memory where that is not the default.
    """
    with stage("import", "load"):
        from tilec.codegen.cpu import emit

    with stage("parse", "parse"):
        whole = definition.ir(types)
    with stage("specialise", "pass"):
        whole = specialise(whole, **dims)
    plain = [name for name, layout in (layouts or {}).items() if isinstance(layout, Plain)]
    chosen = schedule or Schedule()
    threads = min(chosen.threads or host.pool.threads, host.pool.threads)
    func = run(chosen.steps(dims, threads, plain), whole)
    given = {p.hint: p.type for p in whole.params}
    params = tuple(_param(p, given, layouts or {}) for p in func.params if passed(p, given))
    with stage("codegen", "codegen"):
        return emit(func, params, host.machine.cpu, host.machine.features, threads)


def _param(p: Value, given: Mapping[str, Type], layouts: Mapping[str, Layout]) -> Param:
    """The slot of a parameter that the passes left, part of one that the user gave."""
    name, _, component = p.hint.partition(".")
    argument, whole = list(given).index(name), given[name]
    if isinstance(p.type, Tile):
        return Param(name, str(p.type.dtype), (), "scalar", argument)
    if not (isinstance(p.type, Memory) and isinstance(whole, Memory)):
        raise TileError(f"a parameter cannot be {p.type}")
    dtype, shape = str(p.type.dtype), _known(p.type.shape)
    if not component:
        return Param(name, dtype, shape, "tensor", argument)
    layout = layouts.get(name) or default_layout(whole.format, _known(whole.shape))
    at = place(layout, whole.format, _known(whole.shape), component)
    return Param(p.hint, dtype, shape, "packed", argument, at.name, at.array, at.records)


def _known(shape: Shape) -> tuple[int, ...]:
    unknown = [str(d) for d in shape if not isinstance(d, int)]
    if unknown:
        raise TileError(f"the dimension {unknown[0]} is not known", hint="give a number for it")
    return tuple(int(str(d)) for d in shape)
