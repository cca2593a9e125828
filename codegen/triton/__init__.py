"""Func -> Triton source: one readable file that imports nothing but triton.

Before: tile sizes are chosen, formats are lowered to plain memory. Tiles are clipped in meaning;
here they are padded to powers of two, and masks keep the padding out of memory, products and
reductions. Dimensions that stay names become arguments of the kernel; one that a tile holds whole
also gives a `BLOCK_<name>` constant.
"""

from __future__ import annotations

from tilec.codegen.triton.control import Walker, check
from tilec.codegen.triton.prelude import prelude
from tilec.codegen.triton.printer import DTYPES, Printer, block_of
from tilec.ir.core import Func, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div
from tilec.ir.ops.control import Grid
from tilec.ir.source import KernelSource, Launch, Param
from tilec.ir.types import Memory, Tile

WARPS = 4  # of a program


def emit(func: Func) -> KernelSource:
    """Triton source of a function with one grid: `<name>_kernel`, and `<name>` that launches it.

    Params are the tensors and scalars in order. Raises TileError where Triton can't do an op.
    """
    grid = check(func)
    p = Printer()
    walker = Walker(p, func)
    for op in func.body.ops:
        if op is not grid:
            walker.op(op)
    walker.grid(grid)
    names = [walker.text[v] for v in func.params]
    dims = p.dims(func)
    head = [*names, *dims, *(f"{b}: tl.constexpr" for b in p.constants)]
    functions = prelude([*p.top, *p.lines], walker.words.functions)
    lines = [
        f'"""`{func.name}`, compiled by tilec for Triton."""', "",
        "import triton", "import triton.language as tl", "", "", *functions,
        "@triton.jit", f"def {func.name}_kernel({', '.join(head)}):",
        *p.top, *p.lines, "", "",
        *_launcher(func, grid, p, names), "",
    ]  # fmt: skip
    text = "\n".join(lines)
    params = tuple(_param(v, n, i) for i, (v, n) in enumerate(zip(func.params, names, strict=True)))
    return KernelSource("triton", text, f"{func.name}_kernel", params, 0, func.remarks,
                        _launches(func, grid),
                        {v.hint: order for v, order in walker.words.orders.items()})  # fmt: skip


def _launches(func: Func, grid: Grid) -> tuple[Launch, ...]:
    """The launch; Triton itself says how much shared memory it takes."""
    blocks: Extent = 1
    for d, t in zip(grid.dims, grid.tiles, strict=True):
        blocks = ceil_div(d, t or 1) * blocks
    return (Launch(f"{func.name}_kernel", blocks, 32 * WARPS, 0),)


def _param(v: Value, name: str, place: int) -> Param:
    match v.type:
        case Memory(shape=shape):
            known = tuple(d if isinstance(d, int) else str(d) for d in shape)
            return Param(name, str(v.type.dtype), known, "tensor", place)
        case Tile(dtype=dtype):
            return Param(name, str(dtype), (), "scalar", place)
        case _:
            raise TileError(f"triton: a parameter cannot be {v.type}")


def _launcher(func: Func, grid: Grid, p: Printer, names: list[str]) -> list[str]:
    """A plain function that reads the dimensions off the tensors and launches the kernel."""
    dims = p.dims(func)
    lines = [f"def {func.name}({', '.join(names)}):"]
    lines.append('    """Launch on tensors that are contiguous; the results are written."""')
    for d in dims:
        lines.append(f"    {d} = {_source(func, names, d)}")
    for b in p.constants:
        lines.append(f"    {b} = {p.constants[b]}")
    counts = [f"triton.cdiv({d}, {t})" for d, t in zip(grid.dims, grid.tiles, strict=True)]
    lines.append(f"    programs = {' * '.join(counts) or '1'}")
    given = ", ".join([*names, *dims, *p.constants])
    lines.append(f"    {func.name}_kernel[(programs,)]({given}, num_warps={WARPS})")
    return lines


def _source(func: Func, names: list[str], dim: str) -> str:
    for v, name in zip(func.params, names, strict=True):
        if isinstance(v.type, Memory) and v.type.dtype.bits >= 8:
            for axis, d in enumerate(v.type.shape):
                if isinstance(d, Sym) and d.text == dim:
                    return f"{name}.shape[{axis}]"
    raise TileError(f"triton: no tensor says what {dim} is", hint="give the dimension a number")


__all__ = ["DTYPES", "block_of", "emit"]
