"""What a test may ask of machine code, with one failure that lists all that is broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tilec.ir.errors import TileError
from tilec.sass.opcodes import CLASSES, MOVES, class_of
from tilec.sass.stats import Mix, Stats

Count = int | tuple[int, int]  # at least so many; from the first to the last


@dataclass(frozen=True)
class Budget:
    """What a kernel's machine code may take and must hold. What is not given is not asked.

        (stats,) = stats_of(cubin, dynamic_shared=49152)
        Budget(
            registers=168, ctas=3, has={"HGMMA.RS": 4}, lacks=("HMMA", "F2FP"),
            per_mma=12, loop={"integer": (0, 64)}, widths={"ldgsts": 16},
        ).check(stats)

    At most: `registers` of a thread, `shared` bytes of a CTA, `per_mma` instructions of the main
    loop for each of its matrix multiplications. At least: `ctas` on a multiprocessor, `widths`
    bytes for each thread by every instruction of a class in the main loop. No spills and no stack,
    unless `spills`. `has` and `loop` count instructions, of the kernel and of one turn of its main
    loop: at least a number, or from the first to the last of two; `lacks` must not occur at all. An
    instruction is a class (`integer`), or an opcode with any of its modifiers (`HGMMA.RS`).
    """

    registers: int | None = None
    shared: int | None = None
    ctas: int | None = None
    per_mma: float | None = None
    spills: bool = False
    has: Mapping[str, Count] = field(default_factory=dict[str, int])
    lacks: tuple[str, ...] = ()
    loop: Mapping[str, Count] = field(default_factory=dict[str, int])
    widths: Mapping[str, int] = field(default_factory=dict[str, int])

    def broken(self, stats: Stats) -> tuple[str, ...]:
        """What a kernel breaks, with the numbers."""
        loop = stats.loop or Mix({}, {})
        return (
            *_at_most("registers", stats.registers, self.registers),
            *_at_most("bytes of shared memory", stats.shared, self.shared),
            *_at_most("instructions per MMA", stats.per_mma, self.per_mma),
            *_at_most("spilling instructions", stats.spills, None if self.spills else 0),
            *_at_most("bytes of stack", stats.stack, None if self.spills else 0),
            *self._resident(stats),
            *_counts(stats.code, self.has, ""),
            *_counts(stats.code, dict.fromkeys(self.lacks, (0, 0)), ""),
            *_counts(loop, self.loop, " in the main loop"),
            *self._narrow(loop),
        )

    def check(self, stats: Stats) -> None:
        """Raise AssertionError with all that a kernel breaks."""
        if broken := self.broken(stats):
            lines = "".join(f"\n  {b}" for b in broken)
            raise AssertionError(f"{stats.name} for {stats.target} breaks its budget:{lines}")

    def _resident(self, stats: Stats) -> Iterator[str]:
        if self.ctas is None:
            return
        found = stats.residency
        if found is None:
            yield (f"CTAs per multiprocessor: not known without threads, "
                   f"expected at least {self.ctas}")  # fmt: skip
        elif found.ctas < self.ctas:
            yield (f"CTAs per multiprocessor: {found.ctas}, limited by {found.limit}, "
                   f"expected at least {self.ctas}")  # fmt: skip

    def _narrow(self, loop: Mix) -> Iterator[str]:
        for kind, least in self.widths.items():
            if kind not in MOVES:
                raise TileError(f"{kind!r} has no width: expected one of {', '.join(MOVES)}")
            for width, n in loop.widths(kind).items():
                if width < least:
                    yield (f"{kind} in the main loop: {n} of {width} bytes, "
                           f"expected at least {least} each")  # fmt: skip


def _at_most(what: str, found: float | None, most: float | None) -> Iterator[str]:
    if most is not None and found is None:
        yield f"{what}: there are none, expected at most {most:g}"
    elif most is not None and found is not None and found > most:
        yield f"{what}: {found:g}, expected at most {most:g}"


def _counts(mix: Mix, asked: Mapping[str, Count], where: str) -> Iterator[str]:
    for pattern, count in asked.items():
        if pattern in CLASSES:
            found = sum(mix.of(pattern).values())
        elif class_of(pattern.partition(".")[0]) == "other":
            raise TileError(f"no instruction or class of instructions is called {pattern!r}")
        else:
            found = mix.count(pattern)
        if isinstance(count, int):
            if found < count:
                yield f"{pattern}{where}: {found}, expected at least {count}"
        elif not count[0] <= found <= count[1]:
            exactly = count[0] == count[1]
            expected = f"{count[0]}" if exactly else f"{count[0]} to {count[1]}"
            yield f"{pattern}{where}: {found}, expected {expected}"
