"""Triton kernels in the PTX interpreter."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from tilec import ptx
from tilec.compile import Kernel
from tilec.ir.bits import stored
from tilec.ir.dtype import BY_NAME, Array, f32, of_numpy
from tilec.ir.extent import extent, number
from tilec.ir.source import Descriptor, KernelSource, Launch, Param
from tilec.ptx.arguments import Argument
from tilec.runtime.tensor import PackedTensor
from tilec.runtime.triton import Build, compile_each
from tilec.triton import Schedule, triton_source


def executed(source: KernelSource, arguments: Mapping[str, Array | int], target: str = "sm_90",
             even: Collection[str] = ()) -> ptx.Report:  # fmt: skip
    """What the interpreter found while it ran the kernels of a program on arrays by parameter and
    dimensions by name; arrays are written. It is the report of the first kernel with findings.

    Own memory is poisoned. Constants of dimensions are the next powers of two.
    """
    dims = {n: int(x) for n, x in arguments.items() if isinstance(x, int)}
    constants = {f"BLOCK_{n}": max(16, 1 << (x - 1).bit_length()) for n, x in dims.items()}
    given: dict[str, Array | int] = dict(dims)
    for p in source.params:
        if p.kind == "scalar":
            given[p.name] = np.asarray(arguments[p.name], BY_NAME[p.dtype].numpy)[()]
        else:
            given[p.name] = (_own(p, dims) if p.kind == "own"
                             else np.ascontiguousarray(arguments[p.name]))  # fmt: skip
    reports = [
        _run(build, launch, number(launch.blocks, dims), given)
        for build, launch in zip(compile_each(source, target, constants, even), source.launches,
                                 strict=True)
    ]  # fmt: skip
    for p in source.params:
        if p.kind == "tensor":
            arguments[p.name][...] = given[p.name]  # type: ignore[index]
    return next((r for r in reports if not r.clean), reports[-1])


def _run(build: Build, launch: Launch, blocks: int, given: Mapping[str, Array | int]
         ) -> ptx.Report:  # fmt: skip
    """Run one kernel; Triton adds addresses of scratch memory to its parameters."""
    maps = {d.name: (d, s) for d, s in zip(launch.descriptors, build.swizzles, strict=True)}
    arguments: list[Argument] = []
    for n in launch.takes or ():
        arguments += _described(*maps[n], given) if n in maps else [given[n]]
    scratch = [np.zeros(1, np.uint8), 0]
    return ptx.load(build["ptx"]).run(launch.entry, blocks, launch.threads, [*arguments, *scratch],
                                      shared=build.shared)  # fmt: skip


def _described(d: Descriptor, swizzle: int, given: Mapping[str, Array | int]
               ) -> list[Argument]:  # fmt: skip
    """A tensor map, the extents and the strides."""
    array = given[d.param]
    assert isinstance(array, np.ndarray)
    inner = swizzle // array.itemsize if swizzle else d.box[-1]
    box = (*d.box[:-1], min(d.box[-1], inner))
    strides = [s // array.itemsize for s in array.strides]
    return [ptx.TensorMap(array, box, swizzle), *array.shape, *strides]


def _own(p: Param, dims: Mapping[str, int]) -> Array:
    size = tuple(number(extent(str(d)), dims) for d in p.shape)
    t = BY_NAME[p.dtype].numpy
    return np.full(int(np.prod(size)) * t.itemsize, 0xA5, np.uint8).view(t).reshape(size)


def in_memory(source: KernelSource, name: str, w: PackedTensor) -> dict[str, Array]:
    """A tensor's components as a program reads them, by parameter."""
    found: dict[str, Array] = {}
    for c in w.format.components(w.shape):
        hint = f"{name}.{c.name}" if c.name else name
        order, part = source.orders.get(hint), w.parts()[c.name]
        found[hint.replace(".", "_")] = stored(c, part) if order is None else order.pack(part)
    return found


def multiplied(kernel: Kernel, dims: Mapping[str, int], size: tuple[int, ...],
               schedule: Schedule | None = None, target: str = "sm_90",
               **given: Array | PackedTensor | int) -> Array:  # fmt: skip
    """What a kernel that is clean leaves in its f32 result `y`."""
    types = {n: x.format if isinstance(x, PackedTensor) else of_numpy(np.asarray(x).dtype)
             for n, x in given.items()}  # fmt: skip
    source = triton_source(kernel.definition, dims, {**types, "y": f32}, schedule)
    y = np.full(size, np.nan, np.float32)
    arguments: dict[str, Array | int] = {"y": y}
    for n, x in given.items():
        arguments |= in_memory(source, n, x) if isinstance(x, PackedTensor) else {n: x}
    report = executed(source, arguments, target)
    assert report.clean, report
    return y
