"""Products of warp groups whose A is in registers: quantised weights, and softmax."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels
from products import attention
from warpgroups import judge, schedule, whole

import tilec as tc
from tilec.cuda import Program
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.ir.scaled import Scaled
from tilec.sass.budget import Budget

FEW = {"M": 16, "N": 128, "K": 1024}


def product(format: Format, x: Format | DType, k: int = 128, threads: int = 128) -> Program:
    """Few rows of x by weights as A, in registers."""
    types = {"x": x, "w": format, "y": tc.f32}
    program = program_of(kernels.linear, types, FEW, schedule(threads, swap="small"),
                         m=16, n=threads // 2, k=k)  # fmt: skip
    assert "w.codes" in program.source.orders
    return program


@pytest.mark.parametrize(("name", "x"), [
    *((n, x) for n in ("int4", "uint4", "int2", "uint2", "uint1") for x in ("f16", "bf16", "i8")),
    *((n, "e4m3") for n in ("int4", "uint4", "e2m1")), ("int4", "e5m2"),
])  # fmt: skip
def test_every_code_in_registers(name: str, x: str) -> None:
    """Every code at every place of a word, with scales that are powers of two: exact."""
    format, t = named(f"{name}<group=256>"), getattr(tc, x)
    assert isinstance(format, Scaled)
    bits = format.codes.bits
    rng = np.random.default_rng(bits)
    raw = rng.permuted(np.arange(FEW["N"] * FEW["K"]) % (1 << bits)).reshape(FEW["N"], FEW["K"])
    codes = raw - (1 << bits - 1) if name.startswith("int") else raw
    if not format.codes.is_integer:
        codes = format.codes.from_storage(codes.astype(np.uint8))
    parts = {"codes": codes, "scale": np.ldexp(1.0, rng.integers(-1, 2, (FEW["N"], 4)))}
    w = tc.runtime.tensor.packed(format, parts, (FEW["N"], FEW["K"]))
    given = whole(rng, t, FEW["M"], FEW["K"])
    y = poisoned((FEW["M"], FEW["N"]), tc.f32)
    program = product(format, t, 256 if bits == 1 else 128, 256)
    run(program, {"x": given, "w": w, "y": y})
    assert np.array_equal(y, given.astype(float) @ w.dequantize().astype(float).T)


# By the format of the weights and of x: the instruction with A in registers, and the most
# instructions of a step of 128 (of 64 x 16 by a group).
STEPS = [
    ("int4<group=128>", "f16", "HGMMA.64x16x16.F32.RS", 8, 210),
    ("int4<group=128>", "bf16", "HGMMA.64x16x16.F32.BF16.RS", 8, 250),
    ("int4<group=128>", "i8", "IGMMA.64x16x32.S8.S8.RS", 4, 170),
    ("int4<group=128>", "int8<channel>", "IGMMA.64x16x32.S8.S8.RS", 4, 220),
    ("int4<group=128>", "e4m3", "QGMMA.64x16x32.F32.E4M3.E4M3.RS", 4, 250),
    ("e2m1<group=128>", "e4m3", "QGMMA.64x16x32.F32.E4M3.E4M3.RS", 4, 250),
    ("int4<group=128>", "e4m3<channel>", "QGMMA.64x16x32.F32.E4M3.E4M3.RS", 4, 260),
]


@pytest.mark.parametrize(("weights", "x", "instruction", "count", "most"), STEPS)
def test_quantised_weights_are_a_in_registers(
    weights: str, x: str, instruction: str, count: int, most: int
) -> None:
    rng = np.random.default_rng(count)
    w = tc.quantize(rng.standard_normal((FEW["N"], FEW["K"])), weights, search=False)
    format = named(x) if "<" in x else getattr(tc, x)
    real = rng.standard_normal((FEW["M"], FEW["K"]))
    if isinstance(format, DType):
        given = (40 * real).clip(-127, 127) if format.is_integer else real
        given = given.astype(format.numpy)
        values = given.astype(float)
    else:
        given = tc.quantize(real, x, search=False)
        values = given.dequantize().astype(float)
    program = product(w.format, format)
    y = poisoned((FEW["M"], FEW["N"]), tc.f32)
    run(program, {"x": given, "w": w, "y": y})
    assert far(y, values @ w.dequantize().astype(float).T) < 5e-7
    loop, lacks = {instruction: (count, count)}, ("HMMA", "IMMA", "F2FP")
    judge(program, Budget(registers=96, per_mma=most / count, loop=loop, lacks=lacks,
                          widths={"ldgsts": 16}))  # fmt: skip


def test_attention() -> None:
    """q and the softmax are A of both products; they don't go through shared memory."""
    m, n, d = 64, 1024, 64
    rng = np.random.default_rng(n)
    q, k, v = (rng.standard_normal((rows, d)).astype(ml_dtypes.bfloat16) for rows in (m, n, n))
    types = {"q": tc.bf16, "k": tc.bf16, "v": tc.bf16, "y": tc.f32}
    y = poisoned((m, d), tc.f32)
    program = program_of(attention, types, {"M": m, "N": n, "D": d}, schedule(), m=64, n=64)
    run(program, {"q": q, "k": k, "v": v, "y": y})
    s = q.astype(float) @ k.astype(float).T * 0.125
    p = np.exp(s - s.max(1, keepdims=True))
    assert far(y, p @ v.astype(float) / p.sum(1, keepdims=True)) < 4e-3  # p is rounded to bf16
    judge(program, Budget(registers=168, loop={"HGMMA.RS": (8, 8), "sts": (0, 0)},
                          lacks=("HMMA",)))  # fmt: skip
