"""Products of decoded f32 as products of 16-bit floats: as many as the bits of numbers need."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.core import Func
from tilec.ir.dtype import Array, DType
from tilec.ir.interpret import interpret
from tilec.ir.ops.reduce import Dot
from tilec.ir.parse import parse
from tilec.ir.types import Tile
from tilec.passes import parse_pipeline, run
from tilec.runtime.tensor import PackedTensor

DIMS = {"M": 8, "N": 32, "K": 128}
DECODE = "decode-elements,tile{m=8 n=16 k=64},lower-formats{planes=0},canonicalize"


def weights(text: str) -> PackedTensor:
    rng = np.random.default_rng(len(text))
    return tc.quantize(rng.standard_normal((DIMS["N"], DIMS["K"])).astype(np.float32), text)


def lowered(w: PackedTensor, x: DType, more: str = "") -> Func:
    """A product with weights in steps of 64, in which a group of 16 has no scale in common."""
    func = kernels.linear.definition.ir({"x": x, "w": w.format, "y": tc.f32})
    dims = ",".join(f"specialise{{{d}={n}}}" for d, n in DIMS.items())
    return run(parse_pipeline(f"{dims},{DECODE}{more}"), func)


def dots(func: Func) -> list[tuple[str, str]]:
    """The dtypes of the operands of each product."""
    found = [op for op in func.walk() if isinstance(op, Dot)]
    types = [(op.a.type, op.b.type) for op in found]
    return [(str(a.dtype), str(b.dtype)) for a, b in types
            if isinstance(a, Tile) and isinstance(b, Tile)]  # fmt: skip


def result(func: Func, x: Array, w: PackedTensor) -> Array:
    parts = w.format.components(w.shape)
    given = {f"w.{c.name}": w.parts()[c.name] for c in parts}
    y = np.full((DIMS["M"], DIMS["N"]), np.nan)
    interpret(func, {"x": x, "y": y, **given}, {})
    return y


@pytest.mark.parametrize(("text", "x", "wanted"), [
    ("int4<group=16>", tc.bf16, [("bf16", "bf16")] * 2),  # 3 and 11 bits
    ("int8<group=16>", tc.bf16, [("bf16", "bf16")] * 3),  # 7 and 11 bits
    ("int4<group=16>", tc.f16, [("bf16", "bf16")] * 4),
    ("int8<group=16>", tc.f16, [("bf16", "bf16")] * 5),  # the sixth would be too small
    ("int4<group=16>", tc.f32, [("f32", "f32")]),
    ("planes<e3m2<channel, scale=f16>, 4, 2>", tc.f16, [("f16", "f16")]),
    ("planes<e3m2<channel, scale=f16>, 4, 2>", tc.bf16, [("bf16", "bf16")]),
])  # fmt: skip
def test_as_many_products_as_bits_need(text: str, x: DType, wanted: list[tuple[str, str]]) -> None:
    """The sum is that of f32 but for where it is rounded."""
    w, rng = weights(text), np.random.default_rng(1)
    left = x.round(rng.standard_normal((DIMS["M"], DIMS["K"])))
    func = lowered(w, x, ",narrow-products,canonicalize")
    assert dots(func) == wanted
    y, want = result(func, left, w), left @ w.dequantize().astype(np.float64).T
    assert np.linalg.norm(y - want) < 2.0**-21 * np.linalg.norm(want)


def test_matrices_that_are_as_they_were():
    """A transpose may leave the axes where they are; a factor of the columns is the scale."""
    func = parse("""
func @f(%x: *bf16[4, 8], %w: *i4[8, 4], %s: *f16[4], %y: *f32[4, 4]) {
  grid {dims = [4], sizes = [4], tiles = [4]} (%m: span[4, 4]) {
    %k = whole {dim = 8, size = 8} : span[8, 8]
    %n = whole {dim = 4, size = 4} : span[4, 4]
    %a = load %x, [%m, %k] : bf16[4, 8]
    %c = load %w, [%k, %n] : i4[8, 4]
    %d = cast %c {dtype = f32} : f32[8, 4]
    %e = load %s, [%n] : f16[4]
    %g = cast %e {dtype = f32} : f32[4]
    %h = broadcast %g {shape = [8, 4]} : f32[8, 4]
    %i = mul %d, %h : f32[8, 4]
    %j = transpose %i {order = [0, 1]} : f32[8, 4]
    %z = full {shape = [4, 4], value = 0.0, dtype = f32} : f32[4, 4]
    %o = dot %a, %j, %z : f32[4, 4]
    %p = dot %a, %i, %o : f32[4, 4]
    store %y, [%m, %n], %p
  }
}
""")
    after = run(parse_pipeline("narrow-products"), func)
    assert dots(after) == [("bf16", "bf16")] * 3
    assert sum(op.scale is not None for op in after.walk() if isinstance(op, Dot)) == 1
    rng = np.random.default_rng(0)
    given = {"x": rng.integers(-8, 9, (4, 8)).astype(float), "s": 2.0 ** np.arange(4),
             "w": rng.integers(-8, 8, (8, 4))}  # fmt: skip
    found = [np.full((4, 4), np.nan) for _ in range(2)]
    for f, y in zip((func, after), found, strict=True):
        interpret(f, {**given, "y": y}, {})
    assert np.array_equal(found[0], found[1])
    assert np.abs(found[0]).max() > 8


@pytest.mark.parametrize("t", [tc.f32, tc.f16])
def test_products_without_codes_stay(t: DType) -> None:
    func = kernels.linear.definition.ir({"x": tc.f16, "w": t, "y": tc.f32})
    after = run(parse_pipeline("narrow-products"), func)
    assert dots(after) == dots(func) == [("f16", str(t))]
