"""The `.tile` spelling: text becomes the same syntax tree that a Python kernel has."""

# Lark's errors are not typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from tilec.ir.codes import element
from tilec.ir.dtype import DType
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Extent, Sym, extent
from tilec.ir.named import named
from tilec.lang.builtins import BUILTINS
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.lang.python import library
from tilec.lang.tree import Meta, Node, Syntax
from tilec.lang.walk import Builtin, Inline, Missing

WORDS = {
    "NAME": "a name", "STRING": "a text",
    "NUMBER": "a number", "$END": "the end of the file", "SIGN": "`+` or `-`",
    "COMPARE": "a comparison", "UPDATE": "`+=`", "EQUAL": "`=`", "LPAR": "`(`", "RPAR": "`)`",
    "LSQB": "`[`", "RSQB": "`]`", "LBRACE": "`{`", "RBRACE": "`}`", "COLON": "`:`",
    "COMMA": "`,`", "LESSTHAN": "`<`", "MORETHAN": "`>`", "DOT": "`.`", "IN": "`in`",
    "KERNEL": "`kernel`", "PROGRAM": "`program`", "FN": "`fn`", "ELSE": "`else`",
}  # fmt: skip
DIVISION = re.compile(r"^(?!\s*//).*[\w)\]]\s*(//)\s*\d[\w.]*[\s)\]};]*$")
OPERATORS = {"SIGN", "TIMES", "COMPARE", "BITOR", "BITXOR", "BITAND", "SHIFT", "POWER", "AND", "OR"}
STATEMENT = {"NAME", "FOR", "WHILE", "IF", "RETURN"}


def parse(text: str, file: str = "<text>") -> dict[str, Definition]:
    """The kernels and programs of a `.tile` text by name, in order.

    Raises TileError at the line at fault.
    """
    return _read(text, file).found


def _read(text: str, file: str) -> _File:
    lines = tuple(line.rstrip("\r") for line in text.split("\n"))
    for i, line in enumerate(lines):
        if found := DIVISION.search(line):  # else the division would silently be dropped
            loc = Loc(file, i + 1, found.start(1), found.end(1), line)
            hint = "floor division is floordiv(a, b)"
            raise TileError("`//` starts a comment, it does not divide", loc, hint)
    try:
        tree: Node = _grammar().parse(text)
    except UnexpectedInput as e:
        raise _syntax_error(e, file, lines) from None
    read = _File(file, lines)
    read.definitions(tree)
    return read


def load(path: str | Path) -> dict[str, Definition]:
    """The kernels of a `.tile` file. Raises TileError where it can't be read or is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TileError(f"{path} can't be read: {e}") from None
    return parse(text, str(path))


@cache
def _grammar() -> Lark:
    text = Path(__file__).with_name("tile.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)


class _File:
    """One text: its functions and kernels, which see each other and the names of the language."""

    def __init__(self, file: str, lines: tuple[str, ...]) -> None:
        self.file, self.lines = file, lines
        self.dims: set[str] = set()
        self.functions: dict[str, Inline] = {}
        self.found: dict[str, Definition] = {}

    def definitions(self, tree: Node) -> None:
        """Every function, kernel and program."""
        found = self.found
        for node in tree.children:
            assert isinstance(node, Tree)
            name = str(node.children[0])
            if name in found or name in self.functions:
                raise TileError(f"`{name}` is defined twice", self.loc(node.children[0], name))
            inline = Inline(Syntax().function(node), self.file, self.lines, self.lookup)
            if node.data == "function":
                self.functions[name] = inline
            else:
                kind = ProgramDefinition if node.data == "program" else Definition
                found[name] = kind(self.signature(node), inline)

    def lookup(self, name: str) -> object:
        """A name that is no variable: a dimension, a dtype, a function."""
        if name in self.dims:
            return name
        if name in self.functions:
            return self.functions[name]
        if name in self.found:
            return self.found[name]
        if name in library():
            return library()[name]
        if name in BUILTINS or name in ("tiles", "range"):
            return Builtin(name)
        return math.inf if name == "inf" else element(name) or Missing

    def loc(self, node: Node | Token, function: str = "") -> Loc:
        """Where a node stands."""
        at = node if isinstance(node, Token) else node.meta
        return _loc(self.file, self.lines, at, function)

    def signature(self, node: Node) -> Signature:
        """The parameters of a kernel."""
        kernel = str(node.children[0])
        params: list[Parameter] = []
        for p in node.children[1:]:
            if not isinstance(p, Tree) or p.data != "parameter":
                continue
            name, kind = p.children
            assert isinstance(kind, Tree)
            where = self.loc(p, kernel)
            if any(q.name == name for q in params):
                raise TileError(f"two parameters are named `{name}`", where)
            params.append(Parameter(str(name), self.type(kind, kernel), where))
        return Signature(kernel, tuple(params))

    def type(self, node: Node, kernel: str) -> TensorSpec | DType:
        """`f16[M, K]`: a tensor; `any[M, K]`: one of any format; `f32`: a scalar."""
        format_, *dims = node.children
        assert isinstance(format_, Tree)
        text = _text(format_)
        if not dims:
            scalar = element(text)
            if scalar is None:
                raise TileError(
                    f"`{text}` is no element type", self.loc(format_, kernel),
                    f"a tensor has its dims after its format: {text}[M, K]",
                )  # fmt: skip
            return scalar
        try:
            found = None if text == "any" else named(text)
        except TileError as e:
            raise e.at(self.loc(format_, kernel)) from None
        assert isinstance(dims[0], Tree)
        return TensorSpec(tuple(self.dim(d, kernel) for d in dims[0].children), found)

    def dim(self, token: Node | Token, kernel: str) -> Extent:
        """A dimension: a name, a whole number of at least 1, or a product of both."""
        if isinstance(token, Tree):
            words = list(map(str, token.children))
            self.dims |= {w for w in words if w.isidentifier()}
            return extent("*".join(words))
        text = str(token)
        if text.isidentifier():
            self.dims.add(text)
            return Sym(text)
        if not text.isdecimal() or int(text) < 1:
            raise TileError(
                f"a dimension is a name or a whole number of at least 1, not {text}",
                self.loc(token, kernel),
            )
        return int(text)


def _text(node: Node | Token) -> str:
    """The text of a format without blanks."""
    if isinstance(node, Token):
        return str(node)
    parts = [_text(c) for c in node.children]
    if node.data == "option":
        return "=".join(parts)
    name, *options = parts
    return f"{name}<{','.join(options)}>" if options else name


def _loc(file: str, lines: tuple[str, ...], at: Meta | Token, function: str = "") -> Loc:
    line, column = at.line or 1, at.column or 1
    text = lines[line - 1] if line <= len(lines) else ""
    end = (at.end_column or column + 1) - 1 if at.end_line == line else len(text)
    return Loc(file, line, column - 1, max(end, column), text, function)


def _syntax_error(e: UnexpectedInput, file: str, lines: tuple[str, ...]) -> TileError:
    """A parse error in plain words, at the token that does not fit."""
    match e:
        case UnexpectedCharacters():
            text = lines[e.line - 1]
            loc = Loc(file, e.line, e.column - 1, e.column, text)
            found = text[e.column - 1]
            hint = "comments start with //" if found == "#" else ""
            return TileError(f"the character {found!r} means nothing here", loc, hint)
        case UnexpectedToken() if e.token.type != "$END":
            loc = _loc(file, lines, e.token)
            wanted = _expected(set(e.accepts or e.expected))
            return TileError(f"expected {wanted}, not `{e.token}`", loc)
        case UnexpectedToken() | UnexpectedEOF():
            line = max(len(lines), 1)
            text = lines[-1] if lines else ""
            wanted = _expected(set(getattr(e, "accepts", None) or e.expected))
            message = f"the text ends where {wanted} is expected"
            return TileError(message, Loc(file, line, len(text), len(text) + 1, text))
        case _:
            return TileError(f"not a .tile program: {e}")


def _expected(terminals: set[str]) -> str:
    """What could stand there, the likeliest first and few."""
    names: list[str] = []
    if terminals >= STATEMENT:
        names.append("a statement")
        terminals -= STATEMENT
    elif terminals >= {"NAME", "NUMBER", "LPAR"}:
        return "an expression"
    if terminals >= OPERATORS:
        names.append("an operator")
    terminals = terminals - OPERATORS
    names += sorted(WORDS[t] for t in terminals if t in WORDS)
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names or ["more"])
