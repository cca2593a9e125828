"""Drawing: a figure is drawn once, and kept as PNG and as SVG whose colours a page decides."""

# matplotlib types what it takes and gives loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import numpy as np

from tilec.ir.errors import TileError


@dataclass(frozen=True)
class Colours:
    """The colours of a light page; another page has its own by the same names."""

    sheet: str = "#ffffff"
    ink: str = "#1b2129"
    faint: str = "#5b6573"
    grid: str = "#e6e9ee"
    ours: str = "#2563c9"
    behind: str = "#c0362c"
    roof: str = "#7a4fb5"
    peer0: str = "#b05e00"
    peer1: str = "#1d7f4e"
    peer2: str = "#a2378f"
    peer3: str = "#0e7c8a"
    peer4: str = "#7d6b00"
    peer5: str = "#6b7684"

    def peer(self, i: int) -> str:
        """One for each peer; they come again after the sixth."""
        return str(getattr(self, f"peer{i % 6}"))


COLOURS = Colours()
FEW = 3  # marks of an axis are enough
MARKS = "sD^vPX<"  # of peers, one more than colours: so no two of 42 peers look alike


@dataclass(frozen=True)
class Picture:
    """A figure: the name of its file, what it shows in words, its PNG, and its SVG for a page."""

    name: str
    says: str
    png: bytes
    svg: str


@contextmanager
def drawing(width: float, height: float, **grid: Any) -> Generator[tuple[Any, Any]]:
    """A figure and its axes, of a size in inches, for `picture`. Raises TileError without
    matplotlib."""
    try:
        matplotlib = import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        raise TileError("plots need matplotlib", hint="pip install 'tilec[report]'") from None
    c = COLOURS
    style = {
        "figure.facecolor": c.sheet, "axes.facecolor": "none", "savefig.facecolor": c.sheet,
        "text.color": c.ink, "axes.labelcolor": c.faint, "axes.titlecolor": c.ink,
        "xtick.color": c.faint, "ytick.color": c.faint, "axes.edgecolor": c.faint,
        "grid.color": c.grid, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "axes.titlelocation": "left", "font.size": 9, "font.family":
        "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "tilec", "axes.axisbelow": True,
        "legend.frameon": False, "axes.linewidth": 0.6, "figure.dpi": 100,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained", **grid)
        try:
            yield figure, axes
        finally:
            pyplot.close(figure)


def marked(axis: Any, limits: tuple[float, float], shown: Callable[[float], str]) -> None:
    """Mark a logarithmic axis at a few round numbers."""
    low, high = limits
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(np.arange(1, 10, 0.5))):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{d * 10.0**p:.3g}") for p in powers for d in digits]
        ticks = [x for x in ticks if low <= x <= high]
        if len(ticks) >= FEW:
            break
    axis.set_ticks(ticks, [shown(x) for x in ticks])
    axis.minorticks_off()


def picture(figure: Any, name: str, says: str, titles: dict[str, str]) -> Picture:
    """A drawn figure; `titles` has what a pointer that rests on a part (by its gid) is told."""
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=160)
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Picture(name, says, png.getvalue(), _of_page(svg.getvalue(), name, says, titles))


def _of_page(svg: str, name: str, says: str, titles: dict[str, str]) -> str:
    """The SVG as a part of a page: colours by name, names of its own, spoken text."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for gid, title in titles.items():
        svg = svg.replace(f'<g id="{gid}">', f'<g class="hover"><title>{_plain(title)}</title>')
    for field in fields(COLOURS):
        svg = svg.replace(getattr(COLOURS, field.name), f"var(--{field.name})")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]
    head = (f'<svg role="img" aria-label="{_plain(says)}" viewBox="0 0 {width} {height}" '
            f'style="width:{float(width) * 4 / 3:.0f}px">')  # fmt: skip
    return head + svg[svg.index(">") + 1 :]


def _plain(text: str) -> str:
    return text.translate({ord('"'): "&quot;", ord("<"): "&lt;", ord("&"): "&amp;"})
