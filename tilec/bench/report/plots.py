"""The plots of a suite: how many times as fast as each peer, rooflines, and curves."""

# matplotlib types what it takes and gives loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median
from textwrap import wrap
from typing import Any

from tilec.bench.case import OURS
from tilec.bench.report.curves import Curve, Panel
from tilec.bench.report.figures import COLOURS, MARKS, Picture, drawing, marked, picture
from tilec.bench.report.results import Case, Suite, Timing
from tilec.profile.table import seconds

ROW = 0.24  # inches of a bar
LABEL = 0.2  # and of a name in a legend
ACROSS = 3  # panels of curves in a row
TITLE = 42  # characters of a line above a panel
APART = 1.3  # times as fast is another kind of arithmetic, as bf16 is beside f32


@dataclass(frozen=True)
class Roof:
    """Measured ceilings, medians over cases: bytes a second from memory (None: not measured), and
    operations a second of each kind of arithmetic, the slowest first."""

    bandwidth: float | None
    peaks: tuple[float, ...]


def bars(suite: Suite, name: str) -> Picture | None:
    """A column a library and a row a case: a bar from 1 to how many times as fast ours is as the
    fastest of what the library has. None without peers."""
    rows = [c for c in suite.cases if c.peers]
    named = [n for n in suite.others if any(n in c.peers for c in rows)]
    peers = list(dict.fromkeys(n.split()[0] for n in named))
    if not peers:
        return None
    values = [value for c in rows for value in c.peers.values()]
    low, high = min([*values, 1.0]), max([*values, 1.0])
    longest = max(len(c.name) for c in rows)
    width = 1.0 + 0.065 * longest + 1.9 * len(peers)
    with drawing(width, 0.9 + ROW * len(rows), ncols=len(peers), sharey=True, squeeze=False) as (
        figure, axes,
    ):  # fmt: skip
        titles: dict[str, str] = {}
        for column, (peer, ax) in enumerate(zip(peers, axes[0], strict=True)):
            _column(ax, peer, rows, titles, column)
            ax.set_xlim(low / 1.25, high * 1.25 * (high / low) ** 0.35)  # room for the numbers
        axes[0][0].set_yticks(range(len(rows)), [c.name for c in rows])
        axes[0][0].set_ylim(len(rows) - 0.4, -0.6)
        says = f"{suite.title}: how many times as fast as each peer, from a line at 1"
        return picture(figure, f"{name}-bars", says, titles)


def _column(
    ax: Any, library: str, rows: Sequence[Case], titles: dict[str, str], column: int
) -> None:
    """The bars of a library; those that end left of 1 are where it is faster."""
    ax.set_xscale("log")
    ax.set_title(library)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", which="both", length=0, labelbottom=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    for i, case in enumerate(rows):
        own = {n: v for n, v in case.peers.items() if n.split()[0] == library}
        if not own:
            continue
        peer, value = min(own.items(), key=lambda x: x[1])
        colour = COLOURS.behind if value < 1 else COLOURS.ours
        (bar,) = ax.barh(i, value - 1, left=1, height=0.62, color=colour, zorder=2)
        bar.set_gid(f"bar-{column}-{i}")
        titles[f"bar-{column}-{i}"] = f"{case.name}: {value:.3g} times as fast as {peer}"
        which = " ".join(peer.split()[1:])
        ax.annotate(f"{value:.2f} {which}", (max(value, 1), i), (4, 0), textcoords="offset points",
                    va="center", fontsize=8, color=colour)  # fmt: skip
    ax.axvline(1, color=COLOURS.ink, linewidth=0.9, zorder=3)


def roofline(suite: Suite, roof: Roof, name: str) -> Picture | None:
    """Operations a second against operations a byte, under the ceilings of the same run. None
    where no case counts both."""
    cases = [c for c in suite.cases if c.ours and c.ours.bytes and c.ours.operations]
    if not cases:
        return None
    others = [n for n in suite.others if any(n in c.contenders for c in cases)]
    titles: dict[str, str] = {}
    places: list[tuple[float, float]] = []
    with drawing(5.8, max(3.4, LABEL * (len(others) + 4))) as (figure, ax):
        for at, who in enumerate([*others, OURS]):
            colour, mark = (COLOURS.ours, "o") if who == OURS else (
                COLOURS.peer(at), MARKS[at % len(MARKS)])  # fmt: skip
            first = True
            for i, case in enumerate(cases):
                place = _place(case.contenders.get(who), case)
                if place is None:
                    continue
                (point,) = ax.plot(*place, mark, color=colour, markersize=6 if who == OURS else 4.5,
                                   markeredgecolor=COLOURS.sheet, markeredgewidth=0.5,
                                   linestyle="none", label=who if first else None)  # fmt: skip
                point.set_gid(f"point-{at}-{i}")
                titles[f"point-{at}-{i}"] = _said(who, case, *place)
                places.append(place)
                first = False
        _roof(ax, roof, places)
        ax.set(xscale="log", yscale="log", xlabel="operations a byte",
               ylabel="operations a second")  # fmt: skip
        marked(ax.xaxis, ax.get_xlim(), "{:g}".format)
        marked(ax.yaxis, ax.get_ylim(), _rate)
        ax.grid(True, linewidth=0.6)
        figure.legend(loc="outside right upper")
        return picture(figure, f"{name}-roofline", f"{suite.title}: rooflines", titles)


def _place(timing: Timing | None, case: Case) -> tuple[float, float] | None:
    """Intensity and rate of a contender; what it stores itself decides the intensity."""
    if timing is None or not timing.time or not timing.bytes:
        return None
    return timing.operations / timing.bytes, timing.operations / timing.time


def _rate(value: float) -> str:
    """Operations a second, for people."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _said(who: str, case: Case, intensity: float, rate: float) -> str:
    return f"{who}, {case.name}: {intensity:.3g} operations a byte, {rate / 1e9:.4g} G/s"


def _roof(ax: Any, roof: Roof, places: Sequence[tuple[float, float]]) -> None:
    """The measured ceilings, over the intensities that there are."""
    left, right = min(x for x, _ in places) / 2, max(x for x, _ in places) * 2
    turns = [peak / roof.bandwidth for peak in roof.peaks] if roof.bandwidth else []
    style = {"color": COLOURS.roof, "linewidth": 1.6, "zorder": 1}
    if roof.bandwidth:
        xs = [left, min(right, max(turns, default=right))]
        ax.plot(xs, [x * roof.bandwidth for x in xs],
                label=f"memory, {roof.bandwidth / 1e9:.3g} GB/s", **style)  # fmt: skip
    for peak, turn in zip_longest(roof.peaks, turns, fillvalue=left):
        ax.plot([turn, max(right, turn * 2)], [peak, peak], linestyle="--",
                label=f"arithmetic, {peak / 1e9:.4g} G/s", **style)  # fmt: skip


def curves(suite: Suite, axis: str, panels: Sequence[Panel], name: str) -> Picture:
    """The time of each contender along an axis, with p10 to p90; a panel for each setting of the
    other axes."""
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    who = list(dict.fromkeys(c.who for p in panels for c in p.curves))
    with drawing(max(5.2, 3.5 * across) + 1.2, 0.5 + 2.7 * down, nrows=down, ncols=across,
                 squeeze=False) as (figure, axes):  # fmt: skip
        titles: dict[str, str] = {}
        flat = [ax for row in axes for ax in row]
        for i, (panel, ax) in enumerate(zip(panels, flat, strict=False)):
            for curve in panel.curves:
                _curve(ax, curve, who.index(curve.who), titles, f"{i}-{who.index(curve.who)}")
            _axes(ax, axis, panel)
        for ax in flat[len(panels) :]:
            ax.set_visible(False)
        names = {h.get_label(): h for ax in flat for h in ax.get_lines()}
        names = {n: h for n, h in names.items() if not n.startswith("_")}
        figure.legend(names.values(), names.keys(), loc="outside right upper")
        says = f"{suite.title}: time against {axis}"
        return picture(figure, f"{name}-{axis}".lower(), says, titles)


def _axes(ax: Any, axis: str, panel: Panel) -> None:
    """The scales of a panel; the axis is marked where there are cases."""
    ax.set(xscale="log" if panel.wide else "linear", yscale="log", xlabel=axis)
    ax.set_title("\n".join(wrap(panel.title, TITLE)), fontsize=8)
    ticks = panel.ticks
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks], rotation=0 if len(ticks) < 7 else 40)
    ax.xaxis.minorticks_off()
    marked(ax.yaxis, ax.get_ylim(), seconds)
    ax.grid(True, linewidth=0.6)


def _curve(ax: Any, curve: Curve, i: int, titles: dict[str, str], name: str) -> None:
    """A contender's medians, the spread around them, and each point's words."""
    ours = curve.who == OURS
    colour = COLOURS.ours if ours else COLOURS.peer(i)
    xs = [p.at for p in curve.points]
    middle = [p.median for p in curve.points]
    ax.fill_between(xs, [p.low for p in curve.points], [p.high for p in curve.points],
                    color=colour, alpha=0.15, linewidth=0)  # fmt: skip
    ax.plot(xs, middle, marker="o" if ours else MARKS[i % len(MARKS)], markersize=4, color=colour,
            linewidth=2 if ours else 1.3, label=curve.who)  # fmt: skip
    for k, p in enumerate(curve.points):  # nothing to see, but something to point at
        (point,) = ax.plot(p.at, p.median, "o", markersize=9, alpha=0)
        point.set_gid(f"at-{name}-{k}")
        titles[f"at-{name}-{k}"] = f"{curve.who} at {p.at:g}: {seconds(p.median)}"


def ceilings(cases: Sequence[Case]) -> Roof:
    """The ceilings that were measured between these cases."""
    moved, done = list[float](), list[float]()
    for c in cases:
        if c.roof is not None and c.roof.seconds:
            if c.ceiling == "read":
                moved.append(c.roof.bytes / c.roof.seconds)
            elif c.ceiling == "arithmetic":
                done.append(c.roof.operations / c.roof.seconds)
    kinds = list[list[float]]()
    for rate in sorted(done):
        if not kinds or rate > APART * kinds[-1][-1]:
            kinds.append([])
        kinds[-1].append(rate)
    return Roof(median(moved) if moved else None, tuple(map(median, kinds)))
