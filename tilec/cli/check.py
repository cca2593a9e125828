"""`tilec check`: a kernel's CUDA code run on this processor, with every check on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tilec.artifacts import EmulatedTrial, dimensions, kernel_of, retyped
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

TOLERANCE = 1e-2  # of the norm of a result: more than any order of additions or narrow dtype makes


@reported
def check(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the random arguments.")] = 0,
    json_: Json = False,
) -> None:
    """Run a kernel's CUDA code without a GPU: races, bounds, copies in flight, and its results.

    Example: tilec check examples/linear.tile --dims M=16,N=128,K=256 --types 'w=int4<group=64>'
    """
    definition = retyped(kernel_of(file, kernel), types_of(types))
    numbers = dims_of(dims) or dict.fromkeys(dimensions(definition), 64)
    with progress(f"checking {definition.signature.name}"):
        trial = EmulatedTrial(definition, numbers, seed)
        trial.run()
        errors = trial.errors()
    found = [f for report in trial.reports for f in report.findings]
    wrong = [n for n, e in errors.items() if not e < TOLERANCE]
    if json_:
        answer({"kernel": definition.signature.name, "dims": numbers, "relative_errors": errors,
                "findings": [asdict(f) for f in found]})  # fmt: skip
    else:
        for name, error in errors.items():
            typer.echo(f"{name}: relative difference from the interpreter {error:.1e}")
        typer.echo("\n".join(map(str, found)) or "no findings")
    if found or wrong:
        raise typer.Exit(1)
