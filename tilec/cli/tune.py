"""`tilec tune`: find the fastest configs of kernels, here or by a tuning service."""

from __future__ import annotations

import typer

from tilec.cli.studies import cancel, delete, submit, watch
from tilec.cli.tuning import diff, export, import_, run

app = typer.Typer(name="tune", help="Find the fastest configs of kernels.", no_args_is_help=True)
app.command("run")(run)
app.command("export")(export)
app.command("import")(import_)
app.command("diff")(diff)
app.command("submit")(submit)
app.command("watch")(watch)
app.command("cancel")(cancel)
app.command("delete")(delete)
