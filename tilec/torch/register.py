"""Programs and kernels as operators of torch, which its compiler and exporter keep in graphs."""

# torch's functions have types of their own making, and its dispatcher parts that are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from tilec.compile import Kernel, written
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, number
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import Parameter, TensorSpec
from tilec.program import Program
from tilec.runtime.arguments import torch_name
from tilec.torch.execution import of
from tilec.torch.form import form_of
from tilec.torch.operators import KEYS, LIBRARY, watched
from tilec.torch.tensor import QuantizedTensor

SEPARATOR = "\n"  # between the forms of the tensors of a call


def _dtypes() -> dict[torch.dtype, DType]:
    out: dict[torch.dtype, DType] = {}
    for t in BY_NAME.values():
        try:
            out[getattr(torch, torch_name(t))] = t
        except TileError:
            continue
    return out


DTYPES = _dtypes()


def register(target: Program | Kernel, name: str = "", writes: Sequence[str] = ()
             ) -> Callable[..., Any]:  # fmt: skip
    """A program or kernel as the operator `torch.ops.tilec.<name>`; call what this returns.

    It is called as the program is, on tensors of torch, QuantizedTensors too, and it is known to
    torch.compile and torch.export, for shapes that are not known yet, and to autograd where a
    program has gradients (in a compiled graph these compute the program again). A kernel must say
    which tensors it `writes`. Raises TileError for a name that is taken, and for other `writes`.
    """
    name = name or target.name
    if hasattr(torch.ops.tilec, name):
        raise TileError(f"register: torch.ops.tilec.{name} is there already", hint="name=...")
    params = target.definition.signature.params
    tensors = {p.name for p in params if isinstance(p.spec, TensorSpec)}
    if isinstance(target, Kernel) and (not writes or not set(writes) <= tensors):
        raise TileError(f"register: {target.name} needs the names of the tensors that it writes, "
                        f"of {', '.join(sorted(tensors))}; not {list(writes)}")  # fmt: skip
    if isinstance(target, Program):
        return _Program(target, name, params).defined()
    return _Kernel(target, name, params, frozenset(writes)).defined()


@dataclass(frozen=True)
class _Operator:
    """What operators of programs and of kernels have in common. Their arguments are those of the
    call, the bytes of weights in place of weights, and a text with the form of each."""

    target: Any
    name: str
    params: tuple[Parameter, ...]

    def __call__(self, *args: Any) -> Any:
        """Call the operator."""
        if len(args) != len(self.params):
            raise TileError(f"{self.name} takes {len(self.params)} arguments, not {len(args)}")
        if not any(type(x) is QuantizedTensor for x in args):
            return self.answer(self.operator(*args, ""))
        for x in args:
            if type(x) is QuantizedTensor and (x.turned or x.divisor is not None):
                raise TileError(f"{self.name}: {x!r} is transposed, or inputs are to be divided")
        forms = SEPARATOR.join(x.form if type(x) is QuantizedTensor else "" for x in args)
        plain = [x.stored if type(x) is QuantizedTensor else x for x in args]
        return self.answer(self.operator(*plain, forms))

    @property
    def operator(self) -> Any:
        """The operator itself."""
        return getattr(torch.ops.tilec, self.name).default

    def answer(self, found: Any) -> Any:
        """What a call returns."""
        raise NotImplementedError

    def schema(self, results: str, mutable: frozenset[str] = frozenset()) -> str:
        """The text that torch's dispatcher knows the operator by."""
        words: list[str] = []
        for p in self.params:
            if isinstance(p.spec, TensorSpec):
                kind = f"Tensor({p.name}!)" if p.name in mutable else "Tensor"
            else:
                kind = "float" if p.spec.is_float else "bool" if p.spec.kind == "bool" else "int"
            words.append(f"{kind} {p.name}")
        return f"{self.name}({', '.join([*words, 'str forms'])}) -> {results}"

    def given(self, args: Sequence[Any], forms: str) -> list[Any]:
        """Arguments as a kernel takes them."""
        texts = forms.split(SEPARATOR) if forms else [""] * len(args)
        return [of(x).weight(x, text) if text else x.contiguous() if isinstance(x, Tensor) else x
                for x, text in zip(args, texts, strict=True)]  # fmt: skip

    def known(self, args: Sequence[Any], forms: str
              ) -> tuple[dict[str, Format | DType], dict[str, Any]]:  # fmt: skip
        """The formats of tensors and the dimensions of a call, which may be symbols of torch."""
        texts = forms.split(SEPARATOR) if forms else [""] * len(args)
        types: dict[str, Format | DType] = {}
        shapes: list[Any] = []
        for p, x, text in zip(self.params, args, texts, strict=True):
            shapes.append(None)
            if not isinstance(p.spec, TensorSpec):
                continue
            if text:
                types[p.name], shapes[-1] = form_of(text).format, form_of(text).shape
                continue
            plain = all(isinstance(d, int) or d.is_name for d in p.spec.dims)
            types[p.name] = _format(self.name, p, x.dtype)
            shapes[-1] = tuple(x.shape) if plain else tuple(map(int, x.shape))
        return types, self.target.definition.signature.bind(shapes)


@dataclass(frozen=True)
class _Program(_Operator):
    """A program, whose results are new tensors."""

    def answer(self, found: list[Tensor]) -> Any:
        return found[0] if len(found) == 1 else tuple(found)

    def defined(self) -> _Program:
        """Tell torch."""
        LIBRARY.define(self.schema("Tensor[]"))
        LIBRARY.define(f"{self.name}_gradients(Tensor?[] args, Scalar[] numbers, Tensor[] grads, "
                       "bool[] wanted, str forms) -> Tensor[]")  # fmt: skip
        for key in KEYS:
            LIBRARY.impl(self.name, self.run, key)
            LIBRARY.impl(f"{self.name}_gradients", self.gradients, key)
        LIBRARY.impl(self.name, self.watched, "Autograd")
        torch.library.register_fake(f"tilec::{self.name}", self.fake, lib=LIBRARY)
        torch.library.register_fake(
            f"tilec::{self.name}_gradients", self.fake_gradients, lib=LIBRARY
        )
        return self

    def run(self, *args: Any) -> list[Tensor]:
        """The results."""
        found = self.target(*self.given(args[:-1], args[-1]))
        return list(found) if isinstance(found, tuple) else [found]

    def watched(self, *args: Any) -> list[Tensor]:
        """The results, which autograd knows: in a graph, by an operator for the gradients."""
        tensors = [x for x in args if isinstance(x, Tensor)]
        if not any(map(watched, tensors)):
            return self.run(*args)
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            return list(cast("tuple[Tensor, ...]", _Traced.apply(self, *args)))
        with torch._C._AutoDispatchBelowAutograd():
            return self.operator(*args)

    def fake(self, *args: Any) -> list[Tensor]:
        """Results without data."""
        types, dims = self.known(args[:-1], args[-1])
        kernel: Kernel = self.target.kernel(**types)
        like = next(x for x in args if isinstance(x, Tensor))
        out: list[Tensor] = []
        for p in kernel.definition.signature.params[len(self.params) :]:
            assert isinstance(p.spec, TensorSpec)
            assert isinstance(p.spec.format, Dense)
            dtype = getattr(torch, torch_name(p.spec.format.dtype))
            out.append(like.new_empty([_size(d, dims) for d in p.spec.dims], dtype=dtype))
        return out

    def gradients(self, args: list[Tensor | None], numbers: list[Any], grads: list[Tensor],
                  wanted: list[bool], forms: str) -> list[Tensor]:  # fmt: skip
        """The gradients by the wanted arguments."""
        rest = iter(numbers)
        given = tuple(self.given([next(rest) if x is None else x for x in args], forms))
        names = tuple(p.name for p, want in zip(self.params, wanted, strict=True) if want)
        plan = self.target.plan(given, names)
        found = plan.gradients([*given, *plan.run(given)], grads)
        made = dict(zip((i for i, _ in plan.fills), found, strict=True))
        return [made[i] for i, want in enumerate(wanted) if want]

    def fake_gradients(self, args: list[Tensor | None], numbers: list[Any], grads: list[Tensor],
                       wanted: list[bool], forms: str) -> list[Tensor]:  # fmt: skip
        """Gradients without data."""
        return [x.new_empty(x.shape) for x, want in zip(args, wanted, strict=True)
                if want and x is not None]  # fmt: skip


class _Traced(torch.autograd.Function):
    """A program in a graph; its gradients are one operator, which runs the program again."""

    @staticmethod
    def forward(ctx: Any, of: _Program, *args: Any) -> tuple[Tensor, ...]:
        """The results."""
        ctx.of, ctx.rest = of, [None if isinstance(x, Tensor) else x for x in args]
        ctx.save_for_backward(*(x for x in args if isinstance(x, Tensor)))
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(of.operator(*args))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients by what requires them."""
        saved = iter(ctx.saved_tensors)
        *rest, forms = ctx.rest
        args = [next(saved) if x is None else None for x in rest]
        numbers = [x for x in rest if x is not None]
        wanted = list(ctx.needs_input_grad[1:-1])
        operator = getattr(torch.ops.tilec, f"{ctx.of.name}_gradients").default
        found = iter(operator(args, numbers, list(grads), wanted, forms))
        return None, *(next(found) if want else None for want in wanted), None


@dataclass(frozen=True)
class _Kernel(_Operator):
    """A kernel, which writes some of its arguments."""

    writes: frozenset[str]

    def answer(self, found: Any) -> None:
        return None

    def defined(self) -> _Kernel:
        """Tell torch."""
        LIBRARY.define(self.schema("()", self.writes))
        for key in KEYS:
            LIBRARY.impl(self.name, self.run, key)
        torch.library.register_fake(f"tilec::{self.name}", self.fake, lib=LIBRARY)
        return self

    def run(self, *args: Any) -> None:
        """Run the kernel; what it writes is not copied, so it must be contiguous."""
        given = self.given(args[:-1], args[-1])
        for i, p in enumerate(self.params):
            if p.name in self.writes:
                given[i] = args[i]
        self.target(*given)

    def fake(self, *args: Any) -> None:
        """Check shapes, and what is written."""
        types, _ = self.known(args[:-1], args[-1])
        found = written(self.target.ir(**types))
        if found != self.writes:
            raise TileError(f"{self.name} writes {', '.join(sorted(found))}; it is registered as "
                            f"writing {', '.join(sorted(self.writes))}")  # fmt: skip


def _format(name: str, p: Parameter, dtype: torch.dtype) -> Format:
    """The format of a dense argument: the pinned one where that is stored so."""
    assert isinstance(p.spec, TensorSpec)
    if dtype not in DTYPES:
        raise TileError(f"{name}: `{p.name}` is a tensor of {dtype}; expected one of "
                        f"{', '.join(str(t) for t in DTYPES.values())}")  # fmt: skip
    found = DTYPES[dtype]
    pinned = p.spec.format
    if isinstance(pinned, Dense) and pinned.dtype.numpy == found.numpy:
        return pinned
    return Dense(found)


def _size(d: Extent, dims: Mapping[str, Any]) -> Any:
    if isinstance(d, Sym) and d.is_name:
        return dims[d.text]
    return number(d, {n: int(size) for n, size in dims.items()})
