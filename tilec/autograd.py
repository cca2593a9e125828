"""Programs in torch's autograd: their gradients are programs, compiled when they are first wanted.

A call whose tensors require gradients saves what the gradients read: arguments, results, and few
numbers such as the logarithms of softmax's sums. Everything else is computed again.
"""

# torch's functions have types of their own making.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tilec.compile import Kernel
from tilec.differentiate import training
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import Definition, Parameter, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.runtime.arguments import torch_name
from tilec.runtime.placed import DeviceTensor
from tilec.runtime.tensor import PackedTensor

Shape = tuple[tuple[int, ...], torch.dtype]


@dataclass(frozen=True)
class Plan:
    """A program for arguments of one kind, some of which have gradients.

    `made` are the shapes of what `forward` writes behind its arguments: `results` of these the
    program returns. `takes` says which of arguments, what was made and gradients of results
    `backward` reads, by place; `fills` are the shapes of the gradients.
    """

    forward: Kernel
    backward: Kernel
    made: tuple[Shape, ...]
    results: int
    of: tuple[int, ...]
    takes: tuple[int, ...]
    fills: tuple[tuple[int, Shape], ...]

    def run(self, args: Sequence[Any]) -> list[Tensor]:
        """The results, and behind them what is saved of the computation."""
        device = next(x.device for x in args if isinstance(x, Tensor))
        made = [torch.empty(s, dtype=t, device=device) for s, t in self.made]
        self.forward(*args, *made)
        return made

    def gradients(self, known: Sequence[Any], grads: Sequence[Tensor]) -> list[Tensor]:
        """The gradients that `fills` names, from what was given and made, and those of results."""
        every = [*known, *(grads[i].contiguous() for i in self.of)]
        device = next(x.device for x in grads)
        found = [torch.empty(s, dtype=t, device=device) for _, (s, t) in self.fills]
        self.backward(*(every[i] for i in self.takes), *found)
        return found


def plan(
    definition: ProgramDefinition, types: Mapping[str, Format | DType], dims: Mapping[str, int],
    inputs: Sequence[str], make: Callable[[Definition], Kernel],
) -> Plan:  # fmt: skip
    """How a program and its gradients by `inputs` are computed; `make` gives a definition's kernel.

    Raises TileError at an op that has no derivative, and where the program writes its arguments.
    """
    found = training(definition, types, dims, inputs)
    forward, backward = found.forward.signature.params, found.backward.signature.params
    own = len(definition.signature.params)
    order = [*(p.name for p in forward), *(f"d_{n}" for n in found.of)]
    given = len(backward) - len(inputs)
    places = [p.name for p in definition.signature.params]
    return Plan(
        make(found.forward), make(found.backward),
        tuple(_shape(p, dims) for p in forward[own:]), len(found.results),
        tuple(found.results.index(n) for n in found.of),
        tuple(order.index(p.name) for p in backward[:given]),
        tuple((places.index(p.name.removeprefix("d_")), _shape(p, dims)) for p in backward[given:]),
    )  # fmt: skip


def kind(x: Any) -> object:
    """What arguments with one plan have in common."""
    if isinstance(x, Tensor):
        return x.dtype, tuple(x.shape), x.device, x.requires_grad
    if isinstance(x, PackedTensor | DeviceTensor):
        return str(x.format), x.shape, x.device
    array: Any = x
    return (str(array.dtype), array.shape) if type(array) is np.ndarray else array.__class__


def _shape(p: Parameter, dims: Mapping[str, int]) -> Shape:
    assert isinstance(p.spec, TensorSpec)
    assert isinstance(p.spec.format, Dense)
    name = torch_name(p.spec.format.dtype)
    return tuple(number(d, dims) for d in p.spec.dims), getattr(torch, name)


def call(made: Plan, args: Sequence[Any]) -> Any:
    """The results of a program, which autograd knows."""
    found: Any = _Forward.apply(made, *args)
    return found[0] if made.results == 1 else found


class _Forward(torch.autograd.Function):
    """A program; what its gradients read is saved."""

    @staticmethod
    def forward(ctx: Any, made: Plan, *args: Any) -> tuple[Tensor, ...]:
        """Run the program."""
        written = made.run(args)
        every = [*args, *written]
        read = [i for i in made.takes if i < len(every)]
        ctx.made, ctx.tensors = made, [i for i in read if isinstance(every[i], Tensor)]
        ctx.others = {i: every[i] for i in read if i not in ctx.tensors}
        ctx.count = len(every)
        ctx.save_for_backward(*(every[i] for i in ctx.tensors))
        results = tuple(written[: made.results])
        ctx.mark_non_differentiable(*(x for i, x in enumerate(results) if i not in made.of))
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the gradients."""
        known: dict[int, Any] = {**dict(zip(ctx.tensors, ctx.saved_tensors, strict=True)),
                                 **ctx.others}  # fmt: skip
        made: Plan = ctx.made
        found: Any = _Backward.apply(
            made, len(grads), *grads, *(known.get(i) for i in range(ctx.count))
        )
        by: dict[int, Tensor] = dict(zip((i for i, _ in made.fills), found, strict=True))
        return None, *(by.get(i) for i in range(len(ctx.needs_input_grad) - 1))


class _Backward(torch.autograd.Function):
    """The gradients of a program, which have none themselves."""

    @staticmethod
    def forward(ctx: Any, made: Plan, count: int, *given: Any) -> tuple[Tensor, ...]:
        """Run them."""
        ctx.name = made.forward.name
        return tuple(made.gradients(given[count:], given[:count]))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """There is nothing to run."""
        raise TileError(f"{ctx.name}: gradients of gradients are not computed",
                        hint="write the gradient as a program of its own")  # fmt: skip
