"""`tilec tune run`, `export`, `import` and `diff`: tuning on this machine, and what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tilec.artifacts import check_dims, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Types,
    answer,
    dims_of,
    reported,
    types_of,
)
from tilec.ir.errors import TileError
from tilec.runtime.cache import open_cache
from tilec.settings import settings
from tilec.tune import strict
from tilec.tune.blocked import KIND, Blocklist, exported, rows_of
from tilec.tune.job import HOST, device, device_digest, subject, toolchain
from tilec.tune.package import Signer, kept, package, payloads, records_of
from tilec.tune.search.loop import SAMPLERS
from tilec.tune.store import Store
from tilec.tune.tuner import Options, Tuned, tune

KeyFile = Annotated[
    Path | None, typer.Option("--key", help="A file with the secret key of the signature.")
]
MOST_BYTES = 64 << 20  # of a package


@reported
def run(
    file: File,
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cpu, cuda or triton.")] = "cpu",
    target: Annotated[str, typer.Option(help="cuda and triton: for which GPU.")] = "sm_90a",
    dims: Dims = "",
    types: Types = "",
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Configs to measure.")] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    sampler: Annotated[str, typer.Option(help=", ".join(SAMPLERS))] = "gp",
    json_: Json = False,
) -> None:
    """Tune a kernel of a .tile file on this machine; calls find the config from then on.

    Example: tilec tune run examples/linear.tile --dims M=16,N=1024,K=1024 --budget 40
    """
    definition = retyped(kernel_of(file, kernel), types_of(types))
    numbers = dims_of(dims)
    check_dims(definition, numbers)
    of = subject(definition, {}, numbers, backend, HOST if backend == "cpu" else target)
    store = Store(open_cache(settings().environment))
    first = store.relatives(of, device(backend))
    blocked = store.blocklist(of.job.kernel, device_digest(device(backend)), toolchain(backend))
    found = _with_bar(of, Options(budget, seed, sampler, first=first), blocked)
    store.keep(found.record())
    answer(_told(found)) if json_ else Console().print(found)


def _with_bar(of: Any, options: Options, blocked: Blocklist) -> Tuned:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True,
                  disable=not console.is_terminal) as bar:  # fmt: skip
        task = bar.add_task("compiling", total=options.budget)
        return tune(of, options, blocked=blocked, told=lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total or None))  # fmt: skip


def _told(found: Tuned) -> dict[str, Any]:
    return {**found.record(), "default_ms": 1e3 * found.default_seconds,
            "default": found.default.to_json(), "speedup": found.speedup,
            "trials": [t.to_json() for t in found.study.trials], "failures": found.failures,
            "cost_s": found.cost, "compile_s": found.compiled}  # fmt: skip


@reported
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    key: KeyFile = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Without a signature.")] = False,
) -> None:
    """Write what was tuned on this machine to a package, and what it must not try again.

    Example: tilec tune export tuned.json --key team.key
    """
    if key is None and not unsigned:
        raise TileError("a package needs a key to sign it", hint="--key FILE, or --unsigned")
    root = open_cache(settings().environment).root
    records = kept(root) if root is not None else []
    blocked = exported(payloads(root, KIND)) if root is not None else []
    document = package(records, None if key is None else Signer.of(key), blocked)
    try:
        out.write_text(json.dumps(document) + "\n", "utf-8")
    except OSError as e:
        raise TileError(f"{out} can't be written: {e}") from None
    typer.echo(f"{len(records)} configs in {out}")


@reported
def import_(
    file: Annotated[Path, typer.Argument(help="A package.")],
    key: KeyFile = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Take one that is not signed.")
                        ] = False,
) -> None:  # fmt: skip
    """Take over the configs of a package. They are used on the machines that they name; what it
    blocks is not tried.

    Example: tilec tune import tuned.json --key team.key
    """
    document = _read(file)
    records = records_of(document, None if key is None else Signer.of(key), unsigned)
    blocked = rows_of(document)
    store = Store(open_cache(settings().environment))
    for r in records:
        store.keep(r)
    for of, config in blocked:
        store.blocklist(*of).add(config)
    typer.echo(f"{len(records)} configs from {file}")


@reported
def diff(
    one: Annotated[Path, typer.Argument(help="A package.")],
    other: Annotated[Path, typer.Argument(help="Another one.")],
    json_: Json = False,
) -> None:
    """Show which configs and times two packages differ in. Exit code 1 where they do.

    Example: tilec tune diff monday.json tuesday.json
    """
    sides = [{r["key"]: r for r in _configs(f)} for f in (one, other)]
    found = [(k, sides[0].get(k), sides[1].get(k)) for k in sorted({*sides[0], *sides[1]})]
    found = [(k, a, b) for k, a, b in found
             if (a and a.get("config")) != (b and b.get("config"))]  # fmt: skip
    if json_:
        answer([{"key": k, "one": a, "other": b} for k, a, b in found])
    else:
        Console().print(_table(found, one.name, other.name))
    if found:
        raise typer.Exit(1)


def _table(found: list[tuple[str, Any, Any]], one: str, other: str) -> Table:
    table = Table(title=f"{len(found)} differ")
    for name in ("key", one, "ms", other, "ms"):
        table.add_column(name, overflow="fold")
    for k, a, b in found:
        table.add_row(k[:12], *_side(a), *_side(b))
    return table


def _side(record: Any) -> tuple[str, str]:
    if record is None:
        return "", ""
    config = ", ".join(f"{n}={v}" for n, v in sorted(record["config"].items()))
    return config, f"{record['time_ms']:.4f}"


def _configs(file: Path) -> list[dict[str, Any]]:
    """The configs of a package, whoever signed it: they are only looked at."""
    needed = ("format", "version", "configs", "created", "blocklist", "signature")
    bare = {**strict.fields(_read(file), str(file), (), *needed), "signature": None}
    return records_of(bare, None, unsigned=True)


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise TileError(f"{file} is larger than {MOST_BYTES >> 20} MiB")
        return strict.document(file.read_text("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as e:
        raise TileError(f"{file} can't be read: {e}") from None
