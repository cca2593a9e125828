"""`tilec roofline`: what bounds a kernel on each device, as it is written and as it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tilec.artifacts import check_dims, dimensions, kernel_of, retyped
from tilec.cli.explain import SIZE
from tilec.cli.report import (
    Dims,
    File,
    Json,
    KernelName,
    Measure,
    Types,
    answer,
    dims_of,
    progress,
    reported,
    types_of,
)
from tilec.explain import shown
from tilec.ir.errors import TileError
from tilec.profile.bounds import Side, after, before
from tilec.profile.devices import DEVICES, Device, device
from tilec.profile.roofline import Ceilings, ceilings
from tilec.profile.table import seconds

Machines = Mapping[str, Device | Ceilings]


@reported
def roofline(
    file: File,
    kernel: KernelName = "",
    dims: Dims = "",
    types: Types = "",
    devices: Annotated[
        str, typer.Option("--device", help=f"host (measured), {', '.join(DEVICES)}.")
    ] = "host,h100",
    measure: Measure = False,
    json_: Json = False,
) -> None:
    """Show the operations, bytes and intensity of a kernel, and the least time on each device.

    Before: every op a kernel, operands dense as the file has them. After: fused, operands in the
    formats of --types. Without --dims every dimension is 1024.

    Example: tilec roofline examples/linear.tile --dims M=1,N=4096,K=4096 --types
    'w=int4<group=128>' --device host,h100
    """
    written = kernel_of(file, kernel)
    given = retyped(written, types_of(types))
    numbers = dims_of(dims) or dict.fromkeys(dimensions(given), SIZE)
    check_dims(given, numbers)
    with progress(f"counting {given.signature.name}"):
        machines = _machines([w.strip() for w in devices.split(",") if w.strip()], measure)
        both = before(retyped(written, {}), numbers), after(given, numbers)
    if json_:
        answer(_document(given.signature.name, numbers, both, machines))
    else:
        _show(given.signature.name, numbers, both, machines)


def _machines(names: Sequence[str], measure: bool) -> Machines:
    """The machines by name; the host is measured where it was not yet, or again. Raises TileError
    for one that nobody knows, or none."""
    if not names:
        raise TileError("--device: expected a name", hint="--device host,h100")
    known = {n: device(n) for n in names if n != "host"}
    return {n: known[n] if n in known else ceilings(measure) for n in names}


def _show(name: str, dims: Mapping[str, int], both: tuple[Side, Side], machines: Machines) -> None:
    """What there is to do, then what each machine needs for it."""
    sizes = ", ".join(f"{n} = {size}" for n, size in dims.items())
    typer.echo(f"{name} with {sizes or 'no named dimensions'}")
    console = Console(markup=False)
    work = Table()
    for heading in ("", "kernels", "operations", "operands", "compulsory", "moved", "op/byte"):
        work.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for what, side in zip(("before", "after"), both, strict=True):
        w = side.work
        most = "up to " * w.sparse
        work.add_row(what, str(side.kernels), f"{most}{w.operations:.4g}", w.operands,
                     shown(w.compulsory), shown(w.bytes), f"{side.intensity:.3g}")  # fmt: skip
    console.print(work)
    times = Table()
    for heading in ("device", "GB/s", "G op/s", "balance", "before", "after", "gain"):
        times.add_column(heading, justify="right" if heading != "device" else "left", no_wrap=True)
    for where, machine in machines.items():
        times.add_row(where, *_cells(machine, both))
    console.print(times)
    typer.echo("balance: operations for a byte where memory and arithmetic take equally long")
    for where, machine in machines.items():
        typer.echo(f"{where}: {_source(machine)}")


def _cells(machine: Device | Ceilings, both: tuple[Side, Side]) -> list[str]:
    last = both[1].work
    bandwidth, rate = machine.bandwidth(last.bytes), machine.rate(last)
    bounds = [side.bound(machine) for side in both]
    return [
        f"{bandwidth / 1e9:,.0f}", f"{rate / 1e9:,.0f}", f"{rate / bandwidth:.3g}",
        *(f"{seconds(b.seconds)} {b.by}" for b in bounds),
        f"{bounds[0].seconds / bounds[1].seconds:.2f}x" if bounds[1].seconds else "",
    ]  # fmt: skip


def _source(machine: Device | Ceilings) -> str:
    """Where the peaks of a machine are from."""
    if isinstance(machine, Ceilings):
        return f"measured {machine.measured} with {machine.threads} threads"
    return f"{machine.title}; {machine.source}"


def _document(
    name: str, dims: Mapping[str, int], both: tuple[Side, Side], machines: Machines
) -> dict[str, Any]:
    first, last = both
    return {
        "kernel": name, "dims": dict(dims), "before": first.as_json(), "after": last.as_json(),
        "devices": {n: _bounds(m, both) for n, m in machines.items()},
    }  # fmt: skip


def _bounds(machine: Device | Ceilings, both: tuple[Side, Side]) -> dict[str, Any]:
    """Each side with the rate and the bandwidth that it has there."""
    found: dict[str, Any] = {"source": _source(machine)}
    for what, side in zip(("before", "after"), both, strict=True):
        bound = side.bound(machine)
        found[what] = {
            "seconds": bound.seconds, "bound": bound.by,
            "bytes_per_second": machine.bandwidth(side.work.bytes),
            "operations_per_second": machine.rate(side.work),
        }  # fmt: skip
    return found
