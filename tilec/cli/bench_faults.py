"""`tilec bench faults`, `fuzz` and `reliability`: what the cache and the service survive."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, track

from tilec.cli.report import reported


@reported
def faults(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    scale: Annotated[float, typer.Option(help="Below 1: fewer trials of each.")] = 1.0,
    peer: Annotated[bool, typer.Option(help="Also Triton's cache.")] = True,
    only: Annotated[str, typer.Option(help="Words of faults, separated by commas.")] = "",
) -> None:
    """Damage, full disks, kills, crowds: what our cache does, beside Triton's. Exit code 1 where
    a result is wrong, a call fails, or a person must help.

    Example: tilec bench faults --scale 0.1 --only kill,full
    """
    from tilec.bench import faults as trouble
    from tilec.bench.machine import machine

    console = Console(stderr=True)
    count = len(list(trouble.chosen(words := [w for w in only.split(",") if w])))
    found = list(track(trouble.measure(scale, peer, words), "trying", count, console=console))
    Console(width=150).print(trouble.table(found))
    if out is not None:
        result = {"machine": machine(), "scale": scale, "faults": trouble.data(found)}
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if not trouble.clean(found):
        raise typer.Exit(1)


@reported
def fuzz(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    schema: Annotated[int, typer.Option(min=1, help="Requests by schemathesis.")] = 6000,
    hand: Annotated[int, typer.Option(min=3, help="Requests bent by hand.")] = 46_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Malformed requests against `tilec serve`. Exit code 1 for a 5xx, no answer, or memory that
    grows by 50 MB.

    Example: tilec bench fuzz --hand 5000
    """
    from tilec.bench import fuzz as malformed

    console = Console(stderr=True)
    with TemporaryDirectory() as folder, Progress(console=console) as bar:
        task = bar.add_task("asking", total=schema + hand)

        def asked(n: int) -> None:
            bar.update(task, completed=n)

        found = malformed.measure(Path(folder), schema, hand, seed, asked)
    Console(width=150).print(malformed.table(found))
    for fault in found.faults[:50]:
        typer.echo(ascii(fault), err=True)
    if out is not None:
        out.write_text(json.dumps(malformed.data(found), indent=1) + "\n", "utf-8")
    if not found.clean:
        raise typer.Exit(1)


@reported
def reliability(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    scale: Annotated[float, typer.Option(min=0.02, help="Below 1: less of each.")] = 1.0,
    only: Annotated[str, typer.Option(help="Words of rows, separated by commas.")] = "",
) -> None:
    """The tuning service and its workers: killed, stopped, poisoned, without disk or network. Exit
    code 1 where a trial is lost or done twice, a process is left, or anybody sees an error.

    Example: tilec bench reliability --scale 0.1 --only killed,lookup
    """
    from tilec.bench import reliability as suite
    from tilec.bench.machine import machine

    words = [w for w in only.split(",") if w]
    rows = list(suite.chosen(words))
    console = Console(stderr=True)
    found: list[Any] = []
    for result in track(suite.measure(scale, words), "trying", len(rows), console=console):
        found.append(result)
        console.print(suite.line(result), markup=False)
    nothing: list[Any] = []
    looked = suite.lookups() if not words or "lookup" in words else nothing
    Console(width=150).print(suite.table(found), suite.lookup_table(looked))
    if out is not None:
        result = {"machine": machine(), "scale": scale, **suite.data(found, looked)}
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if not (suite.clean(found) and suite.quick(looked)):
        raise typer.Exit(1)
