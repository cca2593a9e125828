"""The text of operands: registers, numbers, addresses, vectors and pairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from tilec.ir.errors import TileError
from tilec.ptx.operand import (
    Address,
    Constant,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
    integer,
)
from tilec.ptx.specials import SPECIALS

Resolve = Callable[[str], Operand]
_NUMBER = re.compile(r"[+-]?(?:0[fFdD][0-9a-fA-F]+|0[xXbB][0-9a-fA-F]+U?|[0-9][\w.+-]*)")
_SUM = re.compile(r"([%\w$.]+)\s*([+-])\s*([+-]?\w+)")


def split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    if not text.strip():
        return []
    if not any(c in text for c in "{[("):
        return [part.strip() for part in text.split(",")]
    parts, depth, start = list[str](), 0, 0
    for k, c in enumerate(text):
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            parts.append(text[start:k].strip())
            start = k + 1
    return [*parts, text[start:].strip()]


def operands(text: str, resolve: Resolve) -> tuple[Operand, ...]:
    """All operands of an instruction."""
    return tuple(parse(part, resolve) for part in split(text))


def parse(text: str, resolve: Resolve) -> Operand:
    """One operand; `resolve` knows registers and variables. Raises TileError for anything else."""
    if text[:1] == "[":
        return _address(text[1:-1], resolve)
    if text[:1] == "{":
        return Vector(operands(text[1:-1], resolve))
    if "|" in text:
        first, second = text.split("|")
        return Pair(parse(first.strip(), resolve), parse(second.strip(), resolve))
    if text[:1] == "!":
        register = parse(text[1:].strip(), resolve)
        if not isinstance(register, Register):
            raise TileError(f"ptx: {text!r} negates what is no register")
        return Negated(register)
    if text == "_":
        return Sink()
    return _plain(text, resolve)


def _plain(text: str, resolve: Resolve) -> Operand:
    """A number, a special register, or what `resolve` knows, perhaps plus a number."""
    if text == "WARP_SZ" or _NUMBER.fullmatch(text):
        return Constant("32" if text == "WARP_SZ" else text)
    if m := _SUM.fullmatch(text):
        base = parse(m[1], resolve)
        if isinstance(base, Symbol):
            return replace(base, offset=base.offset + _offset(m))
    return Special(text) if text in SPECIALS else resolve(text)


def _offset(m: re.Match[str]) -> int:
    return integer(m[3]) * (1 if m[2] == "+" else -1)


def _address(text: str, resolve: Resolve) -> Address:
    parts = split(text)
    coordinates: tuple[Operand, ...] = ()
    if len(parts) > 1:
        vector = parse(parts[1], resolve)
        if len(parts) > 2 or not isinstance(vector, Vector):
            raise TileError(f"ptx: the address [{text}] is not supported")
        coordinates = vector.parts
    base = parts[0].strip()
    if m := _SUM.fullmatch(base):
        return Address(parse(m[1], resolve), _offset(m), coordinates)
    return Address(parse(base, resolve), 0, coordinates)
