"""`python -m tilec.bench cpu`: weight-only linear layers on this processor, beside torch's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tilec.bench.cpu import CASES, Case, measure, table

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


if __name__ == "__main__":
    app()
