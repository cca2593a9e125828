"""Words as C++ (what they are is in ir/words.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilec.ir.words import Call, Const, Expr, Word, calls


def lines(outputs: Sequence[Expr]) -> Iterator[str]:
    """C++ that sets to[i] to each of these, of words `from`."""
    names: dict[Expr, str] = {}

    def text(x: Expr) -> str:
        match x:
            case Word(index):
                return f"from[{index}]"
            case Const(bits):
                return f"{bits:#x}u"
            case Call():
                return names[x]

    for i, x in enumerate(calls(outputs)):
        names[x] = f"x{i}"
        yield f"const u32 x{i} = {x.name}({', '.join(map(text, x.operands))});"
    for i, x in enumerate(outputs):
        yield f"to[{i}] = {text(x)};"
