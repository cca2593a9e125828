"""Programs that can be called: kernels and tensor expressions that are compiled together."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, overload

import numpy as np

from tilec.compile import COMPILES, Kernel, engine
from tilec.explain import Explanation, explain
from tilec.ir.choices import LINE
from tilec.ir.core import Func
from tilec.ir.dtype import BY_NAME, Array, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.lang.python import definition_of
from tilec.observe import Compile, compiling, enrolled, stage
from tilec.runtime.arguments import TensorArgument, describe, is_torch_tensor, torch_name
from tilec.runtime.launch import Compiled, Form, Out
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor

LONG = 1 << 18  # bytes of a result from which it pays to make it begin with a cache line


class Program:
    """A program that can be called: `y = program(x, w)` on numpy arrays or torch tensors.

    It runs where the tensors are. What it returns is made by the call: of torch where an argument
    is of torch. `program(x, w, out=y)` writes to tensors that are there instead, a tuple of them
    for several results, and returns those; they must not overlap an argument. `choice` and `gpu`
    are as those of `Kernel`.

    Where a tensor of torch requires gradients, autograd knows the results: `tilec.autograd`.
    """

    __slots__ = ("__call__", "__dict__", "__weakref__")  # as Kernel's
    __call__: Callable[..., Any]

    def __init__(self, definition: ProgramDefinition, choice: Any = None, gpu: Any = None) -> None:
        self.definition = definition
        self.name = definition.signature.name
        self._made = {"choice": choice, "gpu": gpu}
        self._kernels: dict[object, Kernel] = {}
        self._dispatcher: Any = None
        self._compiles: deque[Compile] = deque(maxlen=COMPILES)
        self.__call__ = self._first
        enrolled(self)
        self._plans: dict[object, Any] = {}  # of tilec.autograd

    @property
    def __tilec__(self) -> Definition:
        """What other programs call."""
        return self.definition

    def bind(self, *args: Any, **keywords: Any) -> Callable[..., Any]:
        """The program for these arguments: `bound()`, or `bound(*others)`, as `Kernel.bind` says.

        Each call writes to the same tensors and returns them: those given by `out=` here, or else
        made here, once.
        """
        return self._callable().bind(*args, **keywords)

    def _first(self, *args: Any, **keywords: Any) -> Any:
        self.__call__ = self._callable().launch
        return self.__call__(*args, **keywords)

    def _callable(self) -> Any:
        if self._dispatcher is None:
            names = tuple(p.name for p in self.definition.signature.params)
            form = Form(names, results=True, recorded=self._differentiated)
            self._dispatcher = engine().dispatcher(self.name, self.specialised, form)
        return self._dispatcher

    def _differentiated(self, args: tuple[Any, ...], out: Out | None) -> Any:
        """A call with tensors that require gradients."""
        from tilec.autograd import call

        names = [p.name for p in self.definition.signature.params]
        if out is not None:
            raise TileError(f"{self.name}: results that are given by `out` have no gradients",
                            hint="call it without `out`, or under torch.no_grad()")  # fmt: skip
        wanted = tuple(n for n, x in zip(names, args, strict=True)
                       if getattr(x, "requires_grad", False))  # fmt: skip
        return call(self.plan(args, wanted), args)

    def plan(self, args: tuple[Any, ...], wanted: tuple[str, ...]) -> Any:
        """How the program and its gradients by the parameters `wanted` are computed for such
        arguments, of torch: a `tilec.autograd.Plan`."""
        from tilec.autograd import kind, plan

        key = wanted, tuple(map(kind, args))
        if key not in self._plans:
            types, dims = self._bound(args)
            self._plans[key] = plan(self.definition, types, dims, wanted,
                                    lambda made: Kernel(made, **self._made))  # fmt: skip
        return self._plans[key]

    def kernel(self, **types: Format | DType) -> Kernel:
        """The program as a kernel that takes its results behind its arguments, and writes them."""
        key = tuple(sorted((n, str(t)) for n, t in types.items()))
        if key not in self._kernels:
            with stage("parse", "parse"):
                called = self.definition.called(types)
            self._kernels[key] = self._kernel(called)
        return self._kernels[key]

    def compiles(self) -> tuple[Compile, ...]:
        """What making it ready took: see `Kernel.compiles`."""
        return tuple(self._compiles)

    @property
    def gpu(self) -> Any:
        """The GPUs that it was made for: see `Kernel.gpu`."""
        return self._made["gpu"]

    def _kernel(self, definition: Definition) -> Kernel:
        """What calls of the program run."""
        return Kernel(definition, **self._made)

    def ir(self, **types: Format | DType) -> Func:
        """The program before any fusion, given the formats of its tensors by name."""
        return self.definition.ir(types)

    def explain(self, types: Mapping[str, Format | DType], dims: Mapping[str, int]) -> Explanation:
        """What becomes of the program: print it, or `.svg()` draws it."""
        return explain(self.definition, types, dims)

    def source(self, types: Mapping[str, Format | DType], dims: Mapping[str, int]) -> str:
        """The LLVM IR that would run for these formats and dimensions."""
        return self.kernel(**types).source(types, dims)

    def specialised(self, given: tuple[Any, ...]) -> Compiled:
        """Code for arguments of a kind not seen before: a slow path of the launcher."""
        with compiling(self.name, self._compiles.append):
            return self._specialised(given)

    def _specialised(self, given: tuple[Any, ...]) -> Compiled:
        out = given[-1] if given and isinstance(given[-1], Out) else None
        args = given if out is None else given[:-1]
        kernel, results = self._kernel_of(args)
        makers = tuple(maker(shape, dtype, args) for shape, dtype in results)
        if out is None:
            made: Compiled = kernel.specialised((*args, *(make() for make in makers)))
            return replace(made, results=makers)
        if len(out.tensors) != len(results):
            raise TileError(f"{self.name} has {len(results)} results, "
                            f"`out` has {len(out.tensors)}")  # fmt: skip
        return kernel.specialised((*args, *out.tensors))

    def _kernel_of(
        self, args: tuple[Any, ...]
    ) -> tuple[Kernel, list[tuple[tuple[int, ...], DType]]]:
        """The kernel that the program is for such arguments, and the shapes and dtypes of the
        results that it writes."""
        types, dims = self._bound(args)
        kernel = self.kernel(**types)
        more = kernel.definition.signature.params[len(args) :]
        results = [
            (tuple(number(d, dims) for d in p.spec.dims), p.spec.format.dtype)
            for p in more if isinstance(p.spec, TensorSpec) and isinstance(p.spec.format, Dense)
        ]  # fmt: skip
        return kernel, results

    def _bound(self, args: tuple[Any, ...]) -> tuple[dict[str, Format | DType], dict[str, int]]:
        """The formats of arguments by name, and the numbers of the dimensions."""
        signature = self.definition.signature
        if len(args) != len(signature.params):
            raise TileError(f"{self.name} takes {len(signature.params)} arguments, not {len(args)}")
        types: dict[str, Format | DType] = {}
        shapes: list[tuple[int, ...] | None] = []
        for p, x in zip(signature.params, args, strict=True):
            shapes.append(None)
            if isinstance(p.spec, TensorSpec):
                types[p.name], shapes[-1] = self._tensor(p.name, p.spec, x)
        return types, signature.bind(shapes)

    def _tensor(self, name: str, spec: TensorSpec, x: Any) -> tuple[Format, tuple[int, ...]]:
        """The format and the shape of an argument."""
        if isinstance(x, PackedTensor | DeviceTensor):
            return x.format, x.shape
        seen = describe(x)
        if not isinstance(seen, TensorArgument):
            dims = ", ".join(map(str, spec.dims))
            raise TileError(f"{self.name}: `{name}` is {x!r}, expected a tensor [{dims}]")
        found = BY_NAME[seen.dtype]
        if isinstance(spec.format, Dense) and spec.format.dtype.numpy == found.numpy:
            return spec.format, tuple(seen.shape)
        return Dense(found), tuple(seen.shape)


def maker(shape: tuple[int, ...], dtype: DType, args: tuple[Any, ...]) -> Callable[[], Any]:
    """What makes a result: of torch, on the device of the first tensor of torch, or of numpy."""
    like = next((x for x in args if is_torch_tensor(x)), None)
    if like is None:
        size = prod(shape) * dtype.numpy.itemsize
        return partial(np.empty if size < LONG else _lined, shape, dtype.numpy)
    torch: Any = sys.modules["torch"]
    kind = getattr(torch, torch_name(dtype))
    return partial(torch.empty, shape, dtype=kind, device=like.device)


def _lined(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array that begins with a cache line, as numpy's do not: no vector of it lies in two."""
    room = np.empty(prod(shape) * dtype.itemsize + LINE - 1, np.uint8)
    return np.ndarray(shape, dtype, room, -room.ctypes.data % LINE)


@overload
def program(fn: Callable[..., Any]) -> Program: ...
@overload
def program(fn: None = None, **choices: Any) -> Callable[[Callable[..., Any]], Program]: ...
def program(fn: Callable[..., Any] | None = None, **choices: Any) -> Any:
    """Decorate a function of whole tensors. Raises TileError where its signature is wrong.

    `@program(backend="triton", schedule=...)` says how it is made for GPUs (`tilec.gpu.Choice`).
    """
    if fn is not None:
        return _of(fn, None)
    from tilec.gpu import Choice

    choice = Choice(**choices)

    def decorated(function: Callable[..., Any]) -> Program:
        return _of(function, choice)

    return decorated


def _of(fn: Callable[..., Any], choice: Any) -> Program:
    made = definition_of(fn, ProgramDefinition)
    assert isinstance(made, ProgramDefinition)
    return Program(made, choice)
