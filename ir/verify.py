"""Whether a function is well formed: what every pass may rely on and must keep.

Op by op, `infer` checks types. Here is what needs the whole function: each value is defined once,
before its uses and in a block around them; the size symbol of a loop means something only inside
that loop; every other symbol is a dimension of a parameter; products of batches and rankings stand
outside of every block. `stage` adds what later passes need.
"""

from __future__ import annotations

from typing import Literal

from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Sym, mentioned, names
from tilec.ir.ops.control import For, Grid
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.top import Ranking
from tilec.ir.types import Memory, Tile, Type, symbols

Stage = Literal["", "sized", "tiled"]


def verify(func: Func, stage: Stage = "") -> None:
    """Raise TileError where `func` is not well formed.

    At the stage "sized" every dimension is a number; at "tiled" every loop also says its tile.
    """
    _Verifier(func, stage).run()


class _Verifier:
    def __init__(self, func: Func, stage: Stage) -> None:
        self.func, self.stage = func, stage
        self.defined: set[Value] = set()
        self.loops: set[str] = set()
        self.outside = True  # of every block but the function's own

    def run(self) -> None:
        params = self.func.params
        hints = [p.hint for p in params]
        for p in params:
            scalar = isinstance(p.type, Tile) and not p.type.shape
            if not scalar and not isinstance(p.type, Memory):
                raise TileError(f"parameter %{p.hint} is {p.type}, not memory or a scalar")
            if not p.hint or hints.count(p.hint) > 1:
                raise TileError(f"parameter names are to be unique and not empty: {hints}")
        if self.func.body.results:
            raise TileError(f"func @{self.func.name} yields values; results go to memory")
        dims = frozenset[str]().union(*(names(e) for p in params for e in symbols(p.type)))
        if dims and self.stage:
            raise TileError(f"stage {self.stage}: the dimensions {sorted(dims)} have no numbers")
        self.block(self.func.body, frozenset(), dims)

    def block(self, block: Block, visible: frozenset[Value], known: frozenset[str]) -> None:
        here = set(visible)
        for p in block.params:
            self.define(p, known, None)
            here.add(p)
        for op in block.ops:
            for v in op.operands:
                if v not in here:
                    raise TileError(f"{op.name}: uses a {v.type} that is not defined here", op.loc)
            self.op(op, frozenset(here) if op.blocks else frozenset(), known)
            here.update(op.results)
        for v in block.results:
            if v not in here:
                raise TileError(f"a block yields a {v.type} that is not defined in it")

    def op(self, op: Op, here: frozenset[Value], known: frozenset[str]) -> None:
        sizes = _sizes(op)
        if again := self.loops.intersection(sizes):
            raise TileError(f"{op.name}: another loop has the size {min(again)}", op.loc)
        if clash := known.intersection(sizes):
            raise TileError(f"{op.name}: the size {min(clash)} is already an extent", op.loc)
        self.loops.update(sizes)
        if self.stage == "tiled" and None in _tiles(op):
            raise TileError(f"stage tiled: {op.name} over {sizes} has no tile size", op.loc)
        inside = known.union(sizes)
        _known(op.name, mentioned(tuple(op.attributes.values())), inside, op.loc)
        outside, self.outside = self.outside, False
        for block in op.blocks:
            self.block(block, here, inside)
        self.outside = outside
        try:
            types = op.infer()
        except TileError as e:
            raise e.at(op.loc) from None
        expected = types if isinstance(types, tuple) else (types,)
        found = tuple(v.type for v in op.results)
        if found != expected:
            raise TileError(f"{op.name}: gives {_show(expected)}, not {_show(found)}", op.loc)
        if isinstance(op, Dot) and len(symbols(op.result.type)) > 2 and not self.outside:
            raise TileError(f"dot: a product of batches, {op.result.type}, inside a block", op.loc,
                            "a block multiplies two matrices at a time")  # fmt: skip
        if isinstance(op, Ranking) and not self.outside:
            raise TileError(f"{op.name}: only of whole tensors, not inside a block", op.loc)
        for v in op.results:
            self.define(v, known, op)

    def define(self, v: Value, known: frozenset[str], op: Op | None) -> None:
        where, loc = (op.name, op.loc) if op else ("a block's parameter", None)
        if v in self.defined:
            raise TileError(f"{where}: a {v.type} is defined twice", loc)
        self.defined.add(v)
        for e in symbols(v.type):
            _known(where, names(e), known, loc)


def _known(where: str, found: frozenset[str], known: frozenset[str], loc: Loc | None) -> None:
    if unknown := found - known:
        raise TileError(
            f"{where}: {min(unknown)} is no dimension of a parameter and no size of a loop around",
            loc,
        )


def _sizes(op: Op) -> tuple[str, ...]:
    match op:
        case Grid():
            return tuple(s.text for s in op.sizes if isinstance(s, Sym))
        case For():
            return (op.size.text,) if isinstance(op.size, Sym) else ()
        case _:
            return ()


def _tiles(op: Op) -> tuple[int | None, ...]:
    match op:
        case Grid():
            return op.tiles
        case For():
            return (op.tile,)
        case _:
            return ()


def _show(types: tuple[Type, ...]) -> str:
    return ", ".join(map(str, types)) or "nothing"
