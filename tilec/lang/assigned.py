"""Which names statements assign: the variables that a loop carries and a branch merges."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def assigned(statements: list[ast.stmt]) -> list[str]:
    """The names that statements assign, in order, loop variables excluded."""
    return list(dict.fromkeys(_assigned(statements)))


def _assigned(statements: list[ast.stmt]) -> Iterator[str]:
    for s in statements:
        targets = (
            s.targets
            if isinstance(s, ast.Assign)
            else [s.target]
            if isinstance(s, ast.AugAssign)
            else []
        )
        for t in targets:
            yield from (
                n.id
                for n in ([t] if isinstance(t, ast.Name) else getattr(t, "elts", []))
                if isinstance(n, ast.Name)
            )
        for inner in ("body", "orelse"):
            yield from _assigned(getattr(s, inner, []))
