"""Stats as text: rows of a name and what there is to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tilec.sass.opcodes import MOVES
from tilec.sass.stats import Stats

Row = tuple[str, str]
_LINES = 8  # of source, those with the most instructions


def rows(stats: Stats) -> tuple[Row, ...]:
    """What is known of a kernel, one row for each thing; a name in blanks belongs to the row
    above."""
    return (
        ("kernel", f"{stats.name} for {stats.target}"),
        ("registers", f"{stats.registers} per thread"),
        ("spills", f"{stats.spills} instructions, {stats.stack} bytes of stack per thread"),
        ("shared memory", f"{stats.shared} bytes per CTA"),
        *_resident(stats),
        ("instructions", str(stats.code.instructions)),
        *_loop(stats),
        *_bounds(stats),
        *_lines(stats),
    )


def text(stats: Iterable[Stats]) -> str:
    """The rows of kernels, aligned."""
    found = [rows(s) for s in stats]
    widest = max(len(name) for kernel in found for name, _ in kernel)
    pages = ("\n".join(f"{name:{widest}}  {what}" for name, what in kernel) for kernel in found)
    return "\n\n".join(pages) + "\n"


def _resident(stats: Stats) -> Iterator[Row]:
    resident = stats.residency
    if resident is None:
        yield "threads", "not known"
        return
    yield "threads", f"{stats.threads} per CTA"
    yield ("residency", f"{resident.ctas} CTAs, {resident.warps} warps per multiprocessor; "
           f"limited by {resident.limit}")  # fmt: skip


def _loop(stats: Stats) -> Iterator[Row]:
    mix = stats.loop
    if mix is None:
        yield "main loop", "none"
        mix = stats.code
    else:
        per_mma = "" if mix.per_mma is None else f", {mix.per_mma:.2f} per MMA"
        yield "main loop", f"{mix.instructions} instructions{per_mma}"
    for name, n in mix.of("mma").items():
        yield "  mma", f"{n} {name}"
    for kind, n in mix.classes.items():
        if kind != "mma":
            widths = (f"{count} of {w} bytes" for w, count in mix.widths(kind).items())
            yield f"  {kind}", ", ".join(widths) if kind in MOVES else str(n)


def _bounds(stats: Stats) -> Iterator[Row]:
    """How fast a turn can issue, against what memory gives."""
    turn = stats.loop or stats.code
    for device, bound in stats.bounds:
        warps = "a turn of a CTA" if stats.loop is not None else "a CTA"
        yield "issue bound", f"{bound.clocks:g} clocks for {warps} on {device.name}"
        if turn.loaded:
            slower = "memory" if bound.of_memory > 1 else "issuing"
            yield ("", f"at most {bound.bytes_per_clock:.1f} bytes loaded per clock, "
                   f"{turn.instructions / turn.loaded:.2f} instructions for each byte of a thread; "
                   f"memory gives {device.bytes_per_clock:.1f}: {slower} is the limit")  # fmt: skip


def _lines(stats: Stats) -> Iterator[Row]:
    """The lines of source that most instructions of the main loop come from."""
    lines = (stats.loop or stats.code).lines
    most = sorted(lines.items(), key=lambda item: -item[1])[:_LINES]
    for i, (line, n) in enumerate(most):
        yield "lines" if i == 0 else "", f"{n} of {Path(line).name}"
