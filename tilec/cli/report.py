"""How commands speak: results on stdout, errors on stderr or as JSON, progress on a terminal."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.named import named, split
from tilec.ir.ranges import Range

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Dims = Annotated[str, typer.Option(help="A number for each dimension: M=16,N=4096,K=4096.")]
Types = Annotated[
    str, typer.Option(help="Other formats than the file's: w=int4<group=128>,x=bf16.")
]
Schedules = Annotated[
    str,
    typer.Option(
        "--schedule",
        help="Choices and tile sizes: m=16,k=64; cpu: depth=512; cuda: threads=256,swap=small; "
        "triton: warps=8,split=4.",
    ),
]
KernelName = Annotated[str, typer.Option("--kernel", help="Which kernel, if there are several.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the random arguments.")]
Measure = Annotated[bool, typer.Option("--measure", help="Measure this machine's ceilings again.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A .tile file.")]


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose TileErrors are shown as they are, with exit code 1 and no traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except TileError as e:
            if options.get("json_"):
                answer({"error": {"message": e.message, "hint": e.hint, "text": str(e)}})
            else:
                typer.echo(f"error: {e}", err=True)
            raise typer.Exit(1) from None

    return wrapped


def answer(document: object) -> None:
    """The JSON document of a command."""
    typer.echo(json.dumps(document, indent=2))


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """A table of names and what there is to say of each."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, what in rows:
        table.add_row(name, what)
    Console(markup=False).print(table)


@contextmanager
def progress(what: str) -> Generator[None]:
    """A spinner on stderr while something lasts, on a terminal only."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as p:
        p.add_task(what)
        yield


def types_of(text: str) -> dict[str, Format]:
    """`x=f16,w=int4<group=128, zero=int>` as formats. Raises TileError for anything else."""
    found: dict[str, Format] = {}
    for word in split(text):
        name, _, value = (part.strip() for part in word.partition("="))
        if not name.isidentifier() or not value:
            raise TileError(f"--types: {word!r} is not NAME=FORMAT")
        if name in found:
            raise TileError(f"--types: {name} is given twice")
        found[name] = named(value)
    return found


def dims_of(text: str) -> dict[str, int]:
    """`M=16,N=4096` as numbers. Raises TileError for anything else."""
    return {name: _size(word, value) for word, name, value in _words(text)}


def sizes_of(text: str) -> dict[str, int | Range]:
    """As `dims_of`, and `M=17-64` as a range, for which code leaves it open. Raises TileError."""
    found: dict[str, int | Range] = {}
    for word, name, value in _words(text):
        least, dash, most = value.partition("-")
        size = _size(word, least)
        found[name] = Range(size, _size(word, most)) if dash else size
    return found


def _words(text: str) -> Generator[tuple[str, str, str]]:
    """The words of a text, and in each what stands before and behind `=`."""
    found: set[str] = set()
    for word in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in word.partition("="))
        if not name.isidentifier():
            _size(word, "")
        if name in found:
            raise TileError(f"--dims: {name} is given twice")
        found.add(name)
        yield word, name, value


def _size(word: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise TileError(f"--dims: {word!r} is not NAME=NUMBER with a number of at least 1")
    return int(value)
