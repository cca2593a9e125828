"""`tilec bench`: kernels beside peers and the machine's ceilings, and what else is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from tilec.cli.bench_faults import faults, fuzz, reliability
from tilec.cli.bench_gpu import gpu
from tilec.cli.bench_tuner import search, tuning
from tilec.cli.report import Json, answer, reported, show_rows
from tilec.ir.errors import TileError

RUN, SUITE = "run", "--suite"
WIDTH = 100  # columns of a table of results


class _Suites(TyperGroup):
    """Words that are no command are suites to `run`; `--suite` may stand before the first word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith(f"{SUITE}="):
            args = [args[0].removeprefix(f"{SUITE}="), *args[1:]]
        elif args[:1] == [SUITE]:
            args = args[1:]
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="bench",
    cls=_Suites,
    help="Measure kernels beside peers: tilec bench gemv norm -o results.json",
    epilog="`tilec bench SUITE...` is `tilec bench run SUITE...`; `--suite gpu` is `gpu`.",
)


@app.command(RUN)
@reported
def run(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE...",
                      help="By default all; --list has them.")] = None,
    only: Annotated[str, typer.Option(help="Cases that have this in their names.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 7,
    threads: Annotated[list[int] | None, typer.Option(min=0, help="How many, for another run each; "
                       "0: one for each processor; else as the suite says.")] = None,
    peers: Annotated[str, typer.Option(help="Those to compare with, by commas: torch,scipy; none: "
                     "ours alone.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A small case or two of each suite.")] =
    False,
    out: Annotated[Path | None, typer.Option("-o", help="A file for the results.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that -o has: its "
                      "cases are kept, and failed ones tried again.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="What there is: suites and peers.")] = False,
    json_: Json = False,
) -> None:  # fmt: skip
    """Measure suites on this processor. Contenders are checked against doubles, then timed in
    processes of their own, in turns with the ceiling. What was disturbed does not count. Exit code
    1 where a result of ours is wrong.

    Example: tilec bench gemv sparse --only int4 --threads 1 --peers torch -o results.json
    """
    from tilec.bench.harness import Asked
    from tilec.bench.peers import peers as known
    from tilec.bench.suites import SUITES

    if list_:
        return _listed(json_)
    for name in suites or ():
        if name not in SUITES:
            raise TileError(f"no suite is called {name!r}", hint=", ".join(SUITES))
    chosen = [SUITES[n] for n in suites or SUITES]
    beside = [] if peers == "none" else known([p.strip() for p in peers.split(",") if p.strip()])
    asked = Asked(rounds, only, tuple(threads or ()), quick)
    if not any(asked.cases(s) for s in chosen):
        raise TileError(f"no case of {', '.join(s.name for s in chosen)} has {only!r} in its name")
    if resume and out is None:
        raise TileError("--resume goes on with the file of -o, which is not given")
    _measured(chosen, beside, asked, (out, resume), json_)


def _measured(suites: Sequence[Any], peers: Sequence[Any], asked: Any,
              file: tuple[Path | None, bool], json_: bool) -> None:  # fmt: skip
    """Measure, print, and keep after each case, so that the end of a long run loses nothing. The
    file is one to go on with, or not."""
    from tilec.bench.harness import measure
    from tilec.bench.results import begun, document, joined, write
    from tilec.bench.table import skipped, table

    console, found, why = Console(stderr=True), list[dict[str, Any]](), dict[str, str]()
    failed: dict[str, str] = {}
    out, resumed = file
    earlier = begun(out) if out is not None and resumed else []

    def keep(result: dict[str, Any]) -> None:
        if out is not None:
            write(out, document(joined(earlier, [*found, result])))

    for suite in suites:
        for result in measure(suite, peers, asked, console, keep, earlier):
            found.append(result)
            why |= skipped(result)
            failed |= result["failed"]
            if not json_:
                Console(width=WIDTH, markup=False).print(table(result))
    if json_:
        answer(document(joined(earlier, found)))
    for name, reason in why.items():
        typer.echo(f"skipped: {name}: {reason}", err=True)
    for name, reason in failed.items():
        typer.echo(f"error: {name}: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


def _listed(json_: bool) -> None:
    from tilec.bench.peers import peers
    from tilec.bench.suites import SUITES

    suites = {s.name: f"{s.about} ({len(s.cases(False))} cases)" for s in SUITES.values()}
    others = {p.name: p.absent() for p in peers()}
    if json_:
        answer({"suites": suites, "peers": others})
        return
    show_rows([*suites.items(), *((f"peer {n}", why or "here") for n, why in others.items())])


@app.command("report")
@reported
def report_(
    results: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results of runs.")],
    out: Annotated[Path, typer.Option("-o", help="A folder for the page and its plots.")],
    json_: Json = False,
) -> None:
    """Draw results as one page, and their plots as PNG. Says which cases are behind a peer with no
    cause given in the causes.toml beside the results.

    Example: tilec bench report results.json -o report
    """
    from tilec.bench.report.page import report, unexplained
    from tilec.cli.report import progress

    with progress("drawing"):
        written = [str(p) for p in report(results, out)]
    unknown = unexplained(results)
    if json_:
        answer({"files": written, "no cause given": unknown})
    else:
        typer.echo("\n".join(written))
    for case in unknown:
        typer.echo(f"no cause given: {case}", err=True)


@app.command("compare")
@reported
def compare_(
    before: Annotated[Path, typer.Argument(help="Results of a run.")],
    after: Annotated[Path, typer.Argument(help="Those of a later one.")],
    fail_above: Annotated[str, typer.Option(help="Exit code 1 where a case got slower by more, "
                          "beyond noise: 5%.")] = "",
    json_: Json = False,
) -> None:  # fmt: skip
    """Compare two runs case by case: faster, slower, or within noise.

    Example: tilec bench compare before.json after.json --fail-above 5%
    """
    from tilec.bench.report.compare import compare

    found = compare(before, after)
    if json_:
        answer(found.as_json())
    else:
        Console(width=140).print(found.table())
        typer.echo("\n".join(found.lines()))
    if fail_above and found.slower(_part(fail_above)):
        raise typer.Exit(1)


def _part(text: str) -> float:
    """`5%` as 0.05. Raises TileError for anything else."""
    number = text.removesuffix("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < 100 or number == text:
        raise TileError(f"--fail-above: {text!r} is no percentage such as 5%")
    return value


for command in (gpu, faults, fuzz, reliability, search, tuning):
    app.command()(command)
