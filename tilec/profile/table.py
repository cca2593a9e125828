"""A profile as tables for people."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tilec.explain import shown
from tilec.ir.dtype import BY_NAME
from tilec.observe import Compile, escaped
from tilec.profile.recording import Recording
from tilec.profile.report import Row, rows
from tilec.profile.roofline import Ceilings, ceilings

WIDTH = 100  # letters, of the text


def text(profile: Recording) -> str:
    """The tables as text."""
    out = io.StringIO()
    show(profile, Console(file=out, width=WIDTH, markup=False))
    return out.getvalue()


def show(profile: Recording, console: Console) -> None:
    """Print the rows, what their columns can't say, and where compiles spent their time."""
    found = rows(profile)
    console.print(calls(found))
    if any(r.device == "cpu" for r in found):
        console.print(_ceilings(ceilings()))
    if any("launch only" in r.clock for r in found):
        console.print("no events of the GPU: times are of launches alone, by the host's clock")
    if profile.compiles:
        console.print(compiles(profile.compiles))


def calls(found: Sequence[Row]) -> Table:
    """A line for each kernel and kind of arguments; calls that compiled or failed do not count."""
    caption = "* this bounds it" if any(r.bound for r in found) else None
    table = Table(title="calls", box=SIMPLE_HEAD, caption=caption)
    table.add_column("kernel", overflow="fold")
    for heading in ("calls", "median (least)", "bytes", "operations", "roofline"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in found:
        times = f"{seconds(r.median)} ({seconds(r.minimum)})" if r.warm else ""
        bytes = shown(r.work.compulsory) + "*" * (r.bound == "memory") if r.work else ""
        operations = f"{r.work.operations:.3g}" if r.work else ""
        operations += "*" * (r.bound == "arithmetic")
        share = "" if r.share is None else f"{r.share:.1%}"
        table.add_row(_named(r), str(r.warm), times, bytes, operations, share)
    return table


def _named(r: Row) -> str:
    """Kernel, dimensions, formats that are no dtypes, device; indented inside calls of others."""
    dims = [f"{n}={size}" for n, size in r.work.dims.items()] if r.work else []
    types = [f"{n}:{t}" for n, t in r.work.types.items() if t not in BY_NAME] if r.work else []
    where = [] if r.device == "cpu" else [f"on {r.device}"]
    return "  " * r.nested + escaped(" ".join([r.kernel, *dims, *types, *where]))


def compiles(found: Sequence[Compile]) -> Table:
    """A line for each compile, with the kinds of stages that took longest first."""
    table = Table(title="compiles", box=SIMPLE_HEAD)
    table.add_column("kernel", overflow="fold")
    for heading in ("target", "from cache", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("of which", overflow="fold")
    for c in found:
        kinds: dict[str, float] = {}
        for t in c.totals:
            kinds[t.kind] = kinds.get(t.kind, 0.0) + t.seconds
        longest = sorted(kinds.items(), key=lambda each: -each[1])
        parts = ", ".join(f"{kind} {seconds(t)}" for kind, t in longest)
        cached = "yes" if c.cached else "no"
        table.add_row(escaped(c.kernel), c.target, cached, seconds(c.seconds), parts)
    return table


def stages(made: Compile) -> Table:
    """The stages of a compile, each with its own time."""
    table = Table(title=f"{escaped(made.kernel)}: {seconds(made.seconds)}", box=SIMPLE_HEAD)
    for heading in ("stage", "kind", "times", "time"):
        table.add_column(heading, justify="left" if heading in ("stage", "kind") else "right")
    for t in made.totals:
        table.add_row(t.name, t.kind, str(t.count), seconds(t.seconds))
    return table


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def _ceilings(c: Ceilings) -> str:
    reads = ", ".join(f"{shown(n)}: {rate / 1e9:.3g}" for n, rate in c.reads)
    rates = ", ".join(f"{c.rates[k] / 1e9:.4g} ({k})" for k in ("f32", "half", "int8"))
    return (
        f"ceilings of {c.threads} threads, measured {c.measured}: GB/s of reading by size "
        f"({reads}); G operations/s {rates}"
    )
