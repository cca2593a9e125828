"""Programs that can be called: kernels and tensor expressions that are compiled together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from tilec.compile import Kernel
from tilec.explain import Explanation, explain
from tilec.ir.core import Func
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.lang.python import definition_of
from tilec.runtime.arguments import TensorArgument, describe, is_torch_tensor, torch_name
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor


@dataclass(frozen=True)
class _Call:
    """A program for arguments of one kind: the kernel that it is, and the shapes and dtypes of the
    results that the kernel is to write."""

    kernel: Kernel
    results: tuple[tuple[tuple[int, ...], DType], ...]


class Program:
    """A program that can be called: `y = program(x, w)` on numpy arrays or torch tensors.

    It runs where the tensors are. What it returns is made by the call: of torch where an argument
    is of torch. `choice` and `gpu` are as those of `Kernel`.
    """

    def __init__(self, definition: ProgramDefinition, choice: Any = None, gpu: Any = None) -> None:
        self.definition = definition
        self.name = definition.signature.name
        self._made = {"choice": choice, "gpu": gpu}
        self._kernels: dict[object, Kernel] = {}
        self._calls: dict[object, _Call] = {}

    @property
    def __tilec__(self) -> Definition:
        """What other programs call."""
        return self.definition

    def __call__(self, *args: Any) -> Any:
        key = tuple(map(_kind, args))
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = self._call(args)
        made = [_array(shape, dtype, args) for shape, dtype in call.results]
        call.kernel(*args, *made)
        return None if not made else made[0] if len(made) == 1 else tuple(made)

    def kernel(self, **types: Format | DType) -> Kernel:
        """The program as a kernel that takes its results behind its arguments, and writes them."""
        key = tuple(sorted((n, str(t)) for n, t in types.items()))
        if key not in self._kernels:
            self._kernels[key] = Kernel(self.definition.called(types), **self._made)
        return self._kernels[key]

    def ir(self, **types: Format | DType) -> Func:
        """The program before any fusion, given the formats of its tensors by name."""
        return self.definition.ir(types)

    def explain(self, types: Mapping[str, Format | DType], dims: Mapping[str, int]) -> Explanation:
        """What becomes of the program: print it, or `.svg()` draws it."""
        return explain(self.definition, types, dims)

    def source(self, types: Mapping[str, Format | DType], dims: Mapping[str, int]) -> str:
        """The LLVM IR that would run for these formats and dimensions."""
        return self.kernel(**types).source(types, dims)

    def _call(self, args: tuple[Any, ...]) -> _Call:
        """What a call with arguments of a new kind needs."""
        signature = self.definition.signature
        if len(args) != len(signature.params):
            raise TileError(f"{self.name} takes {len(signature.params)} arguments, not {len(args)}")
        types: dict[str, Format | DType] = {}
        shapes: list[tuple[int, ...] | None] = []
        for p, x in zip(signature.params, args, strict=True):
            shapes.append(None)
            if isinstance(p.spec, TensorSpec):
                types[p.name], shapes[-1] = self._tensor(p.name, p.spec, x)
        dims = signature.bind(shapes)
        kernel = self.kernel(**types)
        more = kernel.definition.signature.params[len(args) :]
        results = [
            (tuple(number(d, dims) for d in p.spec.dims), p.spec.format.dtype)
            for p in more if isinstance(p.spec, TensorSpec) and isinstance(p.spec.format, Dense)
        ]  # fmt: skip
        return _Call(kernel, tuple(results))

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


def _kind(x: Any) -> object:
    """What calls with the same code have in common."""
    if isinstance(x, PackedTensor | DeviceTensor):
        return str(x.format), x.shape, x.device
    array: Any = x
    if type(array) is np.ndarray or is_torch_tensor(array):
        return str(array.dtype), tuple(array.shape), str(getattr(array, "device", ""))
    return array.__class__


def _array(shape: tuple[int, ...], dtype: DType, args: tuple[Any, ...]) -> Any:
    """A result: of torch, on the device of the first tensor of torch, or of numpy."""
    like = next((x for x in args if is_torch_tensor(x)), None)
    if like is None:
        return np.empty(shape, dtype.numpy)
    torch: Any = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, torch_name(dtype)), device=like.device)


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
