"""`tilec bench tuning` and `search`: what tuning finds, and how quickly."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from tilec.cli.report import reported


@reported
def tuning(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    budget: Annotated[
        int, typer.Option(min=0, help="Configs of a tune; 0: as the suite says.")
    ] = 0,
    only: Annotated[str, typer.Option(help="Cases that have this in their names.")] = "",
) -> None:
    """Kernels tuned twice on this processor, beside their defaults: speed, time, agreement.

    Example: tilec bench tuning --only softmax
    """
    from tilec.bench import tuning as tunes

    console = Console(stderr=True)
    cases = [c for c in tunes.cases() if only in str(c)]
    found = [
        tunes.measured(c, budget or tunes.BUDGET) for c in track(cases, "tuning", console=console)
    ]
    Console(width=160).print(tunes.table(found))
    if out is not None:
        out.write_text(json.dumps(tunes.data(found)) + "\n", "utf-8")


@reported
def search(
    data: Annotated[
        Path | None, typer.Option(envvar="TILEC_TUNE_DATA", help="Folder of recordings.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a contender on each space.")] = 10,
    kernel_tuner: Annotated[
        Path | None, typer.Option(help="An interpreter that has kernel_tuner.")
    ] = None,
    only: Annotated[str, typer.Option(help="Parts of contenders' names, by commas.")] = "",
    made: Annotated[
        int, typer.Option(min=1, help="Without --data: families of made spaces, 3 devices each.")
    ] = 6,
) -> None:
    """Samplers beside Kernel Tuner, Optuna and random search, cold and warm, on recorded spaces or
    on made ones. Results of other contenders that the file of -o holds already are kept in it.

    Example: tilec bench search --data shared/tuning --only 'gp cold,random'
    """
    from tilec.bench import search as searches
    from tilec.bench.search_data import write
    from tilec.bench.search_made import family

    with TemporaryDirectory() as folder:
        if data is None:
            write(Path(folder), (r for seed in range(made) for r in family(seed)))
        words = [w for w in only.split(",") if w]
        suite = searches.Suite(data or Path(folder), seeds, kernel_tuner, words)
        result = suite.measure(Console(stderr=True))
    if out is not None and out.exists():
        result = searches.joined(json.loads(out.read_text("utf-8")), result)
    Console(width=160).print(searches.table(result), searches.by_space(result))
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")
