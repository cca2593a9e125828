"""The operators of torch that read quantised weights: `torch.ops.tilec.linear` and its like.

They are defined in `torch.library.Library` without wrappers in Python, with meanings on tensors
without data ("fake"), and gradients. A weight is a tensor of bytes and the text of its form, so
that graphs that hold these operators need nothing else. They run where their tensors are
(`tilec.torch.execution`): on the CPU, or on GPUs.
"""

# torch's functions have types of their own making, and its dispatcher parts that are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from tilec.ir.errors import TileError
from tilec.torch.execution import CPU, FLOATS, cuda, misfit, of
from tilec.torch.form import form_of, packed_in, store

KEYS = ("CPU", "CUDA")  # of the dispatcher, for what has data
LIBRARY = torch.library.Library("tilec", "FRAGMENT")
LIBRARY.define("linear(Tensor x, Tensor w, Tensor? bias, str form) -> Tensor")
LIBRARY.define("transposed(Tensor x, Tensor w, str form) -> Tensor")
LIBRARY.define("embedding(Tensor ids, Tensor w, str form, ScalarType dtype) -> Tensor")
LIBRARY.define("dequantize(Tensor w, str form, ScalarType dtype) -> Tensor")
LIBRARY.define("relaid(Tensor w, str form, str to) -> Tensor")


def _relaid(w: Tensor, form: str, to: str) -> Tensor:
    """The bytes of a weight in another layout: what processors read fast is not what GPUs do."""
    here = w.cpu()
    made, found = store(packed_in(here, form).relayout(form_of(to).layout))
    if found != to:
        raise TileError(f"relaid: {form} is {found} in that layout, expected {to}")
    return made.to(w.device)


def _fake_linear(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    n, k = form_of(form).shape
    if not x.ndim or x.shape[-1] != k or x.dtype not in FLOATS:
        raise misfit("linear", x, k, form)
    if bias is not None and tuple(bias.shape) != (n,):
        raise TileError(f"linear: the bias is {list(bias.shape)}, expected [{n}] beside {form}")
    return x.new_empty((*x.shape[:-1], n))


def _fake_transposed(x: Tensor, w: Tensor, form: str) -> Tensor:
    n, k = form_of(form).shape
    if not x.ndim or x.shape[-1] != n or x.dtype not in FLOATS:
        raise misfit("transposed", x, n, form)
    return x.new_empty((*x.shape[:-1], k))


def _fake_embedding(ids: Tensor, w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    return w.new_empty((*ids.shape, form_of(form).shape[1]), dtype=dtype)


def _fake_dequantize(w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    return w.new_empty(form_of(form).shape, dtype=dtype)


def _fake_relaid(w: Tensor, form: str, to: str) -> Tensor:
    return w.new_empty(form_of(to).nbytes)


class _Linear(torch.autograd.Function):
    """`linear` by x and the bias."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            return linear(x, w, bias, form)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, w, _, ctx.form = inputs
        ctx.save_for_backward(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,), (w,) = grads, ctx.saved_tensors
        of_x, _, of_bias, _ = ctx.needs_input_grad
        dx = transposed(dy, w, ctx.form) if of_x else None
        return dx, None, dy.reshape(-1, dy.shape[-1]).sum(0) if of_bias else None, None


class _Transposed(torch.autograd.Function):
    """`transposed` by x."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, form: str) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            return transposed(x, w, form)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, w, ctx.form = inputs
        ctx.save_for_backward(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,), (w,) = grads, ctx.saved_tensors
        return linear(dy, w, None, ctx.form), None, None


def watched(x: Tensor) -> bool:
    """Whether this is memory that kernels do not see, or somebody looks on. If not, code runs at
    once: dispatching a second time would take longer than a small product."""
    plain = (type(x) is Tensor or type(x) is torch.nn.Parameter) and (x.is_cpu or x.is_cuda)
    return not plain or torch._C._len_torch_dispatch_stack() > 0


def _linear_watched(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    wanted = x.requires_grad or (bias is not None and bias.requires_grad)
    if wanted and torch.is_grad_enabled():
        return cast(Tensor, _Linear.apply(x, w, bias, form))
    if not watched(x):
        return of(x).linear(x, w, bias, form)
    with torch._C._AutoDispatchBelowAutograd():
        return linear(x, w, bias, form)


def _transposed_watched(x: Tensor, w: Tensor, form: str) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Transposed.apply(x, w, form))
    if not watched(x):
        return of(x).transposed(x, w, form)
    with torch._C._AutoDispatchBelowAutograd():
        return transposed(x, w, form)


def _lower(x: Tensor) -> Tensor:
    """x in the dtype that autocast asks for."""
    return x.to(torch.get_autocast_dtype(x.device.type)) if x.dtype == torch.float32 else x


def _linear_lower(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return linear(_lower(x), w, bias, form)


def _transposed_lower(x: Tensor, w: Tensor, form: str) -> Tensor:
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return transposed(_lower(x), w, form)


def _later(name: str) -> Callable[..., Tensor]:
    """An operator on GPUs, whose driver is opened by the first call."""

    def run(*args: Any) -> Tensor:
        return getattr(cuda(), name)(*args)

    return run


_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU).add(
    torch._C.DispatchKey.AutocastCUDA
)
for _name, _fake in (
    ("linear", _fake_linear), ("transposed", _fake_transposed),
    ("embedding", _fake_embedding), ("dequantize", _fake_dequantize),
):  # fmt: skip
    LIBRARY.impl(_name, getattr(CPU, _name), "CPU")
    LIBRARY.impl(_name, _later(_name), "CUDA")
    torch.library.register_fake(f"tilec::{_name}", _fake, lib=LIBRARY)
torch.library.register_fake("tilec::relaid", _fake_relaid, lib=LIBRARY)
for _key in KEYS:
    LIBRARY.impl("relaid", _relaid, _key)
    LIBRARY.impl("linear", _linear_lower, f"Autocast{_key}")
    LIBRARY.impl("transposed", _transposed_lower, f"Autocast{_key}")
LIBRARY.impl("linear", _linear_watched, "Autograd")
LIBRARY.impl("transposed", _transposed_watched, "Autograd")
linear = torch.ops.tilec.linear.default
transposed = torch.ops.tilec.transposed.default
embedding = torch.ops.tilec.embedding.default
dequantize = torch.ops.tilec.dequantize.default
relaid = torch.ops.tilec.relaid.default
