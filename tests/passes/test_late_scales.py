"""Scales behind the loop: the same meaning, and which products they are moved for."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops import control, reduce
from tilec.ir.text import show
from tilec.ir.types import Memory
from tilec.passes import parse_pipeline, run

CHANNEL, SMALL = "int8<channel, scale=f32>", "e4m3<channel, scale=f32>"


@tc.kernel
def onto(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], c: tc.Tensor["M", "N"],
         y: tc.Tensor["M", "N"]):  # fmt: skip
    """A sum that does not begin with 0."""
    for m, n in tc.tiles("M", "N"):
        acc = c[m, n]
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def read_meanwhile(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    """Each step reads the sum so far."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc = tc.dot(x[m, k], w[n, k].T, acc * 0.5)
        y[m, n] = acc


def lowered(kernel: Kernel, x: str, w: str, k: int = 96, **dims: int) -> Func:
    given = {"M": 20, "N": 24, "K": k, **dims}
    types = {"x": named(x), "w": named(w), "c": tc.f32, "y": tc.f32}
    known = {p.name for p in kernel.definition.signature.params}
    sizes = " ".join(f"{n}={size}" for n, size in given.items())
    steps = (
        f"specialise{{{sizes}}},tile{{m=16 n=16 k=32}},lower-formats{{planes=0}},canonicalize,pad"
    )
    return run(parse_pipeline(steps), kernel.ir(**{n: t for n, t in types.items() if n in known}))


def moved(func: Func) -> bool:
    """Whether products have no scales any more."""
    after = run(parse_pipeline("late-scales,canonicalize"), func)
    found = [op for op in after.walk() if isinstance(op, reduce.Dot)]
    assert found
    return all(op.scale is None and op.row_scale is None for op in found)


def result(func: Func, arguments: dict[str, Array]) -> Array:
    given = {p.hint: arguments[p.hint].copy() for p in func.params}
    interpret(func, given, {})
    return given["y"]


@pytest.mark.parametrize("kernel", [kernels.linear, onto], ids=["linear", "onto"])
@pytest.mark.parametrize(("x", "w"), [(CHANNEL, CHANNEL), ("i8", CHANNEL), (SMALL, SMALL)])
@pytest.mark.parametrize("before", ["", "split-k{parts=2}", "stream-k{blocks=3}"])
def test_the_meaning_is_kept(kernel: Kernel, x: str, w: str, before: str):
    """Whole numbers are summed in i32, fp8 step by step in f32."""
    func = lowered(kernel, x, w)
    func = run(parse_pipeline(before), func) if before else func
    rng = np.random.default_rng(len(before))
    arguments: dict[str, Array] = {}
    for p in func.params:
        assert isinstance(p.type, Memory)
        sizes = tuple(int(str(d)) for d in p.type.shape)
        whole = p.type.dtype.is_integer
        own = "sums" in p.hint or p.hint == "y"
        arguments[p.hint] = (
            np.full(sizes, np.nan) if own
            else rng.integers(-128, 128, sizes) if whole
            else p.type.dtype.round(rng.uniform(0.5, 2.0, sizes))
        )  # fmt: skip
    after = run(parse_pipeline("late-scales"), func)
    assert moved(func)
    want, got = (result(f, arguments) for f in (func, after))
    assert np.linalg.norm(got - want) < 1e-6 * np.linalg.norm(want)
    assert show(run(parse_pipeline("late-scales"), after)) == show(after)
    loops = [op for op in after.walk() if isinstance(op, control.For) and op.results]
    total = "f32" if x == SMALL else "i32"
    assert loops
    assert all(total in str(v.type) for op in loops for v in op.results)


@pytest.mark.parametrize(("kernel", "x", "w", "k"), [
    (kernels.linear, CHANNEL, "int8<group=32, scale=f32>", 96),  # scales of steps
    (kernels.linear, "bf16", CHANNEL, 96),  # a sum of floats
    (kernels.linear, CHANNEL, "int4<channel, scale=f32>", 96),  # codes that are decoded
    (kernels.linear, CHANNEL, CHANNEL, 1 << 17),  # a sum that i32 does not hold
    (read_meanwhile, CHANNEL, CHANNEL, 96),
], ids=["groups", "floats", "decoded", "beyond", "read"])  # fmt: skip
def test_what_stays(kernel: Kernel, x: str, w: str, k: int):
    assert not moved(lowered(kernel, x, w, k))
