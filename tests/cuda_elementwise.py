"""Kernels of elementwise ops, printed as CUDA and run on this processor beside the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from closeness import close
from emulated import run_func

from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import BY_NAME, Array, DType, f32, i8, u8
from tilec.ir.extent import Sym
from tilec.ir.interpret import interpret
from tilec.ir.ops import control, memory
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory, Span, Tile
from tilec.ir.types import memory as dense
from tilec.passes import parse_pipeline
from tilec.passes import run as passes

TILE = 1024
NARROW = tuple(BY_NAME[n] for n in ("i1", "u1", "i3", "u4", "i4", "u5", "i7"))
SOME_CODES = tuple(CODES[n] for n in ("e2m1", "e4m3_fnuz", "e8m0", "nf4"))
Made = dict[str, Value]  # results by the names of the parameters that they are stored to


def stored(t: DType) -> DType:
    """What a result is stored as: codes as floats, integers of less than a byte as bytes."""
    if t.kind == "code":
        return f32
    return (i8 if t.kind == "int" else u8) if t.is_integer and t.bits < 8 else t


def dtype(v: Value) -> DType:
    assert isinstance(v.type, Tile | Memory)
    return v.type.dtype


def kernel(inputs: dict[str, DType], n: int, body: Callable[[Builder, Made], Made]) -> Func:
    """Loads every input, a tile at a time, and stores all that a body makes of them."""
    b, span = Builder(), Value(Span(n, Sym("m")), "m")
    params = [Value(dense(stored(t), n), name) for name, t in inputs.items()]
    loaded = {p.hint: b(memory.Load(p, (span,))) for p in params}
    given = {name: v if dtype(v) == t else b(Cast(v, t))
             for (name, t), v in zip(inputs.items(), loaded.values(), strict=True)}  # fmt: skip
    for name, v in body(b, given).items():
        t = stored(dtype(v))
        params.append(Value(dense(t, n), f"{name}_out"))
        b.add(memory.Store(params[-1], (span,), v if t == dtype(v) else b(Cast(v, t))))
    grid = control.Grid((n,), (Sym("m"),), (TILE,), Block((span,), tuple(b.ops)))
    return Func("k", Block(tuple(params), (grid,)))


def laid_out(func: Func) -> Func:
    return passes(parse_pipeline("pad,lay-out"), func)


def check(func: Func, inputs: dict[str, Array], ulps: dict[str, float] | None = None) -> None:
    """What the kernel stores is what the interpreter stores."""
    n = len(next(iter(inputs.values())))
    types = {p.hint: dtype(p) for p in func.params}
    got = {h: inputs[h].copy() if h in inputs else np.full(n, 77).astype(t.carrier)
           for h, t in types.items()}  # fmt: skip
    want = {h: x.copy() for h, x in got.items()}
    with np.errstate(invalid="ignore"):  # NaN that signals
        run_func(laid_out(func), got)
    interpret(func, want, {})
    failed: list[str] = []
    for h in types:
        ok = close(
            got[h], want[h], types[h], (ulps or {}).get(h.removesuffix("_out"), 0.0), signs=True
        )
        if not ok.all():
            i = int(np.argmin(ok))
            at = [x[i] for x in inputs.values()][:4]
            failed.append(f"{h}: {(~ok).sum()} differ: of {at} {got[h][i]!r}, not {want[h][i]!r}")
    assert not failed, "\n".join(failed[:20])
