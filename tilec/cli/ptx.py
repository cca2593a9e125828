"""`tilec ptx list` and `tilec ptx run`: the kernels of a PTX file; one of them run and checked."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tilec.cli.report import Json, answer, progress, reported
from tilec.ir.dtype import BY_NAME, Array, DType
from tilec.ir.errors import TileError
from tilec.ptx import Module, Report, Suppression, TensorMap, load
from tilec.ptx.arguments import Argument
from tilec.ptx.report import Row

app = typer.Typer(
    name="ptx",
    help="Run PTX without a GPU and find what is wrong with it.",
    no_args_is_help=True,
    epilog="Begin with:  tilec ptx list gemm.ptx",
)

PtxFile = Annotated[Path, typer.Argument(metavar="FILE", help="A file of PTX text.")]
FILLS = ("random", "zeros", "ones", "nan", "range")
FORMS = "TYPE:VALUE, TYPE:FILL:SIZES, map:TYPE:FILL:SIZES:BOX[:SWIZZLE], FILE.npy or null"


@app.command("list")
@reported
def list_(file: PtxFile, json_: Json = False) -> None:
    """Show the kernels of a file with their parameters.

    Example: tilec ptx list gemm.ptx
    """
    module = _module(file)
    found = [_described(module, name) for name in module.names]
    if json_:
        answer(found)
        return
    for k in found:
        block = f", block {'x'.join(map(str, k['block']))}" if k["block"] else ""
        typer.echo(f"{k['name']}: {k['instructions']} instructions{block}")
        for p in k["parameters"]:
            typer.echo(f"  {p['name']}: {p['type']}, {p['bytes']} bytes")


def _described(module: Module, name: str) -> dict[str, Any]:
    k = module.kernel(name)
    return {
        "name": name,
        "instructions": len(k.code),
        "block": list(k.block) if k.block else None,
        "parameters": [
            {"name": p.name, "type": p.type.name, "bytes": p.size} for p in k.parameters
        ],
    }


@app.command("run")
@reported
def run(
    file: PtxFile,
    entry: Annotated[str, typer.Option(help="Which kernel, if there are several.")] = "",
    grid: Annotated[str, typer.Option(help="Blocks: 2 or 2,2 or 2,2,1.")] = "1",
    block: Annotated[str, typer.Option(help="Threads of a block; what the text says.")] = "",
    arg: Annotated[list[str] | None, typer.Option(help=f"One per parameter, in order: {FORMS}. "
                                                       f"Fills: {', '.join(FILLS)}.")] = None,
    shared: Annotated[int, typer.Option(min=0, help="Bytes of dynamic shared memory.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of random arguments.")] = 0,
    check: Annotated[bool, typer.Option(help="Look for races and the like.")] = True,
    suppress: Annotated[list[str] | None, typer.Option(
        help="Don't report KIND, KIND:LINE or KIND:FILE:LINE.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Also what each access costs.")] = False,
    save: Annotated[Path | None, typer.Option(help="A folder for the arrays afterwards.")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Run a kernel on arguments and report what was wrong; exit code 1 if anything was.

    Example: tilec ptx run gemm.ptx --grid 2,2 --block 128 --shared 49152 --arg f16:random:256x256
    --arg f16:random:256x256 --arg f32:nan:256x256 --arg i32:256 --arg i32:256 --arg i32:256
    """
    module = _module(file)
    kernel = module.kernel(entry)
    size = _size(block) if block else kernel.block
    if size is None:
        raise TileError(f"--block is missing, and {kernel.name} does not say how many threads")
    rng = np.random.default_rng(seed)
    values = [_argument(text, rng) for text in arg or ()]
    ignored = [_suppression(text) for text in suppress or ()]
    with progress(f"running {kernel.name}"):
        report = module.run(
            kernel.name, _size(grid), size, values, shared=shared, check=check, suppress=ignored
        )
    names = [p.name for p in kernel.parameters]
    if save is not None:
        _save(save, dict(zip(names, values, strict=True)))
    answer(_document(report)) if json_ else typer.echo(_text(report, rows))
    if not report.clean:
        raise typer.Exit(1)


def _module(file: Path) -> Module:
    try:
        return load(file.read_text())
    except (OSError, UnicodeDecodeError) as e:
        raise TileError(f"{file} can't be read: {e}") from None


def _size(text: str) -> tuple[int, ...]:
    words = text.replace("x", ",").split(",")
    if not all(w.isdecimal() for w in words) or len(words) > 3:
        raise TileError(f"{text!r} is no size of a grid or a block: expected 2 or 2,2 or 2,2,1")
    return tuple(int(w) for w in words)


def _argument(text: str, rng: np.random.Generator) -> Argument:
    """The value that an `--arg` describes. Raises TileError for anything else."""
    if text.endswith(".npy"):
        try:
            return np.load(text)
        except (OSError, ValueError) as e:
            raise TileError(f"{text} can't be read: {e}") from None
    words = text.split(":")
    match words:
        case ["null"]:
            return 0
        case ["map", kind, fill, sizes, box]:
            return TensorMap(_array(kind, fill, sizes, rng), _size(box))
        case ["map", kind, fill, sizes, box, swizzle]:
            return TensorMap(_array(kind, fill, sizes, rng), _size(box), _size(swizzle)[0])
        case [kind, value]:
            return _number(_dtype(kind), value)
        case [kind, fill, sizes]:
            return _array(kind, fill, sizes, rng)
        case _:
            raise TileError(f"--arg: {text!r} is none of {FORMS}")


def _dtype(name: str) -> DType:
    t = BY_NAME.get(name)
    if t is None or t.bits < 8 or t.kind == "bool":
        known = ", ".join(n for n, k in BY_NAME.items() if k.bits >= 8 and k.kind != "bool")
        raise TileError(f"--arg: no type of arguments is called {name!r}; there are {known}")
    return t


def _number(t: DType, text: str) -> Argument:
    try:
        value = float(text) if t.is_float else int(text, 0)
    except ValueError:
        raise TileError(f"--arg: {text!r} is no number of type {t}") from None
    if not t.is_float and not t.low <= value <= t.high:
        raise TileError(f"--arg: {text} is no {t}: there are {t.low} to {t.high}")
    return t.to_storage(t.round(np.asarray(value)))[()]


def _array(kind: str, fill: str, sizes: str, rng: np.random.Generator) -> Array:
    """An array of that type, fill and shape."""
    t = _dtype(kind)
    words = sizes.split("x")
    if not all(w.isdecimal() and int(w) for w in words):
        raise TileError(f"--arg: {sizes!r} are no sizes: expected 256 or 256x64")
    shape = tuple(int(w) for w in words)
    match fill:
        case "random" if t.is_float:
            values = rng.standard_normal(shape)
        case "random":
            low, high = max(int(t.low), -(2**62)), min(int(t.high), 2**62)
            values = rng.integers(low, high, shape, endpoint=True)
        case "zeros" | "ones":
            values = np.full(shape, fill == "ones").astype(t.carrier)
        case "nan" if t.is_float:
            values = np.full(shape, np.nan)
        case "range":
            values = np.arange(prod(shape)).reshape(shape).astype(t.carrier)
        case _:
            raise TileError(f"--arg: no fill of {t} is called {fill!r}; there are {FILLS}")
    return np.ascontiguousarray(t.to_storage(t.round(values)))


def _suppression(text: str) -> Suppression:
    words = text.split(":")
    line = words[-1] if len(words) > 1 else "0"
    if len(words) > 3 or not line.isdecimal():
        raise TileError(f"--suppress: {text!r} is not KIND, KIND:LINE or KIND:FILE:LINE")
    return Suppression(words[0], int(line), words[1] if len(words) == 3 else "")


def _save(folder: Path, values: dict[str, Argument]) -> None:
    """Write the arrays, named after their parameters; narrow floats as their bytes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            a = value.array if isinstance(value, TensorMap) else value
            if isinstance(a, np.ndarray):
                plain = a if a.dtype.kind in "fiu" else a.view(f"u{a.dtype.itemsize}")
                np.save(folder / f"{name}.npy", plain)
    except OSError as e:
        raise TileError(f"{folder} can't be written: {e}") from None


def _document(report: Report) -> dict[str, Any]:
    """A report as JSON: its fields, and the totals over all rows."""
    totals = {"executed": report.executed, "clean": report.clean}
    for name, (many, ideal) in (("wavefronts", report.wavefronts), ("sectors", report.sectors)):
        totals |= {name: many, f"ideal_{name}": ideal}
    return json.loads(json.dumps(asdict(report))) | totals


def _text(report: Report, rows: bool) -> str:
    costly = [r for r in report.rows if r.ideal_wavefronts or r.ideal_sectors] if rows else []
    return "\n".join([str(report), *(map(_line, costly))])


def _line(r: Row) -> str:
    costs = [
        f"{many} {what} ({many / ideal:.2f} x ideal)"
        for what, many, ideal in (
            ("wavefronts", r.wavefronts, r.ideal_wavefronts),
            ("sectors", r.sectors, r.ideal_sectors),
        )
        if ideal
    ]
    return f"{r.place}: {r.executed} times, {', '.join(costs)}\n    {r.text}"
