"""Values, ops, blocks, functions. Nothing here knows any particular op."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from functools import cache
from typing import Any, ClassVar, Self, dataclass_transform

from tilec.ir.errors import Loc, TileError
from tilec.ir.remark import Remark
from tilec.ir.types import Type


class Trait(Flag):
    """What passes may assume about an op without knowing it."""

    NONE = 0
    COMMUTATIVE = auto()
    READS = auto()  # its result depends on memory
    WRITES = auto()  # it changes memory
    ELEMENTWISE = auto()  # out[i] depends on the operands' [i] alone

    @property
    def pure(self) -> bool:
        """Whether equal operands give equal results and an unused result needs no op."""
        return not self & (Trait.READS | Trait.WRITES)


@dataclass(frozen=True, eq=False)
class Value:
    """One SSA value: compared by identity, named only for people."""

    type: Type
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Block:
    """A region of an op: its own parameters, ops in order, and the values that it yields."""

    params: tuple[Value, ...]
    ops: tuple[Op, ...]
    results: tuple[Value, ...] = ()

    def walk(self) -> Iterator[Op]:
        """Every op of this block and of the blocks inside, outermost first."""
        for op in self.ops:
            yield op
            for block in op.blocks:
                yield from block.walk()


def _kind(hint: object) -> str:
    if hint in (Value, Value | None, tuple[Value, ...]):
        return "operand"
    return "block" if hint in (Block, Block | None) else "attribute"


@dataclass_transform(frozen_default=True, eq_default=False)
class Op:
    """One instruction.

    A field annotated `Value` (or `Value | None`, or `tuple[Value, ...]`) is an operand, `Block` a
    region, any other an attribute. `infer` is the verifier: it returns the types of the results or
    raises `TileError`. `evaluate` is the meaning: carriers in, carrier out; the interpreter rounds.
    """

    name: ClassVar[str]
    traits: ClassVar[Trait]
    registry: ClassVar[dict[str, type[Op]]] = {}
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    evaluate: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, *, name: str = "", traits: Trait = Trait.NONE) -> None:
        cls.traits = traits
        if Op in cls.__bases__ or inspect.get_annotations(cls):  # else those of the base will do
            dataclass(frozen=True, eq=False)(cls)
        if not name:  # a family's shared base, not an op
            return
        cls.name = name
        if name in Op.registry:
            raise TypeError(f"two ops are named {name!r}")
        Op.registry[name] = cls

    def __post_init__(self) -> None:
        types = self.infer()
        made = tuple(Value(t) for t in (types if isinstance(types, tuple) else (types,)))
        object.__setattr__(self, "results", made)
        object.__setattr__(self, "loc", None)

    results: tuple[Value, ...] = field(init=False)
    loc: Loc | None = field(init=False)

    def infer(self) -> Type | tuple[Type, ...]:
        """The types of the results, from the operands and attributes alone."""
        raise NotImplementedError

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @classmethod
    def fields(cls, kind: str) -> tuple[str, ...]:
        """The names of the fields that are an `operand`, a `block` or an `attribute`."""
        return _fields(cls)[kind]

    @classmethod
    def optional(cls) -> frozenset[str]:
        """The names of the fields that are absent unless given."""
        return frozenset(n for n, f in cls.__dataclass_fields__.items() if f.default is None)

    @property
    def operands(self) -> tuple[Value, ...]:
        found: list[Value] = []
        for name in self.fields("operand"):
            v: Value | tuple[Value, ...] | None = getattr(self, name)
            found += v if isinstance(v, tuple) else [v] if v is not None else []
        return tuple(found)

    @property
    def blocks(self) -> tuple[Block, ...]:
        found = (getattr(self, n) for n in self.fields("block"))
        return tuple(b for b in found if b is not None)

    @property
    def attributes(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in self.fields("attribute")}

    def placed(self, loc: Loc | None) -> Self:
        """This op, said to come from `loc`."""
        object.__setattr__(self, "loc", loc)
        return self

    def rebuilt(self, to: Mapping[Value, Value], **changed: Any) -> Self:
        """This op with operands replaced and fields changed, its results inferred afresh."""
        new: dict[str, Any] = {n: getattr(self, n) for n in self.fields("block")} | self.attributes
        for name in self.fields("operand"):
            v: Value | tuple[Value, ...] | None = getattr(self, name)
            new[name] = (
                tuple(to.get(x, x) for x in v) if isinstance(v, tuple) else v and to.get(v, v)
            )
        try:
            return type(self)(**(new | changed)).placed(self.loc)
        except TileError as e:
            raise e.at(self.loc) from None


@cache
def _fields(cls: type[Op]) -> dict[str, tuple[str, ...]]:
    hints = typing.get_type_hints(cls)
    kinds: dict[str, list[str]] = {"operand": [], "block": [], "attribute": []}
    for name, f in cls.__dataclass_fields__.items():
        if f.init:
            kinds[_kind(hints[name])].append(name)
    return {k: tuple(v) for k, v in kinds.items()}


@dataclass(frozen=True, eq=False)
class Func:
    """A kernel: its name, and its body with the kernel's parameters. Never changed in place.

    `remarks` are what the passes so far had to say about it.
    """

    name: str
    body: Block
    remarks: tuple[Remark, ...] = ()

    def replaced(self, body: Block, *remarks: Remark) -> Func:
        """This kernel with another body, and more remarks."""
        new = tuple(r for r in dict.fromkeys(remarks) if r not in self.remarks)
        return Func(self.name, body, self.remarks + new)

    @property
    def params(self) -> tuple[Value, ...]:
        return self.body.params

    def walk(self) -> Iterator[Op]:
        """Every op, outermost first."""
        return self.body.walk()


@dataclass
class Builder:
    """Collects ops in order; passes and front ends write through it. `loc` is where they stand."""

    ops: list[Op] = field(default_factory=list[Op])
    loc: Loc | None = None

    def __call__(self, op: Op) -> Value:
        """Append an op with one result and return that."""
        return self.add(op).result

    def add(self, op: Op) -> Op:
        """Append any op."""
        if op.loc is None:
            op.placed(self.loc)
        self.ops.append(op)
        return op

    def copy(
        self, op: Op, to: dict[Value, Value], block: Callable[[Block], Block], **changed: Any
    ) -> None:
        """Append an op of other values: `to` says what stands for its operands, and then for its
        results; `block` makes its blocks anew."""
        inner = {n: getattr(op, n) for n in op.fields("block")}
        done = {n: block(v) for n, v in inner.items() if v is not None}
        new = self.add(op.rebuilt(to, **done, **changed))
        to.update(zip(op.results, new.results, strict=True))


Mapped = Callable[[Op, dict[Value, Value], Builder], bool]


def rebuild(block: Block, to: dict[Value, Value], change: Mapped | None = None) -> Block:
    """A copy of `block` with `to` applied, inside out.

    `change(op, to, builder)` sees each op with operands mapped and blocks rebuilt; it may write
    other ops, set `to` for the op's results, and return True to say that it did.
    """
    params = tuple(to.setdefault(p, p) for p in block.params)
    b = Builder()
    for old in block.ops:
        inner = {n: getattr(old, n) for n in old.fields("block")}
        done = {n: rebuild(v, to, change) for n, v in inner.items() if v is not None}
        new = old.rebuilt(to, **done)
        if change is not None:
            b.loc = old.loc
            local: dict[Value, Value] = {}
            if change(new, local, b):
                to.update(
                    {
                        o: local[n]
                        for o, n in zip(old.results, new.results, strict=True)
                        if n in local
                    }
                )
                continue
        b.add(new)
        to.update(zip(old.results, new.results, strict=True))
    return Block(params, tuple(b.ops), tuple(to.get(v, v) for v in block.results))
