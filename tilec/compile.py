"""From a kernel to running code: the one place that knows language, passes, code and runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tilec.ir.core import Func
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.parse import parse as parse_ir
from tilec.ir.source import KernelSource, Param
from tilec.ir.text import show
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.python import definition_of
from tilec.passes import Step, parse_pipeline, run
from tilec.runtime.tensor import PackedTensor


@cache
def engine() -> Any:
    """The CPU runtime of this process, made when the first kernel runs (it loads LLVM)."""
    from tilec.runtime.cache import Cache, default_directory
    from tilec.runtime.engine import Engine

    return Engine(Cache(default_directory(os.environ)))


def pipeline(dims: Mapping[str, int], threads: int) -> tuple[Step, ...]:
    """The passes that make a kernel ready for the code of a CPU."""
    return (
        Step("specialise", dict(dims)),  # first: every later choice depends on the extents
        Step("tile", {"threads": threads}),  # before formats: a step of k divides a scale's group
        Step("lower-formats"),
        Step("canonicalize"),  # last: drops the decoding that a product did not need
    )


def optimize(text: str, passes: str) -> str:
    """A `.tile` program or IR text through a textual pipeline, as IR text."""
    from tilec.lang.text import parse as parse_tile

    functions = [parse_ir(text)] if text.lstrip().startswith("func") else [
        d.ir() for d in parse_tile(text).values()
    ]  # fmt: skip
    steps = parse_pipeline(passes)
    return "\n".join(show(run(steps, f)) for f in functions)


def lower(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int]
) -> Func:
    """A kernel as the CPU back end takes it, with the remarks of the passes."""
    return run(pipeline(dims, engine().pool.threads), definition.ir(types))


def cpu_source(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int],
    tensors: Mapping[str, PackedTensor] | None = None, host: Any = None,
) -> KernelSource:  # fmt: skip
    """LLVM IR of a kernel for a machine, by default this one. Raises TileError at the user's line.

    `tensors` are the packed ones among the arguments, whose layouts the code reads; `host` is the
    Engine that will run it.
    """
    from tilec.codegen.cpu import emit

    host = host or engine()
    func = lower(definition, types, dims)
    names = [p.name for p in definition.signature.params]
    params = tuple(_param(p.hint, p.type, names, tensors or {}) for p in func.params)
    return emit(func, params, host.machine.cpu, host.machine.features, host.pool.threads)


def _param(name: str, t: object, names: list[str], tensors: Mapping[str, PackedTensor]) -> Param:
    whole, _, component = name.partition(".")
    argument = names.index(whole)
    match t:
        case Memory():
            shape = tuple(int(str(d)) for d in t.shape)
            if whole not in tensors:
                return Param(name, str(t.dtype), shape, "tensor", argument)
            place, records = tensors[whole].place(component)
            return Param(name, str(t.dtype), shape, "packed", argument, component, place, records)
        case Tile():
            return Param(name, str(t.dtype), (), "scalar", argument)
        case _:
            raise TileError(f"a parameter cannot be {t}")


class Kernel:
    """A kernel that can be called: `kernel(x, w, y)` on numpy arrays or torch tensors, in place."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.signature.name
        self._launch: Callable[..., None] | None = None

    def __call__(self, *args: Any) -> None:
        launch = self._launch
        if launch is None:
            launch = self._launch = engine().dispatcher(self.name, self._compile).launch
        launch(*args)

    def ir(self, **types: Format | DType) -> Func:
        """The kernel as IR, given the formats of its tensors by name."""
        return self.definition.ir(types)

    def source(self, types: Mapping[str, Format | DType], dims: Mapping[str, int]) -> str:
        """The LLVM IR that would run for these formats and dimensions."""
        return cpu_source(self.definition, types, dims).text

    def _compile(self, args: tuple[Any, ...]) -> Any:
        """Code for arguments of a kind not seen before."""
        signature = self.definition.signature
        if len(args) != len(signature.params):
            raise TileError(f"{self.name} takes {len(signature.params)} arguments, not {len(args)}")
        types: dict[str, Format | DType] = {}
        tensors: dict[str, PackedTensor] = {}
        shapes: list[tuple[int, ...] | None] = []
        for p, arg in zip(signature.params, args, strict=True):
            shapes.append(None)
            if not isinstance(p.spec, TensorSpec):
                continue
            if isinstance(arg, PackedTensor):
                tensors[p.name], types[p.name], shapes[-1] = arg, arg.format, arg.shape
            else:
                types[p.name], shapes[-1] = self._tensor(p.name, p.spec, arg)
        return engine().load(cpu_source(self.definition, types, signature.bind(shapes), tensors))

    def _tensor(self, name: str, spec: TensorSpec, arg: Any) -> tuple[Format, tuple[int, ...]]:
        """The format and shape of a dense argument that compiled code can read."""
        from tilec.runtime.arguments import TensorArgument, describe

        seen = describe(arg)
        if not isinstance(seen, TensorArgument):
            dims = ", ".join(map(str, spec.dims))
            raise TileError(f"{self.name}: `{name}` is {arg!r}, expected a tensor [{dims}]")
        return Dense(BY_NAME[seen.dtype]), _checked(self.name, name, seen)


def _checked(kernel: str, name: str, seen: Any) -> tuple[int, ...]:
    """The shape of a tensor that compiled code can read: on the CPU, contiguous, aligned."""
    expected = 1
    for n, stride in zip(reversed(seen.shape), reversed(seen.strides), strict=True):
        if n > 1 and stride != expected:
            raise TileError(
                f"{kernel}: `{name}` is not contiguous (strides {list(seen.strides)})",
                hint="make a copy",
            )
        expected *= n
    if not seen.aligned:
        raise TileError(f"{kernel}: `{name}` is not aligned to its elements", hint="make a copy")
    return tuple(seen.shape)


def kernel(fn: Callable[..., Any]) -> Kernel:
    """Decorate a function whose body is a kernel. Raises TileError where its signature is wrong."""
    return Kernel(definition_of(fn))
