"""What a run found out: findings, and what every instruction did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Literal, get_args

from tilec.ir.errors import TileError
from tilec.ptx.instruction import Instruction
from tilec.ptx.place import Place

Kind = Literal[
    "bounds",  # an access outside every buffer, or outside shared, local or parameter memory
    "alignment",  # an address that is no multiple of the size of the access
    "uninitialised",  # a read of shared memory that nothing wrote
    "race",  # two accesses of shared bytes, one a write, with nothing that orders them
    "in-flight",  # a use of shared bytes or registers that an asynchronous operation works on
    "fence",  # registers that wgmma uses, computed since the last wgmma.fence
    "proxy",  # generic writes that the asynchronous proxy reads with no fence.proxy.async between
    "divergence",  # a collective or an aligned barrier that not all of its threads execute
    "deadlock",  # threads that wait and nothing that will wake them
    "barrier",  # a misused barrier: not initialised, more arrivals than it counts, ...
    "exit",  # a block that ends with copies in flight
    "trap",  # a trap or a failed assertion
    "descriptor",  # a matrix descriptor, tensor map or sparse metadata without a meaning
    "limit",  # more steps than allowed
]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class ThreadId:
    """A thread: the number of its block in the grid and its own in the block."""

    block: int
    thread: int

    def __str__(self) -> str:
        return f"thread {self.thread} of block {self.block}"


@dataclass(frozen=True)
class Finding:
    """One thing wrong at one place. `count` is how many accesses or threads showed it.

    `other` is the place of the second party, as the write that races with this read.
    """

    kind: Kind
    place: Place
    message: str
    text: str = ""  # the instruction
    threads: tuple[ThreadId, ...] = ()
    address: int | None = None
    buffer: str = ""
    other: Place | None = None
    count: int = 1

    def __str__(self) -> str:
        many = f" ({self.count} times)" if self.count > 1 else ""
        text = shorten(self.text, 100, placeholder=" ...")
        return f"{self.place}: {self.kind}: {self.message}{many}\n    {text}"


@dataclass(frozen=True)
class Suppression:
    """Findings not to report: of a kind, or at a line of PTX, or (with a file) of the source."""

    kind: str = ""
    line: int = 0
    file: str = ""

    def __post_init__(self) -> None:
        if self.kind and self.kind not in KINDS:
            raise TileError(
                f"ptx: no finding is of kind {self.kind!r}; there are {', '.join(KINDS)}"
            )
        if not self.kind and not self.line:
            raise TileError("ptx: a suppression needs a kind or a line")

    def covers(self, f: Finding) -> bool:
        """Whether the finding is one of these."""
        return self.kind in ("", f.kind) and (not self.line or self._here(f.place))

    def _here(self, place: Place) -> bool:
        if not self.file:
            return place.line == self.line
        return any(s.line == self.line and s.file.endswith(self.file) for s in place.source)


@dataclass(frozen=True)
class Row:
    """What one instruction did: warps that executed it, and the memory traffic of those.

    Wavefronts are passes over the banks of shared memory, sectors 32-byte pieces of global
    memory; the ideal is what the same bytes need without conflicts and gaps.
    """

    place: Place
    text: str
    executed: int
    wavefronts: int = 0
    ideal_wavefronts: int = 0
    sectors: int = 0
    ideal_sectors: int = 0


@dataclass(frozen=True)
class Report:
    """The outcome of a run. `finished` is false where it was stopped."""

    kernel: str
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    threads: int
    steps: int
    finished: bool = True

    @property
    def clean(self) -> bool:
        """Whether nothing was found and the run came to its end."""
        return self.finished and not self.findings

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(f for f in self.findings if f.kind == kind)

    @property
    def executed(self) -> int:
        """Instructions executed, counted per warp."""
        return sum(r.executed for r in self.rows)

    @property
    def wavefronts(self) -> tuple[int, int]:
        """Passes over shared memory, and how many there would be without bank conflicts."""
        return sum(r.wavefronts for r in self.rows), sum(r.ideal_wavefronts for r in self.rows)

    @property
    def sectors(self) -> tuple[int, int]:
        """Sectors of global memory touched, and how many the bytes would fill."""
        return sum(r.sectors for r in self.rows), sum(r.ideal_sectors for r in self.rows)

    def __str__(self) -> str:
        lines = [f"{self.kernel}: {self.threads} threads, {self.executed} warp instructions"]
        for what, (many, ideal) in (
            ("shared memory: {} wavefronts", self.wavefronts),
            ("global memory: {} sectors", self.sectors),
        ):
            if ideal:
                lines.append(f"  {what.format(many)} ({many / ideal:.2f} x ideal)")
        if not self.finished:
            lines.append("  it did not come to its end")
        lines += list(map(str, self.grouped())) or ["  nothing wrong was found"]
        return "\n".join(lines)

    def grouped(self) -> tuple[Finding, ...]:
        """The findings, those of one kind and source line as one: the first, with all counts."""
        found: dict[object, Finding] = {}
        for f in self.findings:
            key = (f.kind, f.place.source or f.place.line)
            old = found.get(key)
            found[key] = f if old is None else replace(old, count=old.count + f.count)
        return tuple(found.values())


@dataclass
class Findings:
    """Findings while a run goes on: each kept once per kind and place."""

    suppressed: tuple[Suppression, ...] = ()
    found: dict[tuple[str, int], Finding] = field(default_factory=dict[tuple[str, int], Finding])

    def add(
        self,
        kind: Kind,
        i: Instruction,
        message: str,
        *,
        threads: Iterable[tuple[int, int]] = (),
        address: int | None = None,
        buffer: str = "",
        other: Place | None = None,
        count: int = 1,
    ) -> None:
        """Note one; a second of the same kind at the same place only counts."""
        key = (kind, i.pc)
        if key in self.found:
            old = self.found[key]
            self.found[key] = replace(old, count=old.count + count)
            return
        who = tuple(ThreadId(*t) for t in threads)
        f = Finding(kind, i.place, message, i.text, who, address, buffer, other, count)
        if not any(s.covers(f) for s in self.suppressed):
            self.found[key] = f

    def known(self) -> tuple[Finding, ...]:
        """All of them, in the order in which they were found."""
        return tuple(self.found.values())
