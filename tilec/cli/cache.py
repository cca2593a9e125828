"""`tilec cache`: what is kept of earlier compilations, whether it is whole, and why it missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tilec.artifacts import check_dims, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    Json,
    KernelName,
    Schedules,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    show_rows,
    types_of,
)
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.cpu import schedule_of as cpu_schedule
from tilec.cuda import schedule_of as cuda_schedule
from tilec.gpu import Choice, program
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition
from tilec.runtime.cache import Bounds, Cache, Entry, Key, open_cache
from tilec.runtime.cache.store import LAYOUT, entry_path
from tilec.runtime.cache.survey import (
    Difference,
    Row,
    collected,
    differences,
    nearest,
    packed,
    rows,
    strangers,
)
from tilec.runtime.engine import about, object_key
from tilec.settings import settings
from tilec.triton import schedule_of as triton_schedule

app = typer.Typer(
    name="cache",
    help="What is kept of earlier compilations.",
    no_args_is_help=True,
    epilog="Begin with:  tilec cache ls",
)

Folder = Annotated[
    Path | None, typer.Option("--in", help="A folder that `pack` wrote, not your own cache.")
]
DAY = 24 * 3600
LETTERS = 12  # of a key: enough to name it


@app.command("ls")
@reported
def ls(folder: Folder = None, json_: Json = False) -> None:
    """Show the entries, the most recently used first: sizes, ages, kinds, kernels.

    Example: tilec cache ls --json
    """
    root = _root(folder)
    found = list(rows(root))
    total = sum(r.file.size for r in found)
    if json_:
        answer({"folder": str(root), "bytes": total, "entries": [_told(r) for r in found]})
        return
    for r in found:
        what = "damaged" if r.damage else r.kind
        typer.echo(f"{r.name[:LETTERS]}  {what:9} {_size(r.file.size):>8}  {_age(r):>6}  "
                   f"{_printable(r.kernel)}")  # fmt: skip
    typer.echo(f"{len(found)} entries, {_size(total)} in {root}")


@app.command("verify")
@reported
def verify(folder: Folder = None, json_: Json = False) -> None:
    """Check every checksum. Exit code 1 where something is damaged, or is no entry.

    Damage is a miss when it is met: nothing has to be done. Example: tilec cache verify
    """
    root = _root(folder)
    with progress(f"reading {root}"):
        found = list(rows(root))
        odd = strangers(root)
    bad = [{"path": str(r.file.path), "what": r.damage} for r in found if r.damage]
    bad += [{"path": str(p), "what": "not an entry"} for p in odd]
    if json_:
        answer({"folder": str(root), "entries": len(found), "damaged": bad})
    else:
        for b in bad:
            typer.echo(f"BAD {b['path']}: {b['what']}")
        typer.echo(f"{len(found)} entries, {len(bad)} of all files damaged")
    if bad:
        raise typer.Exit(1)


@app.command("gc")
@reported
def gc(
    size: Annotated[str, typer.Option("--max", help="Keep no more than this: 500M, 2G.")] = "",
    days: Annotated[float | None, typer.Option(min=0, help="Remove what was not used for so many "
                                               "days.")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Forget what compilers "
                                           "refused.")] = False,
    json_: Json = False,
) -> None:  # fmt: skip
    """Remove what is beyond the bounds, what is damaged, and what dead processes left.

    Example: tilec cache gc --max 500M --days 30
    """
    environment = dict(settings().environment)
    environment |= {"TILEC_CACHE_BYTES": size} if size else {}
    cache = open_cache(environment, Bounds.of(environment))
    before = time.time() - (days or 0) * DAY

    def chosen(r: Row) -> bool:
        return (days is not None and r.file.used <= before) or (failures and r.file.failure)

    try:
        gone = collected(cache, chosen)
    except OSError as e:
        raise TileError(f"{cache.root} can't be written: {e}") from None
    if json_:
        answer({"folder": str(cache.root), **asdict(gone)})
        return
    typer.echo(f"{gone.chosen} chosen, {gone.evicted} beyond the bounds, {gone.damaged} damaged, "
               f"{gone.left_over} left over: removed")  # fmt: skip


@app.command("pack")
@reported
def pack(
    out: Annotated[Path, typer.Option("-o", help="A folder for the entries.")],
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...")] = None,
    kernel: KernelName = "",
    kind: Annotated[str, typer.Option(help="object, cuda, triton or emulated.")] = "",
    json_: Json = False,
) -> None:
    """Copy entries, by default all, into a folder that other users and machines can read.

    They find it by TILEC_SITE_CACHE=FOLDER. Example: tilec cache pack -o site --kind cuda
    """
    root = _root(None)
    found = [r for r in rows(root) if r.stored is not None and not r.file.failure]
    if keys:
        found = [_named(found, k) for k in keys]
    found = [r for r in found if kernel in ("", r.kernel) and kind in ("", r.kind)]
    if not found:
        raise TileError(f"no entry in {root} is chosen")
    try:
        count = packed(found, out)
    except OSError as e:
        raise TileError(f"{out} can't be written: {e}") from None
    total = sum(r.file.size for r in found)
    if json_:
        answer({"folder": str(out), "entries": count, "bytes": total})
    else:
        typer.echo(f"{count} entries, {_size(total)} in {out}: TILEC_SITE_CACHE={out.absolute()}")


@app.command("why")
@reported
def why(
    what: Annotated[list[str], typer.Argument(metavar="KEY KEY | FILE")],
    kernel: KernelName = "",
    backend: Annotated[str, typer.Option(help="cpu, cuda or triton.")] = "cpu",
    target: Annotated[str, typer.Option(help="cuda and triton: for which GPU.")] = "sm_90",
    dims: Dims = "",
    types: Types = "",
    schedule: Schedules = "",
    json_: Json = False,
) -> None:
    """Say which parts of two keys differ; or of a kernel's key and that of the nearest entry.

    Example: tilec cache why examples/linear.tile --dims M=1,N=4096,K=4096
    """
    match what:
        case [here, there]:
            every = [r for r in rows(_root(None)) if r.stored is not None]
            a, b = _named(every, here), _named(every, there)
            _explain({"key": a.name}, _parts(a), b, json_)
        case [path]:
            definition = retyped(kernel_of(Path(path), kernel), types_of(types))
            numbers = dims_of(dims)
            check_dims(definition, numbers, some=backend != "cpu")
            with progress(f"compiling {definition.signature.name}"):
                key = _key(definition, numbers, backend, target, schedule)
            _sought(key, open_cache(settings().environment), json_)
        case _:
            raise TileError(f"expected two keys or one file, not {len(what)} words")


def _sought(key: Key, cache: Cache, json_: bool) -> None:
    """Where a key is found, else what keeps the nearest entry from being it."""
    for layer in cache.layers:
        path = entry_path(layer, key)
        if path.exists():
            told = {"key": key.name, "hit": str(path)}
            answer(told) if json_ else typer.echo(f"hit: {path}")
            return
    every = [r for layer in cache.layers for r in rows(layer)]
    near = nearest(key.shown(), str(key.about.get("kernel", "")), every)
    if near is None:
        said = f"miss: {key.name[:LETTERS]}, and no entry is of this kernel"
        nothing: list[Any] = []
        told = {"key": key.name, "hit": None, "nearest": None, "differs": nothing}
        answer(told) if json_ else typer.echo(said)
        return
    mine: dict[str, Mapping[str, Any]] = {**key.shown(), "about": dict(key.about)}
    _explain({"key": key.name, "hit": None}, mine, near, json_)


def _explain(
    told: Mapping[str, Any], here: Mapping[str, Mapping[str, Any]], there: Row, json_: bool
) -> None:
    found = [*differences(here, _parts(there)), *_about(here, _parts(there))]
    if json_:
        differs = [asdict(d) for d in found]
        answer({**told, "nearest": there.name, "kernel": there.kernel, "differs": differs})
        return
    typer.echo(f"miss: {told['key'][:LETTERS]}, the nearest entry is {there.name[:LETTERS]} "
               f"({_printable(there.kernel) or there.kind})")  # fmt: skip
    show_rows((d.part, f"{d.here}\n{d.there}") for d in found)


def _about(
    here: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> list[Difference]:
    """What people call the things that differ: they decide nothing by themselves."""

    def shown(parts: Mapping[str, Mapping[str, Any]], name: str) -> str:
        return str(parts.get("about", {}).get(name, "-")).strip("[]").replace("'", "")

    names = sorted({*here.get("about", {}), *there.get("about", {})})
    all_ = [Difference(n, shown(here, n), shown(there, n)) for n in names]
    return [d for d in all_ if d.here != d.there]


def _parts(row: Row) -> dict[str, Mapping[str, Any]]:
    assert row.stored is not None
    return {**row.stored.key, "about": row.stored.about}


class _Found(Exception):
    """The key that a compilation asked for: there is no need to go on."""

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key


def _key(
    definition: Definition, dims: dict[str, int], backend: str, target: str, schedule: str
) -> Key:
    """The key under which a kernel would be looked for."""
    if backend == "cpu":
        chosen = cpu_schedule(schedule) if schedule else None
        source = cpu_source(definition, {}, dims, engine(), None, chosen)
        return object_key(source.text, engine().machine, about(source))

    def asked(key: Key, make: Callable[[], Entry]) -> Entry:
        del make
        raise _Found(key)

    read = cuda_schedule if backend == "cuda" else triton_schedule
    choice = Choice(backend, read(schedule) if schedule else None)
    try:
        program(definition, {}, dims, (), target, choice, asked)
    except _Found as found:
        return found.key
    raise TileError(f"the {backend} back end keeps nothing of {definition.signature.name}")


def _root(folder: Path | None) -> Path:
    if folder is not None:
        root = folder / LAYOUT
        if not root.is_dir():
            raise TileError(f"{folder} is no folder of entries", hint="tilec cache pack -o FOLDER")
        return root
    root = open_cache(settings().environment).root
    if root is None:
        raise TileError("there is no cache", hint="tilec doctor says why")
    return root


def _named(found: list[Row], key: str) -> Row:
    """The entry whose key begins so."""
    near = [r for r in found if r.name.startswith(key.lower())]
    if len(near) != 1:
        raise TileError(f"{len(near)} entries have a key that begins with {key!r}",
                        hint="tilec cache ls")  # fmt: skip
    return near[0]


def _told(r: Row) -> dict[str, Any]:
    stored = {} if r.stored is None else {"parts": r.stored.key, "about": r.stored.about}
    return {"key": r.name, "environment": r.environment, "kind": r.kind, "kernel": r.kernel,
            "bytes": r.file.size, "used": r.file.used, "damage": r.damage, **stored}  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def _age(r: Row) -> str:
    seconds = max(time.time() - r.file.used, 0)
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _printable(text: str) -> str:
    """A name without what could end a line or colour a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80]
