"""A kernel as both spellings give it: its signature, and IR for the formats of its arguments."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Extent, Sym, number
from tilec.ir.extent import names as names_of
from tilec.ir.format import Dense, Format
from tilec.ir.types import Memory, Tile
from tilec.lang.expressions import Inline
from tilec.lang.walk import Walker


@dataclass(frozen=True)
class TensorSpec:
    """A tensor parameter: its dims, and its format where the signature pins it."""

    dims: tuple[Extent, ...]
    format: Format | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter: a tensor or a scalar of a dtype."""

    name: str
    spec: TensorSpec | DType
    loc: Loc


@dataclass(frozen=True)
class Signature:
    """A kernel's parameters in order."""

    name: str
    params: tuple[Parameter, ...]

    def bind(self, shapes: Sequence[tuple[int, ...] | None]) -> dict[str, int]:
        """The number that each named dimension is, equal wherever it stands.

        `shapes` has one shape a parameter (None for a scalar). Raises TileError naming the tensor,
        what it is and what was expected.
        """
        if len(shapes) != len(self.params):
            raise TileError(f"{self.name} takes {len(self.params)} arguments, not {len(shapes)}")
        known: dict[str, tuple[int, str]] = {}
        for p, shape in zip(self.params, shapes, strict=True):
            if isinstance(p.spec, TensorSpec) and shape is not None:
                self._bind(p.name, p.spec, shape, known)
        dims = {k: n for k, (n, _) in known.items()}
        for act in (_solved, self._computed):
            for p, shape in zip(self.params, shapes, strict=True):
                if isinstance(p.spec, TensorSpec) and shape is not None:
                    act(p.name, p.spec, shape, dims)
        return dims

    def _computed(
        self, name: str, spec: TensorSpec, shape: tuple[int, ...], dims: dict[str, int]
    ) -> None:
        """Check the dimensions that are computed of others, such as 2*H."""
        for dim, n in zip(spec.dims, shape, strict=True):
            if isinstance(dim, int) or dim.is_name:
                continue
            if n != number(dim, dims):
                raise TileError(f"{self.name}: a dimension of `{name}` is {n}, "
                                f"expected {dim} = {number(dim, dims)}")  # fmt: skip

    def _bind(
        self, name: str, spec: TensorSpec, shape: tuple[int, ...], known: dict[str, tuple[int, str]]
    ) -> None:
        expected = f"[{', '.join(map(str, spec.dims))}]"
        if len(shape) != len(spec.dims):
            raise TileError(
                f"{self.name}: `{name}` is {list(shape)}, "
                f"expected {len(spec.dims)} dimensions {expected}"
            )
        for dim, n in zip(spec.dims, shape, strict=True):
            if isinstance(dim, Sym) and not dim.is_name:
                continue
            text = str(dim)
            have, where = (dim, name) if isinstance(dim, int) else known.setdefault(text, (n, name))
            if have != n:
                turned = len(shape) == 2 and have in shape
                what, other = f"dimension {text}", f"but `{where}` has {text} = {have}"
                if isinstance(dim, int):
                    what, other = "a dimension", f"expected {have}"
                raise TileError(
                    f"{self.name}: {what} of `{name}` is {n}, {other}",
                    hint=f"is `{name}` transposed? it is {list(shape)}, expected {expected}"
                    if turned
                    else "",
                )


def _solved(name: str, spec: TensorSpec, shape: tuple[int, ...], dims: dict[str, int]) -> None:
    """Find the dimensions of which tensors have products alone, such as 2*H."""
    for dim, n in zip(spec.dims, shape, strict=True):
        unknown = names_of(dim) - dims.keys()
        if len(unknown) == 1 and str(dim).replace("*", "").isalnum():
            (name,) = unknown
            dims[name] = n // number(dim, {**dims, name: 1})


@dataclass(frozen=True)
class Definition:
    """A kernel's syntax tree and signature."""

    signature: Signature
    function: Inline

    def ir(self, types: Mapping[str, Format | DType] | None = None) -> Func:
        """The kernel as IR, for the formats of the tensors that the signature leaves open."""
        params: list[Value] = []
        for p in self.signature.params:
            params.append(Value(self._type(p, (types or {}).get(p.name)), p.name))
        b = Builder()
        names = {
            name
            for p in params
            if isinstance(p.type, Memory)
            for e in p.type.shape
            for name in names_of(e)
        }
        walker = Walker(self.function, b, {p.hint: p for p in params}, names)
        walker.body(self.function.tree.body)
        return Func(self.signature.name, Block(tuple(params), tuple(b.ops)))

    def _type(self, p: Parameter, given: Format | DType | None) -> Memory | Tile:
        if isinstance(p.spec, DType):
            return Tile((), p.spec)
        format = Dense(given) if isinstance(given, DType) else given or p.spec.format
        if format is None:
            raise TileError(
                f"the format of `{p.name}` is not known", p.loc, 'write Tensor["M", "K", f16]'
            )
        if p.spec.format is not None and format != p.spec.format:
            raise TileError(f"`{p.name}` is {format}, expected {p.spec.format}", p.loc)
        return Memory(p.spec.dims, format)


def place(file: str, lines: Sequence[str], node: ast.AST, function: str = "") -> Loc:
    """Where a node of a signature stands."""
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    text = lines[line - 1] if line <= len(lines) else ""
    end = getattr(node, "end_col_offset", column + 1)
    if getattr(node, "end_lineno", line) != line:
        end = len(text)
    return Loc(file, line, column, end, text, function)


def spec(given: Any) -> TensorSpec | DType | None:
    """What an annotation means as a parameter, or None."""
    match given:
        case TensorSpec() | DType():
            return given
        case _:
            return None
