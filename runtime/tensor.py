"""Packed tensors: components of a format in the order of the code that reads them."""

from __future__ import annotations

from functools import cache
from itertools import count
from math import prod
from typing import Any

import numpy as np

from tilec.ir import calibrated, fit
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, Rule
from tilec.ir.format import Format
from tilec.ir.named import dynamic as dynamic_format
from tilec.ir.named import named
from tilec.ir.packing import Each, Layout, Plain, default_layout
from tilec.ir.scaled import Parts, Scaled
from tilec.ir.stream import Stream
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.packed import PackedHandle

_numbers = count(1)


@cache
def _identity(key: object) -> int:
    """A number for each distinct key of this process."""
    return next(_numbers)


class PackedTensor:
    """A tensor [..., K] stored in a format; kernels take it where a tensor is expected.

    `layout` says how the components lie in memory. `tilec_handle` is what launches look at.
    """

    def __init__(self, format: Format, shape: tuple[int, ...], layout: Layout,
                 arrays: list[Array]) -> None:  # fmt: skip
        self.format, self.shape, self.layout, self._arrays = format, shape, layout, arrays
        pointers = [a.ctypes.data for a in arrays]
        handle = PackedHandle(_identity((format, shape)), _identity(layout), pointers)
        self._handle, self.tilec_handle = handle, handle.address

    def __repr__(self) -> str:
        layout = type(self.layout).__name__.lower()
        return f"PackedTensor({self.format}{list(self.shape)}, {layout}, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Bytes of all components as they are stored, padding included."""
        return sum(a.nbytes for a in self._arrays)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per element of the tensor, scales, zeros and padding included."""
        return 8 * self.nbytes / prod(self.shape)

    def parts(self) -> Parts:
        """The components by name, in their carriers."""
        return self.layout.unpack(self.format, self._arrays, self.shape)

    def dequantize(self) -> Array:
        """The values [..., K] that the components stand for, as float32."""
        return self.format.values(self.parts(), self.shape).astype(np.float32)

    def relayout(self, layout: Layout) -> PackedTensor:
        """The same tensor in another layout. Raises TileError where that can't hold it."""
        return packed(self.format, self.parts(), self.shape, layout)


def packed(format: Format, parts: Parts, shape: tuple[int, ...], layout: Layout | None = None
           ) -> PackedTensor:  # fmt: skip
    """Components in their carriers as a packed tensor, by default in the layout of CPU code."""
    if layout is None:
        layout = default_layout(format, shape)
    elif isinstance(layout, Stream) and not Stream.fits(format, shape):
        raise TileError(f"a stream holds a matrix of a scaled format, not {format}{list(shape)}")
    elif isinstance(layout, Each) and not isinstance(default_layout(format, shape), Each):
        raise TileError(f"{format} has no parts to lay out each")
    return PackedTensor(format, shape, layout, layout.pack(format, parts, shape))


def quantize(weight: Any, format: Format | str, *, inputs: Any = None, search: bool = True,
             rule: Rule = "range", layout: Layout | None = None) -> PackedTensor:  # fmt: skip
    """Round a tensor [..., K] (numpy, torch, or what numpy can read) to a format or its name.

    Every block is rounded to nearest, with the scale that covers its range or, with `search`, the
    one of a few narrower ranges that gives the least squared error; `rule` is how scales that are
    powers of two are chosen (`ir.fit.Fit`). With `inputs` [samples, K], of a weight [N, K] and
    a scaled format, later columns make up for the rounding of earlier ones (GPTQ). Raises TileError
    for elements that are not finite, and for blocks whose scale is out of its dtype's range.
    """
    if isinstance(format, str):
        format = named(format)
    if not isinstance(format, Format):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TileError(f"quantize: expected a format such as int4(group=128), not {format!r}")
    x = _array(weight)
    if not x.shape or 0 in x.shape:
        raise TileError(f"quantize: expected a tensor with elements, not shape {list(x.shape)}")
    how = Fit(search, rule)
    if inputs is None or not isinstance(format, Scaled):
        parts = fit.encode(format, x, how)
    else:
        parts = calibrated.encode(format, x, _array(inputs), how)
    return packed(format, parts, x.shape, layout)


def dynamic(tensor: Any, format: Format | str) -> PackedTensor:
    """A dense tensor [..., K] of floats that kernels round to a scaled format when they start.

    The tensor (numpy or torch) is not copied: each launch rounds what it then holds, by the rule of
    `ir.dynamic.Dynamic`. Raises TileError for a tensor that is not contiguous or has no floats, and
    for a format that is not scaled or has zero points.
    """
    inner = named(format) if isinstance(format, str) else format
    seen = describe(tensor)
    if not isinstance(seen, TensorArgument):
        raise TileError(f"dynamic: expected a tensor of floats, not {tensor!r}")
    made = dynamic_format(inner, BY_NAME[seen.dtype])
    if not seen.contiguous:
        raise TileError(f"dynamic: the tensor is not contiguous (strides {list(seen.strides)})",
                        hint="make a copy")  # fmt: skip
    return PackedTensor(made, tuple(seen.shape), Plain(), [_memory(tensor)])


def _memory(tensor: Any) -> Array:
    """The memory of a numpy array or torch tensor on the CPU."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    from torch import uint8

    return tensor.detach().view(uint8).numpy()


def doubles(given: Any) -> Array:
    """A torch tensor of any dtype and device, or what numpy can read, in float64."""
    if hasattr(given, "detach"):
        given = given.detach().to("cpu").double().numpy()
    return np.asarray(given).astype(np.float64)


def _array(weight: Any) -> Array:
    try:
        return doubles(weight)
    except (TypeError, ValueError) as e:
        raise TileError(
            f"quantize: expected an array of numbers, not {type(weight).__name__}"
        ) from e
