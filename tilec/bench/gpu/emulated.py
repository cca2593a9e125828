"""A case run without a GPU at its reduced size: CUDA code compiled for this processor, Triton's in
the interpreter of PTX. Every check of both is on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tilec import cuda, ptx
from tilec.bench.gpu.case import Case, Way
from tilec.bench.gpu.made import compiled
from tilec.bench.gpu.operands import Given, error, formats_of, operands, values, widened
from tilec.ir.bits import stored
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.extent import number
from tilec.ir.format import Dense
from tilec.ir.source import KernelSource, TensorBoxes
from tilec.ptx.arguments import Argument
from tilec.runtime.program import Boxes, Made, Program, Size
from tilec.runtime.program import Given as Place
from tilec.runtime.tensor import PackedTensor


@dataclass(frozen=True)
class Ran:
    """What a run at reduced size showed: seconds, the relative error of each result, what checks
    found, and passes over shared memory and sectors of global memory beside the fewest possible."""

    seconds: float
    errors: Mapping[str, float]
    findings: tuple[str, ...]
    wavefronts: tuple[int, int]
    sectors: tuple[int, int]

    @property
    def conflicts(self) -> float | None:
        """Passes over shared memory for each that is needed; None without any."""
        many, ideal = self.wavefronts
        return many / ideal if ideal else None


def ran(case: Case, way: Way) -> Ran:
    """Run a case at its reduced size. Raises TileError where it can't be made or run."""
    start = time.perf_counter()
    given = operands(case, case.reduced)
    want = case.meaning(values(case, given), case.reduced)
    run = _by_cuda if way.backend == "cuda" else _by_triton
    findings, wavefronts, sectors = run(case, way, given)
    errors = {name: _off(case, given, name, w) for name, w in want.items()}
    return Ran(time.perf_counter() - start, errors, findings, wavefronts, sectors)


def _off(case: Case, given: Mapping[str, Given], name: str, want: Array) -> float:
    """How far a result is from what it should be; of codes and scales, what they stand for."""
    first, _, second = name.partition("*")
    got = _array(case, given, first).astype(np.float64)
    if second:
        scale = _array(case, given, second).astype(np.float64)
        got = got * np.repeat(scale, got.shape[-1] // scale.shape[-1], axis=-1)
    return error(got, want)


def _array(case: Case, given: Mapping[str, Given], name: str) -> Array:
    x = given[name]
    assert isinstance(x, np.ndarray)
    format = {n: f for n, f, _ in case.shapes(case.reduced)}[name]
    assert isinstance(format, Dense)
    return widened(case, name, x) if name in case.formats else np.asarray(
        format.dtype.from_storage(x))  # fmt: skip


Outcome = tuple[tuple[str, ...], tuple[int, int], tuple[int, int]]


def _by_cuda(case: Case, way: Way, given: Mapping[str, Given]) -> Outcome:
    formats = formats_of(case, given)
    schedule = cuda.schedule_of(way.schedule)
    schedule.check(way.target)
    func = cuda.cuda_func(case.defined(formats), case.reduced, formats, schedule)
    program = cuda.cuda_program(func, schedule)
    arguments: dict[str, Array | float] = {}
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            arguments |= cuda.in_memory(program, x.format, x.parts(), x.shape, name)
        else:
            arguments[name] = x
    reports = cuda.emulate(program, arguments)
    counts = [c for r in reports for c in r.counts]
    return (
        tuple(str(f) for r in reports for f in r.findings),
        (sum(c.wavefronts for c in counts), sum(c.ideal_wavefronts for c in counts)),
        (sum(c.sectors for c in counts), sum(c.ideal_sectors for c in counts)),
    )  # fmt: skip


def _by_triton(case: Case, way: Way, given: Mapping[str, Given]) -> Outcome:
    formats = formats_of(case, given)
    program, source = compiled(case, way, case.reduced, formats, "ptx")
    memory = _Memory(program, source, given, case.reduced)
    findings: list[str] = []
    passes, touched = np.zeros(2, int), np.zeros(2, int)
    for k in program.kernels:
        module = ptx.load(k.image.rstrip(b"\0").decode())
        arguments = [memory.argument(p) for p in k.parameters]
        report = module.run(k.entry, number(k.blocks, case.reduced), k.threads, arguments,
                            shared=k.shared)  # fmt: skip
        findings += map(str, report.findings)
        findings += [] if report.finished else [f"{k.entry} did not come to its end"]
        passes, touched = passes + report.wavefronts, touched + report.sectors
    return tuple(findings), (int(passes[0]), int(passes[1])), (int(touched[0]), int(touched[1]))


class _Memory:
    """What the kernels of a program take: the user's operands, memory between kernels."""

    def __init__(self, program: Program, source: KernelSource, given: Mapping[str, Given],
                 dims: Mapping[str, int]) -> None:  # fmt: skip
        self.dims = dims
        self.own = {n: np.full(number(size, dims), 0xA5, np.uint8)
                    for n, size in program.own.items()}  # fmt: skip
        names = list(given)
        self.places: list[Array | np.generic] = []
        for p in program.params:
            x = given[names[p.argument]]
            if isinstance(x, PackedTensor):
                self.places.append(_component(x, p.component, source, p.name))
            elif isinstance(x, np.ndarray):
                self.places.append(x)
            else:
                self.places.append(np.asarray(x, BY_NAME[p.dtype].numpy)[()])

    def argument(self, p: Place | Made | Size | Boxes) -> Argument:
        """A parameter as the interpreter takes it."""
        match p:
            case Size(extent):
                return number(extent, self.dims)
            case Boxes(boxes, of):
                array = self.argument(of)
                assert isinstance(array, np.ndarray)
                return _map(boxes, array, self.dims)
            case Place(at):
                return self.places[at]  # type: ignore[return-value]
            case Made(name):
                return self.own[name]


def _component(x: PackedTensor, name: str, source: KernelSource, param: str) -> Array:
    """A component in the order that the code reads."""
    order, part = source.orders.get(param), x.parts()[name]
    if order is not None:
        return order.pack(part)
    found = next(c for c in x.format.components(x.shape) if c.name == name)
    return stored(found, part)


def _map(x: TensorBoxes, array: Array, dims: Mapping[str, int]) -> ptx.TensorMap:
    elements = array.reshape(-1).view(np.uint8).view(f"u{x.element}")
    shape = tuple(number(d, dims) for d in x.shape)
    return ptx.TensorMap(as_strided(elements, shape, (*x.pitches, x.element)), x.box, x.swizzle)
