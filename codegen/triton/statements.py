"""The statements of a kernel, one a line, made ready to be read.

Equal values get one name, addresses that a loop does not change move before it, what nobody reads
goes, and a name is used again where its old value is dead, as one does by hand. All of it is said
of names alone: before, every name but those that loops carry is assigned once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from tilec.codegen.triton.wrap import wrapped

_ACTS = re.compile(r"\btl\.(store|atomic_\w+|debug_barrier|device_\w+)\(")
_LOOP = ("for ", "while ")


@dataclass(frozen=True)
class Statement:
    """A statement or a comment on one line; the names that it reads and assigns."""

    indent: int
    text: str
    reads: frozenset[str] = frozenset()
    assigns: frozenset[str] = frozenset()

    @property
    def is_comment(self) -> bool:
        return self.text.startswith("#")

    @property
    def is_loop(self) -> bool:
        return self.text.startswith(_LOOP)

    @property
    def value(self) -> str:
        """What a single name is assigned, or nothing."""
        name, equals, value = self.text.partition(" = ")
        return value if equals and name.isidentifier() else ""

    def renamed(self, names: Mapping[str, str]) -> Statement:
        """With other names for these; keywords of calls stay."""
        if self.is_comment or not (self.reads | self.assigns) & names.keys():
            return self
        old = "|".join(map(re.escape, names))
        return statement(self.indent, re.sub(rf"(?<![\w.])({old})(?!\w|=(?!=))",
                                             lambda m: names[m[1]], self.text))  # fmt: skip


def statement(indent: int, text: str) -> Statement:
    """A statement from its text."""
    if text.startswith("#") or text in ("else:", "pass"):
        return Statement(indent, text)
    tree = ast.parse(f"{text} pass" if text.endswith(":") else text)
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    reads, assigns = (frozenset(n.id for n in found if isinstance(n.ctx, kind))
                      for kind in (ast.Load, ast.Store))  # fmt: skip
    return Statement(indent, text, reads, assigns)


def readable(
    lines: Iterable[str], bases: Mapping[str, str], movable: Set[str], inputs: Set[str]
) -> list[str]:
    """The lines of a kernel's body from those that were printed.

    `bases` says of what a numbered name is a variant; those that are `movable` may stand before a
    loop; `inputs` are names that the body is given.
    """
    body = [statement(len(t) - len(t.lstrip()), t.strip()) for t in lines if t.strip()]
    steps: tuple[Callable[[list[Statement]], list[Statement]], ...] = (
        _merged, lambda s: _hoisted(s, movable), _merged, _needed,
        lambda s: _reused(s, bases, inputs), _commented,
    )  # fmt: skip
    for step in steps:
        body = step(body)
    found: list[str] = []
    for i, s in enumerate(body):
        above = body[i - 1] if i else None
        if above and s.is_comment and above.indent >= s.indent == 4 and not above.is_comment:
            found.append("")
        found += wrapped(s.text, s.indent)
    return found


def _owners(body: Sequence[Statement]) -> list[tuple[int, ...]]:
    """The headers around each statement, outermost first."""
    found: list[tuple[int, ...]] = []
    stack: list[int] = []
    for i, s in enumerate(body):
        while stack and body[stack[-1]].indent >= s.indent:
            stack.pop()
        found.append(tuple(stack))
        if s.text.endswith(":") and not s.is_comment:
            stack.append(i)
    return found


def _end(body: Sequence[Statement], header: int) -> int:
    """The first place behind the block of a header."""
    after = (i for i in range(header + 1, len(body)) if body[i].indent <= body[header].indent)
    return next(after, len(body))


def _assigned(body: Sequence[Statement]) -> dict[str, list[int]]:
    """The places where each name is assigned."""
    found: dict[str, list[int]] = {}
    for i, s in enumerate(body):
        for name in s.assigns:
            found.setdefault(name, []).append(i)
    return found


def _merged(body: list[Statement]) -> list[Statement]:
    """A value that was computed before, and cannot have changed, is the first one."""
    places, owners = _assigned(body), _owners(body)
    once = {n for n, p in places.items() if len(p) == 1}
    many = places.keys() - once
    first: dict[str, int] = {}
    same: dict[str, str] = {}
    kept: list[Statement] = []
    for j, original in enumerate(body):
        s = original.renamed(same)
        value = s.value
        if not value or not s.assigns <= once or s.reads & many or _ACTS.search(value):
            kept.append(s)
            continue
        i = first.get(value)
        if i is not None and _still(body, owners, i, j):
            (old,), (new,) = s.assigns, body[i].assigns
            same[old] = new
            continue
        first[value] = j
        kept.append(s)
    return kept


def _still(body: Sequence[Statement], owners: Sequence[tuple[int, ...]], i: int, j: int) -> bool:
    """Whether the value of place `i` is there at place `j`, and what it read from memory too."""
    if owners[j][: len(owners[i])] != owners[i]:
        return False
    if "tl.load(" not in body[j].text:
        return True
    inner = owners[j][len(owners[i]) :]
    stop = max([j, *(_end(body, header) for header in inner)])
    return not any(_ACTS.search(s.text) for s in body[i:stop])


def _hoisted(body: list[Statement], movable: Set[str]) -> list[Statement]:
    """Movable statements stand before the outermost loop that changes nothing in them."""
    once = {n for n, places in _assigned(body).items() if len(places) == 1}
    for i, s in enumerate(body):
        if s.value and s.assigns <= movable & once:
            around = (h for h in _owners(body)[i] if body[h].is_loop)
            header = next((h for h in around if not s.reads & _changed(body, h)), None)
            if header is not None:
                place = header - body[header - 1].is_comment if header else header
                moved = replace(s, indent=body[header].indent)
                body = [*body[:place], moved, *body[place:i], *body[i + 1 :]]
    return body


def _changed(body: Sequence[Statement], header: int) -> frozenset[str]:
    """What a loop assigns."""
    return frozenset[str]().union(*(s.assigns for s in body[header : _end(body, header)]))


def _needed(body: list[Statement]) -> list[Statement]:
    """Without assignments that nothing reads."""
    while True:
        read = frozenset[str]().union(*(s.reads for s in body))
        kept = [s for s in body if not s.assigns or s.is_loop or s.assigns & read
                or _ACTS.search(s.text)]  # fmt: skip
        if len(kept) == len(body):
            return body
        body = kept


def _reused(body: list[Statement], bases: Mapping[str, str], inputs: Set[str]) -> list[Statement]:
    """Numbered names become what they are variants of, or an earlier variant, where that is dead
    by then; those that are left are numbered anew."""
    kept: dict[str, list[str]] = {}
    order = {name: places[0] for name, places in _assigned(body).items()}
    for name in sorted(order.keys() & bases.keys(), key=order.__getitem__):
        place, base = _assigned(body)[name][0], bases[name]
        older = kept.setdefault(base, [] if base in inputs else [base])
        free = _within(body, name, place) and next((o for o in older if _dead(body, o, place)), "")
        if free:
            body = _renamed(body, name, free)
        else:
            older.append(name)
    return _numbered(body, kept, inputs)


def _numbered(
    body: list[Statement], kept: Mapping[str, list[str]], inputs: Set[str]
) -> list[Statement]:
    """With the names that are left of each base numbered anew."""
    for base, names in kept.items():
        for i, name in enumerate(names, 1):
            new = base if i == 1 and base not in inputs else f"{base}_{i + (base in inputs)}"
            if not any(new in s.reads | s.assigns for s in body) and new not in inputs:
                body = _renamed(body, name, new)
    return body


def _renamed(body: list[Statement], old: str, new: str) -> list[Statement]:
    return [s for x in body if (s := x.renamed({old: new})).text != f"{new} = {new}"]


def _within(body: Sequence[Statement], name: str, place: int) -> bool:
    """Whether all of a name is in the block where it is first assigned, and behind that."""
    owners = _owners(body)
    others = (i for i, s in enumerate(body) if name in s.reads | s.assigns and i != place)
    return all(i > place and owners[i][: len(owners[place])] == owners[place] for i in others)


def _dead(body: Sequence[Statement], name: str, place: int) -> bool:
    """Whether nothing from a place on reads a name, nor will in another round of a loop there."""
    owners = _owners(body)
    around = owners[place]
    opposite = _opposite(body, around)
    for i, s in enumerate(body):
        if (name in s.reads and i > place) or (name in s.assigns and i >= place):
            return False
        outside = owners[i] != around and around[: len(owners[i])] == owners[i]
        if name in s.assigns and (outside or s.is_loop != body[place].is_loop):
            return False
        if name in s.assigns and not opposite.isdisjoint(owners[i]):
            return False
    return True


def _opposite(body: Sequence[Statement], around: Iterable[int]) -> set[int]:
    """The branches beside those around a place: what both assign, Triton hands on."""
    found: set[int] = set()
    for header in around:
        if body[header].text == "else:":
            same = (i for i in range(header - 1, -1, -1) if body[i].indent == body[header].indent)
            found.add(next(same))
    return found


def _commented(body: list[Statement]) -> list[Statement]:
    """Without comments that have no statement."""
    return [s for i, s in enumerate(body)
            if not s.is_comment or (i + 1 < len(body) and not body[i + 1].is_comment
                                    and body[i + 1].indent >= s.indent)]  # fmt: skip
