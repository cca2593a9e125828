"""The instructions that are known: each a function, filed under its name with what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tilec.ir.errors import TileError
from tilec.ptx.instruction import Draft, Instruction
from tilec.ptx.step import Outcome, Step
from tilec.ptx.types import TYPES, Type

Run = Callable[[Step], Outcome]


@dataclass(frozen=True)
class Form:
    """One form of an instruction: its modifiers, the types it names, how many operands.

    `sync` says which threads must execute it together: those of its last operand (`mask`), all of
    the `warp` that have not ended, all 32 (`matrix`), or all of the `warpgroup`.
    """

    name: str
    run: Run
    modifiers: frozenset[str]
    types: tuple[frozenset[Type], ...]
    operands: tuple[int, ...]
    sync: str

    def fits(self, modifiers: frozenset[str], types: tuple[Type, ...], operands: int) -> bool:
        """Whether an instruction is of this form."""
        return (
            len(types) == len(self.types)
            and all(t in known for t, known in zip(types, self.types, strict=True))
            and operands in self.operands
            and modifiers <= self.modifiers
        )


@dataclass
class Registry:
    """Forms by name; the name of an instruction may have dots."""

    forms: dict[str, list[Form]] = field(default_factory=dict[str, list[Form]])
    known: dict[tuple[str, int], Form] = field(default_factory=dict[tuple[str, int], Form])

    def instruction(
        self, names: str, modifiers: str | Iterable[str] = "", *,
        types: Iterable[Iterable[Type]] = (), operands: int | tuple[int, ...] = 3, sync: str = "",
    ) -> Callable[[Run], Run]:  # fmt: skip
        """Register a function for instructions of these names (between blanks)."""
        words = modifiers.split() if isinstance(modifiers, str) else modifiers
        known = frozenset(words)
        sets = tuple(frozenset(t) for t in types)
        counts = (operands,) if isinstance(operands, int) else operands

        def add(run: Run) -> Run:
            for name in names.split():
                form = Form(name, run, known, sets, counts, sync)
                self.forms.setdefault(name, []).append(form)
            return run

        return add

    def decode(self, pc: int, d: Draft) -> tuple[Instruction, Form]:
        """The instruction of a draft and its form. Raises TileError where none fits."""
        words = d.opcode.split(".")
        key = (d.opcode, len(d.operands))
        if key not in self.known:
            self.known[key] = self._fitting(d, words)
        form = self.known[key]
        rest = words[form.name.count(".") + 1 :]
        types = tuple(TYPES[w] for w in rest if w in TYPES)
        modifiers = frozenset(w for w in rest if w not in TYPES)
        return Instruction(
            pc, form.name, modifiers, types, d.operands, d.place, d.text, d.guard, d.negated
        ), form

    def _fitting(self, d: Draft, words: list[str]) -> Form:
        for n in range(len(words), 0, -1):
            name = ".".join(words[:n])
            if name in self.forms:
                types = tuple(TYPES[w] for w in words[n:] if w in TYPES)
                modifiers = frozenset(w for w in words[n:] if w not in TYPES)
                for form in self.forms[name]:
                    if form.fits(modifiers, types, len(d.operands)):
                        return form
                why = self._why(name, d, modifiers, types)
                raise TileError(f"ptx: {d.place}: {why}: {d.text}")
        raise TileError(f"ptx: {d.place}: {words[0]!r} is not an instruction known here: {d.text}")

    def _why(self, name: str, d: Draft, modifiers: frozenset[str], types: tuple[Type, ...]) -> str:
        forms = self.forms[name]
        unknown = modifiers - frozenset[str]().union(*(f.modifiers for f in forms))
        if unknown:
            return f"{name} with .{', .'.join(sorted(unknown))} is not known here"
        if not any(f.fits(frozenset(), types, n) for f in forms for n in f.operands):
            named = " ".join(map(str, types)) or "no type"
            return f"{name} is not known for {named} here"
        if not any(len(d.operands) in f.operands for f in forms):
            return f"{name} does not take {len(d.operands)} operands"
        return f"no form of {name} known here has these modifiers, types and operands together"


REGISTRY = Registry()
instruction = REGISTRY.instruction
