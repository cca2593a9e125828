"""What a value is called: as in the user's line if that names it, else after what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilec.ir.core import Func, Op, Value
from tilec.ir.errors import Loc
from tilec.ir.ops.arith import FloorDiv
from tilec.ir.ops.memory import Load
from tilec.ir.ops.reduce import Reduction
from tilec.ir.ops.shape import Transpose
from tilec.ir.types import Tile

_ASSIGNED = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:[-+*/|&^%]|//|\*\*)?=(?!=)")
_STORED = re.compile(r"\s*([A-Za-z_]\w*)\s*\[.*\]\s*=(?!=)")
_NAMES = {"dot": "product", "if": "chosen", "sum": "total", "rsqrt": "rstd"}


def statement_of(loc: Loc) -> Loc:
    """Where the statement stands that a place in an inlined function belongs to."""
    return statement_of(loc.caller) if loc.caller is not None else loc


@dataclass(frozen=True)
class Lines:
    """What is known of the lines that ops come from: `named` are the ops that make what a line
    assigns, `hoisted` those that stand before the loop that their line is in."""

    named: Mapping[Op, str]
    hoisted: frozenset[Op]


def lines_of(func: Func) -> Lines:
    """The lines of a function; the last op of one makes what it assigns."""
    last: dict[Loc, Op] = {}
    for op in func.walk():
        if op.loc is not None and op.results and not op.blocks:
            last[_line(op.loc)] = op
            last[_line(statement_of(op.loc))] = op
    named: dict[Op, str] = {}
    for loc, op in last.items():
        found = _ASSIGNED.match(_inner(loc.text))
        if found and (loc.caller is not None or op not in named):
            named[op] = found[1]
    blocks = [func.body, *(b for op in func.walk() for b in op.blocks)]
    home = {op: b for b in blocks for op in b.ops}
    whole = {_line(statement_of(op.loc)): home[op] for op in func.walk() if op.loc is not None}
    hoisted = (op for b in blocks for op in b.ops if op.loc is not None and not op.blocks
               and whole[_line(statement_of(op.loc))] is not b)  # fmt: skip
    return Lines(named, frozenset(hoisted))


def _line(loc: Loc) -> Loc:
    return replace(loc, column=0, end_column=0)


def name_of(op: Op, source: str = "", origin: str = "") -> str:
    """What the result of an op is called, if its line does not say it; `source` is the text of its
    first operand, `origin` the only thing that it is made from."""
    stem = source.removesuffix("_tile") if source.isidentifier() else ""
    if isinstance(op, Load):
        return f"{op.mem.hint.replace('.', '_')}_{'tile' if _rank(op.result) else 'value'}"
    if isinstance(op, Reduction) and (stem or origin):
        return f"{stem or origin}_{op.name}"
    if isinstance(op, Transpose) and stem:
        return f"{stem}_t"
    if op.name in _NAMES:
        return _NAMES[op.name]
    if origin and isinstance(op.result.type, Tile):
        return f"{origin}_group" if isinstance(op, FloorDiv) else f"{origin}_{op.result.type.dtype}"
    found = op.loc and _STORED.match(_inner(statement_of(op.loc).text))
    found = found or (op.loc and _ASSIGNED.match(_inner(statement_of(op.loc).text)))
    return f"{found[1]}_part" if found else op.name


def assigned_by(op: Op) -> str:
    """The variable that an op's line assigns, if it does."""
    found = op.loc and _ASSIGNED.match(_inner(op.loc.text))
    return found[1] if found else ""


def _inner(line: str) -> str:
    """The only statement of a loop that is written in one line, or the line."""
    line = line.strip()
    return line.rsplit("{", 1)[1] if line.endswith("}") and "{" in line else line


def _rank(v: Value) -> int:
    return v.type.rank if isinstance(v.type, Tile) else 0
