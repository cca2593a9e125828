"""The IR as text. `ir.parse` reads it back: `show(parse(show(f))) == show(f)`.

An operand that is absent is `_`, and nothing at the end; so is an attribute whose default is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from tilec.ir.core import Block, Func, Op, Value


class _Names:
    def __init__(self) -> None:
        self.of: dict[Value, str] = {}

    def __call__(self, v: Value) -> str:
        if v not in self.of:
            self.of[v] = (
                f"%{v.hint}"
                if v.hint and f"%{v.hint}" not in self.of.values()
                else f"%{len(self.of)}"
            )
        return self.of[v]


def show(f: Func) -> str:
    """The text of a function; values are numbered in order, parameters keep their names."""
    names = _Names()
    head = ", ".join(f"%{p.hint}: {p.type}" for p in f.params)
    for p in f.params:
        names.of[p] = f"%{p.hint}"
    lines = [f"func @{f.name}({head}) {{", *_body(f.body, names, "  "), "}"]
    return "\n".join(lines) + "\n"


def _body(block: Block, names: _Names, indent: str) -> Iterator[str]:
    for op in block.ops:
        yield from _op(op, names, indent)
    if block.results:
        yield f"{indent}yield {', '.join(map(names, block.results))}"


def _op(op: Op, names: _Names, indent: str) -> Iterator[str]:
    given = [getattr(op, n) for n in op.fields("operand")]
    while given and given[-1] is None:
        given.pop()
    operands = ", ".join(_operand(v, names) for v in given)
    said = {k: v for k, v in op.attributes.items() if v is not None or k not in op.optional()}
    attributes = ", ".join(f"{k} = {attribute(v)}" for k, v in said.items())
    line = f"{op.name} {operands}".rstrip() + (f" {{{attributes}}}" if attributes else "")
    blocks = op.blocks
    results = ", ".join(f"%{len(names.of) + i}" for i in range(len(op.results)))
    if not blocks:
        for v, text in zip(op.results, results.split(", "), strict=False):
            names.of[v] = text
        types = f" : {', '.join(str(v.type) for v in op.results)}" if op.results else ""
        yield f"{indent}{results} = {line}{types}" if results else f"{indent}{line}"
        return
    inner: list[str] = []
    for block in blocks:
        for p in block.params:
            names.of[p] = f"%{len(names.of)}"
        params = ", ".join(f"{names(p)}: {p.type}" for p in block.params)
        inner += [f"({params}) {{", *_body(block, names, indent + "  "), f"{indent}}}"]
    for v in op.results:
        names.of[v] = f"%{len(names.of)}"
    head = f"{', '.join(map(names, op.results))} = " if op.results else ""
    types = f" : {', '.join(str(v.type) for v in op.results)}" if op.results else ""
    first, *rest = _joined(inner)
    yield f"{indent}{head}{line} {first}"
    yield from rest[:-1]
    yield rest[-1] + types


def _joined(lines: list[str]) -> list[str]:
    """A second region opens on the line that closes the first."""
    out: list[str] = []
    for line in lines:
        if out and line.startswith("("):
            out[-1] += f" {line}"
        else:
            out.append(line)
    return out


def _operand(v: Value | tuple[Value, ...] | None, names: _Names) -> str:
    if v is None:
        return "_"
    return f"[{', '.join(map(names, v))}]" if isinstance(v, tuple) else names(v)


def attribute(v: Any) -> str:
    """An attribute as text: numbers, names, extents, and lists of those."""
    match v:
        case None:
            return "_"
        case bool():
            return "true" if v else "false"
        case float():
            return repr(v)
        case tuple():
            return f"[{', '.join(map(attribute, cast(tuple[Any, ...], v)))}]"
        case _:
            return str(v)
