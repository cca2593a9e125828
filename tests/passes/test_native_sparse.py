"""Products of what is stored of 2:4 operands: the sums of the whole, and why others are not."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cuda import Schedule, cuda_func
from tilec.ir.core import Func
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops.sparse import SparseDot
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run
from tilec.passes.native_sparse import native_sparse
from tilec.passes.specialise import specialise
from tilec.triton import triton_source

BODY = "acc += dot(x[m, k], w[n, k].T)"
TEXT = """
kernel linear(x: {x}[8, {k}], w: {w}[16, {k}], y: f32[8, 16]{more}) {{
  for m, n in tiles(8, 16) {{
    acc = zeros([m, n], f32)
    for k in tiles({k}{step}) {{ {body} }}
    y[m, n] = acc
  }}
}}
"""


def linear(w: str = "nm<2, 4, f16>", x: str = "f16", body: str = BODY, k: object = 64,
           step: str = "", more: str = "") -> Func:  # fmt: skip
    text = TEXT.format(w=w, x=x, body=body, k=k, step=step, more=more)
    (kernel,) = parse(text).values()
    return kernel.ir()


def products(func: Func) -> list[SparseDot]:
    return [op for op in func.walk() if isinstance(op, SparseDot)]


@pytest.mark.parametrize("pipeline", [
    "native-sparse", "native-sparse,tile{k=32 m=8 n=16},canonicalize",
    "native-sparse,tile{k=32},lower-formats,pad,canonicalize",
])  # fmt: skip
@pytest.mark.parametrize("text", ["nm<2, 4, f16>", "nm<2, 4, int4<group=16>>"])
def test_is_the_product_of_the_whole(text, pipeline):
    format, rng = named(text), np.random.default_rng(0)
    parts = encode(format, rng.standard_normal((16, 64)), Fit())
    x = rng.integers(-4, 5, (8, 64)).astype(float)
    given = {f"w.{n}": a for n, a in parts.items()}
    func = run(parse_pipeline(pipeline), linear(text))
    assert products(func)
    if "lower" not in pipeline:  # the values have a format of their own, which is decoded whole
        values = {n.partition(".")[2]: a for n, a in parts.items() if n != "index"}
        inner = format.inner.values(values, (16, 32))  # type: ignore[attr-defined]
        given = {"w.index": parts["index"], "w.values": inner}
    y = np.zeros((8, 16))
    interpret(func, {"x": x, "y": y, **given}, {})
    np.testing.assert_allclose(y, x @ format.values(parts, (16, 64)).T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("change", "missing"), [
    ({"body": "acc += dot(x[m, k], w[n, k].T) + dot(x[m, k], exp(w[n, k].T))"},
     "`w` to be read by such products only"),
    ({"w": "nm<2, 4, f32>"}, "operands in f16, bf16, fp8 or 8-bit integers, not f32 beside f16"),
    ({"x": "f32"}, "operands in f16, bf16, fp8 or 8-bit integers, not f16 beside f32"),
    ({"x": "bf16"}, "operands in f16, bf16, fp8 or 8-bit integers, not f16 beside bf16"),
    ({"w": "nm<2, 4, nf4<group=16>>"}, "codes that are exact beside f16; they are nf4"),
    ({"w": "nm<2, 4, int4<group=16, zero=float>>"}, "codes without zero points"),
    ({"w": "nm<2, 4, nm<1, 2, f16>>"}, "values as they are or with scales, not nm<1, 2, f16>"),
    ({"k": "K"}, "a number for K"),
    ({"step": ", block=6"}, "a step of k that 4 divides; it is 6"),
])  # fmt: skip
def test_what_is_missing(change, missing):
    """A remark at the line of the product, whose operand is put together instead."""
    func = native_sparse(linear(**change))
    assert not products(func)
    said = [r for r in func.remarks if r.missing]
    assert missing in {r.missing for r in said}
    assert all("dot(" in r.loc.text for r in said if r.loc)
    assert "is put together element by element" in said[0].message


def test_says_what_is_native():
    (remark,) = native_sparse(linear()).remarks
    assert remark.message == "`w` (nm<2, 4, f16>) is multiplied as it is stored"
    assert remark.loc is not None
    assert remark.loc.text.strip().endswith("acc += dot(x[m, k], w[n, k].T) }")


def test_two_products_of_one_operand():
    func = native_sparse(linear(body="acc += dot(x[m, k], w[n, k].T) + dot(x[m, k], w[n, k].T)"))
    assert len(products(func)) == 2


def test_triton_says_that_it_has_none():
    types = {"x": tc.f16, "w": named("nm<2, 4, f16>"), "y": tc.f32}
    dims = {"M": 16, "N": 64, "K": 128}
    source = triton_source(kernels.linear.definition, dims, types)
    (remark,) = (r for r in source.remarks if r.origin == "native-sparse")
    assert remark.missing == "a back end that has products of 2:4 operands (cuda)"
    func = native_sparse(specialise(kernels.linear.definition.ir(types), **dims), unit="none")
    assert not products(func)
    with pytest.raises(TileError, match=r"unit is 'wmma', expected mma\.sp or none"):
        native_sparse(func, unit="wmma")


def test_cuda_by_default():
    types = {"x": tc.f16, "w": named("nm<2, 4, f16>"), "y": tc.f32}
    dims = {"M": 16, "N": 64, "K": 128}
    assert products(cuda_func(kernels.linear.definition, dims, types))
    assert not products(cuda_func(kernels.linear.definition, dims, types, Schedule(sparse="dense")))
