"""What can be chosen: parameters with their values, and constraints on choosing them together.

A row is a config as value indices, one for each parameter in order; a block is a matrix of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.runtime.cache.key import canonical
from tilec.tune import strict
from tilec.tune.config import Config, Value, checked_name, checked_value
from tilec.tune.expression import RESERVED, Expression, parsed

Rows = NDArray[np.intp]
MOST_PARAMETERS, MOST_VALUES, MOST_CONSTRAINTS, MOST_LISTED = 200, 10_000, 1000, 1_000_000


@dataclass(frozen=True)
class Parameter:
    """A name and its values in order: all numbers, all words (categories) or booleans."""

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        what = f"the parameter {checked_name(self.name, 'a parameter')}"
        if self.name in RESERVED:
            raise TileError(f"{what} has a name that means something else in constraints")
        if not 0 < len(self.values) <= MOST_VALUES:
            raise TileError(f"{what} has {len(self.values)} values, expected 1 to {MOST_VALUES}")
        object.__setattr__(self, "values", tuple(checked_value(v, what) for v in self.values))
        if len({type(v) in (int, float) or type(v) for v in self.values}) > 1:
            raise TileError(f"{what} mixes numbers, words and booleans")
        if len(set(self.values)) < len(self.values):
            raise TileError(f"{what} has a value twice")

    @property
    def is_category(self) -> bool:
        return isinstance(self.values[0], str)

    @cached_property
    def places(self) -> dict[tuple[bool, Value], int]:
        """The index of each value; the key says whether it is a boolean, since True is 1."""
        return {(isinstance(v, bool), v): i for i, v in enumerate(self.values)}

    @cached_property
    def column(self) -> NDArray[Any]:
        """The values as an array."""
        return np.array(self.values)

    def place(self, value: Value) -> int:
        """The index of a value. Raises TileError for one that is not there."""
        try:
            return self.places[isinstance(value, bool), value]
        except KeyError:
            raise TileError(f"the parameter {self.name} is {value!r}, which is none of its values",
                            hint=_some(self.values)) from None  # fmt: skip


@dataclass(frozen=True)
class Constraint:
    """A condition on a config (see `expression`), and what it means to the user when it fails."""

    condition: str
    reason: str = ""


@dataclass(frozen=True)
class Space:
    """Parameters, constraints, the config to start from, and possibly the only rows that there are.

    `rows` narrows the space to configs that are listed: a recorded space, whose rules are unknown.
    Raises TileError for a space that contradicts itself.
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()
    default: Config | None = None
    rows: tuple[tuple[int, ...], ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        names = [p.name for p in self.parameters]
        if not 0 < len(names) <= MOST_PARAMETERS or len(set(names)) < len(names):
            raise TileError(f"a space has 1 to {MOST_PARAMETERS} parameters of different names")
        if len(self.constraints) > MOST_CONSTRAINTS:
            raise TileError(f"a space has at most {MOST_CONSTRAINTS} constraints")
        _ = self.rules
        if self.rows is not None:
            self._check_listed(self.rows)
        if self.default is not None:
            try:
                self.row(self.default)
            except TileError as e:
                raise TileError(f"the default config: {e.message}", hint=e.hint) from None

    def _check_listed(self, rows: tuple[tuple[int, ...], ...]) -> None:
        if not 0 < len(rows) <= MOST_LISTED or {len(r) for r in rows} != {len(self.parameters)}:
            raise TileError("a space lists no configs, too many, or some of another length")
        block = np.array(rows, np.intp)
        if (block < 0).any() or (block >= self.sizes).any():
            raise TileError("a space lists a config with a value index that is not there")
        if len(set(rows)) < len(rows):
            raise TileError("a space lists a config twice")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many values each parameter has."""
        return tuple(len(p.values) for p in self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @cached_property
    def rules(self) -> tuple[Expression, ...]:
        """The constraints, parsed."""
        kinds = {p.name: p.is_category for p in self.parameters}
        return tuple(parsed(c.condition, kinds) for c in self.constraints)

    @cached_property
    def product(self) -> int:
        """How many configs there would be without constraints."""
        return prod(self.sizes)

    @cached_property
    def listed(self) -> frozenset[tuple[int, ...]] | None:
        return None if self.rows is None else frozenset(self.rows)

    def config(self, row: Rows | tuple[int, ...]) -> Config:
        """The config of a row, valid or not."""
        return Config.of(
            {p.name: p.values[int(i)] for p, i in zip(self.parameters, row, strict=True)}
        )

    def row(self, config: Config) -> tuple[int, ...]:
        """The row of a valid config. Raises TileError that names the first thing that is wrong."""
        unknown = [n for n in config if n not in self.names]
        if unknown:
            raise TileError(f"{unknown[0]} is no parameter of this space", hint=_some(self.names))
        missing = [n for n in self.names if n not in config]
        if missing:
            raise TileError(f"the parameter {missing[0]} is missing")
        row = tuple(p.place(config[p.name]) for p in self.parameters)
        for rule, c in zip(self.rules, self.constraints, strict=True):
            if not rule.holds(self.columns(np.array([row], np.intp)))[0]:
                raise TileError(f"{config} violates {c.condition}" + (c.reason and f": {c.reason}"))
        if self.listed is not None and row not in self.listed:
            raise TileError(f"{config} is not among the {len(self.listed)} configs of this space")
        return row

    def __contains__(self, config: Config) -> bool:
        try:
            self.row(config)
        except TileError:
            return False
        return True

    def columns(self, block: Rows) -> dict[str, NDArray[Any]]:
        """The values of a block by parameter."""
        return {p.name: p.column[block[:, i]] for i, p in enumerate(self.parameters)}

    def holds(self, block: Rows) -> NDArray[np.bool_]:
        """Which rows of a block are valid."""
        columns, good = self.columns(block), np.ones(len(block), bool)
        for rule in self.rules:
            good &= rule.holds(columns)
        if self.listed is not None:
            good &= np.array([tuple(r) in self.listed for r in block.tolist()], bool)
        return good

    def __iter__(self) -> Iterator[Config]:
        """Every valid config, lazily, in the order of the parameters' values."""
        from_rows = (row for block in self.blocks() for row in block)
        return (self.config(row) for row in from_rows)

    def blocks(self, most: int = 1 << 15) -> Iterator[Rows]:
        """Every valid row in order, in blocks of about `most` rows."""
        if self.rows is not None:
            block = np.array(sorted(self.rows), np.intp)
            yield block[self.holds(block)]
        else:
            yield from extended(
                self, np.zeros((1, 0), np.intp), tuple(range(len(self.sizes))), most
            )

    @staticmethod
    def from_json(data: object) -> Space:
        """A space from JSON data. Raises TileError for what is missing, unknown or wrong."""
        found = strict.fields(data, "a space", ("parameters",), "constraints", "default", "rows")
        default = found.get("default")
        return Space(
            tuple(_parameter(p) for p in strict.array(found["parameters"], "parameters")),
            tuple(
                _constraint(c) for c in strict.array(found.get("constraints", []), "constraints")
            ),
            None if default is None else Config.from_json(default),
            _rows(found["rows"]) if found.get("rows") is not None else None,
        )

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "parameters": [{"name": p.name, "values": list(p.values)} for p in self.parameters],
            "constraints": [{"condition": c.condition, "reason": c.reason}
                            for c in self.constraints],
        }  # fmt: skip
        if self.default is not None:
            found["default"] = self.default.to_json()
        if self.rows is not None:
            found["rows"] = [list(r) for r in self.rows]
        return found

    @cached_property
    def text(self) -> str:
        """The canonical text: its JSON with sorted fields and no blanks."""
        return canonical(self.to_json())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def extended(space: Space, block: Rows, order: tuple[int, ...], most: int,
             looked: Callable[[int], None] = lambda _: None) -> Iterator[Rows]:  # fmt: skip
    """Rows over the parameters `order`, of which `block` holds the first few, to all of them.

    A constraint is applied as soon as the last of its parameters has a value. `looked` is told how
    many rows were looked at, also of those that lead to none.
    """
    done: int = block.shape[1]
    if not len(block):
        return
    if done == len(order):
        yield block
        return
    size = space.sizes[order[done]]
    step = max(1, most // size)
    for start in range(0, len(block), step):
        part = block[start : start + step]
        grown = np.column_stack([np.repeat(part, size, 0), np.tile(np.arange(size), len(part))])
        looked(len(grown))
        yield from extended(space, _kept(space, grown, order), order, most, looked)


def _kept(space: Space, block: Rows, order: tuple[int, ...]) -> Rows:
    """Those rows that satisfy the constraints that the newest parameter completes."""
    have = [space.parameters[i] for i in order[: block.shape[1]]]
    columns = {p.name: p.column[block[:, i]] for i, p in enumerate(have)}
    newest, good = have[-1].name, np.ones(len(block), bool)
    for rule in space.rules:
        known = rule.names <= set(columns)
        if known and (newest in rule.names or (len(have) == 1 and not rule.names)):
            good &= rule.holds(columns)
    return block[good]


def _parameter(data: object) -> Parameter:
    found = strict.fields(data, "a parameter", ("name", "values"))
    return Parameter(found["name"], tuple(strict.array(found["values"], "values")))


def _constraint(data: object) -> Constraint:
    found = strict.fields(data, "a constraint", ("condition",), "reason")
    reason = strict.typed(found.get("reason", ""), str, "a constraint's reason")
    return Constraint(strict.typed(found["condition"], str, "a constraint's condition"), reason)


def _rows(data: object) -> tuple[tuple[int, ...], ...]:
    rows = strict.array(data, "rows")
    return tuple(tuple(strict.typed(i, int, "a value index") for i in strict.array(r, "a row"))
                 for r in rows)  # fmt: skip


def _some(values: tuple[Value, ...]) -> str:
    return ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")
