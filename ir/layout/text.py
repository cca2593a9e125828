"""Layouts as text: `parse(str(x)) == x` for each kind of layout.

    spatial(8, 4).local(1, 2) * mma.m16n8k16.bf16.C    products, atoms' operands (.A .B .C .E)
    register((6), (2:1@0), (3:2@0))                    shape, thread digits, local digits
    ldmatrix.x4.trans                                  what ldmatrix and stmatrix move
    (4,(2,3)):(2,(1,8))                                shape:stride
    shared(16, (64,64):(64,1), swizzle(3, 4, 3))       bits of an element, shape:stride, swizzle

A digit is size:stride@axis, or its size alone where it selects nothing; slowest first. Other
methods of register layouts: replicated(4), permute(1, 0), transpose(), reshape(128), reduce(0).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from tilec.ir.errors import Loc, TileError
from tilec.ir.layout.atoms import fragment
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.fragments import matrices
from tilec.ir.layout.memory import MemoryLayout, Nested
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.layout.shared import NONE, SharedLayout, Swizzle

Layout = RegisterLayout | MemoryLayout | SharedLayout
_TOKEN = re.compile(r"\s*(?:(-?\d+|[A-Za-z_]\w*|[().,:@*])|(\S))")
_MATRICES = re.compile(r"(?:ldmatrix|stmatrix)\.x([124])(\.trans)?")
_T = TypeVar("_T")
_Make = Callable[..., RegisterLayout]
# Constructors and methods by name, and how many numbers they take (None is any).
_CONSTRUCTORS: dict[str, tuple[_Make, int | None]] = {
    "spatial": (spatial, None), "local": (local, None), "replicated": (replicated, 1),
}  # fmt: skip
_METHODS: dict[str, tuple[_Make, int | None]] = {
    "spatial": (RegisterLayout.spatial, None),
    "local": (RegisterLayout.local, None),
    "replicated": (RegisterLayout.replicated, 1),
    "permute": (RegisterLayout.permute, None),
    "transpose": (RegisterLayout.transpose, 0),
    "reshape": (RegisterLayout.reshape, None),
    "reduce": (RegisterLayout.reduce, 1),
}


def parse(text: str) -> Layout:
    """The layout that a text describes. Raises TileError at the place where it does not."""
    reader = _Reader(text)
    try:
        layout = reader.product()
    except TileError as e:
        raise e.at(Loc("<layout>", 1, 0, len(text), text)) from None
    if reader.peek():
        raise reader.fail(f"expected the end, not {reader.peek()!r}")
    return layout


class _Reader:
    """A cursor over tokens; each method reads one thing and leaves the cursor behind it."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        found = list(_TOKEN.finditer(text))
        self.tokens = [m[1] or m[2] for m in found]
        self.starts = [m.end() - len(t) for m, t in zip(found, self.tokens, strict=True)]

    def peek(self, ahead: int = 0) -> str:
        """A token from here, or nothing behind the end."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def fail(self, message: str, at: int | None = None) -> TileError:
        """An error at a token, by default the next one."""
        at = self.at if at is None else at
        start = self.starts[at] if at < len(self.starts) else len(self.text)
        end = start + (len(self.tokens[at]) if at < len(self.tokens) else 1)
        return TileError(message, Loc("<layout>", 1, start, end, self.text))

    def take(self, expected: str = "") -> str:
        """The next token, which must be `expected` if that is given."""
        token = self.peek()
        if not token or (expected and token != expected):
            wanted = repr(expected) if expected else "a layout"
            raise self.fail(f"expected {wanted}, not {token or 'the end'!r}")
        self.at += 1
        return token

    def integer(self) -> int:
        """A whole number."""
        if not re.fullmatch(r"-?\d+", self.peek()):
            raise self.fail(f"expected a number, not {self.peek() or 'the end'!r}")
        return int(self.take())

    def product(self) -> Layout:
        """Layouts with `*` between them."""
        layout = self.chain()
        while self.peek() == "*":
            at = self.at
            self.take()
            inner = self.chain()
            if not (isinstance(layout, RegisterLayout) and isinstance(inner, RegisterLayout)):
                raise self.fail("only register layouts have products", at)
            layout = layout * inner
        return layout

    def chain(self) -> Layout:
        """A layout and the methods called on it."""
        layout = self.primary()
        while self.peek() == ".":
            self.take()
            at, name = self.at, self.take()
            if name not in _METHODS or not isinstance(layout, RegisterLayout):
                raise self.fail(f"{layout} has no {name!r}; register layouts have "
                                f"{', '.join(_METHODS)}", at)  # fmt: skip
            method, arguments = _METHODS[name]
            layout = method(layout, *self.numbers(name, arguments))
        return layout

    def primary(self) -> Layout:
        """One layout: a constructor, an operand's name, or shape:stride."""
        token = self.peek()
        if token in _CONSTRUCTORS:
            make, arguments = _CONSTRUCTORS[self.take()]
            return make(*self.numbers(token, arguments))
        if token == "register":
            return self.register()
        if token == "shared":
            return self.shared()
        if re.match(r"[A-Za-z_]", token):
            return self.operand()
        return self.memory()

    def numbers(self, name: str, expected: int | None) -> tuple[int, ...]:
        """Numbers in parentheses, as many as expected."""
        at, found = self.at, self.listed(self.integer)
        if expected is not None and len(found) != expected:
            plural = "" if expected == 1 else "s"
            raise self.fail(f"{name} takes {expected} number{plural}, not {len(found)}", at)
        return found

    def listed(self, read: Callable[[], _T]) -> tuple[_T, ...]:
        """Things of one kind in parentheses, with commas between them."""
        self.take("(")
        found: list[_T] = []
        while self.peek() != ")":
            if found:
                self.take(",")
            found.append(read())
        self.take(")")
        return tuple(found)

    def operand(self) -> RegisterLayout:
        """The operand of an atom, or the matrices of ldmatrix."""
        at, name = self.at, self.take()
        while self.peek() == "." and self.peek(2) != "(":
            name += self.take() + self.take()
        if matched := _MATRICES.fullmatch(name):
            return matrices(int(matched[1]), bool(matched[2]))
        if "." not in name:
            raise self.fail(f"no layout is called {name!r}", at)
        try:
            return fragment(name)
        except TileError as e:
            raise e.at(self.fail("", at).loc) from None

    def register(self) -> RegisterLayout:
        """Shape and digits."""
        self.take("register")
        self.take("(")
        shape = self.listed(self.integer)
        self.take(",")
        threads = self.listed(self.digit)
        self.take(",")
        locals_ = self.listed(self.digit)
        self.take(")")
        return RegisterLayout(shape, threads, locals_)

    def digit(self) -> Digit:
        """size:stride@axis, or a size."""
        size = self.integer()
        if self.peek() != ":":
            return Digit(size)
        self.take(":")
        stride = self.integer()
        self.take("@")
        return Digit(size, self.integer(), stride)

    def shared(self) -> SharedLayout:
        """Bits of an element, shape:stride and perhaps a swizzle."""
        self.take("shared")
        self.take("(")
        bits = self.integer()
        self.take(",")
        memory, swizzle = self.memory(), NONE
        if self.peek() == ",":
            self.take()
            self.take("swizzle")
            swizzle = Swizzle(*self.numbers("swizzle", 3))
        self.take(")")
        return SharedLayout(memory, bits, swizzle)

    def memory(self) -> MemoryLayout:
        """shape:stride."""
        shape = self.nested()
        self.take(":")
        return MemoryLayout(shape, self.nested())

    def nested(self) -> Nested:
        """A number, or nested tuples of numbers."""
        return self.listed(self.nested) if self.peek() == "(" else self.integer()
