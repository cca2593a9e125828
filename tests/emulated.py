"""Kernels through the CUDA back end, run under emulation with every check on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilec.compile import Kernel
from tilec.cuda import Program, cuda_func, cuda_program, emulate, in_memory
from tilec.ir.core import Func, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.format import Format
from tilec.ir.types import Memory
from tilec.runtime.tensor import PackedTensor

Given = Array | PackedTensor


def poisoned(shape: tuple[int, ...], t: DType) -> Array:
    """Memory of elements that nothing computes."""
    return (
        np.full(int(np.prod(shape)) * t.numpy.itemsize, 0xA5, np.uint8).view(t.numpy).reshape(shape)
    )


def program_of(kernel: Kernel, types: Mapping[str, Format | DType], dims: Mapping[str, int],
               threads: int = 128, **tiles: int) -> Program:  # fmt: skip
    """A kernel as CUDA."""
    return cuda_program(cuda_func(kernel.definition, dims, types, tiles, threads), threads)


def run(program: Program, given: Mapping[str, Given]) -> None:
    """Run a program; arrays are as they lie in memory. No check may find anything."""
    arguments: dict[str, Array] = {}
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            arguments |= in_memory(program, x.format, x.parts(), x.shape, name)
        else:
            arguments[name] = x
    found = [str(f) for report in emulate(program, arguments) for f in report.findings]
    assert not found, "\n".join(found)


def run_func(func: Func, given: Mapping[str, Array]) -> None:
    """Run a function with layouts on arrays in their carriers, which are written in place."""
    types = {p.hint: _memory(p) for p in func.params}
    arrays = {n: np.ascontiguousarray(types[n].dtype.to_storage(x)) for n, x in given.items()}
    run(cuda_program(func), arrays)
    for n, x in given.items():
        x[...] = types[n].dtype.from_storage(arrays[n])


def _memory(p: Value) -> Memory:
    assert isinstance(p.type, Memory)
    return p.type


def far(y: Array, want: Array) -> float:
    """The error of a result by its norm."""
    return float(np.linalg.norm(y.astype(np.float64) - want) / np.linalg.norm(want))
