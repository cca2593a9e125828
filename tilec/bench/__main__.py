"""`python -m tilec.bench cpu`: weight-only linear layers on this processor, beside torch's;
`formats`: every format; `launch`: what calling a kernel costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from tilec.bench import formats as suite
from tilec.bench import launch as launches
from tilec.bench import sparse as pruned
from tilec.bench.cpu import CASES, Case, machine, measure, table

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def suites() -> None:
    """Measure beside peers: each contender in a process of its own, in interleaved bursts."""


@app.command()
def cpu(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 7,
    only: Annotated[str, typer.Option(help="One case: N,K,M.")] = "",
) -> None:
    """Linear layers of Llama-3-8B with int4 and int8 weights at M = 1, 16, 256.

    Example: python -m tilec.bench cpu --only 4096,4096,1
    """
    cases = [Case(*map(int, only.split(",")))] if only else CASES
    result = measure(cases, rounds, Console(stderr=True))
    Console(width=120).print(table(result))
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")


@app.command()
def formats(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    only: Annotated[str, typer.Option(help="Formats, separated by semicolons.")] = "",
    speed: Annotated[bool, typer.Option(help="Also time a linear layer at M = 1.")] = True,
    shape: Annotated[str, typer.Option(help="N,K of the layer that is timed.")] = "4096,4096",
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each format.")] = 5,
) -> None:
    """Every named format: size, decoding of every code, rounding error, linear layer, speed, peers.

    Example: python -m tilec.bench formats --only 'nvfp4;q4_k' --shape 4096,14336
    """
    console = Console(stderr=True)
    chosen = [n.strip() for n in only.split(";")] if only else suite.names()
    rows = [suite.checked(n) for n in track(chosen, "checking", console=console)]
    if speed:
        n, k = map(int, shape.split(","))
        timed = suite.timed(rows, Case(n, k, 1), rounds)
        rows = list(track(timed, "timing", len(rows), console=console))
    Console(width=140).print(suite.table(rows))
    if out is not None:
        found = {"machine": machine(), "shape": shape, "formats": suite.data(rows)}
        out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


@app.command()
def launch() -> None:
    """Nanoseconds on the host of a launch on a GPU, with a driver that does nothing.

    Example: python -m tilec.bench launch
    """
    for what, ns in launches.measure():
        typer.echo(f"{ns:7.0f} ns  {what}")


@app.command()
def sparse(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    shape: Annotated[str, typer.Option(help="N,K of the layer.")] = "4096,4096",
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 7,
    only: Annotated[str, typer.Option(help="One point: block or bitmap, part left, M.")] = "",
) -> None:
    """Pruned linear layers at M = 1 and 16 beside torch's dense and sparse ones and scipy's.

    Example: python -m tilec.bench sparse --only bitmap,0.3,1
    """
    n, k = map(int, shape.split(","))
    points = pruned.points(n, k)
    if only:
        kind, left, m = only.split(",")
        points = [pruned.Point(n, k, int(m), float(left), kind == "block")]
    result = pruned.measure(points, rounds, Console(stderr=True))
    Console(width=140).print(pruned.table(result))
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    app()
