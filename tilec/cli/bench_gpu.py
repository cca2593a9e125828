"""`tilec bench gpu`: the GPU suite on a GPU, or all of it but the times without one."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tilec.cli.report import Json, answer, reported
from tilec.ir.errors import TileError

WIDE = 180  # columns of tables that go to a file
Dry = Annotated[bool, typer.Option("--dry-run", help="Without a GPU: compile every case for "
                                   "sm_90a, judge its machine code, run it at reduced size, print "
                                   "the plan.")]  # fmt: skip
Check = Annotated[bool, typer.Option("--check", help="On a GPU: results alone, no times.")]
Only = Annotated[str, typer.Option(help="Cases with this in their names, or #18 for a row.")]
Quick = Annotated[bool, typer.Option("--quick", help="A few cases of each back end.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=0, help="Processes; 0: one a processor.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="Of a whole run on a GPU.")]
Rounds = Annotated[int, typer.Option(min=1, help="Bursts of every contender.")]
Peers = Annotated[str, typer.Option(help="Those that take part: 'torch f16,triton dense'.")]
Paths = Annotated[list[str] | None, typer.Option("--path", help="marlin=FOLDER of its source.")]
Out = Annotated[Path | None, typer.Option("-o", "--output", help="A file for the results.")]


@reported
def gpu(
    dry_run: Dry = False, check: Check = False, only: Only = "", quick: Quick = False,
    jobs: Jobs = 0, seconds: Seconds = 600.0, rounds: Rounds = 7, peers: Peers = "",
    path: Paths = None, output: Out = None, json_: Json = False,
) -> None:  # fmt: skip
    """Every GPU case beside its peers within ten minutes; --dry-run needs no GPU.

    Example: tilec bench gpu --dry-run --only w4a16
    """
    from tilec.bench.gpu import chosen

    cases = chosen(only, quick)
    console = Console(stderr=True)
    if dry_run:
        wrong = _dry(cases, jobs, output, json_, console)
    else:
        paths = dict(_pair(p) for p in path or ())
        wrong = _run(cases, check, (rounds, peers, paths, seconds), output, json_, console)
    for line in wrong:
        typer.echo(f"error: {line}", err=True)
    if wrong:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not folder:
        raise TileError(f"--path: {text!r} is not PEER=FOLDER")
    return name, folder


def _dry(cases: Any, jobs: int, output: Path | None, json_: bool, console: Console) -> list[str]:
    """What is wrong, after a dry run."""
    import json

    from tilec.bench.gpu import dry_run, plan
    from tilec.bench.gpu.table import needs, of_dry, of_plan

    planned, began, before = plan(cases), time.perf_counter(), _worked()
    total, done = sum(len(c.ways) for c in cases), 0

    def told(t: Any) -> None:
        nonlocal done
        done += 1
        console.print(f"{done}/{total} {t.state:7} {t.case}  {t.way.name}  {t.seconds:.1f} s")

    found = dry_run(cases, jobs, told)
    took, worked = time.perf_counter() - began, _worked() - before
    document = {"plan": [p.to_json() for p in planned], "dry": [t.to_json() for t in found],
                "seconds": took, "processor_seconds": worked}  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if json_:
        answer(document)
    else:
        _print(of_plan(planned), needs(planned), of_dry(found),
               f"{total} ways of {len(cases)} cases in {took:.0f} seconds; "
               f"processors worked {worked:.0f}")  # fmt: skip
    return [f"{t.case}, {t.way.name}: {line}" for t in found for line in t.wrong]


def _worked() -> float:
    """Seconds of processors so far, of this process and those that it waited for."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, kinds))


def _run(cases: Any, check: bool, how: tuple[int, str, dict[str, str], float],
         output: Path | None, json_: bool, console: Console) -> list[str]:  # fmt: skip
    """What is wrong, after a run on a GPU."""
    from tilec.bench.gpu import Asked, run
    from tilec.bench.gpu import check as check_all
    from tilec.bench.gpu.measured import shown
    from tilec.bench.gpu.table import of_run

    out = output or Path("gpu-check.json" if check else "gpu.json")

    def told(result: Any) -> None:
        console.print(f"{result['name']}  {result['took']:.1f} s")

    if check:
        found = check_all(cases, out, told)
    else:
        rounds, peers, paths, seconds = how
        named = tuple(filter(None, (p.strip() for p in peers.split(","))))
        found = run(cases, out, Asked(rounds, named, paths), seconds, told)
    answer(found) if json_ else _print(of_run(found), f"results are in {out}")
    return shown([r for r in found if "left_out" not in r])


def _print(*parts: Any) -> None:
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=WIDE)
    for part in parts:
        console.print(part)
