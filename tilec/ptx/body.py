"""The body of a function: scopes, registers, labels, source lines, and inlined calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from tilec.ir.errors import TileError
from tilec.ptx.instruction import Draft
from tilec.ptx.operand import Address, Label, Operand, Register, Symbol
from tilec.ptx.operand_text import operands, parse, split
from tilec.ptx.place import Place, SourceLine
from tilec.ptx.source import Function, Source, Variable, declaration
from tilec.ptx.types import TYPES

_TOKEN = re.compile(
    r"\s*(?:(?P<loc>\.loc\b[^\n]*)|(?P<file>\.file\b[^\n]*)|(?P<open>\{)|(?P<close>\})"
    r"|(?P<label>[\w$]+)\s*:(?!:)|(?P<statement>[^\s;{}](?:[^;{}]|\{[^{}]*\})*)?;)"
)
_LOC = re.compile(r"\.loc\s+(\d+\s+\d+\s+\d+)(?:.*?inlined_at\s+(\d+\s+\d+\s+\d+))?")
_OPCODE = re.compile(r"\w[\w.:]*")
_GUARD = re.compile(r"@(!?)\s*([%\w$]+)\s+")
_CALL = re.compile(r"(?:(?:\(([^)]*)\)|_)\s*,\s*)?([\w$]+)\s*(?:,\s*\(([^)]*)\))?$")
BUILTINS = {"vprintf", "__assertfail"}


@dataclass
class Scope:
    """Names and labels of one pair of braces."""

    names: dict[str, Operand] = field(default_factory=dict[str, Operand])
    labels: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class _Pending(Operand):
    """A branch target that is not resolved yet."""

    name: str
    scopes: tuple[Scope, ...]


@dataclass(frozen=True)
class Program:
    """The code of an entry with every call inlined: instructions, register widths, variables."""

    entry: Function
    code: tuple[Draft, ...]
    widths: tuple[int, ...]
    variables: dict[str, Variable]


def program(source: Source, entry: Function) -> Program:
    """Read the body of an entry. Raises TileError for what can't be read."""
    body = _Body(source)
    names: dict[str, Operand] = {p.name: Symbol(p.name, "param") for p in entry.parameters}
    body.function(entry, names)
    return Program(entry, body.resolved(), tuple(body.widths), body.variables)


class _Body:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.code: list[Draft] = []
        self.widths: list[int] = []
        self.variables: dict[str, Variable] = {}
        self.tables: dict[str, str] = {}
        self.calls: list[str] = []
        self.place = Place(0)
        self.callers: dict[tuple[int, ...], tuple[int, ...]] = {}  # of file, line and column

    def function(self, f: Function, names: dict[str, Operand]) -> None:
        """Append the code of a function whose parameters are `names`; it ends behind itself."""
        if f.name in self.calls:
            raise TileError(f"ptx: {f.name} calls itself, which is not supported")
        self.calls.append(f.name)
        place = self.place
        outer = Scope(dict(names))
        scopes, position, label = [outer], f.start, ""
        while position < f.end:
            m = _TOKEN.match(self.source.text, position, f.end)
            if m is None:
                if not self.source.text[position : f.end].strip():
                    break
                raise TileError(
                    f"ptx: line {self.source.line(position)}: can't read this part of {f.name}"
                )
            position = m.end()
            match m.lastgroup:
                case "loc":
                    self._locate(m["loc"])
                case "open":
                    scopes.append(Scope())
                case "close":
                    scopes.pop()
                case "label":
                    label = m["label"]
                    scopes[-1].labels[label] = len(self.code)
                case "statement":
                    line = self.source.line(m.start("statement"))
                    self._statement(" ".join(m["statement"].split()), line, scopes, label)
                case _:
                    pass
        outer.labels["return"] = len(self.code)
        self.calls.pop()
        self.place = place

    def _locate(self, text: str) -> None:
        """A place, and those of the calls around it: each says the next, and that one said the one
        around it when code of its own was last written."""
        if m := _LOC.match(text):
            at, caller = (tuple(map(int, (x or "").split())) for x in m.groups())
            self.callers[at] = caller
            chain: list[tuple[int, ...]] = []
            while at and at not in chain:
                chain.append(at)
                at = self.callers.get(at, ())
            lines = [SourceLine(self.source.files.get(f, "?"), n) for f, n, _ in chain]
            self.place = Place(0, tuple(s for s in lines if s.line))

    def _statement(self, text: str, line: int, scopes: list[Scope], label: str) -> None:
        if text[0] == ".":
            self._directive(text, scopes, label, line)
            return
        place = replace(self.place, line=line)
        guard, negated, rest = None, False, text
        if m := _GUARD.match(text):
            guard = self._name(m[2], scopes, place)
            negated, rest = m[1] == "!", text[m.end() :]
            if not isinstance(guard, Register) or guard.width != 1:
                raise TileError(f"ptx: {place}: {m[2]} is no predicate")
        opcode = _OPCODE.match(rest)
        if opcode is None:
            raise TileError(f"ptx: {place}: {rest!r} is no instruction")
        arguments = rest[opcode.end() :].strip()
        draft = Draft(opcode[0], (), place, text, guard, negated)
        head = opcode[0].split(".")[0]
        if head == "call":
            self._call(draft, arguments, scopes)
        elif head in ("bra", "brx"):
            self._branch(draft, split(arguments), scopes)
        elif head == "ret" and len(self.calls) > 1:
            self._branch(replace(draft, opcode="bra"), ["return"], scopes)
        else:
            known = operands(arguments, lambda n: self._name(n, scopes, place))
            self.code.append(replace(draft, operands=known))

    def _directive(self, text: str, scopes: list[Scope], label: str, line: int) -> None:
        kind = text.split()[0].split(".")[1]
        match kind:
            case "reg":
                self._registers(text, scopes[-1])
            case "branchtargets":
                self.tables[label] = text.removeprefix(f".{kind}")
            case "pragma" | "callprototype" | "calltargets":
                pass
            case _:
                v = declaration(text)
                if v is None:
                    raise TileError(f"ptx: line {line}: can't read {text!r}")
                self._variable(v, scopes[-1])

    def _registers(self, text: str, scope: Scope) -> None:
        kind, _, names = text.removeprefix(".reg").strip().partition(" ")
        name = kind.removeprefix(".")
        if name not in TYPES or TYPES[name].width not in (1, 8, 16, 32, 64):
            raise TileError(f"ptx: registers of type .{name} are not supported")
        width = TYPES[name].width
        for item in split(names):
            m = re.fullmatch(r"([%\w$]+)(?:<(\d+)>)?", item)
            if m is None:
                raise TileError(f"ptx: can't read the register {item!r}")
            for n in [m[1]] if m[2] is None else [f"{m[1]}{k}" for k in range(int(m[2]))]:
                scope.names[n] = Register(n, width, len(self.widths))
                self.widths.append(width)

    def _variable(self, v: Variable, scope: Scope) -> None:
        unique = v.name
        while unique in self.variables or unique in self.source.variables:
            unique += "'"
        space = "local" if v.space == "param" else v.space
        self.variables[unique] = replace(v, name=unique, space=space)
        scope.names[v.name] = Symbol(unique, space)

    def _name(self, name: str, scopes: list[Scope], place: Place) -> Operand:
        for scope in reversed(scopes):
            if name in scope.names:
                return scope.names[name]
        if name in self.source.variables:
            v = self.source.variables[name]
            self.variables[name] = v
            return Symbol(name, v.space)
        raise TileError(f"ptx: {place}: nothing is called {name}")

    def _branch(self, draft: Draft, words: list[str], scopes: list[Scope]) -> None:
        known: list[Operand] = []
        if draft.opcode.startswith("brx"):
            known.append(parse(words.pop(0), lambda n: self._name(n, scopes, draft.place)))
        known.append(_Pending(words[0], tuple(scopes)))
        self.code.append(replace(draft, operands=tuple(known)))

    def _call(self, draft: Draft, arguments: str, scopes: list[Scope]) -> None:
        m = _CALL.match(arguments)
        name = m[2] if m else arguments
        place = draft.place

        def known(text: str | None) -> list[Operand]:
            return [parse(w, lambda n: self._name(n, scopes, place)) for w in split(text or "")]

        if m and name in BUILTINS:
            ready = tuple(Address(o) for o in known(m[1]))
            self.code.append(replace(draft, opcode=f"call.{name}", operands=ready))
            return
        f = self.source.functions.get(name)
        if m is None or f is None:
            raise TileError(f"ptx: {place}: the call of {name} can't be inlined")
        actual = known(m[1]) + known(m[3])
        formal = [*f.returns, *f.parameters]
        if len(actual) != len(formal):
            raise TileError(f"ptx: {place}: {name} takes {len(formal)} values, not {len(actual)}")
        if draft.guard is not None:
            around = replace(draft, opcode="bra", negated=not draft.negated)
            scopes = [*scopes, Scope()]
            self._branch(around, ["behind the call"], scopes)
        self.function(f, {p.name: a for p, a in zip(formal, actual, strict=True)})
        scopes[-1].labels["behind the call"] = len(self.code)

    def resolved(self) -> tuple[Draft, ...]:
        """The code with its branch targets, and a `ret` at its end."""
        self.code.append(Draft("ret", (), self.place, "ret"))
        return tuple(
            replace(d, operands=tuple(self._target(o, d.place) for o in d.operands))
            if d.opcode.startswith(("bra", "brx"))
            else d
            for d in self.code
        )

    def _target(self, operand: Operand, place: Place) -> Operand:
        if not isinstance(operand, _Pending):
            return operand
        words = split(self.tables.get(operand.name, operand.name))
        return Label(operand.name, tuple(_label(w, operand.scopes, place) for w in words))


def _label(name: str, scopes: tuple[Scope, ...], place: Place) -> int:
    for scope in reversed(scopes):
        if name in scope.labels:
            return scope.labels[name]
    raise TileError(f"ptx: {place}: there is no label {name}")
