"""Products over codes that lie in words: the interpreter finds the same as before."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.core import Func, Value
from tilec.ir.dtype import Array, DType, integer, u16
from tilec.ir.interleaved import Interleaved
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops.control import For
from tilec.ir.ops.packed import Unpack
from tilec.ir.types import Tile
from tilec.passes import Step, parse_pipeline, run

TILED = "tile{rows=4 columns=8 depth=128},lower-formats{planes=0},canonicalize"
CODED = f"specialise{{M=5 N=12 K=256}},{TILED}"
WIDTHS = [integer(b, signed=s) for b in (1, 2, 4) for s in (False, True)]


def coded(text: str, x: DType = tc.f32, passes: str = "") -> Func:
    func = kernels.linear.definition.ir({"x": x, "w": named(text), "y": tc.f32})
    return run(tuple(parse_pipeline(CODED + passes)), func)


def parts(func: Func, seed: int = 0) -> dict[str, Array]:
    """Arguments on which every sum is exact: small whole numbers, scales that are powers of two."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for p in func.params:
        t, size = p.type.dtype, tuple(int(str(d)) for d in p.type.shape)  # type: ignore[union-attr]
        if t.is_integer:
            found[p.hint] = rng.integers(int(t.low), int(t.high), size, endpoint=True)
        elif p.hint.endswith("scale"):
            found[p.hint] = np.ldexp(1.0, rng.integers(-2, 3, size))
        else:
            found[p.hint] = rng.integers(-4, 5, size).astype(float)
    return found


@pytest.mark.parametrize("swap", ["", ",swap-operands{when=always},canonicalize"])
@pytest.mark.parametrize("text", [
    "int4<group=128>", "uint4<group=64, zero=int>", "int2<group=128>", "uint4<channel, zero=float>",
    "int4<group=128, scale=uint4<channel, scale=f16, zero=none>>", "int1<group=128>",
])  # fmt: skip
def test_equals_the_codes_as_they_were_packed(text, swap):
    before = coded(text, passes=swap)
    after = run(tuple(parse_pipeline("interleave{least=8},canonicalize")), before)
    arguments = parts(before)
    words = dict(arguments)
    steps = [op.tile or 1 for op in before.walk() if isinstance(op, For)]
    for p, q in zip(before.params, after.params, strict=True):
        if p.type != q.type:
            order = Interleaved(p.type.dtype, steps[0])  # type: ignore[union-attr]
            words[p.hint] = order.words(arguments[p.hint])
    assert after.params[1].type.dtype == u16  # type: ignore[union-attr]
    interpret(before, arguments, {})
    interpret(after, words, {})
    assert np.array_equal(words["y"], arguments["y"])
    assert np.abs(words["y"]).max() > 4


@pytest.mark.parametrize("codes", [*WIDTHS, CODES["e2m1"], CODES["nf4"]], ids=str)
def test_words_hold_every_code_in_its_field(codes):
    rng = np.random.default_rng(codes.bits)
    x = from_raw(codes, rng.integers(0, 1 << codes.bits, (3, 128)).astype(np.uint8))
    order = Interleaved(codes, 64)
    words, size = order.words(x).reshape(3, 2, -1), 64 // order.fields
    for step, field in product(range(2), range(order.fields)):
        own = words[:, step]
        got = Unpack(Value(Tile(own.shape, u16)), codes, field).evaluate(own.astype(np.int64))
        assert np.array_equal(got, x[:, step * 64 + field * size :][:, :size], equal_nan=True)


@pytest.mark.parametrize(("text", "reason"), [
    ("int3<group=128>", "codes of 1, 2 or 4 bits, and a K of whole steps"),
    ("int1<group=64>", "steps of 256 along k"),
])  # fmt: skip
def test_says_why_codes_stay(text, reason):
    before = coded(text)
    after = run(tuple(parse_pipeline("interleave")), before)
    assert after.params == before.params
    assert any(r.origin == "interleave" and reason in r.missing for r in after.remarks)


def test_a_ragged_k_stays():
    func = kernels.linear.definition.ir({"x": tc.f32, "w": named("int4<group=128>"), "y": tc.f32})
    steps = (Step("specialise", {"M": 5, "N": 12, "K": 200}), *parse_pipeline(TILED))
    before = run(steps, func)
    after = run(tuple(parse_pipeline("interleave")), before)
    assert after.params == before.params
