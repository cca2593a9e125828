"""`tilec profile`: what a kernel's calls take on this machine, beside what it can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tilec.artifacts import Trial, dimensions, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Measure,
    Schedules,
    Seed,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    types_of,
)
from tilec.cpu import schedule_of
from tilec.gpu import Choice
from tilec.profile import profile as profiled
from tilec.profile.roofline import ceilings
from tilec.profile.table import show


@reported
def profile(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    seed: Seed = 0,
    repeat: Annotated[int, typer.Option(min=1, help="How many calls.")] = 100,
    schedule: Schedules = "",
    measure: Measure = False,
    out: Annotated[Path | None, typer.Option("-o", help="A file for the trace, which Perfetto and "
                                             "Chrome open.")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Call a kernel on random arguments: times, bytes, operations, share of the roofline, and what
    its compile took.

    Example: tilec profile examples/softmax.tile --dims M=512,N=4096 -o trace.json
    """
    definition = retyped(kernel_of(file, kernel), types_of(types))
    numbers = dims_of(dims) or dict.fromkeys(dimensions(definition), 64)
    with progress(f"profiling {definition.signature.name}"):
        ceilings(measure)
        trial = Trial(definition, numbers, seed, Choice(cpu=schedule_of(schedule)))
        with profiled() as found:
            for _ in range(repeat + 1):  # the first one compiles
                trial.run()
    if out is not None:
        found.trace(out)
    if json_:
        answer(found.as_json() | ({"trace": str(out)} if out else {}))
    else:
        show(found, Console(markup=False))
