"""`tilec layout`: draw a layout, and count the bank conflicts of an access."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated
from xml.sax.saxutils import escape

import numpy as np
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from tilec.cli.report import Json, answer, reported
from tilec.ir.errors import TileError
from tilec.ir.layout.banks import WIDTHS, Traffic, access, matrix_access
from tilec.ir.layout.digits import Ints
from tilec.ir.layout.memory import MemoryLayout
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.layout.shared import BANKS, SharedLayout
from tilec.ir.layout.text import Layout, parse

ROWS, COLUMNS = 64, 64  # that are drawn as text
CELLS = 1 << 16  # that are drawn at all
WIDE, HIGH = 56, 20  # pixels of a cell
GOLDEN = 0.618  # of the colour wheel between neighbours


@dataclass(frozen=True)
class Drawing:
    """A tile as rows of cells: what each says, a hue for each, and the same as data."""

    summary: str
    shape: tuple[int, ...]
    cells: tuple[str, ...]
    hues: tuple[float, ...]
    data: dict[str, object]

    @property
    def columns(self) -> int:
        """The extent of the last axis."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """The extents of the other axes, as one."""
        return len(self.cells) // self.columns

    def label(self, row: int) -> str:
        """The coordinates of a row along all axes but the last."""
        return ", ".join(map(str, np.unravel_index(row, self.shape[:-1]))) if self.shape[1:] else ""


@reported
def layout(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A layout, or an atom's operand "
                                              "(.A, .B, .C, .E).")],
    access_: Annotated[str, typer.Option("--access", metavar="EXPR", help="The registers that are "
                                         "moved to or from this shared layout.")] = "",
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it there too.")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Draw a layout: thread and register, offset or bank of each element.

    Example: tilec layout 'shared(16, (16,64):(64,1), swizzle(3, 4, 3))' \
--access 'local(1, 4) * mma.m16n8k16.bf16.A'
    """
    found = parse(expression)
    moved = _costs(found, access_) if access_ else []
    drawing = _drawing(found)
    if svg is not None:
        _write(svg, "\n".join(_svg(drawing)))
    if json_:
        answer({"layout": str(found), "shape": drawing.shape, **drawing.data, "access": moved})
        return
    typer.echo(drawing.summary)
    _print(_table(drawing))
    if drawing.rows > ROWS or drawing.columns > COLUMNS:
        typer.echo(f"the first {min(drawing.rows, ROWS)} of {drawing.rows} rows and "
                   f"{min(drawing.columns, COLUMNS)} of {drawing.columns} columns")  # fmt: skip
    if moved:
        _print(_cost_table(moved))
        none = [str(row["access"]) for row in moved if not row["possible"]]
        typer.echo(f"not possible (--json says why): {', '.join(none) or 'none'}")


def _drawing(found: Layout) -> Drawing:
    """How a layout is drawn."""
    if found.shape == () and isinstance(found, RegisterLayout):
        found = found.reshape(1)
    shape = found.extents if isinstance(found, MemoryLayout) else found.shape
    if not shape:
        raise TileError(f"{found} has no axis to draw")
    if math.prod(shape) > CELLS:
        raise TileError(f"{found} has {math.prod(shape)} elements; at most {CELLS} are drawn")
    where = tuple(np.indices(shape).reshape(len(shape), -1))
    if isinstance(found, RegisterLayout):
        return _registers(found, where)
    if isinstance(found, SharedLayout):
        return _banks(found, where)
    return _offsets(found, where)


def _registers(found: RegisterLayout, where: tuple[Ints, ...]) -> Drawing:
    threads, locals_ = found.holders(*where)
    pairs = zip(threads.tolist(), locals_.tolist(), strict=True)
    return Drawing(
        f"{found}\nthread:register of {_extents(found.shape)} elements; {found.threads} threads of "
        f"{found.locals}, {found.copies} with each element",
        found.shape,
        tuple(f"{_ranges(t)}:{i}" for t, i in pairs),
        tuple((threads.reshape(len(locals_), -1)[:, 0] * GOLDEN).tolist()),
        {"threads": found.threads, "registers": found.locals, "copies": found.copies,
         "thread": threads.tolist(), "register": locals_.tolist()},
    )  # fmt: skip


def _banks(found: SharedLayout, where: tuple[Ints, ...]) -> Drawing:
    banks = found.bank(*where)
    return Drawing(
        f"{found}\nbank of {_extents(found.shape)} elements of {found.bits} bits; "
        f"{found.nbytes} bytes",
        found.shape,
        tuple(map(str, banks.tolist())),
        tuple((banks / BANKS).tolist()),
        {"bytes": found.nbytes, "address": found.address(*where).tolist(), "bank": banks.tolist()},
    )


def _offsets(found: MemoryLayout, where: tuple[Ints, ...]) -> Drawing:
    offsets = found(*where)
    return Drawing(
        f"{found}\noffset of {_extents(found.extents)} elements",
        found.extents,
        tuple(map(str, offsets.tolist())),
        tuple((offsets / (offsets.max() + 1)).tolist()),
        {"cosize": found.cosize, "offset": offsets.tolist()},
    )


def _extents(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers, runs of them as their ends: 0-3,8."""
    out: list[list[int]] = []
    for n in numbers:
        if out and n == out[-1][-1] + 1:
            out[-1][1:] = [n]
        else:
            out.append([n])
    return ",".join("-".join(map(str, ends)) for ends in out)


def _costs(found: Layout, text: str) -> list[dict[str, object]]:
    """Every way to move registers to or from shared memory: its wavefronts, or why it is none."""
    registers = parse(text)
    if not isinstance(found, SharedLayout) or not isinstance(registers, RegisterLayout):
        raise TileError("--access: expected a register layout over a shared layout, "
                        f"not {registers} over {found}")  # fmt: skip
    ways = {f"{width}-byte": partial(access, registers, found, width) for width in WIDTHS}
    for count, (end, turned) in product((4, 2, 1), (("", False), (".trans", True))):
        name = f"ldmatrix.x{count}{end}"
        ways[name] = partial(matrix_access, registers, found, count, turned)
    return [{"access": name, **_cost(run)} for name, run in ways.items()]


def _cost(run: Callable[[], Traffic]) -> dict[str, object]:
    try:
        traffic = run()
    except TileError as e:
        return {"possible": False, "why": e.message}
    return {
        "possible": True, "requests": len(traffic.ideal), "wavefronts": sum(traffic.wavefronts),
        "ideal": sum(traffic.ideal), "worst": max(traffic.wavefronts),
    }  # fmt: skip


def _table(drawing: Drawing) -> Table:
    """The first rows and columns."""
    table = Table(show_lines=False, pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    columns = min(drawing.columns, COLUMNS)
    for column in range(columns):
        table.add_column(str(column), justify="right", no_wrap=True)
    for row in range(min(drawing.rows, ROWS)):
        first = row * drawing.columns
        table.add_row(drawing.label(row), *drawing.cells[first : first + columns])
    return table


def _cost_table(moved: list[dict[str, object]]) -> Table:
    """What is possible, and the wavefronts that it takes."""
    table = Table("access", "requests", "wavefronts", "ideal", "")
    for row in moved:
        if row["possible"]:
            verdict = "no conflict" if row["wavefronts"] == row["ideal"] else "conflicts"
            numbers = [str(row[key]) for key in ("requests", "wavefronts", "ideal")]
            table.add_row(str(row["access"]), *numbers, verdict)
    return table


def _print(table: Table) -> None:
    """A table in its whole width, even where the terminal is narrower."""
    console = Console()
    wanted = Measurement.get(console, console.options.update(width=1 << 16), table).maximum
    Console(width=max(console.width, wanted)).print(table)


def _svg(drawing: Drawing) -> Iterator[str]:
    """The drawing as a picture: one coloured cell for each element."""
    lines = drawing.summary.splitlines()
    top = 20 * (len(lines) + 1)
    wide, high = WIDE * (drawing.columns + 1), top + HIGH * drawing.rows
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
           'font-family="monospace" font-size="11" text-anchor="middle">')  # fmt: skip
    for i, line in enumerate(lines):
        yield f'<text x="4" y="{16 + 18 * i}" text-anchor="start">{escape(line)}</text>'
    for column in range(drawing.columns):
        yield _text(column + 1, top - 6, str(column))
    for row in range(drawing.rows):
        y = top + HIGH * row
        yield _text(0, y + 14, drawing.label(row))
        for column in range(drawing.columns):
            n = row * drawing.columns + column
            yield (f'<rect x="{WIDE * (column + 1)}" y="{y}" width="{WIDE}" height="{HIGH}" '
                   f'fill="{_colour(drawing.hues[n])}" stroke="white"/>')  # fmt: skip
            yield _text(column + 1, y + 14, drawing.cells[n])
    yield "</svg>\n"


def _text(column: int, y: int, text: str) -> str:
    return f'<text x="{WIDE * column + WIDE // 2}" y="{y}">{escape(text)}</text>'


def _colour(hue: float) -> str:
    parts = colorsys.hls_to_rgb(hue % 1, 0.82, 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as e:
        raise TileError(f"{path} can't be written: {e}") from None
