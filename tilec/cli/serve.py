"""`tilec serve`: the tuning service, and its tokens."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from tilec.cli.report import Json, answer, reported
from tilec.ir.errors import TileError
from tilec.settings import settings

app = typer.Typer(
    name="serve",
    help="The tuning service. Without a command it starts.",
    invoke_without_command=True,
    epilog="Begin with:  tilec serve",
)
tokens = typer.Typer(name="token", help="Who may use the service.", no_args_is_help=True)
app.add_typer(tokens)

Data = Annotated[
    Path | None,
    typer.Option(help="The folder of the database and the artifacts; by default tilec in the XDG "
                 "data directory."),
]  # fmt: skip
Url = Annotated[
    str,
    typer.Option("--database", envvar="TILEC_DATABASE", show_envvar=True, help="postgresql://... "
                 "in place of SQLite in the folder."),
]  # fmt: skip
Pairs = Annotated[list[str] | None, typer.Option("--key", metavar="NAME=FILE", help="The key of a "
                                                 "signer of packages.")]  # fmt: skip


@app.callback()
@reported
def start(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Others can only reach it with TLS and tokens.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8717,
    data: Data = None,
    database: Url = "",
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate chain in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A host name that it answers to.")] = None,
    require_token: Annotated[bool, typer.Option(help="Also on this machine.")] = False,
    lease: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds.")] = 30.0,
    key: Pairs = None,
    signer: Annotated[str, typer.Option(help="Which key signs packages.")] = "",
    log: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:  # fmt: skip
    """Start the service. Example: tilec serve --port 8717 --data tuning"""
    if ctx.invoked_subcommand is not None:
        ctx.obj = (data, database)
        return
    server = _module("server")
    if (tls_cert is None) != (tls_key is None):
        raise TileError("--tls-cert and --tls-key go together")
    if log not in ("debug", "info", "warning", "error"):
        raise TileError(f"--log {log}: there are debug, info, warning and error")
    anonymous = server.is_loopback(host) and not require_token
    setup = replace(_setup(data, database), anonymous=anonymous, lease_s=lease)
    setup = replace(setup, hosts=(*setup.hosts, *_names(host, name)))
    setup = server.signed_by(setup, _keys(key or []), signer)
    server.logs(log.upper())
    server.run(setup, host, port, None if tls_cert is None else (tls_cert, tls_key))


@app.command("migrate")
@reported
def migrate(ctx: typer.Context, revision: str = "head", data: Data = None,
            database: Url = "") -> None:  # fmt: skip
    """Bring the tables to a revision: head, 0001, or base, which drops everything.

    Example: tilec serve migrate --revision 0001
    """
    _database(ctx, data, database, revision).close()


@tokens.command("create")
@reported
def create(
    ctx: typer.Context,
    name: str,
    scope: Annotated[list[str], typer.Option(help="read, submit, worker or admin.")],
    tenant: str = "default",
    days: Annotated[float | None, typer.Option(min=0, help="Until it expires.")] = None,
    data: Data = None,
    database: Url = "",
    json_: Json = False,
) -> None:
    """Make a token. It is shown this once.

    Example: tilec serve token create ci --scope read --scope submit
    """
    auth, models = _module("auth"), _module("models")
    try:
        asked = models.TokenRequest(name=name, tenant=tenant, scopes=scope, days=days)
    except ValueError as e:
        raise TileError(f"there is no such token: {e}") from None
    found = _database(ctx, data, database)
    try:
        text = found.write(partial(auth.made, now=time.time(), **asked.model_dump()))
    finally:
        found.close()
    answer({"token": text}) if json_ else typer.echo(text)


@tokens.command("list")
@reported
def list_(ctx: typer.Context, data: Data = None, database: Url = "", json_: Json = False) -> None:
    """Show the tokens, without their secrets."""
    auth, found = _module("auth"), _database(ctx, data, database)
    try:
        with found.read() as tx:
            rows = auth.listed(tx)
    finally:
        found.close()
    if json_:
        answer(rows)
        return
    for row in rows:
        ended = "revoked" if row["revoked"] else ""
        typer.echo(f"{row['id']}  {row['tenant']:16} {row['scopes']:24} {row['name']}  {ended}")


@tokens.command("revoke")
@reported
def revoke(ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID")],
           data: Data = None, database: Url = "") -> None:  # fmt: skip
    """End a token at once."""
    auth, found = _module("auth"), _database(ctx, data, database)
    try:
        ended = found.write(partial(auth.revoked, id_=id_, now=time.time()))
    finally:
        found.close()
    if not ended:
        raise TileError(f"there is no token {id_} to end", hint="tilec serve token list")


def _module(name: str) -> Any:
    """A module of the service, which needs packages that are optional."""
    try:
        return import_module(f"tilec.serve.{name}")
    except ImportError as e:
        raise TileError(f"the service needs {e.name}", hint="pip install tilec[serve]") from None


def _setup(data: Path | None, database: str) -> Any:
    folder = (data or _folder()).absolute()
    url = database or f"sqlite:///{folder / 'tilec.db'}"
    return _module("setup").Setup(url, folder / "artifacts")


def _folder() -> Path:
    """tilec in the XDG data directory."""
    environment = settings().environment
    told = Path(environment.get("XDG_DATA_HOME", ""))
    base = told if told.is_absolute() else Path.home() / ".local" / "share"
    return base / "tilec"


def _database(ctx: typer.Context, data: Path | None, database: str, revision: str = "head") -> Any:
    """The database, whether it is named before the command or after it."""
    first = ctx.find_root().obj or (ctx.parent and ctx.parent.obj) or (None, "")
    found = _module("database").Database(
        _setup(data or first[0], database or first[1]).database)  # fmt: skip
    found.migrate(revision)
    return found


def _names(host: str, more: list[str] | None) -> list[str]:
    shown = f"[{host}]" if ":" in host else host
    return [shown.lower(), *(n.lower() for n in more or [])]


def _keys(pairs: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path) or name in found:
            raise TileError(f"--key {pair!r} is not NAME=FILE, once for each name")
        found[name] = Path(path)
    return found
