"""`tilec pack`: a folder or wheel with machine code that a service loads without tilec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tilec import cpu, cuda, triton
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
from tilec.export import TARGETS, Exported, exported
from tilec.export.cpu import CPU_TARGETS, LINUX, exported_cpu
from tilec.export.wheel import wheel as wheel_of
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition


@reported
def pack(
    file: File,
    out: Annotated[Path, typer.Option("-o", help="A folder for the files.")],
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cpu, cuda or triton.")] = "triton",
    target: Annotated[str, typer.Option(help="For which processors or GPUs.")] = "",
    dims: Dims = "",
    even: Annotated[str, typer.Option(help="Open dimensions that are multiples of 16: M,N.")] = "",
    types: Types = "",
    schedule: Schedules = "",
    threads: Annotated[int, typer.Option(min=0, help="At most so many (cpu); 0: as here.")] = 0,
    wheel: Annotated[str, typer.Option(help="A wheel in the folder: NAME-VERSION.")] = "",
    json_: Json = False,
) -> None:  # fmt: skip
    """Compile a kernel for machines that need not be there, into a folder that needs no tilec.

    For GPUs dimensions without a number stay open. Code for processors is for this one (native) and
    for levels of x86-64, of which a loader takes the best; it is a C library and a module of
    TVM-FFI, too. Python code loads it by: import FOLDER; FOLDER.load()

    Example: tilec pack examples/linear.tile --dims N=4096,K=4096 -o linear_4096
    """
    definition, known = retyped(kernel_of(file, kernel), types_of(types)), dims_of(dims)
    check_dims(definition, known, some=True)
    default = CPU_TARGETS if backend == "cpu" else TARGETS
    targets = _words(target) or list(default)
    with progress(f"compiling {definition.signature.name} for {', '.join(targets)}"):
        if backend == "cpu":
            made = _for_cpu(definition, known, targets, threads, schedule, even)
        else:
            read = cuda.schedule_of if backend == "cuda" else triton.schedule_of
            choice = Choice(backend, read(schedule) if schedule else None, lines=False)
            made = exported(definition, known, targets, choice, even=_words(even))
        written = _written(made, out, wheel, LINUX if backend == "cpu" else "any")
    if json_:
        answer({"folder": str(out), "files": written})
        return
    for n, size in written.items():
        typer.echo(f"{out / n}: {size} bytes")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _for_cpu(definition: Definition, known: Mapping[str, int], targets: Sequence[str],
             threads: int, schedule: str, even: str) -> Exported:  # fmt: skip
    if even:
        raise TileError("--even is for dimensions that stay open, and code for processors has none")
    how = cpu.schedule_of(schedule) if schedule else None
    return exported_cpu(definition, known, targets, threads=threads, schedule=how)


def _written(made: Exported, out: Path, wheel: str, platform: str) -> dict[str, int]:
    """Write the files, or a wheel with them: names and sizes."""
    if not wheel:
        made.write(out)
        return {n: len(data) for n, data in made.files.items()}
    name, data = wheel_of(wheel, made.files, platform)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    except OSError as e:
        raise TileError(f"{out / name} can't be written: {e}") from None
    return {name: len(data)}
