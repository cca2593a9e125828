"""The command line: `tilec compile`, `pack`, `run`, `opt`, `explain`, `op`, `layout`, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

COMMANDS = {
    "compile": "build:compile_",
    "run": "build:run",
    "profile": "profile:profile",
    "roofline": "roofline:roofline",
    "check": "check:check",
    "pack": "pack:pack",
    "opt": "inspect:opt",
    "explain": "explain:explain",
    "op": "inspect:op",
    "formats": "inspect:formats",
    "layout": "layout:layout",
    "doctor": "machine:doctor",
    "bench": "bench:app",
    "cache": "cache:app",
    "ptx": "ptx:app",
    "serve": "serve:app",
    "tune": "tune:app",
    "worker": "worker:app",
}  # the module and name in it of each: a function, or an app of commands


def _nothing() -> None:
    """What is done before a command: typer makes a group of an app that has a callback."""


class _Commands(Mapping[str, Any]):
    """Commands by name, each loaded when it is asked for: most runs need one of them."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(import_module(f"{__name__}.{module}"), attribute)
        around = typer.Typer(add_completion=False)
        around.callback()(_nothing)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=name)
        else:
            around.command(name)(found)
        return get_group(around).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """The group of all commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()


app = typer.Typer(
    name="tilec",
    cls=_Group,
    help="A compiler for low-precision and sparse tile kernels.",
    epilog="Begin with:  tilec run examples/linear.tile --dims M=64,N=256,K=512",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.callback()(_nothing)


def main() -> None:
    """The entry point of the installed command."""
    app()
