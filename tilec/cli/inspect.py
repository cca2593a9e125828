"""`tilec opt`, `tilec op`, `tilec formats`: look into programs, ops and formats."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tilec.cli.report import Json, answer, reported
from tilec.compile import optimize
from tilec.ir.core import Func
from tilec.ir.dtype import FLOATS, INTEGERS
from tilec.ir.errors import TileError
from tilec.ir.named import QUANTISED, named
from tilec.ir.scaled import ZEROS, Scaled
from tilec.ir.text import show
from tilec.opcard import card, names
from tilec.passes import PASSES, Step


@reported
def opt(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .tile file or IR; - for stdin.")],
    passes: Annotated[str, typer.Option("-p", "--passes", help="name{option=value ...},name")] = "",
    dump: Annotated[bool, typer.Option(help="The IR and the time after each pass.")] = False,
    json_: Json = False,
) -> None:
    """Run passes over a program and print its IR.

    Example: tilec opt -p 'specialise{M=16 N=64 K=64},tile,canonicalize' examples/linear.tile
    """
    stages: list[dict[str, object]] = []

    def seen(step: Step, func: Func, seconds: float) -> None:
        stages.append({"pass": str(step), "seconds": seconds, "ir": show(func)})

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        known = ", ".join(sorted(PASSES))
        raise TileError(f"{file} can't be read: {e}", hint=f"the passes are {known}") from None
    result = optimize(text, passes, seen)
    if json_:
        answer({"ir": result, "stages": stages})
        return
    for stage in stages if dump else []:
        typer.echo(f"// after {stage['pass']}: {float(str(stage['seconds'])) * 1e3:.2f} ms")
        typer.echo(str(stage["ir"]))
    if not dump:
        typer.echo(result)


@reported
def op(
    name: Annotated[str, typer.Argument(help="An op; all of them if there is none.")] = "",
    json_: Json = False,
) -> None:
    """Show an op's whole life: meaning, fields, where it is typed, run, compiled and tested.

    Example: tilec op dot
    """
    if not name:
        found = [card(n) for n in names()]
        if json_:
            answer([asdict(c) for c in found])
            return
        for c in found:
            typer.echo(f"{c.name:14} {c.meaning}")
        return
    one = card(name)
    answer(asdict(one)) if json_ else typer.echo(one.text())


@reported
def formats(
    name: Annotated[str, typer.Argument(help="A format: int4<group=128, zero=int>.")] = "",
    json_: Json = False,
) -> None:
    """List the element types and formats, or describe one.

    Example: tilec formats 'uint4<group=128, zero=int>'
    """
    if name:
        described = _described(name)
        if json_:
            answer(described)
        else:
            for key, value in described.items():
                typer.echo(f"{key:12} {value}")
        return
    elements = [
        {"name": str(t), "bits": t.bits, "low": t.low, "high": t.high} for t in (*FLOATS, *INTEGERS)
    ]
    scaled = [
        {"name": n, "codes": str(make().codes), "low": make().codes.low, "high": make().codes.high}
        for n, make in QUANTISED.items()
    ]
    if json_:
        answer({"elements": elements, "scaled": scaled, "zeros": ZEROS})
        return
    _table("element types", elements)
    _table("scaled formats: NAME<group=N | channel | tensor, scale=f16, zero=KIND>", scaled)
    typer.echo(f"zeros: {', '.join(ZEROS)}")


def _described(name: str) -> dict[str, object]:
    format = named(name)
    found: dict[str, object] = {"format": str(format), "value": str(format.value)}
    shape = (4096, 4096)
    found["bits/weight"] = format.bits(shape) / (4096 * 4096)
    found["components"] = {
        c.name or "elements": f"{c.dtype}{list(map(str, c.shape))}"
        for c in format.components(shape)
    }
    if isinstance(format, Scaled):
        found["codes"] = f"{format.codes.low} to {format.codes.high}"
    return found


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for row in rows:
        table.add_row(*(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
