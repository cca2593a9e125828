"""What compilation makes, as text: for the command line and for people who look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tilec.compile import Kernel, engine, written
from tilec.cpu import Schedule as CpuSchedule
from tilec.cpu import cpu_source, lower
from tilec.cuda import Schedule, cuda_func, cuda_program, emulate, in_memory
from tilec.gpu import Choice
from tilec.ir.bits import is_packed
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym, names, number
from tilec.ir.format import Dense, Format
from tilec.ir.interpret import interpret
from tilec.ir.ranges import Sizes
from tilec.ir.source import KernelSource
from tilec.ir.text import show
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition, Parameter, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.lang.text import load
from tilec.runtime import jit
from tilec.runtime.report import Report
from tilec.runtime.tensor import PackedTensor, quantize
from tilec.sass import Stats, disassembled, stats_of
from tilec.triton import Schedule as TritonSchedule
from tilec.triton import triton_source

Artifact = str | bytes | tuple[Stats, ...]
MACHINE = ("cubin", "sass", "stats")  # what every back end for NVIDIA's GPUs can show
V4 = "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq"
TARGETS = {
    "x86-64-v2": "",
    "x86-64-v3": "+avx2,+fma",
    "x86-64-v4": V4,
    "sapphirerapids": f"{V4},+avx512vnni,+avx512bf16",
}  # processors that code can be shown for, and what the code may use there


@dataclass(frozen=True)
class _Host:
    """A processor that need not be there, with the threads of this one."""

    machine: jit.Machine
    pool: Any


def kernel_of(path: Path, name: str = "") -> Definition:
    """A kernel of a `.tile` file, the only one if no name is given. Raises TileError."""
    found = load(path)
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        what = f"no kernel `{name}`" if name else f"{len(found)} kernels"
        raise TileError(f"{path} has {what}: choose one of {', '.join(found) or 'none'}")
    return found[name]


def dimensions(definition: Definition) -> tuple[str, ...]:
    """The names of a kernel's dimensions, in the order in which its signature has them."""
    shapes = [p.type.shape for p in definition.ir().params if isinstance(p.type, Memory)]
    plain = [str(d) for s in shapes for d in s if isinstance(d, Sym) and d.is_name]
    return tuple(dict.fromkeys([*plain, *sorted(n for s in shapes for d in s for n in names(d))]))


def retyped(definition: Definition, types: Mapping[str, Format]) -> Definition:
    """The kernel with other formats of its tensors than its signature says. Raises TileError.

    A program is the kernel that writes what it returns.
    """
    tensors = [p.name for p in definition.signature.params if isinstance(p.spec, TensorSpec)]
    for name in types:
        if name not in tensors:
            raise TileError(f"{definition.signature.name} has no tensor `{name}`; "
                            f"it has {', '.join(tensors) or 'none'}")  # fmt: skip

    def changed(p: Parameter) -> Parameter:
        if not isinstance(p.spec, TensorSpec) or p.name not in types:
            return p
        return replace(p, spec=replace(p.spec, format=types[p.name]))

    params = tuple(changed(p) for p in definition.signature.params)
    found = replace(definition, signature=replace(definition.signature, params=params))
    return found.called({}) if isinstance(found, ProgramDefinition) else found


def check_dims(definition: Definition, dims: Sizes, some: bool = False) -> None:
    """Raise TileError where a dimension has no number, unless only `some` need one, or a number no
    dimension."""
    names = dimensions(definition)
    missing = [n for n in names if n not in dims and not some]
    if missing:
        example = ",".join(f"{n}=64" for n in missing)
        raise TileError(f"{definition.signature.name}: no number for the dimensions "
                        f"{', '.join(missing)}", hint=f"--dims {example}")  # fmt: skip
    for n in dims:
        if n not in names:
            raise TileError(f"{definition.signature.name} has no dimension `{n}`; "
                            f"it has {', '.join(names) or 'none'}")  # fmt: skip


def cpu_artifacts(
    definition: Definition, dims: Sizes, emits: Sequence[str], cpu: str = "",
    schedule: CpuSchedule | None = None,
) -> dict[str, Artifact]:  # fmt: skip
    """The texts asked for, of a kernel for this processor or one that LLVM knows by name."""
    check_dims(definition, dims)
    host = _host(cpu)
    source = cpu_source(definition, {}, dims, host, schedule=schedule)
    makers: dict[str, Callable[[], str]] = {
        "ir": lambda: show(lower(definition, {}, dims, host.pool.threads, schedule)),
        "source": lambda: source.text,
        "asm": lambda: jit.assembly(source.text, host.machine),
        "remarks": lambda: remarks(source),
    }
    return {e: _known(makers, e, "cpu")() for e in emits}


def _host(cpu: str) -> Any:
    """This processor, or another one by its name. Raises TileError for an unknown one."""
    if not cpu:
        return engine()
    x86 = engine().machine.triple.startswith("x86_64")
    if cpu not in TARGETS or not x86:
        known = ", ".join(["host", *(TARGETS if x86 else ())])
        raise TileError(f"{cpu!r} is no target of the CPU back end; there are {known}")
    return _Host(jit.host_machine(cpu, TARGETS[cpu]), engine().pool)


def triton_artifacts(
    definition: Definition, dims: Mapping[str, int], emits: Sequence[str], target: str,
    schedule: TritonSchedule | None = None,
) -> dict[str, Artifact]:  # fmt: skip
    """The stages asked for, of a kernel for a GPU that need not be there.

    Of several kernels a text has one behind the other; their cubins are `0.cubin`, `1.cubin`, ...
    """
    from tilec.runtime.triton import STAGES, compile_each

    check_dims(definition, dims, some=True)
    chosen = schedule or TritonSchedule()
    chosen.check(target)
    source = triton_source(definition, dims, schedule=chosen)
    made: dict[str, Artifact] = {"source": source.text, "remarks": remarks(source)}
    known = ("source", *STAGES, *MACHINE, "remarks")
    for e in emits:
        if e not in known:
            raise TileError(f"the triton back end emits {', '.join(known)}, not {e!r}")
    if not set(emits) <= made.keys():
        builds = compile_each(source, target)
        made |= {s: "\n".join(build[s] for build in builds) for s in STAGES}
        each = [machine_artifacts(b.cubin, emits, b.shared) for b in builds]
        made |= each[0] if len(each) == 1 else _joined(each)
    return {n: a for e in emits for n, a in made.items() if n.split(".")[-1] == e}


def _joined(each: Sequence[Mapping[str, Artifact]]) -> dict[str, Artifact]:
    """The artifacts of several kernels as those of one, but for cubins."""
    made: dict[str, Artifact] = {f"{i}.cubin": found["cubin"] for i, found in enumerate(each)}
    texts = [text for found in each if isinstance(text := found.get("sass"), str)]
    stats = [s for found in each if isinstance(rows := found.get("stats"), tuple) for s in rows]
    return made | ({"sass": "\n".join(texts)} if texts else {}) | {"stats": tuple(stats)}


def cuda_artifacts(
    definition: Definition, dims: Mapping[str, int], emits: Sequence[str], target: str,
    schedule: Schedule,
) -> dict[str, Artifact]:  # fmt: skip
    """The stages asked for, of a kernel as CUDA C++ for a GPU that need not be there."""
    from tilec.codegen.cuda.headers import device_headers
    from tilec.codegen.cuda.lines import pinned
    from tilec.runtime.nvrtc import compile_cuda

    check_dims(definition, dims, some=True)
    func = cuda_func(definition, dims, schedule=schedule)
    source = cuda_program(func, schedule).source
    made: dict[str, Artifact] = {
        "ir": show(func), "source": source.text, "remarks": remarks(source)
    }  # fmt: skip
    known = ("ir", "source", "ptx", *MACHINE, "remarks")
    for e in emits:
        if e not in known:
            raise TileError(f"the cuda back end emits {', '.join(known)}, not {e!r}")
    if not set(emits) <= made.keys():
        schedule.check(target)
        build = compile_cuda(pinned(source.text), target, headers=device_headers())
        made["ptx"] = build.ptx
        shared = max((k.shared for k in source.launches), default=0)
        made |= machine_artifacts(build.cubin, emits, shared)
    return {e: made[e] for e in emits}


def machine_artifacts(cubin: bytes, emits: Sequence[str], shared: int) -> dict[str, Artifact]:
    """Those of MACHINE that are asked for, of a cubin whose launches have so many bytes of dynamic
    shared memory."""
    made: dict[str, Artifact] = {"cubin": cubin}
    if "sass" in emits:
        made["sass"] = disassembled(cubin, "-c")
    if "stats" in emits:
        made["stats"] = stats_of(cubin, dynamic_shared=shared)
    return made


def remarks(source: KernelSource) -> str:
    """What passes and back end had to say, each at its line."""
    return "\n\n".join(map(str, source.remarks)) + "\n" if source.remarks else "no remarks\n"


def _known(
    makers: Mapping[str, Callable[[], Artifact]], name: str, backend: str
) -> Callable[[], Artifact]:
    if name not in makers:
        raise TileError(f"the {backend} back end emits {', '.join(makers)}, not {name!r}")
    return makers[name]


class Trial:
    """A kernel with random arguments, to run once and compare with the interpreter."""

    def __init__(
        self, definition: Definition, dims: Mapping[str, int], seed: int, choice: Choice
    ) -> None:
        check_dims(definition, dims)
        self.definition, self.dims, self.kernel = definition, dict(dims), Kernel(definition, choice)
        self.func: Func = definition.ir()
        self.given = self.func.params[: len(definition.signature.params)]
        self.outputs = written(self.func)
        rng = np.random.default_rng(seed)
        self.carriers: dict[str, Array] = {}
        self.arguments: list[Array | PackedTensor | int | float | bool] = []
        for p in self.func.params:
            match p.type:
                case Memory() if p not in self.given:  # a program's own
                    shape = tuple(number(d, self.dims) for d in p.type.shape)
                    self.carriers[p.hint] = _values(p.type.dtype, shape, rng)
                case Memory():
                    self._tensor(p.hint, p.type, rng)
                case Tile(dtype=dtype):
                    self.carriers[p.hint] = _values(dtype, (), rng)
                    self.arguments.append(self.carriers[p.hint].item())
                case _:
                    raise TileError(f"`{p.hint}` is no argument: {p.type}")

    def _tensor(self, name: str, t: Memory, rng: np.random.Generator) -> None:
        shape = tuple(number(d, self.dims) for d in t.shape)
        if not isinstance(t.format, Dense):
            packed = quantize(rng.standard_normal(shape), t.format, search=False)
            self.carriers[name] = packed.dequantize().astype(np.float64)
            self.arguments.append(packed)
            return
        if is_packed(t.dtype) or t.dtype.kind == "code":
            raise TileError(f"`{name}`: dense {t.dtype} arrays can't be passed; "
                            "use a scaled format")  # fmt: skip
        values = _values(t.dtype, shape, rng)
        self.carriers[name] = values
        self.arguments.append(t.dtype.to_storage(values))

    def run(self) -> None:
        """Call the compiled kernel."""
        self.kernel(*self.arguments)

    def errors(self) -> dict[str, float]:
        """For each output, the relative norm of the difference from the interpreter's."""
        expected = {n: v.copy() for n, v in self.carriers.items()}
        interpret(self.func, expected, self.dims)
        found: dict[str, float] = {}
        for p, arg in zip(self.given, self.arguments, strict=True):
            if p.hint in self.outputs and isinstance(p.type, Memory):
                got = p.type.dtype.from_storage(np.asarray(arg)).astype(np.float64)
                want = expected[p.hint].astype(np.float64)
                size = float(np.linalg.norm(want))
                found[p.hint] = float(np.linalg.norm(got - want)) / (size or 1.0)
        return found


class EmulatedTrial(Trial):
    """A trial of a kernel's CUDA code on this processor; `reports` say what its checks found."""

    def __init__(self, definition: Definition, dims: Mapping[str, int], seed: int,
                 schedule: Schedule) -> None:  # fmt: skip
        super().__init__(definition, dims, seed, Choice("cuda", schedule))
        self.schedule = schedule
        self.reports: tuple[Report, ...] = ()

    def run(self) -> None:
        """Run the CUDA code under emulation."""
        func = cuda_func(self.definition, self.dims, schedule=self.schedule)
        program = cuda_program(func, self.schedule)
        given: dict[str, Array | float] = {}
        for p, x in zip(self.given, self.arguments, strict=True):
            if isinstance(x, PackedTensor):
                given |= in_memory(program, x.format, x.parts(), x.shape, p.hint)
            else:
                given[p.hint] = x
        self.reports = emulate(program, given)


def _values(t: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if t.is_float:
        return t.round(rng.standard_normal(shape))
    if t.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(max(int(t.low), -100), min(int(t.high), 100) + 1, shape)
