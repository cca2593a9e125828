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
        elif p.hint.endswith("codes"):
            values = from_raw(t, np.arange(1 << t.bits).astype(np.uint8))
            found[p.hint] = rng.choice(values[(values * 4 % 1 == 0) & (np.abs(values) < 9)], size)
        elif p.hint.endswith("scale"):
            found[p.hint] = np.ldexp(1.0, rng.integers(-2, 3, size))
        else:
            found[p.hint] = rng.integers(-4, 5, size).astype(float)
    return found


@pytest.mark.parametrize("swap", ["", ",swap-operands{when=always},canonicalize"])
@pytest.mark.parametrize(("text", "x"), [
    *((text, x) for x in (tc.f32, tc.f16) for text in (
        "int4<group=128>", "uint4<group=64, zero=int>", "int2<group=128>", "int1<group=128>",
        "uint4<channel, zero=float>",
        "int4<group=128, scale=uint4<channel, scale=f16, zero=none>>",
    )),
    *((f"{codes}<group={group}>", tc.f16) for codes in ("int3", "uint5", "int6", "int7", "uint8",
      "e4m3", "e2m1", "e3m2", "ternary") for group in (16, 32, 128)),
    ("e2m3<group=64>", tc.bf16), ("nvfp4", tc.f16), ("mxfp4", tc.bf16),
])  # fmt: skip
def test_equals_the_codes_as_they_were_packed(text, x, swap):
    """Also where steps of a group are too short, and several become one."""
    before = coded(text, x, swap)
    after = run(tuple(parse_pipeline("interleave{least=8},canonicalize")), before)
    arguments = parts(before)
    words = {name: array.copy() for name, array in arguments.items()}
    steps = [op.tile or 1 for op in after.walk() if isinstance(op, For)]
    for p, q in zip(before.params, after.params, strict=True):
        if p.type != q.type:
            order = Interleaved(p.type.dtype, steps[0])  # type: ignore[union-attr]
            words[p.hint] = order.packed(arguments[p.hint])
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
    size = 64 // order.fields
    words = order.packed(x).reshape(3, order.words, 2, size)
    for step, field in product(range(2), range(order.fields)):
        own = [words[:, i, step] for i in range(order.words)]
        unpack = Unpack(tuple(Value(Tile(w.shape, u16)) for w in own), codes, field)
        got = unpack.evaluate(*own)
        assert np.array_equal(got, x[:, step * 64 + field * size :][:, :size], equal_nan=True)


@pytest.mark.parametrize(("text", "x", "reason"), [
    ("int3<group=128>", tc.f32, "a way from words of i3 to f32"),
    ("nf4<group=128>", tc.f16, "a way from words of nf4 to f32"),
    ("e4m3_fnuz<group=128>", tc.f16, "a way from words of e4m3_fnuz to f16"),
    ("int4<group=8>", tc.f16, "a K of whole steps of 64, of parts of a power of two that divide 8"),
])  # fmt: skip
def test_says_why_codes_stay(text, x, reason):
    before = coded(text, x)
    after = run(tuple(parse_pipeline("interleave")), before)
    assert after.params == before.params
    (remark,) = (r for r in after.remarks if r.origin == "interleave")
    assert remark.missing == reason
    assert remark.loc is not None
    assert "tc.dot" in remark.loc.text


def test_steps_of_a_schedule_are_as_long_as_it_says():
    for depth, wanted in ((0, 64), (128, 128), (512, 128)):  # 512: K has no two of them
        after = run((Step("interleave", {"depth": depth}),), coded("int4<group=32>", tc.f16))
        assert [op.tile for op in after.walk() if isinstance(op, For)] == [wanted]


def test_bytes_of_a_tensor_stay():
    """Only a format is packed when it is passed."""
    func = kernels.linear.definition.ir({"x": tc.f16, "w": tc.e4m3, "y": tc.f32})
    before = run(tuple(parse_pipeline(CODED)), func)
    after = run(tuple(parse_pipeline("interleave")), before)
    assert after.params == before.params


def test_a_ragged_k_stays():
    func = kernels.linear.definition.ir({"x": tc.f32, "w": named("int4<group=128>"), "y": tc.f32})
    steps = (Step("specialise", {"M": 5, "N": 12, "K": 200}), *parse_pipeline(TILED))
    before = run(steps, func)
    after = run(tuple(parse_pipeline("interleave")), before)
    assert after.params == before.params
