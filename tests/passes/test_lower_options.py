"""Options of lower-formats for machines with threads: zeros by products, codes as sums."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops.packed import Term
from tilec.ir.ops.reduce import Dot, Sum
from tilec.passes import parse_pipeline, run


def lowered(text: str, x: DType, options: str) -> Func:
    func = kernels.linear.definition.ir({"x": x, "w": named(text), "y": tc.f32})
    passes = "specialise{M=5 N=12 K=128},tile{rows=4 columns=8 depth=64}"
    return run(parse_pipeline(f"{passes},lower-formats{{{options}}},canonicalize"), func)


def result(func: Func, seed: int = 0) -> Array:
    """y of small numbers."""
    rng = np.random.default_rng(seed)
    found = dict[str, Array]()
    for p in func.params:
        t, size = p.type.dtype, tuple(int(str(d)) for d in p.type.shape)  # type: ignore[union-attr]
        if t.is_integer:
            found[p.hint] = rng.integers(int(t.low), int(t.high), size, endpoint=True)
        elif p.hint.endswith("codes"):
            found[p.hint] = rng.choice(t.table.values, size)  # type: ignore[union-attr]
        elif p.hint.endswith("scale"):
            found[p.hint] = np.ldexp(1.0, rng.integers(-2, 3, size))
        else:
            found[p.hint] = rng.integers(-4, 5, size).astype(float)
    found["y"][:] = np.nan
    interpret(func, found, {})
    return found["y"]


@pytest.mark.parametrize("zero", ["int", "float", "shift", "min"])
@pytest.mark.parametrize("x", [tc.f16, tc.bf16, tc.f32], ids=str)
def test_zeros_by_products(zero, x):
    """Every sum is exact. Sums of f32 stay: a product of these is not one of matrix units."""
    text = f"uint4<group=32, zero={zero}>"
    plain, other = (lowered(text, x, f"planes=0 zeros={z}") for z in ("sums", "products"))
    sums = [[isinstance(op, Sum) for op in f.walk()].count(True) for f in (plain, other)]
    assert sums == [1, int(x == tc.f32)]
    assert np.array_equal(result(other), result(plain))
    assert np.abs(result(other)).max() > 4


@pytest.mark.parametrize(("text", "x", "terms", "products"), [
    ("nf4<group=32>", tc.f16, 1, 1), ("nf4<group=32>", tc.f16, 2, 2),
    ("nf4<channel>", tc.bf16, 2, 1), ("nf4<channel>", tc.bf16, 3, 3),
    ("nf4<group=32>", tc.f32, 3, 1), ("fp4<channel>", tc.bf16, 3, 3),
    ("fp4<channel>", tc.f16, 3, 1),
])  # fmt: skip
def test_codes_as_sums(text, x, terms, products):
    """The least f16 is too much to leave of the least value of fp4."""
    func = lowered(text, x, f"planes=0 terms={terms}")
    ops = list(func.walk())
    assert sum(isinstance(op, Dot) for op in ops) == products
    assert sum(isinstance(op, Term) for op in ops) == (products if products > 1 else 0)
    want = result(lowered(text, x, "planes=0"))
    assert np.abs(result(func) - want).max() <= 2.0**-20 * np.abs(want).max()


def test_what_one_float_has_needs_no_sum():
    ops = lowered("iq4<group=32>", tc.f16, "planes=0 terms=3").walk()
    assert not any(isinstance(op, Term) for op in ops)


def test_unknown_zeros():
    with pytest.raises(TileError, match="zeros is 'x', expected sums or products"):
        lowered("uint4<group=32, zero=int>", tc.f16, "zeros=x")
