"""Kernels through the CUDA back end, run under emulation with every check on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tilec.compile import Kernel
from tilec.cuda import Program, Schedule, cuda_func, cuda_program, emulate, in_memory
from tilec.ir.bits import is_packed, pack_rows, unpack_rows
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.format import Format
from tilec.ir.types import Memory
from tilec.runtime.tensor import PackedTensor

Given = Array | PackedTensor | float


def poisoned(shape: tuple[int, ...], t: DType) -> Array:
    """Memory of elements that nothing computes."""
    return (
        np.full(int(np.prod(shape)) * t.numpy.itemsize, 0xA5, np.uint8).view(t.numpy).reshape(shape)
    )


def program_of(kernel: Kernel, types: Mapping[str, Format | DType], dims: Mapping[str, int],
               schedule: Schedule | None = None, **tiles: int) -> Program:  # fmt: skip
    """A kernel as CUDA, by a schedule with some tile sizes pinned."""
    given = schedule or Schedule()
    chosen = replace(given, tiles={**given.tiles, **tiles})
    return cuda_program(cuda_func(kernel.definition, dims, types, chosen), chosen)


def run(program: Program, given: Mapping[str, Given], order: int = 0) -> None:
    """Run a program; arrays are as they lie in memory. No check may find anything.

    With an `order` other than 0 chance orders the blocks.
    """
    arguments: dict[str, Array | float] = {}
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            arguments |= in_memory(program, x.format, x.parts(), x.shape, name)
        else:
            arguments[name] = x
    found = [str(f) for report in emulate(program, arguments, order=order) for f in report.findings]
    assert not found, "\n".join(found)


def run_func(func: Func, given: Mapping[str, Array], schedule: Schedule | None = None) -> None:
    """Run a function with layouts on numbers, and on arrays in their carriers, which are written
    in place."""
    types = {p.hint: p.type.dtype for p in func.params if isinstance(p.type, Memory)}
    numbers = {n: x.item() for n, x in given.items() if n not in types}
    arrays = {n: _stored(t, given[n]) for n, t in types.items() if n in given}
    run(cuda_program(func, schedule), {**numbers, **arrays})
    for n, x in arrays.items():
        t, size = types[n], given[n].shape[-1] if given[n].ndim else 1
        given[n][...] = unpack_rows(t, x, size) if is_packed(t) else t.from_storage(x)


def _stored(t: DType, x: Array) -> Array:
    """An array as it lies in memory."""
    return pack_rows(t, x) if is_packed(t) else np.ascontiguousarray(t.to_storage(x))


def far(y: Array, want: Array) -> float:
    """The error of a result by its norm."""
    return float(np.linalg.norm(y.astype(np.float64) - want) / np.linalg.norm(want))
