"""Run a function on numpy: the meaning that every back end is held to.

Tiles at the edge of a dimension are clipped, so no padding ever takes part in a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tilec.ir import extent
from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import control, machine, memory, reduce, shape, top
from tilec.ir.types import Tile

Env = dict[Value, Any]


def interpret(f: Func, arguments: Mapping[str, Array], dims: Mapping[str, int]) -> None:
    """Run `f` in place on arrays in their carriers, by parameter name; `dims` gives the dimensions.

    A tile size that nobody chose is the whole of its dimension; `dims["m.tile"]` chooses `m`'s.
    A parameter that is a tile (a scalar argument) takes a 0-d array.
    """
    env: Env = {p: np.asarray(arguments[p.hint]) for p in f.params}
    _Run(dict(dims)).block(f.body, env)


class _Run:
    def __init__(self, dims: dict[str, int]) -> None:
        self.dims = dims

    def known(self, e: Extent) -> int:
        value = extent.substitute(e, self.dims)
        if not isinstance(value, int):
            raise TileError(f"the extent {e} is not known")
        return value

    def block(self, block: Block, env: Env) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            for op in block.ops:
                env.update(zip(op.results, self.op(op, env), strict=True))
        return tuple(env[v] for v in block.results)

    def op(self, op: Op, env: Env) -> tuple[Any, ...]:
        match op:
            case control.Grid():
                return self.grid(op, env)
            case control.For():
                return self.loop(op, env)
            case control.Count():
                return self.count(op, env)
            case control.While():
                return self.repeat(op, env)
            case control.If():
                return self.block(op.then if env[op.condition] else op.otherwise, env)
            case machine.Commit() | machine.Wait():
                return ()
            case machine.Copy() | machine.Arrive() | machine.Expect() | machine.Await():
                self.act(op, env)
                return ()
            case machine.Alone():
                return self.block(op.body, env)
            case memory.Write():
                mask = None if op.mask is None else env[op.mask]
                op.evaluate(env[op.mem], tuple(env[v] for v in op.indices), env[op.value], mask)
                return ()
            case _:
                return (self.value(op, env),)

    def act(self, op: Op, env: Env) -> None:
        """Copies to shared memory, and what threads do at barriers."""
        if isinstance(op, machine.Copy):
            indices = tuple(env[v] for v in op.indices)
            op.evaluate(env[op.to], env[op.slot], env[op.mem], indices)
        else:
            op.evaluate(*(env[v] for v in op.operands))

    def value(self, op: Op, env: Env) -> Any:
        operands = [env[v] for v in op.operands]
        match op:
            case shape.Full():
                out = op.evaluate(tuple(map(self.known, op.shape)))
            case shape.Iota():
                out = op.evaluate((self.known(op.size),))
            case shape.Size():
                return op.evaluate(self.known(op.dim))
            case memory.Whole():
                return op.evaluate(self.known(op.dim if op.size is None else op.size))
            case memory.Nth():
                return op.evaluate(operands[0], self.known(op.dim), self.known(op.size))
            case shape.Broadcast() | shape.Reshape():
                out = op.evaluate(operands[0], tuple(map(self.known, op.shape)))
            case reduce.Dot():
                scales = (None if v is None else env[v] for v in (op.scale, op.row_scale))
                out = op.evaluate(*operands[:3], *scales)
            case top.Ranking():
                out = op.evaluate(operands[0], self.known(op.count))
            case shape.Slice():
                out = op.evaluate(operands[0], self.known(op.start), self.known(op.stop))
            case _:
                out = op.evaluate(*operands)
        result = op.result.type
        return result.dtype.round(np.asarray(out)) if isinstance(result, Tile) else out

    def tiles(
        self, dim: Extent, size: Extent, tile: int | None, stop: int | None = None, first: int = 0
    ) -> Iterator[range]:
        """The spans of one loop; while one is in use its size symbol is the clipped extent."""
        end = self.known(dim)
        end = end if stop is None else max(0, min(stop, end))
        if isinstance(size, int):
            step = tile or size
            yield from (range(i, i + size) for i in range(max(first, 0) * step, end, step))
            return
        step = tile or self.dims.get(f"{size}.tile") or max(end, 1)
        for start in range(max(first, 0) * step, end, step):
            span = range(start, min(start + step, end))
            self.dims[size.text] = len(span)
            yield span

    def grid(self, op: control.Grid, env: Env) -> tuple[Any, ...]:
        def axis(i: int, spans: tuple[range, ...]) -> None:
            if i == len(op.dims):
                self.block(op.body, env | dict(zip(op.body.params, spans, strict=True)))
                return
            for span in self.tiles(op.dims[i], op.sizes[i], op.tiles[i]):
                axis(i + 1, (*spans, span))

        axis(0, ())
        return ()

    def loop(self, op: control.For, env: Env) -> tuple[Any, ...]:
        carried = tuple(env[v] for v in op.init)
        stop = None if op.stop is None else int(env[op.stop])
        first = 0 if op.first is None else int(env[op.first])
        for span in self.tiles(op.dim, op.size, op.tile, stop, first):
            carried = self.block(op.body, self.bound(op.body, env, span, *carried))
        return carried

    def count(self, op: control.Count, env: Env) -> tuple[Any, ...]:
        carried = tuple(env[v] for v in op.init)
        start, stop, step = (int(env[v]) for v in (op.start, op.stop, op.step))
        if step == 0:
            raise TileError("range: the step is 0", op.loc)
        for i in range(start, stop, step):
            carried = self.block(op.body, self.bound(op.body, env, np.asarray(i), *carried))
        return carried

    def repeat(self, op: control.While, env: Env) -> tuple[Any, ...]:
        carried = tuple(env[v] for v in op.init)
        while self.block(op.test, self.bound(op.test, env, *carried))[0]:
            carried = self.block(op.body, self.bound(op.body, env, *carried))
        return carried

    def bound(self, block: Block, env: Env, *values: Any) -> Env:
        """The environment inside a block whose parameters have these values."""
        return env | dict(zip(block.params, values, strict=True))
