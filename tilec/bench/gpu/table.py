"""The GPU suite as tables: a plan, what a dry run showed, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from tilec.bench.gpu.dry import Tried
from tilec.bench.gpu.peers import PEERS
from tilec.bench.gpu.plan import Planned


def of_plan(planned: Sequence[Planned]) -> Table:
    """A row a case: floors of an H100, contenders, and seconds of a run."""
    whole = sum(p.seconds for p in planned)
    out = Table(title=f"{len(planned)} cases, about {whole:.0f} seconds on an H100")
    for heading in ("#", "case", "formats", "MB", "GFLOP", "floor us", "bound", "peers", "s"):
        words = heading in ("case", "formats", "bound", "peers")
        out.add_column(heading, justify="left" if words else "right", overflow="fold")
    for p in planned:
        formats = ", ".join(f"{n} {t}" for n, t in p.case.types.items() if t != "i32")
        peers = ", ".join(f"({n})" if PEERS[n].absent() else n for n in p.case.peers)
        out.add_row(
            str(p.case.number or "-"), p.case.name, formats, f"{p.bytes / 1e6:.1f}",
            f"{p.operations / 1e9:.1f}" if p.operations else "-", f"{1e6 * p.floor:.1f}",
            p.ceiling, peers, f"{p.seconds:.1f}",
        )  # fmt: skip
    return out


def needs(planned: Sequence[Planned]) -> Table:
    """The peers of a plan, what each needs, and why some can't run here."""
    out = Table(title="peers; those in brackets above are absent here")
    for heading in ("peer", "needs", "here"):
        out.add_column(heading)
    for name in dict.fromkeys(n for p in planned for n in p.case.peers):
        peer = PEERS[name]
        wanted = ", ".join(peer.needs) + (", a folder of its source" if peer.path else "")
        out.add_row(name, wanted, peer.absent() or "installed")
    return out


def of_dry(found: Sequence[Tried]) -> Table:
    """A row for each way of a case: its code at full size, its result at reduced size."""
    counts = {s: sum(f.state == s for f in found) for s in ("ok", "slow", "refused", "wrong")}
    title = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
    out = Table(title=f"made for an H100 at full size, run at reduced size: {title}")
    for heading in ("case", "made", "state", "MMA of a turn", "each takes", "registers", "error",
                    "what is not as it should be"):  # fmt: skip
        out.add_column(heading, overflow="fold")
    for f in found:
        code = f.judged
        error = max(f.ran.errors.values(), default=0.0) if f.ran is not None else None
        out.add_row(
            f.case, f.way.name, f.state,
            ", ".join(f"{n} {name}" for name, n in code.mma.items()) if code else "",
            f"{code.per_mma:.1f}" if code and code.per_mma else "",
            str(code.registers) if code else "", f"{error:.1e}" if error is not None else "",
            "; ".join((f.trouble,) if f.refused else (*f.wrong, *f.remarks)),
        )  # fmt: skip
    return out


def of_run(results: Sequence[Mapping[str, Any]]) -> Table:
    """A row a case: ours at best, beside its floor and ceiling, and every peer."""
    out = Table(title="medians in microseconds; peers as times of ours")
    for heading in ("case", "ours", "us", "% floor", "% ceiling", "peers", "skipped or wrong"):
        out.add_column(heading, overflow="fold")
    for r in results:
        if "left_out" in r:
            out.add_row(r["name"], "", "", "", "", "", r["left_out"])
            continue
        best = r["contenders"].get(r["ours"] or "")
        trouble = [f"{n}: {why}" for n, why in {**r["wrong"], **r["skipped"]}.items()]
        row = ("", "", "", "")
        if best is not None and best["seconds"]:
            row = (r["ours"].removeprefix("tilec "), f"{1e6 * best['seconds']:.1f}",
                   f"{100 * r['floor'] / best['seconds']:.0f}",
                   f"{100 * best['share']:.0f}" if best["share"] else "")  # fmt: skip
        peers = ", ".join(f"{n} {ratio['time']:.2f}" for n, ratio in r["ratios"].items())
        out.add_row(r["name"], *row, peers, "; ".join(trouble))
    return out
