"""How long the text of functions is: lines of code and tokens, whatever stands beside the code.

`python source_length.py FILE NAME...` prints both for the named functions of a file together.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

BESIDE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def length(text: str, names: list[str]) -> tuple[int, int]:
    """Lines and tokens of the functions of a module with these names, without decorators,
    docstrings, comments and blank lines. Raises KeyError for a name that it lacks."""
    found = {f.name: f for f in ast.walk(ast.parse(text)) if isinstance(f, ast.FunctionDef)}
    inside: set[int] = set()
    for name in names:
        f = found[name]
        first = f.body[0]
        inside.update(range(f.lineno, (f.end_lineno or 0) + 1))
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            inside.difference_update(range(first.lineno, (first.end_lineno or 0) + 1))
    code = [t for t in tokenize.generate_tokens(io.StringIO(text).readline)
            if t.type not in BESIDE and t.start[0] in inside]  # fmt: skip
    lines = {i for t in code for i in range(t.start[0], t.end[0] + 1)}
    return len(lines), len(code)


if __name__ == "__main__":
    print(*length(Path(sys.argv[1]).read_text("utf-8"), sys.argv[2:]))
