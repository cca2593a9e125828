"""Structured control: the launch grid, loops over tiles, counted loops, while, if.

The size of a tile is a symbol, the extent in the types of tiles made from the span: `tiles` says
how many elements it has (None: not chosen yet), but at the end of the dimension it has fewer. After
the pass `pad` the size is a number: the tile has that many whatever is left of the dimension.
"""

from __future__ import annotations

from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.dtype import boolean
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.types import Span, Tile, Type

INSIDE = Trait.READS | Trait.WRITES  # a region may do either


def _types(values: tuple[Value, ...]) -> tuple[Type, ...]:
    return tuple(v.type for v in values)


def _carried(
    op: str, init: tuple[Value, ...], params: tuple[Value, ...], body: Block
) -> tuple[Type, ...]:
    types = _types(init)
    for what, found in (("takes", _types(params)), ("yields", _types(body.results))):
        if len(found) != len(types):
            raise TileError(f"{op}: the body {what} {len(found)} values, not {len(types)}")
        for value, other in zip(init, found, strict=True):
            if other != value.type:
                name = f" `{value.hint}`" if value.hint else ""
                raise TileError(
                    f"{op}: the carried value{name} is {value.type} before, "
                    f"but the body {what} {other}"
                )
    return types


class Grid(Op, name="grid", traits=INSIDE):
    """body(spans) for every tile of dims, in any order, at the same time"""

    dims: tuple[Extent, ...]
    sizes: tuple[Extent, ...]
    tiles: tuple[int | None, ...]
    body: Block

    def infer(self) -> tuple[Type, ...]:
        if len(self.tiles) != len(self.dims) or any(t is not None and t < 1 for t in self.tiles):
            raise TileError(
                f"grid: expected {len(self.dims)} tile sizes of at least 1, not {self.tiles}"
            )
        spans = tuple(Span(d, s) for d, s in zip(self.dims, self.sizes, strict=True))
        if _types(self.body.params) != spans or self.body.results:
            raise TileError(f"grid: the body takes {_types(self.body.params)}, not {spans}")
        return ()


class For(Op, name="for", traits=INSIDE):
    """carried = body(span, *carried) for each tile of dim up to `stop`, in order; out = carried

    `first` is the number of the first tile, 0 unless given (or where it is less).
    """

    dim: Extent
    size: Extent
    tile: int | None
    init: tuple[Value, ...]
    body: Block
    stop: Value | None = None
    first: Value | None = None

    def infer(self) -> tuple[Type, ...]:
        if self.tile is not None and self.tile < 1:
            raise TileError(f"for: expected a tile size of at least 1, not {self.tile}")
        if not self.body.params or self.body.params[0].type != Span(self.dim, self.size):
            raise TileError(f"for: the body's first parameter is not {Span(self.dim, self.size)}")
        if self.stop is not None and not _is_index(self.stop):
            raise TileError(f"for: expected an integer to stop at, not {self.stop.type}")
        if self.first is not None and not _is_index(self.first):
            raise TileError(f"for: expected the number of a tile, not {self.first.type}")
        return _carried("for", self.init, self.body.params[1:], self.body)


class Count(Op, name="count", traits=INSIDE):
    """carried = body(i, *carried) for i in range(start, stop, step); out = carried"""

    start: Value
    stop: Value
    step: Value
    init: tuple[Value, ...]
    body: Block

    def infer(self) -> tuple[Type, ...]:
        for v in (self.start, self.stop, self.step):
            if not _is_index(v) or v.type != self.start.type:
                raise TileError(
                    f"range: expected equal integer bounds, not {self.start.type} and {v.type}"
                )
        if not self.body.params or self.body.params[0].type != self.start.type:
            raise TileError(f"range: the body's first parameter is not {self.start.type}")
        return _carried("range", self.init, self.body.params[1:], self.body)


class While(Op, name="while", traits=INSIDE):
    """carried = body(*carried) while test(*carried); out = carried"""

    init: tuple[Value, ...]
    test: Block
    body: Block

    def infer(self) -> tuple[Type, ...]:
        if _types(self.test.params) != _types(self.init) or _types(self.test.results) != (
            Tile((), boolean),
        ):
            raise TileError(f"while: expected a bool condition, not {_types(self.test.results)}")
        return _carried("while", self.init, self.body.params, self.body)


class If(Op, name="if", traits=INSIDE):
    """out = then() if condition else otherwise()"""

    condition: Value
    then: Block
    otherwise: Block

    def infer(self) -> tuple[Type, ...]:
        if self.condition.type != Tile((), boolean):
            raise TileError(
                f"if: expected a bool scalar, not {self.condition.type}", hint="use where for tiles"
            )
        a, b = _types(self.then.results), _types(self.otherwise.results)
        if a != b:
            raise TileError(
                f"if: one branch gives {', '.join(map(str, a))}, the other {', '.join(map(str, b))}"
            )
        return a


def _is_index(v: Value) -> bool:
    return isinstance(v.type, Tile) and not v.type.shape and v.type.dtype.is_integer
