"""Kernels for processors: the passes, and LLVM IR of what they leave, by a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tilec.ir.choices import AHEAD, LINE, Choices
from tilec.ir.core import Func, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import substitute
from tilec.ir.format import Format
from tilec.ir.packing import Layout, Plain, default_layout, place
from tilec.ir.parameters import passed
from tilec.ir.ranges import Ranges, Sizes, numbers, opened, shown
from tilec.ir.source import KernelSource, Param
from tilec.ir.types import Memory, Shape, Tile, Type
from tilec.lang.kernel import Definition
from tilec.observe import stage
from tilec.passes import Step, run
from tilec.passes.pipeline import Option
from tilec.passes.specialise import specialise
from tilec.schedule import Facts, choice, parsed, within

SERIAL = 2e7  # operations of a call from which on threads are worth waking up, whatever it does
PANEL = 1 << 15  # bytes of a product's second operand that stay in L1
CHAINED = 128  # sides of scores of attention: as fast as any from 64 to 256, on Zen 5
NEAR = 2 << 20  # bytes of results of which some go past the nearer caches
FEW = 16  # rows of a product that may read its other operand straight from memory


def _threads(facts: Facts) -> tuple[int, ...]:
    """A short call may be sooner done by one thread than by waking up others."""
    return (1,) if facts.workers > 1 and facts.operations < SERIAL else ()


def _ahead(facts: Facts) -> tuple[int, ...]:
    """What is asked for too early is gone, and too late is waited for; what lies in a cache anyway
    needs no asking."""
    read = facts.streams or 0 < facts.rows <= FEW
    return (0, AHEAD // 4, 4 * AHEAD) if facts.products and read else ()


def _vectors(facts: Facts) -> tuple[int, ...]:
    """Fewer vectors are more rows: what is decoded is used by more rows before it is lost."""
    usual = facts.registers // 8
    return tuple(n for n in (1, 2, 4) if n != usual) if facts.products and facts.rows > 1 else ()


class Host(Protocol):
    """What code is made for: `machine` (runtime.jit.Machine) and `pool` (runtime.pool.Pool)."""

    machine: Any
    pool: Any


@dataclass(frozen=True)
class Schedule:
    """How a kernel is made: what is chosen beside the program itself, and a tuner may vary.

    A field is an option of a pass (`tilec.passes`) or a choice of the code (`tilec.ir.choices`),
    where it is described; 0 leaves it to these unless said otherwise. `tiles` pins tile sizes by
    the name of the loop's variable. Raises TileError for what is out of bounds.
    """

    rows: int = 0  # tile: the most rows of a product's tile
    columns: int = 0  # tile: its columns
    depth: int = 0  # tile: its step
    budget: int = 0  # tile: elements of a tile without a product
    chained: int = CHAINED  # tile: sides of what one product makes and another reads; 0: as all
    threads: int = choice(0, _threads)  # that share the work: 1, or 0: all
    # code: bytes between what is read of a stream and what is asked for; 0: nothing is
    ahead: int = choice(AHEAD, _ahead)
    register_rows: int = 0  # code: of a tile that is summed up in registers
    register_vectors: int = choice(0, _vectors)  # code: its vectors
    # code: 1: results go past the caches
    nontemporal: int = choice(0, lambda f: (1,) if f.written > NEAR else ())
    tiles: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        if self.threads not in (0, 1):
            raise TileError(f"a schedule: threads is {self.threads}, expected 1, or 0 for all")
        within("ahead", self.ahead, 0, 1 << 20, LINE)
        within("register_rows", self.register_rows, 0, 24)
        within("register_vectors", self.register_vectors, 0, 8)
        within("nontemporal", self.nontemporal, 0, 1)
        within("chained", self.chained, 0, 1 << 16)

    @property
    def choices(self) -> Choices:
        """What the passes do not decide."""
        return Choices(self.ahead, self.register_rows, self.register_vectors, self.nontemporal)

    def steps(self, dims: Sizes, threads: int, plain: Iterable[str] = (), pairs: bool = False
              ) -> tuple[Step, ...]:  # fmt: skip
        """The passes that make a kernel ready for the code of a CPU with so many threads.

        `plain` names tensors whose components are arrays row by row although CPU code has an order
        of its own for them. `pairs` says that the processor multiplies bf16 as it is.
        """
        kept = {"threads": threads, "chained": self.chained}
        given = {"rows": self.rows, "columns": self.columns, "depth": self.depth,
                 "budget": self.budget}  # fmt: skip
        sizes: dict[str, Option] = {name: size for name, size in given.items() if size}
        sizes |= {} if self.depth else {"panel": PANEL, "pairs": pairs}
        sizes |= {"ranges": shown(opened(dims))} if opened(dims) else {}
        return (
            # first: every later choice depends on the extents
            Step("specialise", dict[str, Option](numbers(dims))),
            Step("fuse"),  # before all that knows grids
            Step("compose"),  # before tile: it makes grids of its own
            # before decode-elements: values have formats of their own
            Step("sparsify", {"lanes": True, "plain": "+".join(plain)}),
            Step("decode-elements"),  # after compose: they may be parts of what that takes apart
            Step("hoist"),  # before tile: it makes grids of its own
            # before formats: a step of k divides a scale's group
            Step(
                "tile",
                {**kept, "halve": True, "along": True, "exact": True, **sizes, **self.tiles},
            ),
            Step("pages"),
            Step("split-groups"),
            Step("lower-formats", {"first": True}),
            Step("factor-scales"),  # after: of the others, the steps of k divide groups, too
            Step("canonicalize"),  # last: drops the decoding that a product did not need
        )


def schedule_of(text: str) -> Schedule:
    """`rows=64,depth=512,m=16` as a schedule: what is no field pins a tile size.

    Raises TileError for anything else.
    """
    return parsed(Schedule, text)


def lower(
    definition: Definition, types: Mapping[str, Format | DType], dims: Sizes,
    threads: int = 2, schedule: Schedule | None = None,
) -> Func:  # fmt: skip
    """A kernel as the CPU back end takes it, with the remarks of the passes."""
    return run((schedule or Schedule()).steps(dims, threads), definition.ir(types))


def cpu_source(
    definition: Definition, types: Mapping[str, Format | DType], dims: Sizes,
    host: Host, layouts: Mapping[str, Layout] | None = None, schedule: Schedule | None = None,
) -> KernelSource:  # fmt: skip
    """LLVM IR of a kernel for a machine. Raises TileError at the user's line.

    Dimensions that are ranges stay open. `layouts` says how scaled tensors lie in memory where that
    is not the default.
    """
    with stage("import", "load"):
        from tilec.codegen.cpu import emit
        from tilec.codegen.cpu.atoms import pairs

    with stage("parse", "parse"):
        whole = definition.ir(types)
    with stage("specialise", "pass"):
        whole = specialise(whole, **numbers(dims))
    plain = [name for name, layout in (layouts or {}).items() if isinstance(layout, Plain)]
    chosen = schedule or Schedule()
    threads = min(chosen.threads or host.pool.threads, host.pool.threads)
    bf16 = pairs(host.machine.cpu, host.machine.features)
    func = run(chosen.steps(dims, threads, plain, bf16), whole)
    given = {p.hint: p.type for p in whole.params}
    ranges = opened(dims)
    params = tuple(_param(p, given, layouts or {}, ranges) for p in func.params if passed(p, given))
    with stage("codegen", "codegen"):
        return emit(func, params, host.machine.cpu, host.machine.features, threads, ranges,
                    chosen.choices)  # fmt: skip


def _param(
    p: Value, given: Mapping[str, Type], layouts: Mapping[str, Layout], ranges: Ranges
) -> Param:
    """The slot of a parameter that the passes left, part of one that the user gave."""
    name, _, component = p.hint.partition(".")
    argument, whole = list(given).index(name), given[name]
    if isinstance(p.type, Tile):
        return Param(name, str(p.type.dtype), (), "scalar", argument)
    if not (isinstance(p.type, Memory) and isinstance(whole, Memory)):
        raise TileError(f"a parameter cannot be {p.type}")
    _known(p.type.shape, ranges)
    dtype, shape = str(p.type.dtype), tuple(d if isinstance(d, int) else str(d)
                                            for d in p.type.shape)  # fmt: skip
    if not component:
        return Param(name, dtype, shape, "tensor", argument)
    extents = _known(whole.shape, ranges)
    layout = layouts.get(name) or default_layout(whole.format, extents)
    at = place(layout, whole.format, extents, component)
    if at.records is not None and extents != whole.shape:
        raise TileError(f"`{name}` lies in memory by its extents, of which one stays open: {whole}",
                        hint="give a number for it")  # fmt: skip
    return Param(p.hint, dtype, shape, "packed", argument, at.name, at.array, at.records)


def _known(shape: Shape, ranges: Ranges) -> tuple[int, ...]:
    """The extents, of those that stay open the most."""
    most = [substitute(d, {name: found.most for name, found in ranges.items()}) for d in shape]
    unknown = [str(d) for d in most if not isinstance(d, int)]
    if unknown:
        raise TileError(f"the dimension {unknown[0]} is not known", hint="give a number for it")
    return tuple(int(str(d)) for d in most)
