"""Func -> CUDA C++ in a vocabulary that has a body for devices and one for hosts.

Before: tiles have sizes and layouts (`pad`, `lay-out`), formats are lowered to plain memory,
extents are numbers. Each grid of a function becomes a kernel; they run one after the other.
"""

from __future__ import annotations

from math import prod

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.control import Walker
from tilec.codegen.cuda.orders import Orders, orders
from tilec.codegen.cuda.printer import Printer
from tilec.codegen.cuda.tiles import extents, memory_type, storage, tile
from tilec.ir.core import Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.laid import layouts
from tilec.ir.ops.control import Grid
from tilec.ir.source import KernelSource, Launch, Param
from tilec.ir.types import Memory, Tile


def emit(func: Func, params: tuple[Param, ...] = (), *, threads: int = 128) -> KernelSource:
    """CUDA source of a function, and the launches of its kernels in order.

    Every kernel takes the function's parameters in order; those beyond `params` are memory of the
    function's own. Raises TileError where CUDA code can't do an op.
    """
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
            "using namespace tilec;", "", *pointwise.prelude(dtypes)]  # fmt: skip
    own = tuple(_bytes(p) for p in func.params[len(params) :]) if params else ()
    return KernelSource("cuda", "\n".join([*head, *texts]), launches[0].entry if launches else "",
                        params, sum(own), func.remarks, tuple(launches),
                        {p.hint: found.of[p] for p in func.params if p in found.of})  # fmt: skip


def _bytes(p: Value) -> int:
    bits = storage(memory_type(p).dtype)
    return prod(extents(p)[:-1]) * -(-extents(p)[-1] * bits // 8)


def _kernel(
    func: Func, found: Orders, name: str, before: list[Op], op: Op, threads: int
) -> tuple[str, Launch]:
    """One kernel: an op that writes memory, after the ops that it may read."""
    p = Printer(threads)
    names = {v: p.fresh(v.hint.replace(".", "_")) for v in func.params}
    p.taken |= {"thread", "block", "shared"}
    walker = Walker(p, layouts(func, threads), found, names)
    for earlier in before:
        walker.op(earlier)
    blocks = 1
    if isinstance(op, Grid):
        blocks = walker.grid(op)
    else:
        walker.op(op)
    given = ", ".join(_parameter(v, names[v]) for v in func.params)
    lines = [f"TILEC_KERNEL({threads}) {name}({given}) {{", "  const u32 thread = thread_x();"]
    if isinstance(op, Grid) and op.dims:
        lines.append("  const u32 block = block_x();")
    if p.shared:
        lines.append(f"  const u32 shared = shared_base() + {p.rings};")
    text = "\n".join([*lines, *p.top, *p.lines, "}", ""])
    return text, Launch(name, blocks, threads, p.rings + p.shared)


def _parameter(v: Value, name: str) -> str:
    match v.type:
        case Memory():
            return f"{pointwise.stored_type(v.type.dtype)}* {name}"
        case Tile(dtype=t):
            return f"{pointwise.carrier(t)} {name}"
        case _:
            raise TileError(f"cuda: a parameter cannot be {v.type}")
