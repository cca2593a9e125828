"""`tilec compile` and `tilec run`: from a `.tile` file to code, and to a result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tilec.artifacts import (
    TARGETS,
    Artifact,
    Trial,
    cpu_artifacts,
    cuda_artifacts,
    dimensions,
    kernel_of,
    retyped,
    triton_artifacts,
)
from tilec.cli.check import TOLERANCE, emulated
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Schedules,
    Seed,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    show_rows,
    sizes_of,
    types_of,
)
from tilec.compile import engine
from tilec.cpu import schedule_of as cpu_schedule
from tilec.cuda import schedule_of as cuda_schedule
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.ir.ranges import Sizes, numbers
from tilec.lang.kernel import Definition
from tilec.observe import Compile, compiling
from tilec.profile.table import stages
from tilec.sass.report import rows, text
from tilec.triton import schedule_of as triton_schedule

SUFFIX = {"ir": "tileir", "asm": "s", "remarks": "txt", "stats": "stats.txt"}
SOURCE = {"cpu": "ll", "triton": "py", "cuda": "cu"}
DimsOrSizes = Annotated[str, typer.Option(
    help="A number for each dimension, or the sizes of one that stays open: M=17-64,N=4096,K=4096; "
    "on GPUs those without a number stay open, too."
)]  # fmt: skip
LARGEST = 1 << 31  # multiply-adds that the interpreter is asked to check


@reported
def compile_(
    file: File,
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cpu, triton or cuda.")] = "cpu",
    target: Annotated[str, typer.Option(help=f"cpu: host, {', '.join(TARGETS)}; triton: sm_80, "
                                             "sm_90.")] = "",
    dims: DimsOrSizes = "",
    types: Types = "",
    emit: Annotated[str, typer.Option(help="cpu: ir,source,asm,remarks; triton: source,ttir,ttgir,"
                                           "llir,ptx,cubin,sass,stats,remarks; "
                                           "cuda: ir,source,ptx,cubin,sass,stats,"
                                           "remarks.")] = "source",
    schedule: Schedules = "",
    out: Annotated[Path | None, typer.Option("-o", help="A folder for the files.")] = None,
    times: Annotated[bool, typer.Option("--times", help="Show what each stage took.")] = False,
    json_: Json = False,
) -> None:  # fmt: skip
    """Compile a kernel and show what it became.

    Example: tilec compile examples/linear.tile --dims M=1,N=4096,K=4096 --emit ir,remarks
    """
    definition = retyped(kernel_of(file, kernel), types_of(types))
    emits, sizes = [e.strip() for e in emit.split(",") if e.strip()], sizes_of(dims)
    name, took = definition.signature.name, list[Compile]()
    if backend == "cpu":
        engine()  # what it takes to begin is no part of a compile
    with progress(f"compiling {name}"), compiling(name, took.append) as about:
        about |= {"target": target or backend, "dims": numbers(sizes)}
        made = _made(definition, backend, target, sizes, emits, schedule)
    paths = _write(made, name, backend, out) if out is not None else {}
    if json_:
        every = {e: _as_json(a) for e, a in made.items()}
        found: dict[str, object] = {"files": paths} if paths else {**every}
        answer(found | ({"times": took[0].as_json()} if times else {}))
        return
    _show_all(made, paths)
    if times:
        Console(markup=False).print(stages(took[0]))


def _show_all(made: Mapping[str, Artifact], paths: Mapping[str, str]) -> None:
    """The artifacts, or only the files that they were written to."""
    if paths:
        typer.echo("\n".join(paths.values()))
        return
    for e, a in made.items():
        if len(made) > 1:
            typer.echo(f"== {e} ==")
        _show(a)


def _as_json(artifact: Artifact) -> str | list[dict[str, Any]]:
    if isinstance(artifact, tuple):
        return [stats.as_json() for stats in artifact]
    return artifact if isinstance(artifact, str) else artifact.hex()


def _show(artifact: Artifact) -> None:
    if isinstance(artifact, tuple):
        for stats in artifact:
            show_rows(rows(stats))
    else:
        large = f"{len(artifact)} bytes; use -o to write it"
        typer.echo(artifact if isinstance(artifact, str) else large)


def _as_bytes(artifact: Artifact) -> bytes:
    if isinstance(artifact, tuple):
        artifact = text(artifact)
    return artifact.encode() if isinstance(artifact, str) else artifact


def _made(
    definition: Definition, backend: str, target: str, dims: Sizes, emits: list[str],
    schedule: str,
) -> Mapping[str, Artifact]:  # fmt: skip
    match backend:
        case "cpu":
            chosen = cpu_schedule(schedule)
            host = "" if target == "host" else target
            return cpu_artifacts(definition, dims, emits, host, chosen)
        case "triton":
            chosen = triton_schedule(schedule)
            return triton_artifacts(definition, numbers(dims), emits, target or "sm_90", chosen)
        case "cuda":
            chosen = cuda_schedule(schedule)
            return cuda_artifacts(definition, numbers(dims), emits, target or "sm_80", chosen)
        case _:
            raise TileError(f"no back end is called {backend!r}; there are cpu, triton and cuda")


def _write(made: Mapping[str, Artifact], name: str, backend: str, out: Path) -> dict[str, str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths: dict[str, str] = {}
        for e, a in made.items():
            path = out / f"{name}.{SOURCE[backend] if e == 'source' else SUFFIX.get(e, e)}"
            path.write_bytes(_as_bytes(a))
            paths[e] = str(path)
        return paths
    except OSError as error:
        raise TileError(f"{out} can't be written: {error}") from None


@dataclass(frozen=True)
class Outcome:
    """What a run showed. `relative_errors` is empty where the interpreter was not asked."""

    kernel: str
    dims: dict[str, int]
    types: dict[str, str]
    first_call_seconds: float
    median_seconds: float
    compared: bool
    relative_errors: dict[str, float]

    @property
    def wrong(self) -> list[str]:
        """The outputs that are not what the interpreter says (or not numbers)."""
        return [n for n, e in self.relative_errors.items() if not e < TOLERANCE]

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} = {size}" for n, size in self.dims.items())
        lines = [
            f"{self.kernel} with {sizes or 'no named dimensions'}",
            f"  first call  {self.first_call_seconds * 1e3:.1f} ms",
            f"  median      {self.median_seconds * 1e6:.1f} us",
        ]
        for name, error in self.relative_errors.items():
            lines.append(f"  {name}: relative difference from the interpreter {error:.1e}")
        if not self.compared:
            lines.append("  not compared with the interpreter: too large")
        return "\n".join(lines)


@reported
def run(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    seed: Seed = 0,
    repeat: Annotated[int, typer.Option(min=1, help="How often it is timed.")] = 20,
    backend: Annotated[str, typer.Option(help="cpu, or cuda with --emulate.")] = "cpu",
    emulate: Annotated[bool, typer.Option("--emulate", help="Run CUDA code on this processor, "
                                          "once, with every check on.")] = False,
    schedule: Schedules = "",
    json_: Json = False,
) -> None:  # fmt: skip
    """Run a kernel on random arguments, compare it with the interpreter, and time it.

    Example: tilec run examples/linear.tile --dims M=1,N=4096,K=4096 --types 'w=int4<group=128>'
    """
    if backend not in ("cpu", "cuda") or emulate is not (backend == "cuda"):
        raise TileError(f"--backend {backend}{' --emulate' * emulate} can't be run: there are "
                        "cpu, and cuda with --emulate")  # fmt: skip
    if emulate:
        emulated(file, kernel, dims, types, seed, schedule, json_)
        return
    given = types_of(types)
    definition = retyped(kernel_of(file, kernel), given)
    numbers = dims_of(dims) or dict.fromkeys(dimensions(definition), 64)
    with progress(f"running {definition.signature.name}"):
        trial = Trial(definition, numbers, seed, Choice(cpu=cpu_schedule(schedule)))
        first = _timed(trial)
        compared = prod(numbers.values()) <= LARGEST
        errors = trial.errors() if compared else {}
        median = statistics.median(_timed(trial) for _ in range(repeat))
    named = {n: str(f) for n, f in given.items()}
    outcome = Outcome(definition.signature.name, numbers, named, first, median, compared, errors)
    answer(asdict(outcome)) if json_ else typer.echo(str(outcome))
    if outcome.wrong:
        typer.echo(f"error: not what the interpreter says: {', '.join(outcome.wrong)}", err=True)
        raise typer.Exit(1)


def _timed(trial: Trial) -> float:
    start = time.perf_counter()
    trial.run()
    return time.perf_counter() - start
