"""`tilec tune submit`, `watch`, `cancel` and `delete`: studies at a tuning service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tilec.artifacts import check_dims, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    types_of,
)
from tilec.fleet.recorded import TOOLCHAIN, load
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition
from tilec.profile.bounds import after
from tilec.profile.roofline import ceilings
from tilec.settings import settings
from tilec.tune.client.studies import Studies
from tilec.tune.client.wire import Address
from tilec.tune.job import (
    HOST,
    KINDS,
    Policy,
    check_policy,
    device,
    device_digest,
    policy_of,
    subject,
    toolchain,
)
from tilec.tune.spaces import derived

Url = Annotated[
    str, typer.Option("--service", help="URL of the service; else TILEC_SERVICE. The token is in "
                      "TILEC_TOKEN or the file TILEC_TOKEN_FILE.")
]  # fmt: skip
StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="The id that submit printed.")]
SAMPLERS = ("auto", "gp", "lfbo", "evolve", "random", "optuna")


@reported
def submit(
    file: File,
    service: Url = "",
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cpu, cuda or triton.")] = "cpu",
    target: Annotated[str, typer.Option(help="cuda and triton: for which GPU.")] = "sm_90a",
    dims: Dims = "",
    types: Types = "",
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Configs to measure.")] = 120,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    sampler: Annotated[str, typer.Option(help=", ".join(SAMPLERS))] = "auto",
    on: Annotated[str, typer.Option(help="Which devices: a name with * and ?.")] = "*",
    threads: Annotated[
        int, typer.Option(min=0, help="cpu: of the workers; 0: as many as here.")
    ] = 0,
    cold: Annotated[bool, typer.Option("--cold", help="With nothing in caches.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Launched as a CUDA graph.")] = False,
    priority: Annotated[int, typer.Option(min=0, max=9)] = 5,
    watched: Annotated[bool, typer.Option("--watch", help="Wait for its end.")] = False,
    json_: Json = False,
) -> None:
    """Let a service tune a kernel of a .tile file, or replay a recorded space (.json, .json.gz).

    Example: tilec tune submit examples/linear.tile --dims M=16,N=4096,K=4096 --watch
    """
    if sampler not in SAMPLERS:
        raise TileError(f"no sampler is called {sampler!r}", hint=", ".join(SAMPLERS))
    studies = _studies(service)
    chosen = {"budget": budget, "seed": seed, "sampler": sampler, "priority": priority}
    if file.name.endswith((".json", ".json.gz")):
        what = _recorded(file, on)
    else:
        with progress(f"reading {file}"):
            given = Policy("graph" if graph else "eager", "cold" if cold else "warm", threads)
            what = _kernel(file, kernel, backend, target, dims, types, on, given)
    made = studies.submit({**what, **chosen})
    if watched:
        made = shown(studies.watch(made["id"]), Console(stderr=True))
    _end(made, json_)


@reported
def watch(study: StudyId, service: Url = "", json_: Json = False) -> None:
    """Show how a study comes on, until it has ended. Exit code 1 where it failed.

    Example: tilec tune watch s0123456789abcdef0123
    """
    _end(shown(_studies(service).watch(study), Console(stderr=True)), json_)


@reported
def cancel(study: StudyId, service: Url = "", json_: Json = False) -> None:
    """End a study; what was measured is kept.

    Example: tilec tune cancel s0123456789abcdef0123
    """
    _end({**_studies(service).cancel(study)}, json_)


@reported
def delete(
    what: Annotated[str, typer.Argument(metavar="ID", help="Of a study, or of a package.")],
    service: Url = "",
) -> None:
    """Delete a study that has ended, or a package, for good. What was found stays published.

    Example: tilec tune delete s0123456789abcdef0123
    """
    studies = _studies(service)
    is_package = re.fullmatch("[0-9a-f]{64}", what) is not None
    studies.delete_package(what) if is_package else studies.delete(what)
    typer.echo(f"{what} is deleted")


def shown(changes: Iterable[Mapping[str, Any]], console: Console) -> dict[str, Any]:
    """The study at its end; a bar on a terminal and a line for each state elsewhere."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[best]}"), TimeElapsedColumn())  # fmt: skip
    last: dict[str, Any] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, best="")
        for study in changes:
            counts = study["trials"]
            done = sum(counts[n] for n in ("done", "failed", "poison"))
            total = max(study["budget"], done)
            title = "".join(c for c in study["name"] if c.isprintable())[:40]
            if not console.is_terminal and study["state"] != last.get("state"):
                console.print(Text(f"{title}: {study['state']}, {done}/{total}"))
            bar.update(task, description=f"{title} {study['state']}", completed=done, total=total,
                       best=_best(study))  # fmt: skip
            last = dict(study)
    return last


def _best(study: Mapping[str, Any]) -> str:
    best = study["winner"] or study["best"]
    return f"{best['time_ms']:.4g} ms" if best else ""


def _end(study: dict[str, Any], json_: bool) -> None:
    """What is printed of a study. Raises Exit for one that failed."""
    if json_:
        answer(study)
    else:
        typer.echo(f"{study['id']}  {study['state']}  {_best(study)}".rstrip())
        winner = study["winner"]
        if winner:
            default = winner["provenance"]["default_ms"]
            ratio = default / winner["time_ms"] if default else 1.0
            faster = f", {ratio:.2f} times as fast as the default" if ratio > 1 else ""
            chosen = ",".join(f"{n}={v}" for n, v in winner["config"].items())
            typer.echo(f"{chosen}{faster}")
    if study["state"] == "failed":
        raise typer.Exit(1)


def _studies(service: str) -> Studies:
    address = Address.of(settings().environment, service)
    if address is None:
        raise TileError("no service is named", hint="--service URL, or TILEC_SERVICE")
    return Studies(address)


def _kernel(
    file: Path, kernel: str, backend: str, target: str, dims: str, types: str, on: str,
    given: Policy,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a study of a kernel. Raises TileError."""
    if backend not in KINDS:
        raise TileError(f"no back end is called {backend!r}", hint=", ".join(KINDS))
    check_policy(given, backend)
    definition = retyped(kernel_of(file, kernel), types_of(types))
    numbers = dims_of(dims)
    check_dims(definition, numbers)
    found = subject(definition, {}, numbers, backend, HOST if backend == "cpu" else target)
    here = policy_of(backend, given.mode, given.cache)
    policy = Policy(given.mode, given.cache, given.threads or here.threads)
    return {
        "name": definition.signature.name, "job": found.job.to_json(),
        "kernel": found.job.kernel, "family": found.family, "shape": dict(found.shape),
        "space": derived(found.job, policy.threads).space.to_json(), "policy": policy.to_json(),
        "device": {"kind": KINDS[backend], "name": on}, "toolchain": toolchain(backend),
        "work": _work(definition, numbers, backend, policy),
    }  # fmt: skip


def _work(definition: Definition, dims: Mapping[str, int], backend: str, policy: Policy
          ) -> dict[str, Any] | None:  # fmt: skip
    """What a call needs at least. On a processor also what this one can do in a second, as it may
    be the one that measures."""
    try:
        work = after(definition, dims).work
    except TileError:
        return None  # it can be tuned all the same
    if not work.operations or not work.compulsory:
        return None
    said: dict[str, Any] = {"operations": work.operations, "bytes": work.compulsory}
    if backend == "cpu" and policy.threads == policy_of(backend).threads:
        most = ceilings()
        size = work.compulsory if policy.cache == "warm" else most.reads[-1][0]
        said |= {"bytes_per_s": most.bandwidth(size), "device": device_digest(device())}
        if not work.sparse:  # else it is not known how many operations are needed
            said["operations_per_s"] = most.rate(work)
    return said


def _recorded(file: Path, on: str) -> dict[str, Any]:
    """The fields of a study of a recorded space: workers know it by the name of the file."""
    name = file.name.removesuffix(".gz").removesuffix(".json")
    space = load(name, file).space
    return {
        "name": name, "job": {"kind": "recorded", "space": name}, "kernel": space.digest,
        "family": space.digest, "space": space.to_json(),
        "device": {"kind": "cuda", "name": on}, "toolchain": TOOLCHAIN,
    }  # fmt: skip
