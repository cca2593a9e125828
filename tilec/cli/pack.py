"""`tilec pack`: a folder with machine code that a service loads without tilec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilec import cuda, triton
from tilec.artifacts import check_dims, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Schedules,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    types_of,
)
from tilec.export import TARGETS, exported
from tilec.gpu import Choice


@reported
def pack(
    file: File,
    out: Annotated[Path, typer.Option("-o", help="A folder for the files.")],
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cuda or triton.")] = "triton",
    target: Annotated[str, typer.Option(help="For which GPUs.")] = ",".join(TARGETS),
    dims: Dims = "",
    even: Annotated[str, typer.Option(help="Open dimensions that are multiples of 16: M,N.")] = "",
    types: Types = "",
    schedule: Schedules = "",
    json_: Json = False,
) -> None:  # fmt: skip
    """Compile a kernel for GPUs that need not be there, into a folder that needs no tilec.

    Dimensions without a number stay open. Python code loads it by: import FOLDER; FOLDER.load()

    Example: tilec pack examples/linear.tile --dims N=4096,K=4096 -o linear_4096
    """
    definition, known = retyped(kernel_of(file, kernel), types_of(types)), dims_of(dims)
    check_dims(definition, known, some=True)
    targets = [t.strip() for t in target.split(",") if t.strip()]
    read = cuda.schedule_of if backend == "cuda" else triton.schedule_of
    choice = Choice(backend, read(schedule) if schedule else None, lines=False)
    names = [n.strip() for n in even.split(",") if n.strip()]
    with progress(f"compiling {definition.signature.name} for {', '.join(targets)}"):
        made = exported(definition, known, targets, choice, even=names)
        made.write(out)
    written = {n: len(data) for n, data in made.files.items()}
    if json_:
        answer({"folder": str(out), "files": written})
        return
    for n, size in written.items():
        typer.echo(f"{out / n}: {size} bytes")
