"""CUDA without a GPU: a kernel as CUDA C++, run on this processor and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np

from tilec.ir.bits import stored
from tilec.ir.core import Func, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.format import Format
from tilec.ir.source import KernelSource
from tilec.ir.types import Memory
from tilec.lang.kernel import Definition
from tilec.observe import stage
from tilec.passes import Step, parse_pipeline, run
from tilec.runtime.cache import open_cache
from tilec.runtime.report import Report
from tilec.runtime.tensor_map import tensor_maps
from tilec.schedule import checked, choice, parsed
from tilec.settings import settings


@dataclass(frozen=True)
class Schedule:
    """How a kernel is made: what is chosen beside the program itself, and a tuner may vary.

    A field is an option of a pass (`tilec.passes`), where it is described; the defaults leave a
    pass as it is, or out. `tiles` pins tile sizes by the name of the loop's variable.
    """

    threads: int = choice(128, lambda f: (64, 128, 256))  # of a block
    # of rings in shared memory; 1: loads are waited for
    stages: int = choice(3, lambda f: (2, 3, 4, 5) if f.products else (1, 2, 3))
    # stage-loads: or bulk, from sm_90 on
    copies: str = choice("pieces", lambda f: ("bulk",) if f.number >= 90 else ())
    specialise: int = 0  # stage-loads: warps that only copy
    # swap-operands: or small, always
    swap: str = choice("never", lambda f: ("small",) if 0 < f.rows < 16 else ())
    # raster: in bands of so many columns of tiles
    swizzle: int = choice(0, lambda f: (4, 8) if f.products and f.tasks > f.workers else ())
    # split-k: in so many parts
    split: int = choice(1, lambda f: (2, 4, 8) if f.products and f.tasks < f.workers else ())
    stream: int = 0  # stream-k: shared by so many blocks
    beside: int = 0  # up to so many products that read the same are one kernel
    persist: int = 0  # so many blocks
    hints: str = choice("none", lambda f: ("reuse",) if f.products else ())  # hint-caches: or reuse
    # how results are stored: by lay-out's cost, or shared: coalesce-stores
    epilogue: str = choice("cost", lambda f: ("shared",) if f.products else ())
    # lay-out: or wgmma, on sm_90a
    instruction: str = choice("mma", lambda f: ("wgmma",) if f.target == "sm_90a" else ())
    # 1: products of wgmma end a step later
    overlap: int = choice(0, lambda f: (1,) if f.target == "sm_90a" else ())
    # native-sparse and expand-masks, or dense: neither
    sparse: str = choice("native", lambda f: ("dense",) if f.sparse else ())
    tiles: Mapping[str, int] = field(default_factory=dict[str, int])

    # What a tuner must not choose together, and why.
    rules: ClassVar = (
        ("overlap == 0 or instruction == 'wgmma'", "only products of wgmma can end later"),
        ("instruction == 'mma' or threads >= 128", "a warpgroup has 128 threads"),
    )

    def __post_init__(self) -> None:
        checked("hints", self.hints, ("none", "reuse"))
        checked("epilogue", self.epilogue, ("cost", "shared"))
        checked("sparse", self.sparse, ("native", "dense"))

    def check(self, target: str) -> None:
        """Raises TileError for a choice that a target such as sm_80 has no instructions for."""
        number = target.removeprefix("sm_")
        newer = number.rstrip("af").isdecimal() and int(number.rstrip("af")) >= 90
        if self.copies == "bulk" and not newer:
            raise TileError(f"a schedule: copies=bulk needs sm_90 or later, not {target}")
        if self.instruction == "wgmma" and target != "sm_90a":
            raise TileError(
                f"a schedule: instruction=wgmma needs sm_90a, not {target}",
                hint="later processors have tcgen05 in its place, which tilec has not",
            )

    @property
    def pipeline(self) -> str:
        """The passes, once dimensions are numbers."""
        swapped = self.swap != "never"
        sizes = {"rows": 64, "columns": 64, "depth": 64, "budget": 4096, "planes": 0,
                 "exact": True}  # fmt: skip
        steps = (
            Step("fuse"),
            Step("compose"),
            *([Step("native-sparse"), Step("expand-masks")] * (self.sparse == "native")),
            Step("sparsify"),
            Step("decode-elements"),
            Step("tile", {**sizes, **self.tiles}),
            Step("lower-formats", {"planes": 0, "terms": 3}),
            Step("canonicalize"),
            Step("narrow-products"),
            Step("canonicalize"),
            *([Step("swap-operands", {"when": self.swap}), Step("canonicalize")] * swapped),
            Step("pad", {"columns": 8} if swapped else {}),
            *self._of_blocks(),
            Step("late-scales"),
            Step(
                "stage-loads",
                {
                    "stages": self.stages,
                    "copies": self.copies,
                    "specialise": self.specialise,
                    "kept": self.overlap,
                },
            ),
            *([Step("coalesce-stores", {"threads": self.threads})] * (self.epilogue == "shared")),
            Step("lay-out", {"threads": self.threads, "instruction": self.instruction}),
            *([Step("overlap")] * self.overlap),
            Step("canonicalize"),
        )
        return ",".join(map(str, steps))

    def _of_blocks(self) -> list[Step]:
        """What blocks do: in which order, in which parts, one tile or many."""
        steps = [
            *([Step("hint-caches")] * (self.hints == "reuse")),
            *([Step("raster", {"width": self.swizzle})] * (self.swizzle > 0)),
            *([Step("split-k", {"parts": self.split})] * (self.split > 1)),
            *([Step("stream-k", {"blocks": self.stream})] * (self.stream > 0)),
            *([Step("beside", {"kernels": self.beside})] * (self.beside > 0)),
            *([Step("persist", {"blocks": self.persist})] * (self.persist > 0)),
        ]
        return [*steps, Step("canonicalize")] if steps else []


def schedule_of(text: str) -> Schedule:
    """`threads=256,swap=small,m=16` as a schedule: what is no field pins a tile size.

    Raises TileError for anything else.
    """
    return parsed(Schedule, text)


@dataclass(frozen=True)
class Program:
    """A kernel as CUDA: the function that was printed, and its source."""

    func: Func
    source: KernelSource


def cuda_func(
    definition: Definition, dims: Mapping[str, int],
    types: Mapping[str, Format | DType] | None = None, schedule: Schedule | None = None,
) -> Func:  # fmt: skip
    """A kernel with layouts of threads."""
    steps = parse_pipeline((schedule or Schedule()).pipeline)
    with stage("parse", "parse"):
        func = definition.ir(types or {})
    return run((Step("specialise", dict(dims)), *steps), func)


def cuda_program(func: Func, schedule: Schedule | None = None) -> Program:
    """The CUDA source of a function with layouts."""
    from tilec.codegen.cuda import emit

    with stage("codegen", "codegen"):
        return Program(func, emit(func, threads=(schedule or Schedule()).threads))


@cache
def emulator() -> Any:
    """What runs CUDA source on this processor; it needs a C++ compiler."""
    from tilec.codegen.cuda.headers import host_headers
    from tilec.runtime.emulate import Emulator

    return Emulator(host_headers(), open_cache(settings().environment))


def emulate(program: Program, arguments: Mapping[str, Array | float], *, check: bool = True,
            order: int = 0) -> tuple[Report, ...]:  # fmt: skip
    """Run a program on numbers and arrays as they lie in memory, by parameter, and the dimensions
    that it leaves open, by name; arrays are written in place.

    Memory of the program's own is made here and poisoned. The reports of its kernels say what the
    checks found. An `order` other than 0 lets chance order the blocks. Raises TileError without a
    C++ compiler.
    """
    from tilec.codegen.cuda.lines import pinned

    text = pinned(program.source.text)
    dims = _open(program, arguments)
    given = {p.hint.replace(".", "_"): arguments[p.hint] if p.hint in arguments else _own(p, dims)
             for p in program.func.params}  # fmt: skip
    known = {f"dimension {n}": size for n, size in dims.items()}
    return tuple(
        emulator().run(text, k.entry, (number(k.blocks, dims),), (k.threads,),
                       {**given, **known, **tensor_maps(k.boxes, given, dims)}, k.shared,
                       check=check, order=order)
        for k in program.source.launches
    )  # fmt: skip


def _open(program: Program, arguments: Mapping[str, Array | float]) -> dict[str, int]:
    """The dimensions of a program that are only known now."""
    missing = [n for n in program.source.dims if n not in arguments]
    if missing:
        raise TileError(f"emulate: no number for the dimension {', '.join(missing)}")
    return {n: int(arguments[n]) for n in program.source.dims}


def _own(p: Value, dims: Mapping[str, int]) -> Array:
    """Memory that a pass made for the kernel, full of what is no number."""
    if not isinstance(p.type, Memory):
        raise TileError(f"emulate: the number {p.hint} is not given")
    known = tuple(number(d, dims) for d in p.type.shape)
    return np.full(int(np.prod(known)) * p.type.dtype.numpy.itemsize, 0xFF, np.uint8)


def in_memory(program: Program, format: Format, parts: Mapping[str, Array],
              shape: tuple[int, ...], name: str) -> dict[str, Array]:  # fmt: skip
    """A tensor's components as a program reads them, by the names of the parameters they are."""
    found: dict[str, Array] = {}
    for c in format.components(shape):
        hint = f"{name}.{c.name}" if c.name else name
        order = program.source.orders.get(hint)
        found[hint] = stored(c, parts[c.name]) if order is None else order.pack(parts[c.name])
    return found
