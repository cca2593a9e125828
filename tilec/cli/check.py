"""`tilec check`: a kernel's CUDA code run on this processor, with every check on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from tilec.artifacts import EmulatedTrial, dimensions, kernel_of, retyped
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
    types_of,
)
from tilec.cuda import schedule_of
from tilec.runtime.report import Finding

TOLERANCE = 1e-2  # of the norm of a result: more than any order of additions or narrow dtype makes


@dataclass(frozen=True)
class Checked:
    """What a run of CUDA code without a GPU showed: for each output how far it is from the
    interpreter's, and what the checks found."""

    kernel: str
    dims: dict[str, int]
    types: dict[str, str]
    seconds: float
    relative_errors: dict[str, float]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> list[str]:
        """The outputs that are not what the interpreter says (or not numbers)."""
        return [n for n, e in self.relative_errors.items() if not e < TOLERANCE]

    def __str__(self) -> str:
        sizes = ", ".join(f"{n} = {size}" for n, size in self.dims.items())
        lines = [f"{self.kernel} with {sizes or 'no named dimensions'}"]
        lines += [f"  {name}: relative difference from the interpreter {error:.1e}"
                  for name, error in self.relative_errors.items()]  # fmt: skip
        lines += map(_shown, self.findings)
        return "\n".join(lines if self.findings else [*lines, "  no findings"])


@reported
def check(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    seed: Seed = 0,
    schedule: Schedules = "",
    json_: Json = False,
) -> None:
    """Run a kernel's CUDA code without a GPU: races, bounds, copies in flight, and its results.

    Example: tilec check examples/linear.tile --dims M=16,N=128,K=256 --types 'w=int4<group=64>'
    """
    emulated(file, kernel, dims, types, seed, schedule, json_)


def emulated(file: Path, kernel: str, dims: str, types: str, seed: int, schedule: str,
             json_: bool) -> None:  # fmt: skip
    """Run CUDA code on this processor and say what it showed. Raises TileError without a C++
    compiler, and ends with exit code 1 where something is wrong."""
    given = types_of(types)
    definition = retyped(kernel_of(file, kernel), given)
    name, numbers = definition.signature.name, dims_of(dims)
    numbers = numbers or dict.fromkeys(dimensions(definition), 64)
    with progress(f"checking {name}"):
        trial = EmulatedTrial(definition, numbers, seed, schedule_of(schedule))
        start = time.perf_counter()
        trial.run()
        seconds = time.perf_counter() - start
        errors = trial.errors()
    found = tuple(f for report in trial.reports for f in report.findings)
    named = {n: str(f) for n, f in given.items()}
    checked = Checked(name, numbers, named, seconds, errors, found)
    answer(asdict(checked)) if json_ else typer.echo(str(checked))
    if checked.wrong:
        typer.echo(f"error: not what the interpreter says: {', '.join(checked.wrong)}", err=True)
    if found or checked.wrong:
        raise typer.Exit(1)


def _shown(f: Finding) -> str:
    """A finding, and below it the line of the user's program."""
    path = Path(f.file)
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return f"{f}\n    {lines[f.line - 1].strip()}" if 0 < f.line <= len(lines) else str(f)
