"""`tilec explain`: what a program becomes, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tilec.artifacts import check_dims, dimensions, kernel_of, retyped
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    types_of,
)
from tilec.explain import Explanation, ranges, shown
from tilec.explain import explain as explained
from tilec.explain.graph import Graph
from tilec.explain.traffic import Access, Kernel
from tilec.ir.errors import TileError

SIZE = 1024  # of dimensions that no number is given for, if none is


@reported
def explain(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    svg: Annotated[Path | None, typer.Option(help="A file for the graphs as SVG.")] = None,
    json_: Json = False,
) -> None:
    """Show the kernels of a program, the bytes that they move, and why they are not fewer.

    Without --dims every dimension is 1024. `lines` are those of the program.

    Example: tilec explain examples/attention.tile --dims B=1,H=8,M=1024,N=1024,D=64
    """
    definition = retyped(kernel_of(file, kernel), types_of(types))
    numbers = dims_of(dims) or dict.fromkeys(dimensions(definition), SIZE)
    check_dims(definition, numbers)
    with progress(f"explaining {definition.signature.name}"):
        found = explained(definition, {}, numbers)
    if svg is not None:
        try:
            svg.write_text(found.svg(), encoding="utf-8")
        except OSError as e:
            raise TileError(f"{svg} can't be written: {e}") from None
    if json_:
        answer(_document(found))
    else:
        _show(found)


def _show(found: Explanation) -> None:
    """Tables of the kernels, and remarks."""
    sizes = ", ".join(f"{n} = {size}" for n, size in found.dims.items())
    typer.echo(f"{found.name} with {sizes or 'no named dimensions'}")
    console = Console(markup=False)
    totals = Table()
    for heading in ("", "kernels", "bytes", "of compulsory"):
        totals.add_column(heading, justify="right" if heading else "left")
    for what, each in (("every op a kernel", found.unfused), ("fused", found.kernels)):
        moved = sum(k.bytes for k in each)
        ratio = f"{moved / found.compulsory:.2f}" if found.compulsory else "none"
        totals.add_row(what, str(len(each)), shown(moved), ratio)
    totals.add_row("compulsory", "", shown(found.compulsory), "")
    console.print(totals)
    for k in found.kernels:
        typer.echo(f"{k.name}, lines {ranges(k.lines)}: {' '.join(k.ops) or 'copies'}")
    table = Table()
    for heading in ("kernel", "tensor", "", "bytes", "of", "passes", "again by tile of"):
        right = heading in ("bytes", "of", "passes")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for k in found.kernels:
        for row in _rows(k):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    for remark in found.remarks:
        typer.echo(str(remark))


def _rows(k: Kernel) -> list[tuple[str, ...]]:
    """A line for each tensor of a kernel; the first has its name."""
    rows: list[tuple[str, ...]] = []
    for kind, accesses in (("read", k.reads), ("written", k.writes)):
        for a in accesses:
            rows.append((k.name * (not rows), a.tensor, kind, shown(a.bytes), shown(a.size),
                         f"{a.passes:.3g}", " ".join(a.again)))  # fmt: skip
    return rows


def _document(found: Explanation) -> dict[str, Any]:
    before, after = found.graphs
    return {
        "program": found.name, "dims": dict(found.dims), "compulsory": found.compulsory,
        "before": {"kernels": list(map(_kernel, found.unfused)), "graph": _graph(before)},
        "after": {"kernels": list(map(_kernel, found.kernels)), "graph": _graph(after)},
        "remarks": [{"origin": r.origin, "message": r.message, "missing": r.missing,
                     "line": r.loc.user.line if r.loc else None} for r in found.remarks],
    }  # fmt: skip


def _kernel(k: Kernel) -> dict[str, Any]:
    return {
        "name": k.name, "ops": k.ops, "lines": k.lines, "bytes": k.bytes,
        "reads": list(map(_access, k.reads)), "writes": list(map(_access, k.writes)),
    }  # fmt: skip


def _access(a: Access) -> dict[str, Any]:
    return {"tensor": a.tensor, "bytes": a.bytes, "size": a.size, "compulsory": a.compulsory,
            "passes": a.passes, "again": a.again}  # fmt: skip


def _graph(g: Graph) -> dict[str, Any]:
    nodes = [{"kind": n.kind, "name": n.name, "detail": n.detail} for n in g.nodes]
    return {"nodes": nodes, "edges": g.edges}
