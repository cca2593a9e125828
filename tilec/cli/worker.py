"""`tilec worker`: measure what a tuning service asks for, here, by Ray or by Slurm."""

from __future__ import annotations

import math
import os
import shlex
import socket
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from tilec.cli.report import Json, answer, reported
from tilec.fleet import actors, kernels, poison, slurm
from tilec.fleet.device import Device, held
from tilec.fleet.protocol import Identity, Service
from tilec.fleet.recorded import FakeDevice, recorded
from tilec.fleet.worker import Manners, Measure, Worker
from tilec.ir.errors import TileError
from tilec.settings import settings
from tilec.tune.client.studies import Studies
from tilec.tune.client.wire import Address, Unreachable

app = typer.Typer(
    name="worker",
    help="Measure configs for a tuning service.",
    no_args_is_help=True,
    epilog="Begin with:  tilec worker run --service http://127.0.0.1:8433",
)

Url = Annotated[
    str, typer.Option("--service", help="URL of the service; else TILEC_SERVICE. The token is in "
                      "TILEC_TOKEN or the file TILEC_TOKEN_FILE.")
]  # fmt: skip
Where = Annotated[str, typer.Option("--device", help="cpu, cuda:0, triton:0, recorded:NAME.")]
Recordings = Annotated[
    Path | None, typer.Option("--recorded", help="A folder of recorded spaces, for "
                              "--device recorded:NAME.")
]  # fmt: skip
Pace = Annotated[float, typer.Option(min=0, help="Of a recorded trial's time that one takes.")]


@app.command("run")
@reported
def run(
    service: Url = "",
    device: Where = "cpu",
    name: Annotated[str, typer.Option(help="Of this worker; by default of this host.")] = "",
    folder: Recordings = None,
    pace: Pace = 1.0,
    wait: Annotated[float, typer.Option(min=0, max=30, help="Seconds of a poll.")] = 5.0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish a trial in on SIGTERM.")
    ] = 60.0,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that the service may be away.")
    ] = 3600.0,
    trials: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    journal: Annotated[Path | None, typer.Option(help="A file for a line for each trial.")] = None,
) -> None:
    """Measure trials one by one until SIGTERM, on which the one under way is finished.

    Example: tilec worker run --service https://tune.example.org --device cuda:0
    """
    environment = settings().environment
    where, address = Device.parsed(device), _address(service)
    if where.is_recorded != (folder is not None):
        raise TileError("--recorded FOLDER and --device recorded:NAME go together")
    known = recorded(folder) if folder is not None else {}
    measure: Measure = FakeDevice(known, poison.poisoned, pace) if known else kernels.KernelDevice()
    worker = name or f"{socket.gethostname()}-{device.replace(':', '-').replace(' ', '-')}"
    manners = Manners(wait, grace, trials or math.inf, journal)
    with held(where, worker, environment):
        who = Identity(worker, where.fingerprint(), where.toolchain(), tuple(sorted(known)))
        peer = Service(address, who, patience)
        ours = Worker(peer, measure, manners, lambda text: typer.echo(text, err=True))
        ours.on_signals()
        typer.echo(f"worker {worker} for {address.url}", err=True)
        try:
            done = ours.run()
        except Unreachable as e:
            raise TileError(f"{address.url} was away for {patience:.0f} s: {e}") from None
    typer.echo(f"worker {worker} ends after {done} trials", err=True)


@app.command("drain")
@reported
def drain(
    worker: Annotated[str, typer.Argument(help="The worker's name.")],
    service: Url = "",
    json_: Json = False,
) -> None:
    """Let a worker finish what it has and end.

    Example: tilec worker drain gpu-host-cuda-0
    """
    Studies(_address(service)).drain(worker)
    answer({"worker": worker, "state": "draining"}) if json_ else typer.echo(
        f"{worker} is being drained")  # fmt: skip


@app.command("ray")
@reported
def ray(
    count: Annotated[int, typer.Argument(min=1, help="Workers.")] = 1,
    service: Url = "",
    device: Where = "cuda:0",
    gpus: Annotated[float, typer.Option(min=0, help="Of each worker.")] = 1,
    resources: Annotated[str, typer.Option(help="Others, of each: NAME=NUMBER,...")] = "",
    cluster: Annotated[str, typer.Option(help="Address of a cluster; empty: this host.")] = "",
    folder: Recordings = None,
    pace: Pace = 1.0,
) -> None:
    """Start a worker for each of COUNT GPUs of a Ray cluster, again whenever one dies.

    The cluster must have token authentication (RAY_AUTH_MODE=token). Example: tilec worker ray 8
    """
    environment = settings().environment
    actors.require(environment)
    engine: Any = import_module("ray")
    address = _address(service)
    wanted = actors.Crew(count, gpus, resources=_amounts(resources))
    engine.init(address=cluster or None, log_to_driver=True)
    told = {n: environment[n] for n in ("TILEC_TOKEN_FILE", "TILEC_SERVICE_CA")
            if n in environment}  # fmt: skip
    shared = ["--service", address.url, "--device", device, "--pace", str(pace)]
    shared += [] if folder is None else ["--recorded", str(folder.absolute())]
    names = [f"ray-{socket.gethostname()}-{os.getpid()}-{i}" for i in range(count)]
    orders = [{"arguments": [*shared, "--name", n], "environment": told} for n in names]
    try:
        for line in actors.run(engine, actors.crew(engine, wanted), orders):
            typer.echo(line, err=True)
    finally:
        engine.shutdown()


@app.command("slurm")
@reported
def print_batch(
    service: Url = "",
    array: Annotated[str, typer.Option(help="Indices of the job array.")] = "0-3",
    time: Annotated[str, typer.Option(help="Of each task, as sbatch takes it.")] = "4:00:00",
    gpus: Annotated[int, typer.Option(min=0, help="Of each task.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Processors of each task.")] = 4,
    partition: Annotated[str, typer.Option(help="Of the cluster.")] = "",
    option: Annotated[list[str] | None, typer.Option(help="More for sbatch: --account=x.")] = None,
    before: Annotated[int, typer.Option(help="Seconds before the end to drain in.")] = 120,
    device: Where = "cuda:0",
    token_file: Annotated[str, typer.Option(help="A file that each task can read.")] = "",
) -> None:
    """Print a batch file of a job array of workers: pipe it to sbatch.

    Example: tilec worker slurm --service https://tune.example.org --array 0-31%8 | sbatch
    """
    Device.parsed(device)
    tasks = slurm.Array(array, time, gpus, cpus, partition, before_s=before, more=option or ())
    arguments = ["--service", _address(service, token=False).url, "--device", device]
    typer.echo(slurm.script(tasks, arguments, token_file), nl=False)


def _address(url: str, *, token: bool = True) -> Address:
    environment = settings().environment
    found = Address.of(environment if token else {"TILEC_SERVICE": environment.get(
        "TILEC_SERVICE", "")}, url)  # fmt: skip
    if found is None:
        raise TileError("no service is named", hint="--service URL, or TILEC_SERVICE")
    return found


def _amounts(text: str) -> tuple[tuple[str, float], ...]:
    """`fakegpu=1` as pairs. Raises TileError."""
    found: list[tuple[str, float]] = []
    for word in filter(None, text.split(",")):
        name, _, number = word.partition("=")
        try:
            found.append((name, float(number)))
        except ValueError:
            raise TileError(f"--resources: {shlex.quote(word)} is not NAME=NUMBER") from None
    return tuple(found)
