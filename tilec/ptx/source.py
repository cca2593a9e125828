"""The outside of a PTX module: its functions, variables and source files. Bodies are left alone."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from math import prod

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.operand import integer
from tilec.ptx.types import TYPES, Type

_COMMENT = re.compile(r'("[^"\n]*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?[^\n]*')
_HEADER = re.compile(r"\.(version|target|address_size)\s+([^\n]+)")
_SECTION = re.compile(r"\.section\s+\S+\s*\{[^}]*\}")
_FUNCTION = re.compile(
    r"(?:\.(?:visible|weak|extern)\s+)*\.(?P<kind>entry|func)\s*"
    r"(?:\.\w+\s+)*(?:\((?P<returns>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*"
    r"(?:\((?P<parameters>[^)]*)\))?\s*(?P<attributes>[^{;]*)(?P<end>[{;])"
)
_VARIABLE = re.compile(
    r"(?P<link>(?:\.(?:extern|visible|weak|common)\s+)*)\.(?P<space>global|const|shared|local|param)"
    r"(?P<options>(?:\s+\.(?:align\s+\d+|managed|attribute\([^)]*\)|ptr(?:\s+\.\w+)?))*)"
    r"(?:\s+\.v(?P<vector>[24]))?\s+\.(?P<type>\w+)(?P<pointer>(?:\s+\.(?:ptr|global|shared|const|"
    r"local|align\s+\d+))*)\s+(?P<name>[\w$%]+)(?:<(?P<many>\d+)>)?(?P<dims>(?:\s*\[\s*\w*\s*\])*)"
    r"\s*(?:=\s*(?P<values>[^;]*))?"
)
_SKIPPED = re.compile(r"\s+|\.(?:pragma|alias|noreturn)[^;]*;")


@dataclass(frozen=True)
class Variable:
    """A variable or a parameter. `size` is in bytes; 0 for an extern array of open length."""

    name: str
    space: str
    type: Type
    size: int
    align: int
    extern: bool = False
    values: bytes = b""


@dataclass(frozen=True)
class Function:
    """A function of a module; its body is `text[start:end]` of the source."""

    name: str
    entry: bool
    parameters: tuple[Variable, ...]
    returns: tuple[Variable, ...]
    attributes: str
    start: int
    end: int


@dataclass(frozen=True)
class Source:
    """A module: text without comments, and what stands at its top level."""

    text: str
    functions: dict[str, Function]
    variables: dict[str, Variable]
    files: dict[int, str]
    header: dict[str, str]
    newlines: tuple[int, ...] = field(repr=False, default=())

    def line(self, position: int) -> int:
        """The line of an offset, counted from 1."""
        return bisect_right(self.newlines, position) + 1


def read(text: str) -> Source:
    """Split a module. Raises TileError where the top level is not PTX."""
    text = _COMMENT.sub(_blank, text)
    newlines = tuple(m.start() + 1 for m in re.finditer("\n", text))
    source = Source(text, {}, {}, {}, {}, newlines)
    for m in _FILE.finditer(text):
        folder, name = m[2], m[3]
        source.files[int(m[1])] = f"{folder}/{name}" if name else folder
    position = 0
    while position < len(text):
        position = _top(source, position)
    if not any(f.entry for f in source.functions.values()):
        raise TileError("ptx: there is no .entry in this text")
    return source


def _blank(m: re.Match[str]) -> str:
    return m[1] or re.sub(r"[^\n]", " ", m[0])


def _top(source: Source, position: int) -> int:
    """Take one thing of the top level; the offset behind it."""
    text = source.text
    for pattern in (_SKIPPED, _FILE, _SECTION):
        if m := pattern.match(text, position):
            return m.end()
    if m := _HEADER.match(text, position):
        source.header[m[1]] = m[2].strip()
        return m.end()
    if m := _FUNCTION.match(text, position):
        return _function(source, m)
    if (m := _VARIABLE.match(text, position)) and text[m.end() : m.end() + 1] == ";":
        v = variable(m)
        source.variables[v.name] = v
        return m.end() + 1
    excerpt = text[position : position + 60].split("\n")[0]
    raise TileError(f"ptx: line {source.line(position)}: can't read {excerpt!r}")


def _function(source: Source, m: re.Match[str]) -> int:
    end = m.end()
    if m["end"] == "{":
        end = _closing(source, m.end())
        source.functions[m["name"]] = Function(
            m["name"],
            m["kind"] == "entry",
            _parameters(m["parameters"]),
            _parameters(m["returns"]),
            " ".join(m["attributes"].split()),
            m.end(),
            end - 1,
        )
    return end


def _closing(source: Source, start: int) -> int:
    depth = 1
    for m in re.finditer(r"[{}]", source.text[start:]):
        depth += 1 if m[0] == "{" else -1
        if depth == 0:
            return start + m.end()
    raise TileError(f"ptx: the body that begins at line {source.line(start)} has no end")


def _parameters(text: str | None) -> tuple[Variable, ...]:
    found: list[Variable] = []
    for part in filter(None, (p.strip() for p in (text or "").split(","))):
        m = _VARIABLE.match(part)
        if m is None:
            if part.startswith(".reg"):
                raise TileError(f"ptx: register parameters are not supported: {part}")
            raise TileError(f"ptx: {part!r} is no parameter")
        found.append(variable(m))
    return tuple(found)


def variable(m: re.Match[str]) -> Variable:
    """The variable that a declaration makes."""
    if m["type"] not in TYPES:
        raise TileError(f"ptx: {m['name']} has the unknown type .{m['type']}")
    type_ = TYPES[m["type"]]
    dims = re.findall(r"\[\s*(\w*)\s*\]", m["dims"])
    count = prod(integer(d) if d else 0 for d in dims) * int(m["vector"] or 1)
    align = re.search(r"\.align\s+(\d+)", m["options"] + " " + m["pointer"])
    natural = type_.bytes * int(m["vector"] or 1)
    explicit = int(align[1]) if align and ".ptr" not in m["options"] + m["pointer"] else natural
    values = _values(m["values"], type_) if m["values"] else b""
    size = len(values) if "" in dims and values else count * type_.bytes
    return Variable(m["name"], m["space"], type_, size, explicit, ".extern" in m["link"], values)


def _values(text: str, t: Type) -> bytes:
    """The bytes of an initialiser of numbers."""
    out = b""
    for word in re.findall(r"[^\s{},]+", text):
        if word[:2].lower() in ("0f", "0d") and t.kind == "float":
            out += struct.pack("<I" if word[1] in "fF" else "<Q", int(word[2:], 16))
        elif t.kind == "float" and t.format is not None:
            out += np.array(float(word), f"f{t.bytes}").tobytes()
        else:
            out += (integer(word) & ((1 << t.bits) - 1)).to_bytes(t.bytes, "little")
    return out


def declaration(text: str) -> Variable | None:
    """The variable that a statement of a body declares, if it does."""
    m = _VARIABLE.match(text)
    return variable(m) if m else None
