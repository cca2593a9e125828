"""Packed tensors: components of a format in the order of the code that reads them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tilec.ir import calibrated, fit
from tilec.ir.bits import aligned
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.dynamic import Dynamic
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, Rule
from tilec.ir.format import Format
from tilec.ir.lanes import Lanes
from tilec.ir.named import dynamic as dynamic_format
from tilec.ir.named import named
from tilec.ir.packing import Each, Layout, Plain, default_layout
from tilec.ir.scaled import Parts, Scaled
from tilec.ir.sparse import Sparse
from tilec.ir.stream import Stream
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.driver import open_driver
from tilec.runtime.packed import PackedHandle, identity
from tilec.runtime.placed import DeviceTensor


class PackedTensor:
    """A tensor [..., K] stored in a format; kernels take it where a tensor is expected.

    `layout` says how the components lie in memory. `tilec_handle` is what launches look at.
    """

    def __init__(self, format: Format, shape: tuple[int, ...], layout: Layout,
                 arrays: list[Array]) -> None:  # fmt: skip
        self.format, self.shape, self.layout, self._arrays = format, shape, layout, arrays
        pointers = [a.ctypes.data for a in arrays]
        handle = PackedHandle(identity((format, shape)), identity(layout), pointers)
        self._handle, self.tilec_handle = handle, handle.address

    def __repr__(self) -> str:
        layout = type(self.layout).__name__.lower()
        return f"PackedTensor({self.format}{list(self.shape)}, {layout}, {self.nbytes} bytes)"

    @property
    def device(self) -> str:
        """Where it is, as torch names devices."""
        return "cpu"

    @property
    def arrays(self) -> list[Array]:
        """The memory of the components, in the order of the layout."""
        return self._arrays

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

    def copy(self) -> PackedTensor:
        """The same tensor in memory of its own, each component from a cache line on."""
        arrays = [aligned(a.nbytes).view(a.dtype).reshape(a.shape) for a in self._arrays]
        for to, a in zip(arrays, self._arrays, strict=True):
            to[...] = a
        return PackedTensor(self.format, self.shape, self.layout, arrays)

    def to(self, device: str) -> DeviceTensor:
        """The tensor on a GPU: `cuda`, or `cuda:1`; this one must not change after.

        Raises TileError for anything else, and where there is no such GPU.
        """
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number or "0").isdecimal():
            raise TileError(f"to: {device!r} is no GPU, expected cuda or one like cuda:0")
        if isinstance(self.format, Dynamic):
            raise TileError("to: a dynamic tensor is rounded at each launch, on the CPU only")
        return DeviceTensor(self.format, self.shape, self.parts, open_driver(), int(number or 0))

    def relayout(self, layout: Layout) -> PackedTensor:
        """The same tensor in another layout. Raises TileError where that can't hold it."""
        return packed(self.format, self.parts(), self.shape, layout)


def packed(format: Format, parts: Parts, shape: tuple[int, ...], layout: Layout | None = None
           ) -> PackedTensor:  # fmt: skip
    """Components in their carriers as a packed tensor, by default in the layout of CPU code."""
    format.check(parts, shape)
    if layout is None:
        layout = default_layout(format, shape)
    elif isinstance(layout, Stream) and not Stream.fits(format, shape):
        raise TileError(f"a stream holds a matrix of a scaled format, not {format}{list(shape)}")
    elif isinstance(layout, Lanes) and not Lanes.fits(format, shape):
        raise TileError(f"lanes hold a matrix of n:m, a bitmap, CSR or blocks of 16 rows, of f16, "
                        f"bf16 or f32, or n:m and bitmaps of codes of 4 or 8 bits without zeros, "
                        f"not {format}{list(shape)}")  # fmt: skip
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
    format = format.fitted(x)
    if inputs is None or not isinstance(format, Scaled):
        parts = fit.encode(format, x, how)
    else:
        parts = calibrated.encode(format, x, _array(inputs), how)
    return packed(format, parts, x.shape, layout)


def sparsify(weight: Any, format: Format | str, *, density: float = 1.0, search: bool = True
             ) -> PackedTensor:  # fmt: skip
    """Store some elements of a tensor (numpy, torch, or what numpy can read); all others are 0.

    `nm`, `vnm` and `channels` keep the largest elements, as many as they have. All other formats
    keep what is not 0 after pruning to `density`, the part of the elements (of blocks, for `block`)
    that is left: the largest by magnitude (by sum of squares). What is kept is rounded to the inner
    format as `quantize` does. Raises TileError for a format that is not sparse, a density outside
    of 0 to 1, and elements that are not finite.
    """
    chosen = named(format) if isinstance(format, str) else format
    if not isinstance(chosen, Sparse):
        raise TileError(f"sparsify: expected a sparse format such as nm<2, 4, f16>, not {chosen}")
    if not 0.0 <= density <= 1.0:
        raise TileError(f"sparsify: expected a density from 0 to 1, not {density}")
    x = _array(weight)
    return quantize(chosen.pruned(x, density) if density < 1.0 else x, chosen, search=search)


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
    if seen.device != "cpu":
        raise TileError(f"dynamic: the tensor is on {seen.device}, expected one on the CPU")
    made = dynamic_format(inner, BY_NAME[seen.dtype])
    if not seen.contiguous:
        raise TileError(f"dynamic: the tensor is not contiguous (strides {list(seen.strides)})",
                        hint="make a copy")  # fmt: skip
    return PackedTensor(made, tuple(seen.shape), Plain(), [memory(tensor)])


def memory(tensor: Any) -> Array:
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
