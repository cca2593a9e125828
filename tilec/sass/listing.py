"""The text of a disassembler as values: functions, instructions, resources.

Reads what `nvdisasm` prints (with or without `-c`, `-g`, `-gi`, `-hex`) and `cuobjdump -sass`. The
forms are those of the CUDA Binary Utilities, 12.8 to 13.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

_INSTRUCTION = re.compile(
    r"\s+/\*(?P<address>[0-9a-f]{4,})\*/\s+(?:(?P<predicate>@!?U?P[T\d]+)\s+)?"
    r"(?P<opcode>[A-Z][A-Z0-9_]*)(?P<modifiers>(?:\.\w+)*)\s*(?P<operands>[^;]*?)\s*;"
)
_LABEL = re.compile(r"([.$\w]+):\s*$")
_SECTION = re.compile(r"\s*\.section\s+([^,\s]+)")
_FUNCTION = re.compile(r"\s*Function : (\S+)")
_TARGET = re.compile(r"\s*(?:\.target\s+|code for )(sm_\w+)|\s*\.headerflags.*EF_CUDA_SM(\d+)")
_LINE = re.compile(r'"([^"]*)", line (\d+)')
_ATTRIBUTE = re.compile(r"\s*//-+ nvinfo : EIATTR_(\w+)")
_WORD = re.compile(r"\s*/\*[0-9a-f]+\*/\s+\.word\s+(?:index@\((.+)\)|0x([0-9a-f]+))")
_ZERO = re.compile(r"\s*\.zero\s+(\d+)")
_FROM_REGISTERS = re.compile(r"R\d+(?:\.\w+)*, R\d")
RESERVED = 1024  # bytes of shared memory per CTA that ptxas counts as the kernel's from sm_90 on


@dataclass(frozen=True)
class Line:
    """A line of source code, counted from 1."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(frozen=True)
class Instruction:
    """One instruction: `@!P0 LDG.E.128 R4, [R2.64]` at a byte address of its function.

    A multiplication of a warp group whose left operand is in registers has the modifier RS, which
    no disassembler prints. `line` is the line of the kernel itself where code was inlined.
    """

    address: int
    opcode: str
    modifiers: tuple[str, ...]
    operands: str
    predicate: str = ""
    line: Line | None = None

    @property
    def name(self) -> str:
        """The opcode with its modifiers."""
        return ".".join((self.opcode, *self.modifiers))


@dataclass(frozen=True)
class Resources:
    """What a thread and a CTA take: registers and bytes of stack of a thread, bytes of static
    shared memory, and the threads that the kernel was compiled for (0: not said)."""

    registers: int = 0
    stack: int = 0
    shared: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Function:
    """One kernel. `labels` are byte addresses."""

    name: str
    target: str
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    resources: Resources


@dataclass
class _Reader:
    """What was read so far. `section` is the section that the next line belongs to."""

    target: str = ""
    section: str = ""
    attribute: str = ""
    subject: str = ""
    code: dict[str, list[Instruction]] = field(default_factory=dict[str, list[Instruction]])
    labels: dict[str, list[tuple[str, int]]] = field(
        default_factory=dict[str, list[tuple[str, int]]]
    )
    words: dict[tuple[str, str], list[int]] = field(
        default_factory=dict[tuple[str, str], list[int]]
    )
    line: Line | None = None

    def read(self, text: str) -> None:
        """One line of the listing."""
        if found := _SECTION.match(text) or _FUNCTION.match(text):
            name = found[1]
            self.section = name if found.re is _SECTION else f".text.{name}"
            self.attribute = self.subject = ""
            self.line = None
        elif found := _TARGET.match(text):
            own = "a" if "EF_CUDA_ACCELERATORS" in text else ""
            self.target = self.target or found[1] or f"sm_{found[2]}{own}"
        elif self.section.startswith(".text."):
            self._code(self.section.removeprefix(".text."), text)
        elif self.section.startswith((".nv.info", ".nv.shared.")):
            self._resource(text)

    def _code(self, name: str, text: str) -> None:
        instructions = self.code.setdefault(name, [])
        if found := _INSTRUCTION.match(text):
            instructions.append(_instruction(found, self.line))
        elif text.lstrip().startswith("//## File"):
            # Inlined code has several of these lines, and the last is the kernel's own.
            found = _LINE.search(text)
            self.line = Line(found[1], int(found[2])) if found else None
        elif found := _LABEL.match(text):
            self.labels.setdefault(name, []).append((found[1], len(instructions)))

    def _resource(self, text: str) -> None:
        """The words of an attribute, of a function that the section or the first word names."""
        if found := _ATTRIBUTE.match(text):
            self.attribute, self.subject = found[1], self.section.removeprefix(".nv.info.")
        elif found := _WORD.match(text):
            if found[1]:
                self.subject = found[1]
            else:
                self.words.setdefault((self.subject, self.attribute), []).append(int(found[2], 16))
        elif self.section.startswith(".nv.shared.") and (found := _ZERO.match(text)):
            self.words[self.section.removeprefix(".nv.shared."), "SHARED"] = [int(found[1])]

    def resources(self, name: str) -> Resources:
        """What the attributes say of a function."""

        def value(attribute: str) -> Sequence[int]:
            return self.words.get((name, attribute), ())

        digits = re.sub(r"\D", "", self.target)
        reserved = RESERVED if digits and int(digits) >= 90 else 0
        threads = value("REQNTID") or value("MAX_THREADS")
        return Resources(
            registers=sum(value("REGCOUNT")[:1]),
            stack=sum(value("MIN_STACK_SIZE")[:1]),
            shared=max(sum(value("SHARED")) - reserved, 0),
            threads=prod(threads) if threads else 0,
        )


def _instruction(found: re.Match[str], line: Line | None) -> Instruction:
    modifiers = tuple(found["modifiers"].split(".")[1:])
    opcode, operands = found["opcode"], found["operands"]
    if opcode.endswith("GMMA") and _FROM_REGISTERS.match(operands):
        modifiers = (*modifiers, "RS")
    address = int(found["address"], 16)
    return Instruction(address, opcode, modifiers, operands, found["predicate"] or "", line)


def parse(text: str) -> tuple[Function, ...]:
    """The functions of a listing, in its order; none where it holds no code."""
    reader = _Reader()
    for line in text.splitlines():
        reader.read(line)
    return tuple(_functions(reader))


def _functions(reader: _Reader) -> Iterator[Function]:
    for name, instructions in reader.code.items():
        if not instructions:
            continue
        addresses = [i.address for i in instructions]
        labels = {
            label: addresses[at] for label, at in reader.labels.get(name, ()) if at < len(addresses)
        }
        resources = reader.resources(name)
        yield Function(name, reader.target, tuple(instructions), labels, resources)
