"""Products of 2:4 operands whose values are codes: the scale of a group on the accumulator."""

from __future__ import annotations

from tilec.ir.core import Builder, Value
from tilec.ir.errors import TileError
from tilec.ir.ops.sparse import SparseDot
from tilec.passes.parts import tile
from tilec.passes.scaled import Decoded, Elements, spread
from tilec.passes.whole import centred


def sparse_product(elements: Elements, op: SparseDot, load: Decoded, b: Builder) -> Value:
    """The product of the codes of what is stored, which are exact beside the other operand
    (`native-sparse` says so). Raises TileError for a step in which several groups are."""
    format = load.format
    if not elements.steady(load.indices[-1], format.group):
        raise TileError(f"`{load.mem.hint}` ({format}): a step of k has several groups of "
                        f"{format.group} that are stored", op.loc,
                        hint=f"a step that divides {2 * (format.group or 0)}")  # fmt: skip
    codes = centred(load.codes, format, tile(op.b).dtype, b)
    found = elements.number_of(load, format.numbers()["scale"], "scale", format.block,
                               load.along(), b)  # fmt: skip
    scale = spread(found, (0,), tile(op.acc).shape[:1], b)
    return b(SparseDot(codes, op.index, op.b, op.acc, scale))
