"""The command line: `tilec compile`, `pack`, `run`, `opt`, `explain`, `op`, `layout`, ..."""

from __future__ import annotations

import typer

from tilec.cli.bench import app as bench
from tilec.cli.build import compile_, run
from tilec.cli.cache import app as cache
from tilec.cli.check import check
from tilec.cli.explain import explain
from tilec.cli.inspect import formats, op, opt
from tilec.cli.layout import layout
from tilec.cli.machine import doctor
from tilec.cli.pack import pack
from tilec.cli.profile import profile
from tilec.cli.ptx import app as ptx
from tilec.cli.roofline import roofline
from tilec.cli.serve import app as serve
from tilec.cli.tune import app as tune
from tilec.cli.worker import app as worker

app = typer.Typer(
    name="tilec",
    help="A compiler for low-precision and sparse tile kernels.",
    epilog="Begin with:  tilec run examples/linear.tile --dims M=64,N=256,K=512",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("compile")(compile_)
app.command("run")(run)
app.command("profile")(profile)
app.command("roofline")(roofline)
app.command("check")(check)
app.command("pack")(pack)
app.command("opt")(opt)
app.command("explain")(explain)
app.command("op")(op)
app.command("formats")(formats)
app.command("layout")(layout)
app.command("doctor")(doctor)
app.add_typer(bench)
app.add_typer(cache)
app.add_typer(ptx)
app.add_typer(serve)
app.add_typer(tune)
app.add_typer(worker)


def main() -> None:
    """The entry point of the installed command."""
    app()
