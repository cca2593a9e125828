"""Results as a table: a line a case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tilec.bench.case import OURS
from tilec.bench.results import Result
from tilec.profile.table import seconds


def table(suite: Result) -> Table:
    """Ours: time, share of the ceiling, peak memory; then the fastest peer, how many times as fast
    as it ours is, and of how many peers ours is ahead. A ~ marks what processor time stands in for,
    as all calls were disturbed. Every peer is in the file and on the page of `tilec bench report`.
    """
    threads = suite["threads"]
    title = f"{suite['suite']}, {threads} {'thread' if threads == 1 else 'threads'}"
    out = Table(title=title, caption=_standing(suite["cases"]), box=SIMPLE_HEAD)
    for heading in ("case", "time", "% ceiling", "MB", "fastest peer", "ours is", "ahead of"):
        left = heading in ("case", "fastest peer")
        out.add_column(heading, justify="left" if left else "right", no_wrap=heading != "case")
    for case in suite["cases"]:
        own, peers = case["contenders"][OURS], _peers(case)
        cells = [case["name"], _time(own), _share(own), _number(own["peak"], 1e-6)]
        if peers:
            name, least = min(peers.items(), key=lambda x: _value(x[1]))
            ahead = sum(_value(r) >= 1 for r in peers.values())
            cells += [name, _ratio(least), f"{ahead} of {len(peers)}"]
        out.add_row(*cells, style="red" if peers and _behind(peers) else "")
    return out


def _peers(case: Result) -> dict[str, Any]:
    """The ratios to peers, without other ways of ours."""
    return {n: r for n, r in case["ratios"].items() if n.split()[0] != OURS}


def _value(of: dict[str, Any]) -> float:
    return float(of["work"] if of["time"] is None else of["time"])


def _behind(peers: dict[str, Any]) -> bool:
    return any(_value(r) < 1 for r in peers.values())


def _standing(cases: Sequence[Result]) -> str:
    beside = [p for p in map(_peers, cases) if p]
    behind = sum(map(_behind, beside))
    said = "no peer was measured"
    if beside:
        said = f"ahead of every peer in {len(beside) - behind} of {len(beside)} cases"
    return f"{said}; ~ by processor time"


def skipped(suite: Result) -> dict[str, str]:
    """Who was not measured, and why: peers, and contenders in single cases."""
    found: dict[str, str] = dict(suite["skipped"])
    for case in suite["cases"]:
        found |= {f"{case['name']}: {n}": why for n, why in case["skipped"].items()}
    return found


def _time(of: dict[str, Any]) -> str:
    return f"~{seconds(of['work'])}" if of["seconds"] is None else seconds(of["seconds"])


def _share(of: dict[str, Any]) -> str:
    if of["share"] is None:
        return ""
    return f"{'~' if of['by'] == 'work' else ''}{100 * of['share']:.0f}"


def _ratio(of: dict[str, Any]) -> str:
    return f"{'~' if of['time'] is None else ''}{_value(of):.2f} x"


def _number(value: float | None, scale: float) -> str:
    return "" if value is None else f"{value * scale:.3g}"
