"""Names of a kernel's parameters in C++: what a user calls them, unless that means something else.

A kernel is printed with names that stand for them. Only when its text is known is it clear which
names the text needs for what it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from tilec.codegen.cuda import pointwise
from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.types import Memory, Tile

_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*", re.ASCII)
_LINES = re.compile(r"^[ \t]*(//|#line ).*$", re.MULTILINE)  # that say where those below are from
_CPP_20 = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t "
    "char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr "
    "constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not "
    "not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires "
    "return short signed sizeof static static_assert static_cast struct switch template this "
    "thread_local throw true try typedef typeid typename union unsigned using virtual void "
    "volatile wchar_t while xor xor_eq"
)
KEYWORDS = frozenset(_CPP_20.split())


def said(v: Value) -> str:
    """What a parameter is called where no text says otherwise."""
    return v.hint.replace(".", "_")


def parameter(v: Value, name: str) -> str:
    """The declaration of a parameter."""
    match v.type:
        case Memory():
            return f"{pointwise.stored_type(v.type.dtype)}* {name}"
        case Tile(dtype=t):
            return f"{pointwise.carrier(t)} {name}"
        case _:
            raise TileError(f"cuda: a parameter cannot be {v.type}")


def renamed(text: str, given: Mapping[str, str]) -> str:
    """A kernel's text with names for what stands for them; `given` says which are wanted.

    One that the text or C++ has already becomes the first of `name2`, `name3`, ... that is free.
    """
    taken = KEYWORDS | set(_WORD.findall(_LINES.sub("", text)))
    chosen: dict[str, str] = {}
    for place, wanted in given.items():
        chosen[place] = _free(wanted, taken | {*chosen.values()})
    return _WORD.sub(lambda m: chosen.get(m[0], m[0]), text)


def _free(wanted: str, taken: Set[str]) -> str:
    plain = re.sub(r"\W", "_", wanted, flags=re.ASCII)
    if plain.startswith("__"):  # C++ keeps these for itself, and CUDA has words among them
        plain = plain.strip("_")
    name, n = plain, 2
    while name in taken or not _WORD.fullmatch(name):
        name, n = f"{plain}{n}" if _WORD.match(plain) else f"p{n}", n + 1
    return name
