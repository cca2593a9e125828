"""Triton without a GPU: a kernel as Triton source, by a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from tilec.ir.core import Func
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div, number
from tilec.ir.format import Dense, Format
from tilec.ir.ops.control import Grid
from tilec.ir.ops.memory import Nth
from tilec.ir.ops.reduce import Dot
from tilec.ir.parameters import passed
from tilec.ir.scaled import Scaled
from tilec.ir.source import KernelSource
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition
from tilec.observe import stage
from tilec.passes import Step, run
from tilec.passes.specialise import specialise
from tilec.schedule import checked, choice, parsed

# By the bits of codes: a step has 16 units of their words at least.
DEPTHS = {1: 256, 2: 128, 3: 256, 4: 128, 5: 256, 6: 128, 7: 256, 8: 128}
DEPTH = 64  # k's of a step of other products
SIDE, LARGE = 64, 128  # rows and columns of a tile of a product; where there are many
LEAST = 16  # the least side of a product
MANY = 132  # large tiles from which on all multiprocessors of a large processor have one


@dataclass(frozen=True)
class Schedule:
    """How a kernel is made: what is chosen beside the program itself, and a tuner may vary.

    A field is an option of a pass (`tilec.passes`), where it is described, or of Triton; the
    defaults leave a pass out. `tiles` pins tile sizes by the name of the loop's variable.
    """

    warps: int = choice(0, lambda f: (2, 4, 8))  # num_warps; 0: 4, or 8 for products of large tiles
    stages: int = choice(3, lambda f: (2, 3, 4, 5) if f.products else ())  # num_stages of loops
    # swap-operands: or never, small, always
    swap: str = choice("decoded", lambda f: ("never", "always") if f.products else ())
    # raster: in bands of so many columns of tiles
    swizzle: int = choice(0, lambda f: (4, 8) if f.products and f.tasks > f.workers else ())
    # split-k: in so many parts
    split: int = choice(1, lambda f: (2, 4, 8) if f.products and f.tasks < f.workers else ())
    stream: int = 0  # stream-k: shared by so many programs
    beside: int = 0  # up to so many products that read the same are one kernel
    persist: int = 0  # so many programs
    scaled: str = "decoded"  # native-scales: or for sm_100, sm_120
    # 1: tiles of dense operands come by TMA, from sm_90 on
    descriptors: int = choice(0, lambda f: (1,) if f.products and f.number >= 90 else ())
    oldest: int = 80  # the oldest processor that it is for: sm_80; from 89 on fp8 is converted
    tiles: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        checked("swap", self.swap, ("never", "small", "decoded", "always"))
        checked("scaled", self.scaled, ("decoded", "sm_100", "sm_120"))
        if self.warps & (self.warps - 1) or self.warps > 32:
            raise TileError(f"a schedule: warps is {self.warps}, expected a power of two to 32")

    def check(self, target: str) -> None:
        """Raises TileError for a choice that a target such as sm_80 has no instructions for."""
        number = target.removeprefix("sm_").rstrip("af")
        if number.isdecimal() and int(number) < self.oldest:
            raise TileError(f"a schedule: oldest={self.oldest} is not for {target}")
        if self.descriptors and not (number.isdecimal() and int(number) >= 90):
            raise TileError(f"a schedule: descriptors=1 needs sm_90 or later, not {target}")
        if self.scaled != "decoded" and self.scaled[:-1] != f"sm_{number[:-1]}":
            raise TileError(f"a schedule: scaled={self.scaled} needs {self.scaled}, not {target}")

    @property
    def pipeline(self) -> str:
        """The passes, once dimensions are numbers or left open."""
        return ",".join(map(str, (*self.first, *self.rest(DEPTH, SIDE))))

    @property
    def first(self) -> tuple[Step, ...]:
        """The passes that take formats apart."""
        native = [Step("native-scales", {"target": self.scaled})]
        return (
            Step("fuse"),
            *(native * (self.scaled != "decoded")),
            Step("compose"),
            Step("native-sparse", {"unit": "none"}),
            Step("sparsify"),
            Step("decode-elements"),
        )

    def rest(self, depth: int, side: int, narrow: bool = False) -> tuple[Step, ...]:
        """The passes from the choice of tiles on: a tile of a product has `side` rows and columns,
        and a step of it `depth` k's, unless pinned. If a product is too `narrow` for `tl.dot`, all
        tiles are padded."""
        swapped = self.swap != "never"
        sizes = {"rows": side, "columns": side, "depth": depth, "budget": 1024, "planes": 0,
                 "exact": True}  # fmt: skip
        return (
            Step("tile", {**sizes, **self.tiles}),
            Step("lower-formats", {"planes": 0, "zeros": "products", "terms": 3}),
            Step("canonicalize"),
            *([Step("swap-operands", {"when": self.swap}), Step("canonicalize")] * swapped),
            Step("interleave", {"depth": depth}),
            Step("decode-codes", {"bytes": self.oldest < 89}),
            Step("canonicalize"),
            *self._of_programs(narrow),
            Step("squeeze"),
            Step("canonicalize"),
        )

    def _of_programs(self, narrow: bool) -> list[Step]:
        """What programs do: in which order, in which parts, one tile or many."""
        steps = [
            *([Step("raster", {"width": self.swizzle})] * (self.swizzle > 0)),
            *([Step("split-k", {"parts": self.split})] * (self.split > 1)),
            *([Step("stream-k", {"blocks": self.stream})] * (self.stream > 0)),
            *([Step("beside", {"kernels": self.beside})] * (self.beside > 0)),
            *([Step("persist", {"blocks": self.persist})] * (self.persist > 0)),
        ]
        return [Step("pad"), *steps, Step("canonicalize")] if steps or narrow else []


def schedule_of(text: str) -> Schedule:
    """`warps=8,swap=small,m=16` as a schedule: what is no field pins a tile size.

    Raises TileError for anything else.
    """
    return parsed(Schedule, text)


@dataclass(frozen=True)
class Program:
    """A kernel as Triton: the function that was printed, and its source."""

    func: Func
    source: KernelSource


def triton_source(
    definition: Definition, dims: Mapping[str, int],
    types: Mapping[str, Format | DType] | None = None, schedule: Schedule | None = None,
) -> KernelSource:  # fmt: skip
    """Triton source of a kernel; dimensions without a number become arguments."""
    return triton_program(definition, dims, types, schedule).source


def triton_program(
    definition: Definition, dims: Mapping[str, int],
    types: Mapping[str, Format | DType] | None = None, schedule: Schedule | None = None,
) -> Program:  # fmt: skip
    """`triton_source` with the function that it is of."""
    from tilec.codegen.triton import Options, emit

    chosen = schedule or Schedule()
    with stage("parse", "parse"):
        whole = definition.ir(types)
    with stage("specialise", "pass"):
        whole = specialise(whole, **dims)
    apart, rest = halves(whole, chosen)
    func = run(rest, apart)
    given = {p.hint: p.type for p in whole.params}
    own = frozenset(p.hint for p in func.params if not passed(p, given))
    options = Options(chosen.warps, chosen.stages, bool(chosen.descriptors), chosen.oldest)
    with stage("codegen", "codegen"):
        return Program(func, emit(func, options, own))


def halves(whole: Func, schedule: Schedule) -> tuple[Func, tuple[Step, ...]]:
    """A function whose formats are apart, and the passes that follow: the first chooses tiles."""
    apart = run(schedule.first, whole)
    return apart, schedule.rest(_depth(apart), _side(whole), _narrow(apart))


def _side(func: Func) -> int:
    """How many rows and columns a tile of a product has: more for a single product of dense
    operands of at most 16 bits, if there are enough such tiles."""
    dots = [op for op in func.walk() if isinstance(op, Dot)]
    grids = [op for op in func.body.ops if isinstance(op, Grid)]
    operands = [v.type for op in dots for v in (op.a, op.b) if isinstance(v.type, Tile)]
    dense = all(isinstance(p.type.format, Dense) for p in func.params if isinstance(p.type, Memory))
    if len(dots) != 1 or len(grids) != 1 or not dense or any(t.dtype.bits > 16 for t in operands):
        return SIDE
    tiles = [number(ceil_div(d, t or LARGE), {}) if isinstance(d, int) else 0
             for d, t in zip(grids[0].dims, grids[0].tiles, strict=True)]  # fmt: skip
    return LARGE if prod(tiles) >= MANY else SIDE


def _narrow(func: Func) -> bool:
    """Whether there are products, and tiles by number that no block of a product is as small as."""
    ops = list(func.walk())
    tiles = [op.tile for op in ops if isinstance(op, Nth)]
    return any(isinstance(op, Dot) for op in ops) and any(t < LEAST or t & (t - 1) for t in tiles)


def _depth(func: Func) -> int:
    """How many k's a step of a product has, by the codes of a function whose formats are apart."""
    memories = [p.type for p in func.params if isinstance(p.type, Memory)]
    scaled = [m for m in memories if isinstance(m.format, Scaled)]
    codes = [c.dtype for m in scaled for c in m.format.components(m.shape) if c.name == "codes"]
    return max((DEPTHS[t.bits] for t in codes if t.bits in DEPTHS), default=DEPTH)
