"""A step of decoding with keys and values in few bits: results under emulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.dtype import Array
from tilec.ops import attention

DIMS = {"B": 2, "G": 2, "H": 4, "S": 256, "D": 128, "E": 128}
SCHEDULE = Schedule(threads=128, tiles={"s": 64})


def wanted(q: Array, k: Array, v: Array, length: Array, scale: float) -> Array:
    """softmax(q k' * scale) v of the first keys, in doubles."""
    scores = q @ k.swapaxes(-1, -2) * scale
    seen = np.arange(DIMS["S"]) < length[:, None, None, None]
    e = np.exp(np.where(seen, scores, -math.inf) - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("text", ["int8<channel>", "int4<group=64>"])
def test_keys_and_values_in_few_bits(text: str) -> None:
    """Lengths are in the second and the last tile of keys: later tiles are copied ahead."""
    rng = np.random.default_rng(len(text))
    sizes = [tuple(DIMS[d] for d in dims) for dims in ("BGHD", "BGSD", "BGSE")]
    q, k, v = (rng.standard_normal(s) for s in sizes)
    q = tc.bf16.round(q)
    left, right = tc.quantize(k.astype(np.float32), text), tc.quantize(v.astype(np.float32), text)
    y, length = poisoned(sizes[0], tc.bf16), np.array([77, 256], np.int32)
    types = {"q": tc.bf16, "k": left.format, "v": right.format, "y": tc.bf16, "length": tc.i32}
    program = program_of(attention.decode, types, DIMS, SCHEDULE)
    run(program, {"q": tc.bf16.to_storage(q), "k": left, "v": right, "length": length, "y": y,
                  "scale": 128**-0.5})  # fmt: skip
    want = wanted(q, left.dequantize(), right.dequantize(), length, 128**-0.5)
    assert far(tc.bf16.from_storage(y), want) < 5e-3
