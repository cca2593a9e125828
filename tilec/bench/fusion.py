"""Fused programs beside torch, as it is and compiled: time, memory, and bytes that are moved."""

# torch and numpy type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ctypes
import gc
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tilec.bench.contenders import Contender
from tilec.bench.cpu import machine
from tilec.bench.layers import STORED, Case, Layer, layer
from tilec.bench.worker import Worker
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import TensorSpec
from tilec.profile import ceilings
from tilec.runtime.arguments import describe
from tilec.runtime.tensor import PackedTensor
from tilec.settings import settings

CASES = [
    *(Case(f, (1024, 4096), t) for f in ("softmax", "rms", "layer-norm", "swiglu") for t in STORED),
    *(Case("rotary", (32, 1024, 64), t) for t in STORED),
    *(Case("rms-linear", (m, 4096, 4096), "bf16", w) for m in (16, 256) for w in ("bf16", "int4")),
    *(Case("mlp", (m, 4096, 14336), "bf16", w) for m in (1, 16) for w in ("bf16", "int4")),
    Case("mlp", (256, 2048, 5632), "bf16", "int4"),
    *(Case("cross-entropy", (512, v), t) for v in (32000, 128256) for t in STORED),
    *(Case("linear-cross-entropy", (512, v, 2048), t, t) for v in (32000, 128256) for t in STORED),
    *(Case("decoder", (b, 1024), "bf16", "int4") for b in (1, 16)),
]  # fmt: skip
COPIED = ("softmax", "rms", "layer-norm", "swiglu", "rotary")  # shares of a copy are of interest
OURS, EAGER, COMPILED, COPY = "tilec", "torch eager", "torch compiled", "copy"
SECONDS = 0.2  # of a burst
WORST = {"f32": 2e-5, "bf16": 1e-2}  # relative errors of results


def make(name: str, case: Case) -> Contender:
    """A contender by name, its result checked. Raises TileError where it is wrong or unknown."""
    if name == COPY:
        run, nbytes = ceilings.copied(case.draw(*case.sizes[:2]).nbytes)
        return Contender([run], nbytes, 0.0)
    makers: dict[str, Callable[[Layer], Callable[[], Any]]] = {
        OURS: _ours, EAGER: _eager, COMPILED: _compiled}  # fmt: skip
    if name not in makers:
        raise TileError(f"no contender is called {name!r}; there are {', '.join(makers)}")
    found = layer(case)
    run = makers[name](found)
    error = _error(run(), found.want())
    if not error < WORST[case.dtype]:
        raise TileError(f"{name} is wrong in {case}: its relative error is {error:.1e}")
    about = {"error": error, **(_explained(found) if name == OURS else {"kept": 0})}
    about["peak"] = peak(run) + about["kept"]
    return Contender([run], 0, 0.0, about)


def _ours(found: Layer) -> Callable[[], Any]:
    return lambda: found.program(*found.ours)


def _eager(found: Layer) -> Callable[[], Any]:
    import torch

    torch.set_grad_enabled(False)
    return found.theirs(torch)


def _compiled(found: Layer) -> Callable[[], Any]:
    import torch

    return torch.compile(_eager(found), dynamic=False)


def _error(got: Any, want: Any) -> float:
    """The norm of the difference in that of what is expected, of as many rows as that has."""
    whole: Any = got if isinstance(got, np.ndarray) else got.double().numpy()
    rows = whole[: len(want)].astype(np.float64)
    return float(np.linalg.norm(rows - want) / np.linalg.norm(want))


def _explained(found: Layer) -> dict[str, Any]:
    """Kernels, bytes moved, those that no way can do without, and the memory kept for calls."""
    types: dict[str, Format | DType] = {}
    shapes: list[tuple[int, ...] | None] = []
    signature = found.program.definition.signature
    for p, x in zip(signature.params, found.ours, strict=True):
        shapes.append(None)
        if isinstance(x, PackedTensor):
            types[p.name], shapes[-1] = x.format, x.shape
        elif isinstance(p.spec, TensorSpec):
            seen: Any = describe(x)
            types[p.name], shapes[-1] = Dense(BY_NAME[seen.dtype]), tuple(seen.shape)
    dims = signature.bind(shapes)
    told, kernel = found.program.explain(types, dims), found.program.kernel(**types)
    return {
        "kernels": len(told.kernels), "unfused_kernels": len(told.unfused),
        "moved": sum(k.bytes for k in told.kernels), "compulsory": told.compulsory,
        "kept": cpu_source(kernel.definition, types, dims, engine()).workspace,
    }  # fmt: skip


def peak(run: Callable[[], Any]) -> int:
    """Resident bytes that a call takes at most beyond those before it, its result with them."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = run()
    most = _status("VmHWM")
    del result
    return max(0, most - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith(name)).split()[1])


def absent() -> str:
    """Why torch's compiler can't run, or nothing."""
    compiler = settings().environment.get("CXX") or "g++"
    return "" if shutil.which(compiler) else f"torch.compile needs a C++ compiler, not {compiler}"


def measure(cases: list[Case], rounds: int, console: Console) -> dict[str, Any]:
    """Raw samples and what follows from them, for every case."""
    threads = engine().pool.threads
    found = [_case(c, rounds, threads) for c in track(cases, "measuring", console=console)]
    return {"machine": machine(), "threads": threads, "rounds": rounds, "skipped": absent(),
            "cases": found}  # fmt: skip


def _case(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    names = [OURS, EAGER, *([] if absent() else [COMPILED]), *([COPY] * (case.layer in COPIED))]
    workers: list[Worker] = []
    try:
        for n in names:
            workers.append(Worker(n, case, threads, make))
        for _ in range(rounds):
            for w in workers:
                w.burst(SECONDS)
    finally:
        for w in workers:
            w.stop()
    ours, *others = workers
    return {
        "layer": case.layer, "sizes": case.sizes, "dtype": case.dtype, "weight": case.weight,
        "contenders": {w.name: _summary(w) for w in workers},
        "ratios": {w.name: _ratio(ours, w) for w in others},
    }  # fmt: skip


def _summary(w: Worker) -> dict[str, Any]:
    return {
        **w.about, "median_seconds": _median([t for b in w.bursts for t in b.kept]),
        "median_work": _median([t for b in w.bursts for t in b.work]),
        "microseconds": [[round(1e6 * t, 1) for t in b.kept] for b in w.bursts],
        "work": [[round(1e6 * t, 1) for t in b.work] for b in w.bursts],
    }  # fmt: skip


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _ratio(ours: Worker, theirs: Worker) -> dict[str, Any]:
    """How many times as fast ours is, the median over rounds: by time where nothing disturbed both,
    and by the processor time of all threads."""
    rounds = list(zip(ours.bursts, theirs.bursts, strict=True))
    times = [statistics.median(b.kept) / statistics.median(a.kept)
             for a, b in rounds if a.kept and b.kept]  # fmt: skip
    work = [statistics.median(b.work) / statistics.median(a.work) for a, b in rounds]
    return {"time": _median(times), "work": _median(work), "rounds": len(times)}


def table(result: dict[str, Any]) -> Table:
    """A row a case: time, how many times as fast as torch, and peak memory of each."""
    out = Table(title=f"fused programs on {result['machine']['processor']}")
    for heading in ("layer", "sizes", "dtype", "weight", "us", "/ eager", "/ compiled", "/ copy",
                    "by work", "MB", "eager MB", "compiled MB", "moved"):  # fmt: skip
        out.add_column(heading, justify="left" if heading == "layer" else "right")
    for case in result["cases"]:
        c, ratios = case["contenders"], case["ratios"]
        best = [ratios.get(n, {}) for n in (EAGER, COMPILED, COPY)]
        out.add_row(
            case["layer"], "x".join(map(str, case["sizes"])), case["dtype"], case["weight"],
            _shown(c[OURS]["median_seconds"], 1e6), *(_shown(r.get("time")) for r in best),
            " ".join(_shown(r.get("work")) for r in best),
            *(_shown(c.get(n, {}).get("peak"), 1e-6) for n in (OURS, EAGER, COMPILED)),
            f"{c[OURS]['moved'] / c[OURS]['compulsory']:.3f}",
        )  # fmt: skip
    return out


def _shown(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.3g}"
