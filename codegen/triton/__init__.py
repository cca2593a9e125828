"""Func -> Triton source: one readable file that imports nothing but torch and triton.

Before: tile sizes are chosen, formats are lowered to plain memory. Tiles are clipped in meaning;
here they are padded to powers of two, and masks keep the padding out of memory, products and
reductions. Dimensions that stay names become arguments of kernels; one that a tile holds whole also
gives a `BLOCK_<name>` constant. Each grid of a function becomes a kernel; they run one after the
other.
"""

from __future__ import annotations

from collections.abc import Set

from tilec.codegen.triton.copies import remarks
from tilec.codegen.triton.kernels import Kernel, Options, grids, kernel
from tilec.codegen.triton.launcher import launcher
from tilec.codegen.triton.prelude import prelude
from tilec.codegen.triton.printer import DTYPES, Printer, block_of
from tilec.ir.core import Func, Value
from tilec.ir.errors import TileError
from tilec.ir.recursion import deep
from tilec.ir.source import KernelSource, Launch, Param
from tilec.ir.symbol import symbol
from tilec.ir.types import Memory, Tile

WARP = 32
DESCRIPTORS = "from triton.tools.tensor_descriptor import TensorDescriptor"


@deep()
def emit(func: Func, options: Options | None = None, own: Set[str] = frozenset()) -> KernelSource:
    """Triton source of a function: kernels, and `<name>` that launches them.

    Params are the tensors and scalars in order; `own` names those that passes made, for which the
    launcher makes memory. Raises TileError where Triton can't do an op.
    """
    func = Func(symbol(func.name), func.body, func.remarks)
    p = Printer()
    names = {v: p.fresh(v.hint.replace(".", "_")) for v in func.params}
    made = {v for v in func.params if v.hint in own}
    chosen = options or Options()
    kernels = [kernel(entry, one, grid, names, chosen) for entry, one, grid in grids(func)]
    functions = {n: t for k in kernels for n, t in k.functions.items()}
    lines = [
        f'"""`{func.name}`, compiled by tilec for Triton."""', "", *["import torch"] * bool(made),
        "import triton", "import triton.language as tl",
        *[DESCRIPTORS] * any(k.descriptors for k in kernels), "", "",
        *prelude([line for k in kernels for line in k.lines], functions),
        *(line for k in kernels for line in (*k.lines, "", "")),
        *launcher(func, names, made, p.dims(func), kernels), "",
    ]  # fmt: skip
    params = tuple(_param(v, n, i, v in made) for i, (v, n) in enumerate(names.items()))
    orders = {n: order for k in kernels for n, order in k.orders.items()}
    return KernelSource("triton", "\n".join(lines), f"{func.name}_kernel", params, 0,
                        (*func.remarks, *remarks(func)), tuple(map(_launch, kernels)),
                        orders)  # fmt: skip


def _launch(k: Kernel) -> Launch:
    """A launch; Triton itself says how much shared memory it takes."""
    return Launch(k.entry, k.programs, WARP * k.warps, 0, (), k.takes, k.stages or 3, k.descriptors)


def _param(v: Value, name: str, place: int, own: bool) -> Param:
    match v.type:
        case Memory(shape=shape):
            known = tuple(d if isinstance(d, int) else str(d) for d in shape)
            return Param(name, str(v.type.dtype), known, "own" if own else "tensor", place)
        case Tile(dtype=dtype):
            return Param(name, str(dtype), (), "scalar", place)
        case _:
            raise TileError(f"triton: a parameter cannot be {v.type}")


__all__ = ["DTYPES", "Options", "block_of", "emit"]
