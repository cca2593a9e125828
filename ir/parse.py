"""Text back into a function: `show(parse(show(f))) == show(f)`.

    func @name(%x: *f16[M, K], ...) { ops }
    %r = op %a, [%b, %c], _ {name = value, ...} (%p: span[M, m]) { ops } (...) { ops } : f32[m]

Operands, attributes and blocks stand in the order of the op's fields; `_` is an operand or number
left out; `// ...` is a comment. How an attribute reads follows from its annotation.
"""

from __future__ import annotations

import re
import typing
from typing import Any

from tilec.ir.attributes import attribute, type_of
from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.errors import Loc, TileError
from tilec.ir.types import Type
from tilec.ir.verify import verify

_COMMENT = re.compile(r"//[^\n]*")
_TOKEN = re.compile(r"\s*([%@][\w.]+|[A-Za-z_][\w.]*|[^\s\w])")
_OPEN, _CLOSE = "([{<", ")]}>"
Scope = dict[str, Value]


def parse(text: str, file: str = "<text>") -> Func:
    """The one function that `text` holds, verified. Raises TileError at the line."""
    reader = _Reader(text, file)
    func = reader.func()
    verify(func)
    return func


class _Reader:
    """A cursor over the text; each method reads one thing and leaves the cursor behind it."""

    def __init__(self, text: str, file: str) -> None:
        self.lines, self.file = text.splitlines(), file
        self.text = _COMMENT.sub(lambda m: " " * len(m[0]), text)
        self.at = 0
        self.taken: set[str] = set()

    def loc(self, start: int) -> Loc:
        """From `start` to the cursor, or to the end of the line."""
        line = self.text.count("\n", 0, start)
        first = self.text.rfind("\n", 0, start) + 1
        source = self.lines[line] if line < len(self.lines) else ""
        return Loc(self.file, line + 1, start - first, min(self.at - first, len(source)), source)

    def fail(self, message: str, start: int | None = None) -> TileError:
        """An error at `start`, by default at the next token."""
        here = self.skip() if start is None else start
        return TileError(message, self.loc(here))

    def skip(self) -> int:
        """Move over blanks."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at

    def peek(self) -> str:
        """The next token, or nothing at the end."""
        found = _TOKEN.match(self.text, self.at)
        return found[1] if found else ""

    def take(self, expected: str = "") -> str:
        """Read the next token, which must be `expected` or start with it if that is a sigil."""
        token = self.peek()
        if expected and token != expected and not (expected in "%@" and token[:1] == expected):
            raise self.fail(f"expected {expected!r}, not {token or 'the end'!r}")
        self.skip()
        self.at += len(token)
        return token

    def raw(self, stops: str) -> str:
        """Text up to one of `stops` that stands outside every bracket."""
        start, depth = self.skip(), 0
        while self.at < len(self.text):
            c = self.text[self.at]
            if depth == 0 and c in stops:
                break
            depth += (c in _OPEN) - (c in _CLOSE)
            self.at += 1
        return self.text[start : self.at].strip()

    def func(self) -> Func:
        if self.take() != "func":
            raise TileError("expected `func @name(...) { ... }`", self.loc(0))
        name = self.take("@")[1:]
        body = self.block({}, named=True)
        if self.peek():
            raise self.fail(f"expected the end after the function, not {self.peek()!r}")
        return Func(name, body)

    def block(self, outer: Scope, named: bool = False) -> Block:
        """`(params) { ops }`; values defined inside are not seen outside."""
        scope = dict(outer)
        self.take("(")
        params: list[Value] = []
        while self.peek() != ")":
            start = self.skip()
            name = self.take("%")
            self.take(":")
            hint = name[1:] if named or not name[1:].isdecimal() else ""
            params.append(Value(self.type(",)"), hint))
            self.define(name, params[-1], scope, start)
            self.comma(")")
        self.take(")")
        self.take("{")
        found: list[Op] = []
        results: tuple[Value, ...] = ()
        while self.peek() not in ("}", "", "yield"):
            found.append(self.op(scope))
        if self.peek() == "yield":
            self.take()
            results = self.values(scope, "}")
        self.take("}")
        return Block(tuple(params), tuple(found), results)

    def op(self, scope: Scope) -> Op:
        start = self.skip()
        names: list[str] = []
        while self.peek().startswith("%"):
            names.append(self.take())
            self.comma("=")
        if names:
            self.take("=")
        at = self.skip()
        cls = Op.registry.get(word := self.take())
        if cls is None:
            raise self.fail(f"no op is called {word!r}", at)
        fields = self.operands(cls, scope) | self.attributes(cls)
        place = self.loc(at)
        for name in cls.fields("block"):
            if self.peek() == "(":
                fields[name] = self.block(scope)
        try:
            made = cls(**fields)
        except TileError as e:
            raise e.at(place) from None
        except TypeError as e:  # a field without a default is missing
            raise TileError(f"{word}: {e}", place) from None
        self.results(made, names, scope, start)
        return made.placed(place)

    def results(self, op: Op, names: list[str], scope: Scope, start: int) -> None:
        if len(names) != len(op.results):
            raise self.fail(f"{op.name} has {len(op.results)} results, not {len(names)}", start)
        for i, (name, v) in enumerate(zip(names, op.results, strict=True)):
            self.take(":" if i == 0 else ",")
            at = self.skip()
            said = self.type(",\n}")
            if said != v.type:
                raise self.fail(f"{op.name}: the result is {v.type}, not {said}", at)
            self.define(name, v, scope, start)

    def define(self, name: str, v: Value, scope: Scope, start: int) -> None:
        if name in self.taken:
            raise self.fail(f"{name} is defined twice", start)
        self.taken.add(name)
        scope[name] = v

    def comma(self, end: str) -> None:
        """A comma, or the token `end`, which stays."""
        if self.peek() != end:
            self.take(",")

    def value(self, scope: Scope) -> Value:
        start = self.skip()
        name = self.take("%")
        if name not in scope:
            raise self.fail(f"no value is called {name} here", start)
        return scope[name]

    def values(self, scope: Scope, end: str) -> tuple[Value, ...]:
        found: list[Value] = []
        while self.peek() != end:
            found.append(self.value(scope))
            self.comma(end)
        return tuple(found)

    def operands(self, cls: type[Op], scope: Scope) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for i, name in enumerate(cls.fields("operand")):
            if name in cls.optional() and self.peek() != ("," if i else "%"):
                break
            if i:
                self.take(",")
            match self.peek():
                case "_":
                    self.take()
                    found[name] = None
                case "[":
                    self.take()
                    found[name] = self.values(scope, "]")
                    self.take("]")
                case _:
                    found[name] = self.value(scope)
        return found

    def attributes(self, cls: type[Op]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if not cls.fields("attribute") or self.peek() != "{":
            return found
        hints = typing.get_type_hints(cls)
        self.take("{")
        while self.peek() != "}":
            start = self.skip()
            name = self.take()
            if name not in cls.fields("attribute"):
                has = ", ".join(cls.fields("attribute"))
                raise self.fail(f"{cls.name} has no attribute {name!r}; it has {has}", start)
            self.take("=")
            start, text = self.skip(), self.raw(",}")
            try:
                found[name] = attribute(hints[name], text)
            except TileError as e:
                raise self.fail(f"{cls.name}: {name}: {e.message}", start) from None
            self.comma("}")
        self.take("}")
        return found

    def type(self, stops: str) -> Type:
        start, text = self.skip(), self.raw(stops)
        try:
            return type_of(text)
        except TileError as e:
            raise self.fail(e.message, start) from None
