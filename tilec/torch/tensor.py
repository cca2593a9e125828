"""QuantizedTensor: a weight in any format as a tensor of torch."""

# torch's functions have types of their own making, and its dispatcher parts that are private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.runtime.tensor import PackedTensor
from tilec.torch import operators
from tilec.torch.form import form_of, form_on, packed_in, store

Handler = Callable[..., Any]
aten = torch.ops.aten


class QuantizedTensor(Tensor):
    """A matrix [N, K] (or its transpose) that is stored in a format of tilec's.

    Products with it (`linear(x, q)`, `x @ q.T`, `x @ q`), rows of it (`embedding`) and
    `dequantize()` run tilec's kernels; any other arithmetic raises TypeError. It behaves as a
    tensor of `dtype`, which results of `embedding` and `dequantize` have. `stored` holds the bytes,
    as `form` says; the last dimension of x is divided by `divisor` first, where there is one (AWQ).
    On its way to a GPU or back it is laid out anew, as `form_on` says.
    """

    stored: Tensor
    divisor: Tensor | None
    form: str
    turned: bool

    @staticmethod
    def __new__(
        cls: type[QuantizedTensor], stored: Tensor, form: str, dtype: torch.dtype,
        divisor: Tensor | None = None, turned: bool = False,
    ) -> QuantizedTensor:  # fmt: skip
        n, k = form_of(form).shape
        size, strides = ((k, n), (1, k)) if turned else ((n, k), (k, 1))
        return torch.Tensor._make_wrapper_subclass(
            cls, size, strides=strides, dtype=dtype, device=stored.device
        )

    def __init__(self, stored: Tensor, form: str, dtype: torch.dtype,
                 divisor: Tensor | None = None, turned: bool = False) -> None:  # fmt: skip
        self.stored, self.form, self.divisor, self.turned = stored, form, divisor, turned

    @classmethod
    def of(cls, weight: PackedTensor, dtype: torch.dtype = torch.float32,
           divisor: Tensor | None = None) -> QuantizedTensor:  # fmt: skip
        """A packed matrix as a tensor of torch. Raises TileError for other ranks, and for formats
        that tensors of torch have."""
        if len(weight.shape) != 2:
            raise TileError(f"a QuantizedTensor is a matrix, not {weight!r}")
        if isinstance(weight.format, Dense):
            raise TileError(f"{weight.format} stores every element as itself", hint=".to(dtype)")
        stored, form = store(weight)
        return cls(stored, form, dtype, divisor)

    @property
    def format(self) -> Format:
        """How its elements are stored."""
        return form_of(self.form).format

    @property
    def bytes_stored(self) -> int:
        """Bytes that it takes, padding included."""
        return sum(getattr(self, name).nbytes for name in self.__tensor_flatten__()[0])

    def packed(self) -> PackedTensor:
        """A copy for tilec's kernels and files, of the matrix that is not transposed."""
        here = self.stored.cpu()
        return packed_in(here, self.form).copy()

    def dequantize(self) -> Tensor:
        """The values that the weight stands for, of its dtype."""
        dense = operators.dequantize(self.stored, self.form, self.dtype)
        dense = dense if self.divisor is None else (dense / self.divisor).to(self.dtype)
        return dense.t() if self.turned else dense

    def __repr__(self, *, tensor_contents: object = None) -> str:
        shape = f"{list(self.shape)}{' transposed' if self.turned else ''}"
        return f"QuantizedTensor({self.format}{shape}, {self.dtype}, {self.device})"

    def __tensor_flatten__(self) -> tuple[list[str], tuple[str, torch.dtype, bool]]:
        names = ["stored"] if self.divisor is None else ["stored", "divisor"]
        return names, (self.form, self.dtype, self.turned)

    def _stable_hash_for_caching(self) -> str:
        """What compiled graphs with such a weight have in common."""
        return f"{self.__tensor_flatten__()}"

    @classmethod
    def __tensor_unflatten__(
        cls, inner: dict[str, Tensor], context: tuple[str, torch.dtype, bool], size: object,
        stride: object,
    ) -> QuantizedTensor:  # fmt: skip
        form, dtype, turned = context
        return cls(inner["stored"], form, dtype, inner.get("divisor"), turned)

    def rebuilt(self, act: Callable[[Tensor], Tensor] = lambda t: t,
                dtype: torch.dtype | None = None, turned: bool | None = None
                ) -> QuantizedTensor:  # fmt: skip
        """The same weight of other tensors, seen as another dtype, or the other way round."""
        divisor = None if self.divisor is None else act(self.divisor)
        return QuantizedTensor(act(self.stored), self.form, dtype or self.dtype, divisor,
                               self.turned if turned is None else turned)  # fmt: skip

    def placed(self, device: torch.device, non_blocking: bool = False) -> QuantizedTensor:
        """The same weight in new memory of a device, as weights are laid out there."""
        stored, form = self.stored, form_on(self.form, device.type)
        if form != self.form and device.type != "cpu":  # before it goes, or when it is back
            stored = operators.relaid(stored, self.form, form)
        stored = stored.to(device, non_blocking=non_blocking, copy=True)
        if form != self.form and device.type == "cpu":
            stored = operators.relaid(stored, self.form, form)
        divisor = self.divisor
        if divisor is not None:
            divisor = divisor.to(device, non_blocking=non_blocking, copy=True)
        return QuantizedTensor(stored, form, self.dtype, divisor, self.turned)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear and not kwargs and type(args[1]) is cls:
            return _linear(*args)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = _HANDLERS.get(func)
        if handler is None:
            raise TypeError(f"{func} has no meaning for a QuantizedTensor; "
                            "its values are those of .dequantize()")  # fmt: skip
        return handler(*args, **(kwargs or {}))


def _linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ w.T + bias, in the dtype of x."""
    if type(w) is not QuantizedTensor or type(x) is QuantizedTensor:
        raise TypeError("linear: expected x to be dense and the weight to be quantised")
    if w.divisor is not None:
        x = (x / w.divisor).to(x.dtype) if not w.turned else x
    if not w.turned:
        return operators.linear(x, w.stored, bias, w.form)
    y = operators.transposed(x, w.stored, w.form)
    y = y if w.divisor is None else (y / w.divisor).to(x.dtype)
    return y if bias is None else y + bias


def _mm(x: Tensor, w: Tensor) -> Tensor:
    if type(w) is not QuantizedTensor:
        assert isinstance(x, QuantizedTensor)  # (x @ w).T = w.T @ x.T
        return _linear(w, x) if w.ndim == 1 else _linear(w.mT, x).mT
    return _linear(x, w.rebuilt(turned=not w.turned))


def _addmm(bias: Tensor, x: Tensor, w: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == 1 and alpha == 1 and bias.ndim == 1 and type(w) is QuantizedTensor:
        return _linear(x, w.rebuilt(turned=not w.turned), bias)
    return bias * beta + _mm(x, w) * alpha


def _embedding(w: QuantizedTensor, ids: Tensor, *options: Any) -> Tensor:
    """Rows of a weight; the options say which rows have no gradient, and nothing here has one."""
    if w.turned:
        raise TypeError("embedding: expected a weight that is not transposed")
    rows = operators.embedding(ids, w.stored, w.form, w.dtype)
    return rows if w.divisor is None else (rows / w.divisor).to(w.dtype)


def _turn(w: QuantizedTensor, first: int = 0, second: int = 1) -> QuantizedTensor:
    return w.rebuilt(turned=w.turned ^ ((first - second) % 2 == 1))


def _permute(w: QuantizedTensor, axes: list[int]) -> QuantizedTensor:
    return _turn(w, 0, axes[0])


def _to(w: QuantizedTensor, *, dtype: torch.dtype | None = None, device: Any = None,
        **options: Any) -> QuantizedTensor:  # fmt: skip
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"a QuantizedTensor stands for floats, not {dtype}")
    at = w.device if device is None else torch.device(device)
    if at.type not in ("cpu", "cuda", "meta"):
        raise TileError(f"a QuantizedTensor is on the CPU or on an NVIDIA GPU, not on {device}")
    return w.placed(at, options.get("non_blocking", False)).rebuilt(dtype=dtype)


def _empty(w: QuantizedTensor, *, device: Any = None, **options: Any) -> QuantizedTensor:
    """Memory for a weight like another one, also on another device."""
    at = w.device if device is None else torch.device(device)
    form = form_on(w.form, at.type)
    divisor = None if w.divisor is None else torch.empty_like(w.divisor, device=at)
    stored = torch.empty(form_of(form).nbytes, dtype=torch.uint8, device=at)
    return QuantizedTensor(stored, form, w.dtype, divisor, w.turned)


def _copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if not (isinstance(to, QuantizedTensor) and isinstance(source, QuantizedTensor)):
        raise TypeError(f"copy_: {to!r} takes what is quantised alike, not {_kind(source)}")
    if (to.form, to.turned) != (source.form, source.turned):
        raise TypeError(f"copy_: {to!r} can't take {source!r}")
    to.stored.copy_(source.stored)
    if to.divisor is not None and source.divisor is not None:
        to.divisor.copy_(source.divisor)
    return to


def _each(act: Callable[[Tensor], Tensor]) -> Handler:
    """The same of every tensor that a weight is made of; how they lie in memory is left to it."""

    def handler(w: QuantizedTensor, **options: Any) -> QuantizedTensor:
        return w.rebuilt(act)

    return handler


def _kind(x: Tensor) -> str:
    return repr(x) if isinstance(x, QuantizedTensor) else f"{x.dtype}{list(x.shape)}"


_HANDLERS: dict[Any, Handler] = {
    aten.linear.default: _linear,
    aten.mm.default: _mm,
    aten.matmul.default: _mm,
    aten.addmm.default: _addmm,
    aten.embedding.default: _embedding,
    aten.t.default: _turn,
    aten.numpy_T.default: _turn,
    aten.transpose.int: _turn,
    aten.permute.default: _permute,
    aten.detach.default: _each(aten.detach.default),
    aten.alias.default: _each(aten.alias.default),
    aten.clone.default: _each(torch.clone),
    aten.empty_like.default: _empty,
    aten._to_copy.default: _to,
    aten.copy_.default: _copy,
}
