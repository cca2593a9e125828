"""Attributes and types read back from text: the inverse of `text.attribute` and `str(type)`."""

from __future__ import annotations

import re
import types
import typing
from typing import Any, Literal

from tilec.ir.codes import element
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, extent
from tilec.ir.format import Format
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.text import parse as layout
from tilec.ir.named import named, split
from tilec.ir.types import Memory, Shape, Span, Tile, Type

_SHAPED = re.compile(r"(.*?)(?:\[([^\[\]]*)\])?", re.DOTALL)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "_": None}


def type_of(text: str) -> Type:
    """The type written as `f32[m, 64]`, `span[M, m]` or `*f16[M, K]`. Raises TileError."""
    found = _SHAPED.fullmatch(text.strip())
    if found is None:
        raise TileError(f"not a type: {text!r}")
    head, shape = found[1].strip(), extents(found[2] or "")
    if head == "span":
        if len(shape) != 2:
            raise TileError(f"expected span[dim, size], not {text!r}")
        return Span(*shape)
    if head.startswith("*"):
        return Memory(shape, named(head[1:]))
    return Tile(shape, _dtype(head))


def extents(text: str) -> Shape:
    """Extents between commas."""
    return tuple(map(extent, split(text)))


def _dtype(text: str) -> DType:
    found = element(text)
    if found is None:
        raise TileError(f"no element type is called {text!r}")
    return found


def attribute(annotation: Any, text: str) -> Any:
    """The value that `text` stands for where `annotation` is expected. Raises TileError."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        if not (text.startswith("[") and text.endswith("]")):
            raise TileError(f"expected a list in brackets, not {text!r}")
        return tuple(attribute(arguments[0], part) for part in split(text[1:-1]))
    if origin is Literal:
        if text not in arguments:
            raise TileError(f"expected one of {', '.join(arguments)}, not {text!r}")
        return text
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, text)
    return _scalar(annotation, text)


def _union(choices: tuple[Any, ...], text: str) -> Any:
    """The first of the choices, the narrowest first, that the text can be read as."""
    for choice in sorted(choices, key=_NARROW.index):
        try:
            return _scalar(choice, text)
        except TileError:
            continue
    raise TileError(f"cannot read {text!r}")


_NARROW: list[Any] = [type(None), bool, int, float, DType, Sym, Format, str]


def _scalar(annotation: Any, text: str) -> Any:
    if annotation in (type(None), bool):
        if text not in _WORDS or (annotation is bool) != isinstance(_WORDS[text], bool):
            raise TileError(f"expected true or false, not {text!r}")
        return _WORDS[text]
    if annotation is DType:
        return _dtype(text)
    if annotation is Sym:
        value: Extent = extent(text)
        if not isinstance(value, Sym):
            raise TileError(f"expected a name, not {text!r}")
        return value
    if annotation is Format:
        return named(text)
    if annotation is RegisterLayout:
        found = layout(text)
        if not isinstance(found, RegisterLayout):
            raise TileError(f"expected a layout of registers, not {text!r}")
        return found
    try:
        return annotation(text)
    except (TypeError, ValueError):
        raise TileError(f"expected {annotation.__name__}, not {text!r}") from None
