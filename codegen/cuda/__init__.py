"""Func -> CUDA C++ in a vocabulary that has a body for devices and one for hosts.

Before: tiles have sizes and layouts (`pad`, `lay-out`), formats are lowered to plain memory,
extents are numbers. Each grid of a function becomes a kernel; they run one after the other.
"""

from __future__ import annotations

from math import prod

from tilec.codegen.cuda import groups, pointwise
from tilec.codegen.cuda.areas import SharedMemory
from tilec.codegen.cuda.lifetimes import lifetimes
from tilec.codegen.cuda.orders import Orders, orders
from tilec.codegen.cuda.parameters import parameter, renamed, said
from tilec.codegen.cuda.printer import Printer
from tilec.codegen.cuda.roles import WARP, Roles, registers, warps_apart
from tilec.codegen.cuda.tiles import extents, memory_type, storage, tile
from tilec.codegen.cuda.wgmma import device_wgmma
from tilec.ir.core import Func, Op, Trait, Value
from tilec.ir.extent import Extent
from tilec.ir.extent import names as extent_names
from tilec.ir.laid import layouts
from tilec.ir.ops.control import Grid
from tilec.ir.recursion import deep
from tilec.ir.source import KernelSource, Launch, Param
from tilec.ir.symbol import symbol
from tilec.ir.types import Memory, Tile


@deep()
def emit(func: Func, params: tuple[Param, ...] = (), *, threads: int = 128) -> KernelSource:
    """CUDA source of a function, and the launches of its kernels in order.

    Every kernel takes the function's parameters in order; those beyond `params` are memory of the
    function's own. Raises TileError where CUDA code can't do an op.
    """
    func = Func(symbol(func.name), func.body, func.remarks)
    found = orders(func)
    texts: list[str] = []
    launches: list[Launch] = []
    before: list[Op] = []
    for op in func.body.ops:
        if Trait.WRITES in op.traits:
            name = f"{func.name}_{len(launches)}"
            text, launch = _kernel(func, found, name, before, op, threads)
            texts.append(text)
            launches.append(launch)
        if op.results:
            before.append(op)
    dtypes = {tile(v).dtype for o in func.walk() for v in (*o.results, *o.operands)
              if isinstance(v.type, Tile)}  # fmt: skip
    head = [f"// `{func.name}`, compiled by tilec for CUDA.", '#include "decode.cuh"', "",
            "using namespace tilec;", "", *pointwise.prelude(dtypes), *found.prelude()]  # fmt: skip
    shapes = groups.shapes(func, layouts(func, threads))
    head += [device_wgmma(shapes)] if shapes else []
    own = tuple(_bytes(p) for p in func.params[len(params) :]) if params else ()
    return KernelSource("cuda", "\n".join([*head, *texts]), launches[0].entry if launches else "",
                        params, sum(own), func.remarks, tuple(launches),
                        {p.hint: found.of[p] for p in func.params if p in found.of},
                        _dims(func))  # fmt: skip


def _bytes(p: Value) -> int:
    bits = storage(memory_type(p).dtype)
    return prod(extents(p)[:-1]) * -(-extents(p)[-1] * bits // 8)


def _kernel(
    func: Func, found: Orders, name: str, before: list[Op], op: Op, threads: int
) -> tuple[str, Launch]:
    """One kernel: an op that writes memory, after the ops that it may read."""
    apart, memory = WARP * warps_apart(op), SharedMemory(lifetimes([*before, op]))
    p = Printer(threads, apart, memory=memory)
    names = {v: p.fresh(f"parameter_{i}") for i, v in enumerate(func.params)}
    p.dims |= {name: p.fresh(f"dimension_{i}") for i, name in enumerate(_dims(func))}
    p.taken |= {"thread", "block", "shared"}
    walker = Roles(p, layouts(func, threads), found, names)
    for earlier in before:
        walker.op(earlier)
    blocks: Extent = 1
    if isinstance(op, Grid):
        blocks = walker.grid(op)
    else:
        walker.op(op)
    given = [parameter(v, names[v]) for v in func.params]
    given += [f"u32 {name}" for name in p.dims.values()]
    given += [f"TILEC_GRID_CONSTANT TensorMap {x.name}" for x in p.maps]
    bounds = f"{p.threads + p.apart}{', 1' * (registers(p.threads, p.apart) is not None)}"
    lines = [f"TILEC_KERNEL({bounds}) {name}({', '.join(given)}) {{",
             "  const u32 thread = thread_x();"]  # fmt: skip
    if isinstance(op, Grid) and op.dims:
        lines.append("  const u32 block = block_x();")
    wanted = {names[v]: said(v) for v in func.params} | {n: d for d, n in p.dims.items()}
    text, size = renamed(p.text(lines), wanted), p.memory.bytes
    return text, Launch(name, blocks, p.threads + p.apart, size, tuple(p.maps))


def _dims(func: Func) -> tuple[str, ...]:
    """The dimensions of a function's memory that are not numbers."""
    shapes = [p.type.shape for p in func.params if isinstance(p.type, Memory)]
    return tuple(dict.fromkeys(n for s in shapes for d in s for n in sorted(extent_names(d))))
