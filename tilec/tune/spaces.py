"""The space of a job: what its back end's schedule lets a tuner choose, and the tiles that the
kernel leaves open, with what the IR and the target say about choosing them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tilec import cpu, cuda, triton
from tilec.compile import engine
from tilec.ir.core import Func
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.ops.control import Grid
from tilec.ir.ops.memory import Load
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.shape import Transpose
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Memory, Tile
from tilec.passes import Step, parse_pipeline, run
from tilec.schedule import Facts, domains
from tilec.tune.config import Config, Value
from tilec.tune.job import Job
from tilec.tune.roofline import (
    Machine,
    Roofline,
    bytes_of,
    graphics,
    open_axes,
    processor,
    roofline,
    tiles_of,
)
from tilec.tune.space import Constraint, Parameter, Space

SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB of a block: CUDA C guide
REGISTERS = 255  # of a thread
WORKERS = 132  # multiprocessors, where no GPU is asked
SPREAD = 8  # times the default tile, up and down
REGISTER_ROWS = 6  # of the CPU's register tile: tiles of as many rows waste none
CACHE = 1 << 20  # bytes of a core's own cache
KINDS: dict[str, type[Any]] = {"cpu": cpu.Schedule, "cuda": cuda.Schedule,
                               "triton": triton.Schedule}  # fmt: skip


@dataclass(frozen=True)
class Derived:
    """The space of a job, and an analytic model of its configs."""

    space: Space
    model: Roofline

    @property
    def predict(self) -> Callable[[Mapping[str, Any]], Any]:
        """The model as searches take it."""
        return self.model.seconds


@dataclass(frozen=True)
class _Product:
    """The tiles of a product: names of its rows, columns and steps, where these are open, bytes of
    an element of its operands, and of what its steps must be parts or multiples."""

    rows: str
    columns: str
    depth: str
    bytes: int
    group: int


def derived(job: Job, workers: int = 0) -> Derived:
    """The space of a job. Its default says what the back end would choose by itself.

    `workers` are threads or multiprocessors, by default those of this machine's processor or of a
    large GPU. Raises TileError for a kernel that the back end does not take.
    """
    workers = workers or (engine().pool.threads if job.backend == "cpu" else WORKERS)
    before, tile = _halves(job, workers)
    chosen = {n: next(iter(t)) for n, t in tiles_of(tile(before)).items() if len(t) == 1}
    words = {f.name for f in fields(KINDS[job.backend])}  # a loop that is called so can't be pinned
    extents = {n: d for n, d in open_axes(before).items() if n in chosen and n not in words}
    machine = (processor(workers, CACHE, _registers()) if job.backend == "cpu"
               else graphics(workers))  # fmt: skip
    model = roofline(before, machine, chosen)
    product = _product(before, set(extents))
    values = domains(KINDS[job.backend], _facts(job, before, model, chosen, workers))
    parameters = [Parameter(n, v) for n, v in sorted(values.items()) if len(v) > 1]
    tiles = {n: _tiles(job.backend, n, d, chosen[n], product) for n, d in extents.items()}
    parameters += [Parameter(n, t) for n, t in sorted(tiles.items())]
    if not parameters:
        parameters = [Parameter(n, v) for n, v in sorted(values.items())[:1]]
    default = {p.name: chosen[p.name] if p.name in extents else p.values[0] for p in parameters}
    rules = _rules(job, before, product, chosen, extents, machine,
                   any(p.name == "threads" for p in parameters))  # fmt: skip
    kept = tuple(r for r in rules if _holds(r, parameters, default))
    return Derived(Space(tuple(parameters), kept, Config.of(default)), model)


def _halves(job: Job, workers: int) -> tuple[Func, Step]:
    """The function before its tiles are chosen, and the pass that chooses them."""
    whole = job.func
    if job.backend == "triton":
        before, rest = triton.halves(whole, triton.Schedule(oldest=80))
        return before, rest[0]
    steps = (cpu.Schedule().steps({}, workers) if job.backend == "cpu"
             else parse_pipeline(cuda.Schedule().pipeline))  # fmt: skip
    at = next(i for i, s in enumerate(steps) if s.name == "tile")
    return run(steps[:at], whole), steps[at]


def _facts(job: Job, func: Func, model: Roofline, chosen: Mapping[str, int], workers: int) -> Facts:
    dots = [op for op in func.walk() if isinstance(op, Dot)]
    sparse = sum(isinstance(op, SparseDot) for op in func.walk())
    grids = [_tasks(op, chosen) for op in func.walk() if isinstance(op, Grid)]
    extents = open_axes(func)
    rows = [extents.get(str(op.a.type.shape[0]), 0) for op in dots if isinstance(op.a.type, Tile)]
    read = [p.type for p in func.params if isinstance(p.type, Memory) and p.hint not in job.results]
    written = [p.type for p in func.params if isinstance(p.type, Memory) and p.hint in job.results]
    streams, size = sum(not isinstance(t.format, Dense) for t in read), sum(map(bytes_of, written))
    return Facts(job.target, workers, model.operations, len(dots) + sparse, sparse,
                 min(rows, default=0), max(grids, default=1), streams, int(size),
                 _registers() if job.backend == "cpu" else 0)  # fmt: skip


def _registers() -> int:
    """How many vector registers this processor has."""
    return 32 if "+avx512bw" in engine().machine.features.split(",") else 16


def _tasks(op: Grid, chosen: Mapping[str, int]) -> int:
    n = 1
    for dim, size, tile in zip(op.dims, op.sizes, op.tiles, strict=True):
        side = tile or chosen.get(str(size), 1)
        n *= -(-dim // side) if isinstance(dim, int) else 1
    return n


def _product(func: Func, names: set[str]) -> _Product | None:
    """The first product with open tiles."""
    made = {v: op for op in func.walk() for v in op.results}
    for op in func.walk():
        if not isinstance(op, Dot):
            continue
        a, b = op.a.type, op.b.type
        if not (isinstance(a, Tile) and isinstance(b, Tile)):
            continue
        rows, depth, columns = (str(e) if str(e) in names else ""
                                for e in (*a.shape, b.shape[-1]))  # fmt: skip
        if rows or columns:
            size = max(1, min(a.dtype.bits, b.dtype.bits) // 8)
            groups = [_group(made, v) for v in (op.a, op.b)]
            return _Product(rows, columns, depth, size, max(groups))
    return None


def _group(made: Mapping[Any, Any], v: Any) -> int:
    """The elements along k that share a scale of an operand, or 1."""
    op = made.get(v)
    if isinstance(op, Transpose):
        op = made.get(op.a)
    if isinstance(op, Load) and isinstance(op.mem.type, Memory):
        return op.mem.type.format.group or 1
    return 1


def _tiles(backend: str, name: str, extent: int, default: int, product: _Product | None
           ) -> tuple[Value, ...]:  # fmt: skip
    """The tiles of a loop that are tried: powers of two around the default, all of it, and for the
    rows of a product on a CPU multiples of its register tile."""
    sides = (product.rows, product.columns, product.depth) if product else ()
    of_product = name in sides
    least = 16 if of_product and backend != "cpu" else 1
    most = min(SPREAD * default, 1 << max(0, (extent - 1).bit_length()))
    found = {1 << i for i in range(31) if max(least, default // SPREAD) <= 1 << i <= most}
    if backend == "cpu":
        found = {min(t, extent) for t in found} | ({extent} if extent <= most else set[int]())
        if product and name == product.rows:
            found |= {REGISTER_ROWS << i for i in range(7) if REGISTER_ROWS << i <= most}
            found = {min(t, extent) for t in found}
    return tuple(sorted(found | {default}))


def _rules(job: Job, func: Func, product: _Product | None, chosen: Mapping[str, int],
           extents: Mapping[str, int], machine: Machine, serial: bool
           ) -> list[Constraint]:  # fmt: skip
    """What the IR and the target say; `serial`: there is a choice to use one thread."""
    found = [Constraint(*r) for r in getattr(KINDS[job.backend], "rules", ())]
    grids = [op for op in func.walk() if isinstance(op, Grid)]
    for op in grids if job.backend == "cpu" else ():
        tasks = "*".join(f"ceil({d}/{s if str(s) in extents else t or chosen.get(str(s), 1)})"
                         for d, s, t in zip(op.dims, op.sizes, op.tiles, strict=True)
                         if isinstance(d, int))  # fmt: skip
        alone = "threads == 1 or " * serial
        found.append(Constraint(f"{alone}{tasks or 1} >= {machine.workers}",
                                "a thread would be idle"))  # fmt: skip
    if product is not None:
        found += _of_product(job, product, chosen, machine)
    return found


def _of_product(job: Job, p: _Product, chosen: Mapping[str, int], machine: Machine
                ) -> list[Constraint]:  # fmt: skip
    m, n, k = p.rows or "1", p.columns or "1", p.depth or "1"
    found: list[Constraint] = []
    if p.group > 1 and p.depth:
        found.append(Constraint(f"{k} % {p.group} == 0 or {p.group} % {k} == 0",
                                f"groups of {p.group} share a scale"))  # fmt: skip
    if job.backend == "cpu":
        found.append(Constraint(f"4*({m}*{k} + {n}*{k} + {m}*{n}) <= {4 * machine.cache}",
                                "a step's tiles are far larger than a core's cache"))  # fmt: skip
        if p.columns:
            lanes = 16 if machine.registers > 16 else 8
            found.append(Constraint(f"register_vectors <= max(1, {n} // {lanes})",
                                    "a tile has fewer columns"))  # fmt: skip
        return found
    threads = "threads" if job.backend == "cuda" else "(warps if warps > 0 else 4)*32"
    number = Facts(job.target, 1).number
    room = SHARED.get(number, min(SHARED.values())) << 10
    found.append(Constraint(f"{m}*{n} <= {REGISTERS - 55}*{threads}",
                            f"a thread has {REGISTERS} registers"))  # fmt: skip
    found.append(Constraint(f"stages*({m}+{n})*{k}*{p.bytes} <= {room}",
                            f"a block has {room >> 10} KiB of shared memory"))  # fmt: skip
    return found


def _holds(rule: Constraint, parameters: list[Parameter], default: Mapping[str, Value]) -> bool:
    """Whether a rule speaks of parameters that there are, and the default keeps it: what the back
    end does by itself is no rule's to forbid."""
    try:
        Space(tuple(parameters), (rule,), Config.of(default))
    except TileError:
        return False
    return True
