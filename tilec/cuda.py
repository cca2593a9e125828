"""CUDA without a GPU: a kernel as CUDA C++, run on this processor and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tilec.ir.bits import stored
from tilec.ir.core import Func, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.format import Format
from tilec.ir.source import KernelSource
from tilec.ir.types import Memory
from tilec.lang.kernel import Definition
from tilec.passes import Step, parse_pipeline, run
from tilec.runtime.cache import Cache, default_directory
from tilec.runtime.report import Report
from tilec.settings import settings

THREADS = 128  # of a block
PASSES = (
    "compose,decode-elements,tile{rows=64 columns=64 depth=64 budget=4096 planes=0},"
    "lower-formats{planes=0},canonicalize,pad,stage-loads,lay-out{threads=%d},canonicalize"
)


@dataclass(frozen=True)
class Program:
    """A kernel as CUDA: the function that was printed, and its source."""

    func: Func
    source: KernelSource


def cuda_func(
    definition: Definition, dims: Mapping[str, int],
    types: Mapping[str, Format | DType] | None = None, tiles: Mapping[str, int] | None = None,
    threads: int = THREADS,
) -> Func:  # fmt: skip
    """A kernel with layouts of threads; `tiles` pins tile sizes (`m=16`)."""
    steps = [Step("specialise", dict(dims)), *parse_pipeline(PASSES % threads)]
    if tiles:
        steps = [Step(s.name, {**s.options, **tiles}) if s.name == "tile" else s for s in steps]
    return run(tuple(steps), definition.ir(types or {}))


def cuda_program(func: Func, threads: int = THREADS) -> Program:
    """The CUDA source of a function with layouts."""
    from tilec.codegen.cuda import emit

    return Program(func, emit(func, threads=threads))


@cache
def emulator() -> Any:
    """What runs CUDA source on this processor; it needs a C++ compiler."""
    from tilec.codegen.cuda.headers import host_headers
    from tilec.runtime.emulate import Emulator

    return Emulator(host_headers(), Cache(default_directory(settings().environment)))


def emulate(program: Program, arguments: Mapping[str, Array], *, check: bool = True
            ) -> tuple[Report, ...]:  # fmt: skip
    """Run a program on arrays as they lie in memory, by parameter; they are written in place.

    Memory of the program's own is made here and poisoned. The reports of its kernels say what the
    checks found. Raises TileError without a C++ compiler.
    """
    given = {p.hint.replace(".", "_"): arguments.get(p.hint, _own(p)) for p in program.func.params}
    return tuple(
        emulator().run(program.source.text, k.entry, (k.blocks,), (k.threads,), given, k.shared,
                       check=check)
        for k in program.source.launches
    )  # fmt: skip


def _own(p: Value) -> Array:
    """Memory that a pass made for the kernel, full of what is no number."""
    assert isinstance(p.type, Memory)
    known = tuple(int(str(d)) for d in p.type.shape)
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
