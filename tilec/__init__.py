"""The front door of tilec: a compiler for low-precision and sparse tile kernels.

import tilec as tc

@tc.kernel
def scale(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] * 2.0

@tc.program
def attention(q: tc.Tensor["M", "D"], k: tc.Tensor["N", "D"], v: tc.Tensor["N", "D"]):
    return tc.softmax(q @ k.T) @ v
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.ir.codes import CODES
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.named import QUANTISED, named, scaled
from tilec.ir.sparse import bitmap, block, channels, coo, csr, nm, vnm
from tilec.lang.builtins import BUILTINS
from tilec.lang.expressions import Builtin, Inline
from tilec.lang.python import Tensor, inline_of, library
from tilec.observe import Counters, counters, start_as_asked
from tilec.profile import Profile, profile
from tilec.runtime.sparse import grouped, hashed, paged, ragged, semi_structured, sparse
from tilec.runtime.tensor import PackedTensor, dynamic, quantize, sparsify
from tilec.tuned import Kernel, Program, kernel, program

f64, f32, tf32, f16, bf16, e4m3, e5m2 = (
    BY_NAME[n] for n in ("f64", "f32", "tf32", "f16", "bf16", "e4m3", "e5m2")
)
i8, i16, i32, i64 = (BY_NAME[n] for n in ("i8", "i16", "i32", "i64"))
u8, u16, u32, boolean = (BY_NAME[n] for n in ("u8", "u16", "u32", "bool"))

int1, int2, int3, int4, int5, int6, int7, int8 = (QUANTISED[f"int{b}"] for b in range(1, 9))
uint1, uint2, uint3, uint4, uint5, uint6, uint7, uint8 = (
    QUANTISED[f"uint{b}"] for b in range(1, 9)
)
format = named  # tc.format("int4<group=128>")

__all__ = [
    "Counters",
    "DType",
    "Kernel",
    "PackedTensor",
    "Profile",
    "Program",
    "Tensor",
    "TileError",
    "bitmap",
    "block",
    "channels",
    "coo",
    "counters",
    "csr",
    "dynamic",
    "fn",
    "format",
    "grouped",
    "hashed",
    "kernel",
    "nm",
    "paged",
    "profile",
    "program",
    "quantize",
    "ragged",
    "scaled",
    "semi_structured",
    "sparse",
    "sparsify",
    "vnm",
]

start_as_asked()


def fn(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that kernels write out where they call it."""
    function.__tilec__ = inline_of(function)  # type: ignore[attr-defined]
    return function


class _Function:
    """A function of the language: it has a meaning inside kernels and programs only."""

    def __init__(self, name: str, doc: str | None, means: Builtin | Inline | None = None) -> None:
        self.__tilec__ = means or Builtin(name)
        self.__name__, self.__doc__ = name, doc

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise TileError(
            f"tc.{self.__name__} is called outside a kernel",
            hint="decorate the function with @tc.kernel",
        )


def __getattr__(name: str) -> Any:
    """`tc.dot`, `tc.exp`, ...: every function of the language; `tc.e2m1`, `tc.nf4`: every code."""
    if name == "tiles":
        return _Function(
            name, "The tiles of dimensions, for a loop: tiles('M', 'N', block=(64, None))."
        )
    if name in BUILTINS:
        return _Function(name, BUILTINS[name].__doc__)
    if name in CODES:
        return CODES[name]
    if not name.startswith("_") and name in library():
        return _Function(name, library()[name].doc, library()[name])
    raise AttributeError(f"module 'tilec' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names of this module, for editors: the functions of the language too."""
    return sorted({*globals(), *BUILTINS, *CODES, *library(), "tiles"})
