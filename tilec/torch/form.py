"""Forms: what the bytes of a quantised weight mean, as a text that graphs and files can hold.

All arrays of a packed tensor lie in one torch tensor of bytes, each on a cache line of its own and
with a line to read beyond it. A form's text says the format, the shape, the layout and the bytes of
each array: `int4<group=64, scale=f16>[512, 512] stream 139264`.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from tilec.ir.bits import LINE
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.lanes import Lanes
from tilec.ir.named import named
from tilec.ir.packing import Each, Layout, Plain
from tilec.ir.scaled import Scaled
from tilec.ir.stream import Stream
from tilec.runtime.tensor import PackedTensor

LAYOUTS: dict[str, Layout] = {
    type(layout).__name__.lower(): layout for layout in (Plain(), Stream(), Lanes(), Each())
}
PACKED = 1 << 16  # handles that are kept: weights of a process
_TEXT = re.compile(r"(.*)\[([\d, ]*)\] (\w+) ([\d ]+)", re.DOTALL)


@dataclass(frozen=True)
class Form:
    """The format, shape and layout of a tensor, and the bytes of each of its arrays."""

    format: Format
    shape: tuple[int, ...]
    layout: Layout
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        sizes = " ".join(map(str, self.sizes))
        return f"{self.format}{list(self.shape)} {type(self.layout).__name__.lower()} {sizes}"

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each array begins."""
        at, out = 0, list[int]()
        for size in self.sizes:
            out.append(at)
            at += _room(size)
        return tuple(out)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, the lines beyond them included."""
        return sum(map(_room, self.sizes))


def _room(size: int) -> int:
    return -(-size // LINE) * LINE + LINE


@lru_cache(maxsize=4096)
def form_of(text: str) -> Form:
    """The form that a text means. Raises TileError for anything else."""
    found = _TEXT.fullmatch(text)
    if found is None or found[3] not in LAYOUTS:
        raise TileError(f"expected a form such as `int8<channel, scale=f16>[64, 64] stream 4096`, "
                        f"not {text!r}")  # fmt: skip
    shape = tuple(int(n) for n in found[2].split(",") if n.strip())
    return Form(named(found[1]), shape, LAYOUTS[found[3]], tuple(map(int, found[4].split())))


def store(weight: PackedTensor) -> tuple[torch.Tensor, str]:
    """The arrays of a packed tensor in one tensor of bytes on the CPU, and its form's text.

    Raises TileError for a format that has no text, such as one made with a table of its own.
    """
    arrays = weight.arrays
    form = Form(weight.format, weight.shape, weight.layout, tuple(a.nbytes for a in arrays))
    text = str(form)
    if form_of(text) != form:
        raise TileError(f"the format {weight.format} does not read back from its text")
    stored = torch.zeros(form.nbytes, dtype=torch.uint8)
    whole = stored.numpy()
    for at, a in zip(form.offsets, arrays, strict=True):
        whole[at : at + a.nbytes] = a.reshape(-1).view(np.uint8)
    return stored, text


@lru_cache(maxsize=4096)
def form_on(text: str, kind: str) -> str:
    """The form that a weight of a form has on a kind of device, `cpu` or `cuda`: the words of a
    stream are in the order of a processor's registers, which no kernel for GPUs reads."""
    form = form_of(text)
    streams = Stream.fits(form.format, form.shape)
    if kind == "cuda" and isinstance(form.layout, Stream):
        layout: Layout = Plain()
    elif kind == "cpu" and isinstance(form.layout, Plain) and streams:
        layout = Stream()
    else:
        return text
    zeros: dict[str, Array] = {
        c.name: np.zeros(tuple(int(str(d)) for d in c.shape), c.dtype.carrier)
        for c in form.format.components(form.shape)
    }
    arrays = layout.pack(form.format, zeros, form.shape)
    return str(Form(form.format, form.shape, layout, tuple(a.nbytes for a in arrays)))


def packed_in(stored: torch.Tensor, text: str) -> PackedTensor:
    """The packed tensor whose bytes `stored` has on the CPU, which must live as long.

    Raises TileError for bytes that are not as many as the form says, or not on a cache line.
    """
    return _packed_at(stored.data_ptr(), stored.nbytes, text)


def check(stored: torch.Tensor, text: str) -> None:
    """Raises TileError where bytes from elsewhere can't be of this form: arrays of other sizes, or
    indices that point outside. Code that reads a weight trusts both."""
    form = form_of(text)
    if isinstance(form.format, Scaled):
        packed_in(stored, text)
        _check_sizes(text)  # any codes and scales mean something
    else:
        _check_arrays(form, packed_in(stored, text).arrays)


@lru_cache(maxsize=4096)
def _check_sizes(text: str) -> None:
    form = form_of(text)
    _check_arrays(form, [np.zeros(size, np.uint8) for size in form.sizes])


def _check_arrays(form: Form, arrays: list[Array]) -> None:
    try:
        parts = form.layout.unpack(form.format, arrays, form.shape)
    except (ValueError, IndexError) as e:
        raise TileError(f"{form}: a tensor of this format has other arrays: {e}") from e
    form.format.check(parts, form.shape)
    again = form.layout.pack(form.format, parts, form.shape)
    if any(not np.array_equal(a, b) for a, b in zip(arrays, again, strict=True)):
        raise TileError(f"{form}: the arrays contradict each other")


@lru_cache(maxsize=PACKED)
def _packed_at(address: int, nbytes: int, text: str) -> PackedTensor:
    """The packed tensor at an address: a view, which owns nothing, so that it is right whenever
    bytes of this form are there."""
    form = form_of(text)
    if nbytes != form.nbytes:
        raise TileError(f"a quantised weight has {nbytes} bytes, expected {form.nbytes} of {text}")
    if address % LINE:
        raise TileError(f"a quantised weight begins at an address that is no multiple of {LINE}",
                        hint="make a copy")  # fmt: skip
    arrays = [_bytes(address + at, size) for at, size in zip(form.offsets, form.sizes, strict=True)]
    return PackedTensor(form.format, form.shape, form.layout, arrays)


def _bytes(address: int, size: int) -> Array:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
