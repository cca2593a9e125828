"""Results as a table: a line a case."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tilec.bench.case import OURS
from tilec.bench.results import Result


def table(suite: Result) -> Table:
    """Ours: time, share of the ceiling, peak memory; then how many times as fast as each other
    contender it is. A ~ marks what processor time stands in for, as all calls were disturbed."""
    names = dict.fromkeys(n for c in suite["cases"] for n in c["ratios"])
    threads = suite["threads"]
    title = f"{suite['suite']}, {threads} {'thread' if threads == 1 else 'threads'}"
    out = Table(title=title, caption="/ peer: how many times as fast as it; ~ by processor time")
    for heading in ("case", "us", "% ceiling", "MB", *(f"/ {n}" for n in names)):
        out.add_column(heading, justify="left" if heading == "case" else "right")
    for case in suite["cases"]:
        own = case["contenders"][OURS]
        out.add_row(
            case["name"], _time(own), _share(own), _number(own["peak"], 1e-6),
            *(_ratio(case["ratios"].get(n)) for n in names),
        )  # fmt: skip
    return out


def skipped(suite: Result) -> dict[str, str]:
    """Who was not measured, and why: peers, and contenders in single cases."""
    found: dict[str, str] = dict(suite["skipped"])
    for case in suite["cases"]:
        found |= {f"{case['name']}: {n}": why for n, why in case["skipped"].items()}
    return found


def _time(of: dict[str, Any]) -> str:
    if of["seconds"] is None:
        return f"~{_number(of['work'], 1e6)}"
    return _number(of["seconds"], 1e6)


def _share(of: dict[str, Any]) -> str:
    if of["share"] is None:
        return ""
    return f"{'~' if of['by'] == 'work' else ''}{100 * of['share']:.0f}"


def _ratio(of: dict[str, Any] | None) -> str:
    if of is None:
        return ""
    return f"~{of['work']:.2f}" if of["time"] is None else f"{of['time']:.2f}"


def _number(value: float | None, scale: float) -> str:
    return "" if value is None else f"{value * scale:.3g}"
