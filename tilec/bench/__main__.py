"""`python -m tilec.bench cpu`: weight-only linear layers on this processor, beside torch's;
`formats`: every format; `launch`: what calling a kernel costs; `fusion`: programs that fuse;
`attention`: attention; `fuzz`: malformed requests to the service."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, track

from tilec.bench import attention as attentive
from tilec.bench import faults as trouble
from tilec.bench import formats as suite
from tilec.bench import fusion as fused
from tilec.bench import launch as launches
from tilec.bench import search as searches
from tilec.bench import sparse as pruned
from tilec.bench import tuning as tunes
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
def fusion(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 7,
    only: Annotated[str, typer.Option(help="Cases that have this in their names.")] = "",
) -> None:
    """Fused programs beside torch eager and compiled: time, peak memory, bytes moved.

    Example: python -m tilec.bench fusion --only cross-entropy
    """
    cases = [c for c in fused.CASES if only in str(c)]
    result = fused.measure(cases, rounds, Console(stderr=True))
    Console(width=160).print(fused.table(result))
    if result["skipped"]:
        typer.echo(result["skipped"], err=True)
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")


@app.command()
def tuning(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="Configs of a tune.")] = tunes.BUDGET,
    only: Annotated[str, typer.Option(help="Cases that have this in their names.")] = "",
) -> None:
    """Kernels tuned twice on this processor, beside their defaults: speed, time, agreement.

    Example: python -m tilec.bench tuning --only softmax
    """
    console = Console(stderr=True)
    cases = [c for c in tunes.cases() if only in str(c)]
    found = [tunes.measured(c, budget) for c in track(cases, "tuning", console=console)]
    Console(width=160).print(tunes.table(found))
    if out is not None:
        out.write_text(json.dumps(tunes.data(found)) + "\n", "utf-8")


@app.command()
def faults(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    scale: Annotated[float, typer.Option(help="Below 1: fewer trials of each.")] = 1.0,
    peer: Annotated[bool, typer.Option(help="Also Triton's cache.")] = True,
    only: Annotated[str, typer.Option(help="Words of faults, separated by commas.")] = "",
) -> None:
    """Damage, full disks, kills, crowds: what our cache does, beside Triton's. Exit code 1 where
    a result is wrong, a call fails, or a person must help.

    Example: python -m tilec.bench faults --scale 0.1 --only kill,full
    """
    console = Console(stderr=True)
    count = len(list(trouble.chosen(words := [w for w in only.split(",") if w])))
    found = list(track(trouble.measure(scale, peer, words), "trying", count, console=console))
    Console(width=150).print(trouble.table(found))
    if out is not None:
        result = {"machine": machine(), "scale": scale, "faults": trouble.data(found)}
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if not trouble.clean(found):
        raise typer.Exit(1)


@app.command()
def fuzz(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    schema: Annotated[int, typer.Option(min=1, help="Requests by schemathesis.")] = 6000,
    hand: Annotated[int, typer.Option(min=3, help="Requests bent by hand.")] = 46_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Malformed requests against `tilec serve`. Exit code 1 for a 5xx, no answer, or memory that
    grows by 50 MB.

    Example: python -m tilec.bench fuzz --hand 5000
    """
    malformed = import_module("tilec.bench.fuzz")  # needs the packages of the service
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


@app.command()
def launch(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    bursts: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 15,
    calls: Annotated[int, typer.Option(min=1, help="Calls of a burst.")] = 20_000,
    first: Annotated[bool, typer.Option(help="Also time first calls of processes.")] = True,
) -> None:
    """Nanoseconds on the host of a call, beside tvm-ffi and Triton, and of a process's first call.

    Example: python -m tilec.bench launch -o launch.json
    """
    result = launches.measure(bursts, calls)
    for r in result["rows"]:
        what = f"{r['peer']}, {r['what']}"
        typer.echo(f"{r['ns']:8.0f} ns  {r['tensors']} tensors, {r['integers']} integers  {what}")
    for peer, why in result["skipped"].items():
        typer.echo(f"{peer} is skipped: {why}", err=True)
    result["first_calls"] = launches.first_calls() if first else []
    for r in result["first_calls"]:
        typer.echo(f"{r['wall_ms']:8.0f} ms  first cached call, {r['weights']} weights "
                   f"({r['processor_ms']:.0f} ms of the processor)")  # fmt: skip
    if out is not None:
        out.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n", "utf-8")


@app.command()
def attention(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of each contender.")] = 7,
    only: Annotated[str, typer.Option(help="One point: M,N,causal or full,dtype.")] = "",
) -> None:
    """Prefill and decoding with 32 heads that share 8 of keys, beside torch's attention.

    Example: python -m tilec.bench attention --only 1024,1024,causal,bf16
    """
    points = attentive.POINTS
    if only:
        m, n, kind, dtype = only.split(",")
        points = [attentive.Point(int(m), int(n), kind == "causal", dtype)]
    result = attentive.measure(points, rounds, Console(stderr=True))
    Console(width=120).print(attentive.table(result))
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")


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


@app.command()
def search(
    data: Annotated[Path, typer.Option(envvar="TILEC_TUNE_DATA", help="Folder of recordings.")],
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a contender on each space.")] = 10,
    kernel_tuner: Annotated[
        Path | None, typer.Option(help="An interpreter that has kernel_tuner.")
    ] = None,
    only: Annotated[str, typer.Option(help="Parts of contenders' names, by commas.")] = "",
) -> None:
    """Samplers beside Kernel Tuner, Optuna and random search on recorded spaces, cold and warm.

    Example: python -m tilec.bench search --data shared/tuning --only 'gp cold,random'
    """
    suite = searches.Suite(data, seeds, kernel_tuner, [w for w in only.split(",") if w])
    result = suite.measure(Console(stderr=True))
    Console(width=160).print(searches.table(result), searches.by_space(result))
    if out is not None:
        out.write_text(json.dumps(result) + "\n", "utf-8")


@app.command()
def reliability(
    out: Annotated[Path | None, typer.Option("-o", help="Write the results as JSON.")] = None,
    scale: Annotated[float, typer.Option(min=0.02, help="Below 1: less of each.")] = 1.0,
    only: Annotated[str, typer.Option(help="Words of rows, separated by commas.")] = "",
) -> None:
    """The tuning service and its workers: killed, stopped, poisoned, without disk or network. Exit
    code 1 where a trial is lost or done twice, a process is left, or anybody sees an error.

    Example: python -m tilec.bench reliability --scale 0.1 --only killed,lookup
    """
    suite = import_module("tilec.bench.reliability")  # needs the packages of the service
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


if __name__ == "__main__":
    app()
