"""Lines of CUDA C++ being written: names, indentation, and where threads and registers are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tilec.codegen.cuda import dimensions
from tilec.codegen.cuda.areas import SharedMemory
from tilec.ir.core import Op, Value
from tilec.ir.errors import Loc
from tilec.ir.extent import Extent
from tilec.ir.layout.digits import Digit, Digits
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.source import TensorBoxes
from tilec.ir.symbol import comment, quoted, symbol


@dataclass
class Printer:
    """One kernel's text; `top` are the lines before the first op."""

    threads: int  # that hold tiles
    apart: int = 0  # threads beyond these, which only copy
    top: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    depth: int = 1
    memory: SharedMemory = field(default_factory=SharedMemory)
    made: list[str] = field(default_factory=list[str])  # how barriers in shared memory are made
    maps: list[TensorBoxes] = field(default_factory=list[TensorBoxes])
    taken: set[str] = field(default_factory=set[str])
    dims: dict[str, str] = field(default_factory=dict[str, str])  # names of dimensions
    places: dict[tuple[Digits, int], str] = field(default_factory=dict[tuple[Digits, int], str])
    at_loc: Loc | None = None

    def line(self, text: str) -> None:
        """One line."""
        self.lines.append("  " * self.depth + text if text else "")

    def barrier(self) -> None:
        """Wait for all threads that hold tiles."""
        self.line(self._barrier)

    @property
    def _barrier(self) -> str:
        return f"barrier_sync(1, {self.threads});" if self.apart else "barrier();"

    def extent(self, e: Extent) -> str:
        """An extent as C++."""
        return dimensions.written(e, self.dims)

    def fresh(self, name: str) -> str:
        """A name that nothing else has."""
        name = symbol(name)
        found, n = name, 2
        while found in self.taken:
            found, n = f"{name}{n}", n + 1
        self.taken.add(found)
        return found

    def at(self, op: Op) -> None:
        """Say which line of the user's program follows."""
        if op.loc is None or (op.loc.file, op.loc.line) == self._place():
            return
        self.at_loc = op.loc
        self.line(f"// {comment(op.loc.text)}")
        self.lines.append(f"#line {op.loc.line} {quoted(op.loc.file)}")

    def _place(self) -> tuple[str, int] | None:
        return None if self.at_loc is None else (self.at_loc.file, self.at_loc.line)

    def room(self, size: int) -> None:
        """Bytes of shared memory from `shared` on, through which the threads hand something to
        each other while the op lasts that is being printed."""
        self.memory.room(size, self.lines, self.depth)

    def ring(self, v: Value, size: int, alignment: int, hint: str = "ring") -> str:
        """A name for the shared address of a ring or of barriers, written from here on."""
        name = self.fresh(hint)
        self.memory.ring(v, name, size, alignment, self.lines, self.depth)
        return name

    def text(self, head: list[str]) -> str:
        """The kernel, whose first lines are given."""
        top, lines = self.memory.placed(self.lines, self._barrier)
        return "\n".join([*head, *top, *self.top, *self._made(), *lines, "}", ""])

    def _made(self) -> list[str]:
        """One thread makes the barriers in shared memory, before any other goes on."""
        if not self.made:
            return []
        inner = [*self.made, "fence_mbarrier_init();"]
        inner += [f"tensor_prefetch(&{x.name});" for x in self.maps]
        return ["  if (thread == 0) {", *(f"    {x}" for x in inner), "  }", "  barrier();"]

    def unrolled(self, i: str, stop: int, step: int = 1) -> None:
        """The head of a loop over registers."""
        self.lines.append("#pragma unroll")
        advance = f"{i}++" if step == 1 else f"{i} += {step}"
        self.line(f"for (u32 {i} = 0; {i} < {stop}; {advance}) {{")
        self.depth += 1

    def close(self, text: str = "}") -> None:
        """The end of a loop or branch."""
        self.depth -= 1
        self.line(text)

    # -- where a thread's elements are --

    def coordinate(self, layout: RegisterLayout, axis: int, i: str) -> str:
        """The coordinate along an axis of element `i` of this thread."""
        return plus(self.base(layout, axis), offset(layout.local_digits, axis, i))

    def base(self, layout: RegisterLayout, axis: int) -> str:
        """The part of a coordinate that is the thread's."""
        digits = layout.thread_digits
        if not any(d.axis == axis and d.size > 1 for d in digits):
            return "0"
        if (digits, axis) not in self.places:
            name = self.places[digits, axis] = self.fresh(f"place_{len(self.places)}")
            self.top.append(f"  const u32 {name} = {offset(digits, axis, 'thread')};")
        return self.places[digits, axis]

    def first_copy(self, layout: RegisterLayout) -> str:
        """Whether a thread is the first of those that hold the same; nothing if all are."""
        terms, place = list[str](), 1
        for d in reversed(layout.thread_digits):
            if d.axis is None and d.size > 1:
                terms.append(f"{_digit('thread', place, d.size, layout.threads)} == 0")
            place *= d.size
        return " && ".join(terms)


def offset(digits: Digits, axis: int, number: str) -> str:
    """What the digits of a number add along an axis."""
    out, place, total = "0", 1, _total(digits)
    for d in reversed(digits):
        if d.axis == axis and d.size > 1:
            out = plus(times(_digit(number, place, d.size, total), d.stride), out)
        place *= d.size
    return out


def narrowed(digits: Digits, axes: Iterable[int], number: str) -> str:
    """The number that the digits along some axes make alone."""
    kept, out, place, mine, total = set(axes), "0", 1, 1, _total(digits)
    if all(d.axis in kept for d in digits):
        return number
    for d in reversed(digits):
        if d.axis in kept:
            out = plus(times(_digit(number, place, d.size, total), mine), out)
            mine *= d.size
        place *= d.size
    return out


def _total(digits: Iterable[Digit]) -> int:
    n = 1
    for d in digits:
        n *= d.size
    return n


def _digit(number: str, place: int, size: int, total: int) -> str:
    number = number if number.replace("_", "").isalnum() else f"({number})"
    out = number if place == 1 else f"{number} / {place}"
    return out if place * size == total else f"{out} % {size}"


def plus(a: str, b: str) -> str:
    """a + b."""
    if "0" in (a, b):
        return b if a == "0" else a
    return f"{a} + {b}"


def times(a: str, by: int) -> str:
    """a * by, for an atom or a product a."""
    if a == "0" or by == 1:
        return a
    return f"{a} * {by}" if a.replace("_", "").isalnum() or "+" not in a else f"({a}) * {by}"
