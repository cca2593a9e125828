"""The operators of torch that read quantised weights: `torch.ops.tilec.linear` and its like.

They are defined in `torch.library.Library` without wrappers in Python, with meanings on tensors
without data ("fake"), and gradients. A weight is a tensor of bytes and the text of its form, so
that graphs that hold these operators need nothing else. They run on the CPU.
"""

# torch's functions have types of their own making, and its dispatcher parts that are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from tilec.ir.errors import TileError
from tilec.torch import kernels
from tilec.torch.form import form_of, packed_in
from tilec.torch.pieces import by_pieces

FLOATS = frozenset({torch.float32, torch.float16, torch.bfloat16})  # of what is multiplied
LIBRARY = torch.library.Library("tilec", "FRAGMENT")
LIBRARY.define("linear(Tensor x, Tensor w, Tensor? bias, str form) -> Tensor")
LIBRARY.define("transposed(Tensor x, Tensor w, str form) -> Tensor")
LIBRARY.define("embedding(Tensor ids, Tensor w, str form, ScalarType dtype) -> Tensor")
LIBRARY.define("dequantize(Tensor w, str form, ScalarType dtype) -> Tensor")


def _linear(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    packed = packed_in(w, form)
    n, k = packed.shape
    *outer, last = x.shape or (0,)
    if last != k or x.dtype not in FLOATS:
        raise _misfit("linear", x, k, form)
    rows = x.contiguous() if len(outer) == 1 else x.reshape(-1, k).contiguous()

    def run(x: Tensor, y: Tensor) -> None:
        if bias is None:
            kernels.product(x, packed, y)
        else:
            kernels.affine(x, packed, bias, y)

    y = by_pieces(rows, lambda m: x.new_empty((m, n)), run)
    return y if len(outer) == 1 else y.view(*outer, n)


def _transposed(x: Tensor, w: Tensor, form: str) -> Tensor:
    packed = packed_in(w, form)
    n, k = packed.shape
    if x.shape[-1:] != (n,) or x.dtype not in FLOATS:
        raise _misfit("transposed", x, n, form)
    y = by_pieces(x.reshape(-1, n).contiguous(), lambda m: x.new_empty((m, k)),
                  lambda x, y: kernels.transposed(x, packed, y))  # fmt: skip
    return y.view(*x.shape[:-1], k)


def _embedding(ids: Tensor, w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    packed = packed_in(w, form)
    n, k = packed.shape
    if ids.numel():
        least, most = (int(v) for v in torch.aminmax(ids))
        if least < 0 or most >= n:
            raise IndexError(f"embedding: ids are {least} to {most}, expected 0 to {n - 1}")
    y = by_pieces(ids.reshape(-1).contiguous(), lambda m: w.new_empty((m, k), dtype=dtype),
                  lambda ids, y: kernels.rows(ids, packed, y))  # fmt: skip
    return y.view(*ids.shape, k)


def _dequantize(w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    packed = packed_in(w, form)
    y = torch.empty(packed.shape, dtype=dtype, device=w.device)
    kernels.values(packed, y)
    return y


def _fake_linear(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    n, k = form_of(form).shape
    if not x.ndim or x.shape[-1] != k or x.dtype not in FLOATS:
        raise _misfit("linear", x, k, form)
    if bias is not None and tuple(bias.shape) != (n,):
        raise TileError(f"linear: the bias is {list(bias.shape)}, expected [{n}] beside {form}")
    return x.new_empty((*x.shape[:-1], n))


def _fake_transposed(x: Tensor, w: Tensor, form: str) -> Tensor:
    n, k = form_of(form).shape
    if not x.ndim or x.shape[-1] != n or x.dtype not in FLOATS:
        raise _misfit("transposed", x, n, form)
    return x.new_empty((*x.shape[:-1], k))


def _fake_embedding(ids: Tensor, w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    return w.new_empty((*ids.shape, form_of(form).shape[1]), dtype=dtype)


def _fake_dequantize(w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    return w.new_empty(form_of(form).shape, dtype=dtype)


def _misfit(name: str, x: Tensor, size: int, form: str) -> TileError:
    found = f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"
    return TileError(f"{name}: x is {found}, expected [..., {size}] of float32, float16 or "
                     f"bfloat16 beside {form}")  # fmt: skip


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
    """Whether this is no memory of the CPU, or somebody looks on. If not, code runs at once:
    dispatching a second time would take longer than a small product."""
    plain = (type(x) is Tensor or type(x) is torch.nn.Parameter) and x.is_cpu
    return not plain or torch._C._len_torch_dispatch_stack() > 0


def _linear_watched(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    wanted = x.requires_grad or (bias is not None and bias.requires_grad)
    if wanted and torch.is_grad_enabled():
        return cast(Tensor, _Linear.apply(x, w, bias, form))
    if not watched(x):
        return _linear(x, w, bias, form)
    with torch._C._AutoDispatchBelowAutograd():
        return linear(x, w, bias, form)


def _transposed_watched(x: Tensor, w: Tensor, form: str) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Transposed.apply(x, w, form))
    if not watched(x):
        return _transposed(x, w, form)
    with torch._C._AutoDispatchBelowAutograd():
        return transposed(x, w, form)


def _lower(x: Tensor) -> Tensor:
    """x in the dtype that autocast asks for."""
    return x.to(torch.get_autocast_dtype("cpu")) if x.dtype == torch.float32 else x


def _linear_lower(x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return linear(_lower(x), w, bias, form)


def _transposed_lower(x: Tensor, w: Tensor, form: str) -> Tensor:
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return transposed(_lower(x), w, form)


_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
for _name, _run, _fake in (
    ("linear", _linear, _fake_linear), ("transposed", _transposed, _fake_transposed),
    ("embedding", _embedding, _fake_embedding), ("dequantize", _dequantize, _fake_dequantize),
):  # fmt: skip
    LIBRARY.impl(_name, _run, "CPU")
    torch.library.register_fake(f"tilec::{_name}", _fake, lib=LIBRARY)
LIBRARY.impl("linear", _linear_watched, "Autograd")
LIBRARY.impl("transposed", _transposed_watched, "Autograd")
LIBRARY.impl("linear", _linear_lower, "AutocastCPU")
LIBRARY.impl("transposed", _transposed_lower, "AutocastCPU")
linear = torch.ops.tilec.linear.default
transposed = torch.ops.tilec.transposed.default
embedding = torch.ops.tilec.embedding.default
dequantize = torch.ops.tilec.dequantize.default
