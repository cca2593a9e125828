"""Running single instructions and small bodies of PTX in tests."""

from __future__ import annotations

import numpy as np

from tilec import ptx
from tilec.ir.dtype import Array

HEADER = """.version 9.0
.target sm_90a
.address_size 64
"""
WIDE = {1: "16", 2: "16", 4: "32", 8: "64"}  # the register for an element of that many bytes


def kernel(body: str, parameters: str = ".param .u64 out", before: str = "") -> ptx.Module:
    """A module with one kernel `k`. Its body may use %r, %rd, %f, %fd, %h, %p registers."""
    registers = (
        ".reg .pred %p<20>; .reg .b16 %h<40>; .reg .b32 %r<80>; .reg .f32 %f<40>;\n"
        ".reg .b64 %rd<40>; .reg .f64 %fd<40>;\n"
    )
    return ptx.load(f"{HEADER}{before}.visible .entry k({parameters})\n{{\n{registers}{body}\n}}\n")


def _loads(name: str, a: Array) -> str:
    size = a.dtype.itemsize
    return (
        f"ld.param.u64 %rd1, [{name}]; mad.wide.u32 %rd1, %index, {size}, %rd1;\n"
        f"ld.global.b{8 * size} %{name}, [%rd1];\n"
    )


def evaluate(text: str, out: str, **inputs: Array) -> Array:
    """What `text` leaves in %d for one thread per element of the inputs, as numpy's type `out`.

    Inputs are registers of their names; `%p`, where used, is a predicate that is stored instead.
    """
    arrays = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
    count = len(next(iter(arrays.values())))
    kind = np.dtype(out)
    result = np.zeros(count, kind)
    names = [*arrays, "out"]
    body = "".join(
        f".reg .b{WIDE[a.dtype.itemsize]} %{n};\n" for n, a in {**arrays, "d": result}.items()
    )
    body += (
        ".reg .b32 %index, %n; .reg .pred %past, %p, %q;\n"
        "mov.u32 %index, %ctaid.x; mov.u32 %n, %ntid.x; mul.lo.u32 %index, %index, %n;\n"
        "mov.u32 %n, %tid.x; add.u32 %index, %index, %n; ld.param.u32 %n, [n];\n"
        "setp.ge.u32 %past, %index, %n; @%past bra END;\n"
    )
    body += "".join(_loads(n, a) for n, a in arrays.items()) + text + "\n"
    size = kind.itemsize
    body += (
        f"ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %index, {size}, %rd1;\n"
        f"st.global.b{8 * size} [%rd1], %d;\nEND: ret;"
    )
    parameters = ", ".join([f".param .u64 {n}" for n in names] + [".param .u32 n"])
    grid = -(-count // 256)
    report = kernel(body, parameters).run(
        "k", grid, 256, [*arrays.values(), result, np.uint32(count)]
    )
    assert report.clean, report
    return result


def predicate(text: str, **inputs: Array) -> Array:
    """What `text` leaves in %p, as booleans."""
    return evaluate(text + " selp.u32 %d, 1, 0, %p;", "uint32", **inputs).astype(bool)


def integers(kind: str, count: int, seed: int = 0) -> Array:
    """Random integers of a type, small ones and the edges among them."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(kind)
    wide = rng.integers(info.min, info.max, count, kind, endpoint=True)
    small = rng.integers(max(info.min, -40), 40, count).astype(kind)
    edges = rng.choice(np.array([info.min, info.max, 0, 1, info.max - 1], kind), count)
    pick = rng.random(count)
    return np.where(pick < 0.6, wide, np.where(pick < 0.85, small, edges))


def floats(kind: str, count: int, seed: int = 0, special: bool = True) -> Array:
    """Random floats of all sizes, with zeros, infinities, NaNs and subnormal numbers."""
    rng = np.random.default_rng(seed)
    bits = {"float16": "uint16", "float32": "uint32", "float64": "uint64"}[kind]
    any_ = rng.integers(0, np.iinfo(bits).max, count, bits, endpoint=True).view(kind)
    usual = (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)).astype(kind)
    tiny = np.finfo(kind).smallest_subnormal * rng.integers(0, 40, count)
    edges = np.array([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan], kind)
    pick = rng.random(count)
    x = np.where(pick < 0.5, usual, np.where(pick < 0.8, any_, tiny.astype(kind)))
    x = np.where(pick > 0.95, rng.choice(edges, count), x)
    return (x if special else np.where(np.isfinite(x), x, 1.5)).astype(kind)
