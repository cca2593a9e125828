"""`tilec opt`, `tilec op`, `tilec formats`: look into programs, ops and formats."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from tilec.cli.report import Json, answer, progress, reported
from tilec.compile import optimize
from tilec.ir.codes import CODES
from tilec.ir.composed import Experts
from tilec.ir.core import Func
from tilec.ir.dtype import FLOATS, INTEGERS
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.fit import Fit, encode
from tilec.ir.format import Dense, Format
from tilec.ir.named import QUANTISED, named
from tilec.ir.published import PUBLISHED
from tilec.ir.scaled import ZEROS, Scaled
from tilec.ir.target import NATIVE, native
from tilec.ir.text import show
from tilec.opcard import card, names
from tilec.passes import Step, passes

SIDE = 4096  # of the tensor whose bits are counted


@reported
def opt(
    file: Annotated[str, typer.Argument(help="A .tile program or IR; - for stdin.")] = "-",
    passes: Annotated[str, typer.Option("-p", "--passes", help="name{option=value ...},name; "
                                        f"the passes are {', '.join(sorted(passes()))}.")] = "",
    dump: Annotated[bool, typer.Option(help="The IR and the time after each pass.")] = False,
    remarks: Annotated[bool, typer.Option("--remarks", help="What the passes say.")] = False,
    json_: Json = False,
) -> None:  # fmt: skip
    """Run passes over a program and print its IR.

    Example: tilec opt -p 'specialise{M=16 N=64 K=64},tile,canonicalize' examples/linear.tile
    """
    stages: list[dict[str, object]] = []
    said: dict[str, list[str]] = {}  # by function; a pass keeps the remarks of those before it

    def seen(step: Step, func: Func, seconds: float) -> None:
        stages.append({"pass": str(step), "seconds": seconds, "ir": show(func)})
        said[func.name] = list(map(str, func.remarks))

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TileError(f"{file} can't be read: {e}") from None
    with progress("running passes"):
        result = optimize(text, passes, seen, "<stdin>" if file == "-" else file)
    if json_:
        answer({"ir": result, "stages": stages, "remarks": said})
        return
    for stage in stages if dump else []:
        typer.echo(f"// after {stage['pass']}")
        typer.echo(str(stage["ir"]))
        typer.echo(f"{stage['pass']}: {float(str(stage['seconds'])) * 1e3:.2f} ms", err=True)
    if not stages or not dump:
        typer.echo(result, nl=False)
    for text in [r for found in said.values() for r in found] if remarks else []:
        typer.echo(f"\n{text}")


@reported
def op(
    name: Annotated[str, typer.Argument(help="An op; a list of them if there is none.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every card: the reference of ops.")] = False,
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
            first = c.meaning.splitlines()[0]
            typer.echo(f"{c.text()}\n" if all_ else f"{c.name:14} {first}")
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
                text = value
                if isinstance(value, dict):
                    text = ", ".join(f"{n}: {v}" for n, v in value.items())
                typer.echo(f"{key:12} {text}")
        return
    elements = [
        {"name": str(t), "bits": t.bits, "low": t.low, "high": t.high}
        for t in (*FLOATS, *INTEGERS, *CODES.values())
    ]
    scaled = [_row(n) for n in QUANTISED]
    published = [{"name": n, "bits/weight": _bits(named(n)), "format": p.text, "source": p.source}
                 for n, p in PUBLISHED.items()]  # fmt: skip
    if json_:
        answer({"elements": elements, "scaled": scaled, "published": published, "zeros": ZEROS})
        return
    _table("element types, each also a format", elements)
    _table("scaled formats, ELEMENT<group=N | channel | tensor, scale=FORMAT, zero=KIND>", scaled)
    _table("published formats; their options can be replaced: gptq<group=64>", published)
    typer.echo(
        f"any element of at most 8 bits can be scaled: e2m1<group=32, scale=e8m0>\n"
        f"kinds of zero: {', '.join(ZEROS)}; bits/weight of a {SIDE} x {SIDE} tensor"
    )


def _row(name: str) -> dict[str, object]:
    """What a scaled format is where no option is given."""
    format = named(name)
    assert isinstance(format, Scaled)
    return {
        "name": name, "low": format.codes.low, "high": format.codes.high,
        "default": str(format), "bits/weight": _bits(format),
    }  # fmt: skip


def _bits(format: Format) -> float:
    shape = _shape(format, SIDE, SIDE)
    return format.bits(shape) / prod(shape)


def _shape(format: Format, n: int, k: int) -> tuple[int, ...]:
    """The shape of a weight: a matrix, or one for each of the fewest experts."""
    return (sum(format.counts) + 1, n, k) if isinstance(format, Experts) else (n, k)


def _described(name: str) -> dict[str, str | float | dict[str, str]]:
    format = named(name)
    found: dict[str, str | float | dict[str, str]] = {"format": str(format)}
    found["value"] = str(format.value)
    found["bits/weight"] = _bits(format)
    sides = tuple(map(Sym, "ENK"[-len(_shape(format, 1, 1)) :]))
    found["components"] = {
        c.name or "elements": f"{c.dtype}[{', '.join(map(str, c.shape))}]"
        for c in format.components(sides)
    }
    if isinstance(format, Scaled):
        found["codes"] = f"{format.codes.low} to {format.codes.high}"
        found["scale"] = f"{format.scale}, one for each block: {format.block}"
        found["zero"] = format.zero
    if not isinstance(format, Dense):
        x = np.random.default_rng(0).standard_normal(_shape(format, 256, 1024))
        got = format.values(encode(format, x, Fit(search=True)), x.shape)
        found["error"] = float(np.linalg.norm(got - x) / np.linalg.norm(x))
    found["runs"] = {t: native(format, t) for t in NATIVE}
    return found


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    typer.echo(f"{title}:")
    table = Table()
    for heading in rows[0]:
        justify = "left" if isinstance(rows[0][heading], str) else "right"
        short = max(len(str(row[heading])) for row in rows) <= 28
        table.add_column(heading, justify=justify, no_wrap=short, overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
