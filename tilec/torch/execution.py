"""How operators run: where kernels find a weight, and which kernels they are."""

# torch's functions have types of their own making.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tilec.gpu import Choice
from tilec.ir.bits import LINE
from tilec.ir.errors import TileError
from tilec.ir.packing import Plain
from tilec.ir.scaled import Parts
from tilec.ops.linear import linear
from tilec.runtime.driver import Driver, open_driver
from tilec.runtime.placed import DeviceTensor
from tilec.torch import kernels
from tilec.torch.form import form_of, packed_in
from tilec.tuned import Kernel

FEW = 16  # rows for each number of which a GPU has code of its own, as in decoding
FLOATS = frozenset({torch.float32, torch.float16, torch.bfloat16})  # of what is multiplied


@dataclass(frozen=True)
class Kernels:
    """The kernel of each operator, and `affine`, that of `linear` with a bias."""

    linear: Kernel
    affine: Kernel
    transposed: Kernel
    embedding: Kernel
    dequantize: Kernel


OWN = Kernels(linear, kernels.affine, kernels.transposed, kernels.rows, kernels.values)


class Weights:
    """Quantised weights in the memory of GPUs, as kernels take them: made ready once, and forgotten
    when their memory is freed or written to.

    A component that a kernel reads row by row is where torch has it, in a weight of the layout
    `plain`; of one that it reads in another order the GPU has a copy in that order, too.
    """

    def __init__(self, driver: Callable[[], Driver]) -> None:
        self._driver = driver
        self._known: dict[int, dict[tuple[int, str], tuple[int, DeviceTensor]]] = {}

    def __call__(self, stored: Tensor, text: str) -> DeviceTensor:
        """The weight whose bytes `stored` has. Raises TileError for bytes of another form."""
        storage = stored.untyped_storage()
        if id(storage) not in self._known:
            self._known[id(storage)] = {}
            weakref.finalize(storage, self._known.pop, id(storage), None).atexit = False
        known, key = self._known[id(storage)], (stored.data_ptr(), text)
        version = 0 if stored.is_inference() else stored._version
        if key not in known or known[key][0] != version:
            known[key] = version, self._made(stored, text)
        return known[key][1]

    def _made(self, stored: Tensor, text: str) -> DeviceTensor:
        form, at = form_of(text), stored.data_ptr()
        if stored.nbytes != form.nbytes:
            raise TileError(f"a quantised weight has {stored.nbytes} bytes, expected {form.nbytes} "
                            f"of {text}")  # fmt: skip
        rows: dict[str, int] = {}
        if isinstance(form.layout, Plain) and at % LINE == 0:
            names = [c.name for c in form.format.components(form.shape)]
            rows = {n: at + offset for n, offset in zip(names, form.offsets, strict=True)}
        # What is known of a storage must not keep it alive.
        storage, first = weakref.ref(stored.untyped_storage()), stored.storage_offset()
        device = stored.device

        def parts() -> Parts:
            memory = storage()
            if memory is None:
                raise TileError(f"the memory of a quantised weight is gone: {text}")
            there = torch.empty(0, dtype=torch.uint8, device=device)
            here = there.set_(memory, first, (form.nbytes,), (1,)).to("cpu", copy=True)
            return packed_in(here, text).parts()

        return DeviceTensor(form.format, form.shape, parts, self._driver(), device.index or 0, rows)


@dataclass(frozen=True)
class Execution:
    """The operators on one kind of memory. `weight` finds a weight there; `exact` are kernels made
    for each number of rows up to `few`, `open` those for any."""

    weight: Callable[[Tensor, str], Any]
    exact: Kernels
    open: Kernels
    few: int = 0

    def linear(self, x: Tensor, w: Tensor, bias: Tensor | None, form: str) -> Tensor:
        """x @ w.T + bias, in the dtype of x."""
        packed = self._beside(x, w, form)
        n, k = packed.shape
        *outer, last = x.shape or (0,)
        if last != k or x.dtype not in FLOATS:
            raise misfit("linear", x, k, form)
        rows = x.contiguous() if len(outer) == 1 else x.reshape(-1, k).contiguous()

        def run(of: Kernels, x: Tensor, y: Tensor) -> None:
            if bias is None:
                of.linear(x, packed, y)
            else:
                of.affine(x, packed, bias, y)

        y = self._rows(rows, lambda m: x.new_empty((m, n)), run)
        return y if len(outer) == 1 else y.view(*outer, n)

    def transposed(self, x: Tensor, w: Tensor, form: str) -> Tensor:
        """x @ w, in the dtype of x."""
        packed = self._beside(x, w, form)
        n, k = packed.shape
        if x.shape[-1:] != (n,) or x.dtype not in FLOATS:
            raise misfit("transposed", x, n, form)
        y = self._rows(x.reshape(-1, n).contiguous(), lambda m: x.new_empty((m, k)),
                       lambda of, x, y: of.transposed(x, packed, y))  # fmt: skip
        return y.view(*x.shape[:-1], k)

    def embedding(self, ids: Tensor, w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
        """w[ids]. On a GPU, which nothing waits for, ids that are no row's give 0."""
        packed = self._beside(ids, w, form)
        n, k = packed.shape
        if ids.is_cpu and ids.numel():
            least, most = (int(v) for v in torch.aminmax(ids))
            if least < 0 or most >= n:
                raise IndexError(f"embedding: ids are {least} to {most}, expected 0 to {n - 1}")
        y = self._rows(
            ids.reshape(-1).contiguous(), lambda m: w.new_empty((m, k), dtype=dtype),
            lambda of, ids, y: of.embedding(ids, packed, y),
        )  # fmt: skip
        return y.view(*ids.shape, k)

    def dequantize(self, w: Tensor, form: str, dtype: torch.dtype) -> Tensor:
        """The values of w."""
        packed = self.weight(w, form)
        y = torch.empty(packed.shape, dtype=dtype, device=w.device)
        self.exact.dequantize(packed, y)
        return y

    def _beside(self, x: Tensor, w: Tensor, form: str) -> Any:
        """The weight, which must be where x is."""
        if x.device != w.device:
            raise TileError(f"x is on {x.device}, and the quantised weight on {w.device}: {form}")
        return self.weight(w, form)

    def _rows(self, x: Tensor, y: Callable[[int], Tensor],
              run: Callable[[Kernels, Tensor, Tensor], None]) -> Tensor:  # fmt: skip
        """y[rows, ...] computed of x[rows, ...]; `y(n)` makes the memory for n rows."""
        out = y(len(x))
        if len(x):
            run(self.exact if len(x) <= self.few else self.open, x, out)
        return out


def misfit(name: str, x: Tensor, size: int, form: str) -> TileError:
    """The error of an x that does not fit a weight."""
    found = f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"
    return TileError(f"{name}: x is {found}, expected [..., {size}] of float32, float16 or "
                     f"bfloat16 beside {form}")  # fmt: skip


def on_gpus(driver: Callable[[], Driver] = open_driver, gpu: Any = None, **choices: Any
            ) -> Execution:  # fmt: skip
    """The operators on the GPUs of a driver; `gpu` and the choices are those of its kernels."""

    exact = Kernels(*(Kernel(k.definition, Choice(**choices), gpu) for k in vars(OWN).values()))
    return Execution(Weights(driver), exact, _of_any_rows(gpu, choices), FEW)


def _of_any_rows(gpu: Any, choices: Mapping[str, Any]) -> Kernels:
    """The kernels made for any number of rows: on a processor for classes of them."""

    def made(of: Kernel, *dims: str) -> Kernel:
        return Kernel(of.definition, Choice(open=dims, **choices), gpu)

    return Kernels(made(OWN.linear, "M"), made(OWN.affine, "M"), made(OWN.transposed, "M"),
                   made(OWN.embedding, "L"), made(OWN.dequantize))  # fmt: skip


CPU = Execution(packed_in, OWN, _of_any_rows(None, {}))


@cache
def cuda() -> Execution:
    """The operators on the GPUs of this machine. Raises TileError without an NVIDIA driver."""
    return on_gpus()


def of(x: Tensor) -> Execution:
    """The operators where a tensor is."""
    return CPU if x.is_cpu else cuda()
