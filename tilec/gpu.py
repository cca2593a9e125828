"""Kernels for NVIDIA's GPUs: from a definition to programs, by either back end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tilec import cpu, cuda, triton
from tilec.codegen.cuda.lines import pinned, relative, unpinned
from tilec.ir.bits import is_packed
from tilec.ir.core import Func, Value
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div, extent
from tilec.ir.format import Format
from tilec.ir.parameters import passed
from tilec.ir.source import Descriptor, KernelSource, Launch, Param, TensorBoxes
from tilec.ir.types import Memory, Tile, Type
from tilec.lang.kernel import Definition
from tilec.passes.specialise import specialise
from tilec.runtime.cache import Entry, Key
from tilec.runtime.program import Boxes, Given, Kernel, Made, Parameter, Program, Size
from tilec.settings import triton_environment

BACKENDS = ("cuda", "triton")
DIVISOR = 16  # Triton's code may count on dimensions to be multiples of it
SCRATCH = 2  # null pointers that Triton's kernels take last: memory for descriptors, for profiles
Image = Literal["cubin", "ptx"]
Kept = Callable[[Key, Callable[[], Entry]], Entry]


@dataclass(frozen=True)
class Choice:
    """How kernels are made. For GPUs: the back end, its schedule (None: the default one), the
    dimensions that stay open in the code, what the driver is given, and whether machine code knows
    the lines of the user's files, as profilers show them (cuda): files are named from the folder of
    `sys.path` that they are in. `cpu` is the schedule for processors. Code for GPUs is for any size
    of `open` dimensions, code for processors for a class of sizes (tilec.classes)."""

    backend: str = "cuda"
    schedule: cuda.Schedule | triton.Schedule | None = None
    open: tuple[str, ...] = ()
    image: Image = "cubin"
    lines: bool = True
    cpu: cpu.Schedule | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise TileError(f"no back end for GPUs is called {self.backend!r}; "
                            f"there are {' and '.join(BACKENDS)}")  # fmt: skip
        kind = cuda.Schedule if self.backend == "cuda" else triton.Schedule
        if self.schedule is not None and type(self.schedule) is not kind:
            raise TileError(f"the {self.backend} back end takes a {kind.__module__}.Schedule, "
                            f"not a {type(self.schedule).__module__}.Schedule")  # fmt: skip

    def known(self, dims: Mapping[str, int], name: str) -> tuple[dict[str, int], frozenset[str]]:
        """The dimensions of a call that code is made for, and which others are multiples of
        DIVISOR. Raises TileError where the kernel `name` has not those that stay open."""
        for n in self.open:
            if n not in dims:
                raise TileError(f"{name} has no dimension `{n}`; "
                                f"it has {', '.join(dims) or 'none'}")  # fmt: skip
        counted = self.open if self.backend == "triton" else ()
        even = frozenset(n for n in counted if dims[n] % DIVISOR == 0)
        return {n: size for n, size in dims.items() if n not in self.open}, even

    def target(self, capability: tuple[int, int]) -> str:
        """The target of a GPU: sm_90a has instructions that no later one has."""
        major, minor = capability
        return f"sm_{major}{minor}{'a' * (capability == (9, 0) and self.backend == 'cuda')}"


def program(
    definition: Definition, types: Mapping[str, Format | DType], known: Mapping[str, int],
    even: Collection[str], target: str, choice: Choice, kept: Kept,
) -> tuple[Program, KernelSource]:  # fmt: skip
    """A kernel compiled for a target, and its source.

    `known` are the dimensions that code is made for, and `even` names others that are multiples of
    DIVISOR. The place of a packed tensor's component is not known yet. Raises TileError.
    """
    func, source = _printed(definition, types, known, choice)
    given = {p.hint: p.type for p in specialise(definition.ir(types), **known).params}
    memory: dict[str, Given | Made] = {}
    params: list[Param] = []
    own: dict[str, Extent] = {}
    for v, name in zip(func.params, _names(func, source, choice), strict=True):
        if passed(v, given):
            memory[name] = Given(len(params))
            params.append(_param(v, given, choice))
        else:
            memory[name] = Made(name)
            own[name] = _bytes(v)
    builds = _builds(source, target, choice, even, kept)
    kernels = [
        Kernel(k.entry, b.image, k.blocks, k.threads, b.shared,
               tuple(_parameters(source, k, b.swizzles, memory)))
        for k, b in zip(source.launches, builds, strict=True)
    ]  # fmt: skip
    return Program(tuple(kernels), tuple(params), own), source


def _names(func: Func, source: KernelSource, choice: Choice) -> list[str]:
    """What kernels call the parameters of a function."""
    if choice.backend == "triton":
        return [p.name for p in source.params]
    return [v.hint.replace(".", "_") for v in func.params]


def _parameters(
    source: KernelSource, k: Launch, swizzles: Sequence[int], memory: Mapping[str, Given | Made]
) -> Iterator[Parameter]:
    """The parameters of a kernel in order."""
    if k.takes is None:
        yield from memory.values()
        yield from (Size(Sym(n)) for n in source.dims)
        yield from (Boxes(x, memory[x.param]) for x in k.boxes)
        return
    maps = {d.name: (d, s) for d, s in zip(k.descriptors, swizzles, strict=True)}
    shapes = {p.name: (p.dtype, tuple(extent(str(d)) for d in p.shape)) for p in source.params}
    for n in k.takes:
        if n in maps:
            d, swizzle = maps[n]
            yield from _described(d, swizzle, *shapes[d.param], memory[d.param])
        else:
            yield memory.get(n) or Size(Sym(n))
    yield from [Size(0)] * SCRATCH


def _described(d: Descriptor, swizzle: int, dtype: str, shape: tuple[Extent, ...],
               of: Given | Made) -> Iterator[Parameter]:  # fmt: skip
    """What a kernel takes for a descriptor: a tensor map, the extents and the strides."""
    size = BY_NAME[dtype].numpy.itemsize
    strides: list[Extent] = [1]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    pitches = tuple(s * size for s in strides[:-1] if isinstance(s, int))
    if len(pitches) < len(strides) - 1:
        raise TileError(f"`{d.param}` comes by a descriptor, and its rows have no known length",
                        hint="a number for its dimensions but the first")  # fmt: skip
    inner = min(d.box[-1], swizzle // size) if swizzle else d.box[-1]
    boxes = TensorBoxes(d.name, d.param, shape, pitches, (*d.box[:-1], inner), swizzle, size)
    yield Boxes(boxes, of)
    yield from (Size(n) for n in (*shape, *strides))


def _printed(
    definition: Definition, types: Mapping[str, Format | DType], known: Mapping[str, int],
    choice: Choice,
) -> tuple[Func, KernelSource]:  # fmt: skip
    if choice.backend == "triton":
        schedule = choice.schedule if isinstance(choice.schedule, triton.Schedule) else None
        made = triton.triton_program(definition, known, types, schedule)
        return made.func, made.source
    chosen = choice.schedule if isinstance(choice.schedule, cuda.Schedule) else None
    func = cuda.cuda_func(definition, known, types, chosen)
    source = cuda.cuda_program(func, chosen).source
    # Keys of the cache, and what is in it, must not depend on where files are.
    text = relative(source.text, sys.path) if choice.lines else unpinned(source.text)
    return func, replace(source, text=text)


@dataclass(frozen=True)
class _Build:
    """The code of a launch, the dynamic shared memory that it needs, and what its maps are like."""

    image: bytes
    shared: int
    swizzles: tuple[int, ...] = ()


def _builds(
    source: KernelSource, target: str, choice: Choice, even: Collection[str], kept: Kept
) -> Iterator[_Build]:
    """The builds of the launches, from the cache where they are there."""
    if choice.schedule is not None:
        choice.schedule.check(target)
    entry = (_by_triton if choice.backend == "triton" else _by_nvrtc)(
        source, target, choice, even, kept
    )
    at = 0
    for size, shared, swizzles in entry.header["builds"]:
        yield _Build(entry.payload[at : at + size], shared, tuple(swizzles))
        at += size


def _entry(builds: Sequence[_Build]) -> Entry:
    rows = [[len(b.image), b.shared, list(b.swizzles)] for b in builds]
    return Entry(b"".join(b.image for b in builds), {"builds": rows})


def _by_nvrtc(source: KernelSource, target: str, choice: Choice, even: Collection[str],
              kept: Kept) -> Entry:  # fmt: skip
    from tilec.codegen.cuda.headers import device_headers
    from tilec.runtime.nvrtc import compile_cuda, toolchain

    del even  # it makes no use of that
    text, headers, tools = pinned(source.text), device_headers(), toolchain()
    shared = [k.shared for k in source.launches]
    made_by = {"kind": "cuda", "compiler": tools.digest, "target": target, "image": choice.image}
    parts = {"text": text, "headers": headers, "shared": shared, "lines": choice.lines}
    key = Key(made_by, parts, _about(source))

    def make() -> Entry:
        build = compile_cuda(text, target, headers=headers, tools=tools, line_info=choice.lines)
        code = build.cubin if choice.image == "cubin" else _text(build.ptx)
        return _entry([_Build(code, n) for n in shared])

    return kept(key, make)


def _by_triton(source: KernelSource, target: str, choice: Choice, even: Collection[str],
               kept: Kept) -> Entry:  # fmt: skip
    from tilec.runtime.cache.key import package_digest
    from tilec.runtime.triton import compile_each

    # The text does not say types, nor how kernels are launched.
    params = [(p.name, p.dtype, p.kind) for p in source.params]
    launches = [(k.entry, k.threads, k.stages, str(k.descriptors)) for k in source.launches]
    made_by = {"kind": "triton", "compiler": package_digest("triton"), "target": target,
               "image": choice.image, "environment": triton_environment()}  # fmt: skip
    parts = {"text": source.text, "even": sorted(even), "params": params, "launches": launches}
    key = Key(made_by, parts, _about(source))

    def make() -> Entry:
        builds = compile_each(source, target, even=even, line_info=False, fresh=True)
        cubin = choice.image == "cubin"
        return _entry([_Build(b.cubin if cubin else _text(b["ptx"]), b.shared, b.swizzles)
                       for b in builds])  # fmt: skip

    return kept(key, make)


def _about(source: KernelSource) -> dict[str, object]:
    """What people want to know of an entry."""
    takes = [f"{p.name}: {p.dtype}[{', '.join(map(str, p.shape))}]" for p in source.params]
    return {"kernel": source.entry, "takes": takes}


def _text(ptx: str) -> bytes:
    """PTX as the driver takes it, with a zero at its end."""
    return ptx.encode() + b"\0"


def _param(v: Value, given: Mapping[str, Type], choice: Choice) -> Param:
    """The slot of a parameter of the user's, or of a component of one."""
    name, _, component = v.hint.partition(".")
    argument = list(given).index(name)
    match v.type:
        case Memory(shape=shape, dtype=dtype):
            known = tuple(d if isinstance(d, int) else str(d) for d in shape)
            kind = "packed" if component else "tensor"
            return Param(v.hint, str(dtype), known, kind, argument, component)
        case Tile(dtype=dtype):
            if choice.backend == "triton" and dtype.is_float and dtype.bits < 32:
                raise TileError(f"`{name}`: the triton back end takes no number of {dtype}",
                                hint="f32")  # fmt: skip
            return Param(name, str(dtype), (), "scalar", argument)
        case _:
            raise TileError(f"a parameter cannot be {v.type}")


def _bytes(v: Value) -> Extent:
    """The bytes of memory that a pass made."""
    assert isinstance(v.type, Memory)
    *rows, last = v.type.shape
    t = v.type.dtype
    bits = t.bits if is_packed(t) else 8 * t.numpy.itemsize
    size = ceil_div(last * bits, 8)
    for d in rows:
        size = size * d
    return size
