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
from tilec.ir.source import KernelSource, Param
from tilec.ir.types import Memory, Tile
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.python import definition_of
from tilec.passes import Step, run


@cache
def engine() -> Any:
    """The CPU runtime of this process, made when the first kernel runs (it loads LLVM)."""
    from tilec.runtime.cache import Cache, default_directory
    from tilec.runtime.engine import Engine

    return Engine(Cache(default_directory(os.environ)))


def lower(func: Func, dims: Mapping[str, int], threads: int) -> Func:
    """A kernel's IR ready for code: extents known, tiles chosen."""
    steps = (
        Step("specialise", dict(dims)),  # first: every later choice depends on the extents
        Step("tile", {"threads": threads}),
    )
    return run(steps, func)


def cpu_source(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int]
) -> KernelSource:
    """LLVM IR of a kernel for this machine. Raises TileError at the user's line."""
    from tilec.codegen.cpu import emit

    host = engine()
    func = lower(definition.ir(types), dims, host.pool.threads)
    params = tuple(_param(p.hint, p.type, i) for i, p in enumerate(func.params))
    return emit(func, params, host.machine.cpu, host.machine.features, host.pool.threads)


def _param(name: str, t: object, argument: int) -> Param:
    match t:
        case Memory():
            return Param(
                name, str(t.dtype), tuple(int(str(d)) for d in t.shape), "tensor", argument
            )
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
        from tilec.runtime.arguments import TensorArgument, describe

        signature = self.definition.signature
        if len(args) != len(signature.params):
            raise TileError(f"{self.name} takes {len(signature.params)} arguments, not {len(args)}")
        types: dict[str, Format | DType] = {}
        shapes: list[tuple[int, ...] | None] = []
        for p, arg in zip(signature.params, args, strict=True):
            seen = describe(arg)
            if isinstance(p.spec, TensorSpec):
                if not isinstance(seen, TensorArgument):
                    raise TileError(
                        f"{self.name}: `{p.name}` is {arg!r}, "
                        f"expected a tensor [{', '.join(map(str, p.spec.dims))}]"
                    )
                shapes.append(_checked(self.name, p.name, seen))
                types[p.name] = Dense(BY_NAME[seen.dtype])
            else:
                shapes.append(None)
        return engine().load(cpu_source(self.definition, types, signature.bind(shapes)))


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
